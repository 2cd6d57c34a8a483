//! Which batch of a partition a slot sends next, and what has to be found out before.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Link, Slot};
use crate::batch::CutRules;
use crate::broker::flight::Next;
use crate::broker::inquiry::{Found, Inquiry};
use crate::queue::partition::Partition;
use crate::queue::window::{Attempt, Window};

impl Slot {
    /// The batch that goes next, made now if it is a new one.
    pub(super) fn next_batch(
        &mut self,
        partition: &Arc<Partition>,
        window: &mut Window,
        link: &Link,
        now: Instant,
    ) -> Option<Attempt> {
        let forgotten_after = self.context.forgotten_after();
        window.adopt(link.id, partition.topic().id(), now, forgotten_after, &mut self.effects);
        window.go_over_to(link.ids.generation);
        let old_before = self.context.old_before(partition.topic(), self.clock_ahead);
        let forgotten_before = self.context.forgotten_before(partition.topic());
        window.age(old_before, forgotten_before, &mut self.effects);
        let attempt = self.next_attempt(partition, window, link, now)?;
        window.may_leave(attempt, &mut self.effects).then_some(attempt)
    }

    fn next_attempt(
        &mut self,
        partition: &Arc<Partition>,
        window: &mut Window,
        link: &Link,
        now: Instant,
    ) -> Option<Attempt> {
        match window.next(now) {
            Next::Resend(attempt) => Some(attempt),
            Next::NotBefore(_) | Next::Nothing => None,
            // Another partition of its topic has sent since it was queued.
            Next::New if self.schedule.paced_until(partition, now).is_some() => None,
            Next::New => {
                self.cut(partition, window, now);
                let attempt = if window.may_send_built() { window.seal_built(link.ids) } else { None }?;
                if let (Some(pace), Some(bytes)) = (&partition.topic().pace, window.bytes_of(&attempt)) {
                    pace.spend(bytes.len(), now);
                }
                Some(attempt)
            }
            Next::Follow => {
                self.cut(partition, window, now);
                window.seal_follower(link.ids).or_else(|| {
                    // What follows is on its way: it announces the partition.
                    if window.built.is_none() && partition.may_get_more() {
                        return None;
                    }
                    let mut terms = self.context.terms(partition.topic(), now, self.clock_ahead, &mut self.random);
                    window.nothing_follows(&mut terms, &mut self.effects);
                    None
                })
            }
            Next::Inquire => {
                if let Some((number, question)) = window.inquire() {
                    let inquiry = Inquiry {
                        partition: partition.clone(),
                        number,
                        question,
                        random: self.random.fork(),
                        progress: None,
                    };
                    self.inquiries.ask(&self.context, &self.address, inquiry);
                }
                None
            }
        }
    }

    /// Makes a batch of what waits, if none is made already.
    fn cut(&mut self, partition: &Partition, window: &mut Window, now: Instant) {
        if window.built.is_some() {
            return;
        }
        let topic = partition.topic();
        let max_bytes = self.context.config.kafka.max_request_size.min(topic.largest_batch(now));
        let rules = CutRules {
            max_bytes: max_bytes.min(topic.largest_spilled_batch()),
            old_before: self.context.old_before(topic, self.clock_ahead),
        };
        partition.lower_signal();
        self.cutter.cut(partition, window, rules, &self.context.budget);
    }

    /// An inquiry has come to its end.
    pub(super) fn found(&mut self, found: Found) {
        let Found { partition, number, finding } = found;
        let now = Instant::now();
        let mut terms = self.context.terms(partition.topic(), now, self.clock_ahead, &mut self.random);
        partition.window().found(number, finding, &mut terms, &mut self.effects);
        self.context.carry_out(&partition, &mut self.effects);
        self.schedule.consider(&partition, now, self.context.is_hurried());
    }
}
