//! What a test may have the cluster do wrong: orders that wait here until a Produce request meets them.
//!
//! Pure: the connection asks, the answer says what to do. What has a number of times is used up in the order in which
//! requests are carried out.

use std::time::Duration;

/// Where a fault strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// On every broker.
    Anywhere,
    /// Requests that this broker gets.
    Broker(i32),
    /// Requests that carry something of this partition.
    Partition(String, i32),
}

impl At {
    /// A partition.
    pub fn partition(topic: &str, partition: i32) -> Self {
        At::Partition(topic.to_owned(), partition)
    }

    pub(super) fn covers(&self, broker: i32, touched: &[(String, i32)]) -> bool {
        match self {
            At::Anywhere => true,
            At::Broker(id) => *id == broker,
            At::Partition(topic, partition) => touched.iter().any(|(name, index)| name == topic && index == partition),
        }
    }
}

/// What keeps Produce requests waiting, shared with every connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds {
    pub requests: Vec<At>,
    pub answers: Vec<At>,
}

#[derive(Debug)]
struct Ordered {
    at: At,
    left: u32,
}

#[derive(Debug)]
struct ErrorOrder {
    topic: String,
    partition: i32,
    code: i16,
    left: u32,
    appended: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Faults {
    lose_requests: Vec<Ordered>,
    lose_answers: Vec<Ordered>,
    errors: Vec<ErrorOrder>,
    refuse_first: Vec<(String, i32, i16)>,
    throttle: Vec<(At, Duration)>,
    delay: Vec<(At, Duration)>,
}

impl Faults {
    pub(super) fn order_lost_requests(&mut self, at: At, left: u32) {
        self.lose_requests.push(Ordered { at, left });
    }

    pub(super) fn order_lost_answers(&mut self, at: At, left: u32) {
        self.lose_answers.push(Ordered { at, left });
    }

    pub(super) fn end_losses(&mut self) {
        self.lose_requests.clear();
        self.lose_answers.clear();
    }

    pub(super) fn order_error(&mut self, topic: &str, partition: i32, code: i16, left: u32, appended: bool) {
        self.errors.retain(|order| order.left > 0);
        self.errors.push(ErrorOrder { topic: topic.to_owned(), partition, code, left, appended });
    }

    pub(super) fn order_first_batch_refused(&mut self, topic: &str, partition: i32, code: i16) {
        self.refuse_first.push((topic.to_owned(), partition, code));
    }

    /// Zero ends it.
    pub(super) fn set_throttle(&mut self, at: At, throttle: Duration) {
        set(&mut self.throttle, at, throttle);
    }

    /// Zero ends it.
    pub(super) fn set_delay(&mut self, at: At, delay: Duration) {
        set(&mut self.delay, at, delay);
    }

    /// Whether this request is to be lost before it is carried out.
    pub(super) fn takes_request(&mut self, broker: i32, touched: &[(String, i32)]) -> bool {
        take(&mut self.lose_requests, broker, touched)
    }

    /// Whether this request's answer is to be lost.
    pub(super) fn takes_answer(&mut self, broker: i32, touched: &[(String, i32)]) -> bool {
        take(&mut self.lose_answers, broker, touched)
    }

    /// The code to answer for this partition instead of what happened (`appended`), or instead of anything happening.
    pub(super) fn takes_error(&mut self, topic: &str, partition: i32, appended: bool) -> Option<i16> {
        let order = self.errors.iter_mut().find(|order| {
            order.left > 0 && order.topic == topic && order.partition == partition && order.appended == appended
        })?;
        order.left -= 1;
        Some(order.code)
    }

    /// The code to answer for a producer's first batch on this partition. Once.
    pub(super) fn takes_first_batch(&mut self, topic: &str, partition: i32) -> Option<i16> {
        let at = self.refuse_first.iter().position(|(name, index, _)| name == topic && *index == partition)?;
        Some(self.refuse_first.remove(at).2)
    }

    pub(super) fn throttle(&self, broker: i32, touched: &[(String, i32)]) -> Duration {
        longest(&self.throttle, broker, touched)
    }

    pub(super) fn delay(&self, broker: i32, touched: &[(String, i32)]) -> Duration {
        longest(&self.delay, broker, touched)
    }
}

fn take(orders: &mut Vec<Ordered>, broker: i32, touched: &[(String, i32)]) -> bool {
    orders.retain(|order| order.left > 0);
    match orders.iter_mut().find(|order| order.at.covers(broker, touched)) {
        Some(order) => {
            order.left -= 1;
            true
        }
        None => false,
    }
}

fn set(all: &mut Vec<(At, Duration)>, at: At, duration: Duration) {
    all.retain(|(other, _)| *other != at);
    if !duration.is_zero() {
        all.push((at, duration));
    }
}

fn longest(all: &[(At, Duration)], broker: i32, touched: &[(String, i32)]) -> Duration {
    all.iter().filter(|(at, _)| at.covers(broker, touched)).map(|(_, duration)| *duration).max().unwrap_or_default()
}
