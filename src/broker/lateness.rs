//! Which answers of a connection are late, and which partitions are to be kept apart for it.
//!
//! A broker answers the requests of a connection in order, each when the slowest partition in it has replicated
//! (Kafka's `SocketServer` mutes the connection meanwhile). So one partition with a slow follower holds up all that share its connection.
//! Each broker therefore has two connections: partitions whose answers are late go to the second, one a request, and come back
//! when their answers have been quick for a while.
//!
//! Late is relative: where every answer takes a second, a second is not late. What is usual is learnt on the first connection alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What is quicker is never late.
const LATE_AT_LEAST: Duration = Duration::from_millis(500);
/// So many times the usual is late.
const LATE_FACTOR: u32 = 4;
/// The weight of the newest answer in what is usual is one divided by this.
const SMOOTHING: u32 = 8;

/// How long the answers of a broker usually take, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Usual(Arc<AtomicU64>);

impl Usual {
    fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn learn(&self, took: Duration) {
        let usual = (self.get() * (SMOOTHING - 1) + took) / SMOOTHING;
        self.0.store(u64::try_from(usual.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Whether the answers of one connection are late.
#[derive(Debug)]
pub struct Lateness {
    usual: Usual,
    learns: bool,
    last_answer: Instant,
}

impl Lateness {
    /// Of a connection on which nothing was answered yet. `learns`: its answers are those that say what is usual.
    pub fn new(usual: Usual, learns: bool, now: Instant) -> Self {
        Lateness { usual, learns, last_answer: now }
    }

    /// From when on the answer to the oldest unanswered request is late.
    pub fn late_from(&self, sent: Instant) -> Instant {
        sent.max(self.last_answer) + self.late_after()
    }

    fn late_after(&self) -> Duration {
        LATE_AT_LEAST.max(self.usual.get() * LATE_FACTOR)
    }

    /// The oldest request, sent at `sent`, has been answered: whether that was late. What it had to wait for others is
    /// not its own.
    pub fn answered(&mut self, sent: Instant, now: Instant) -> bool {
        let late = self.late_from(sent) <= now;
        if self.learns {
            self.usual.learn(now.saturating_duration_since(sent.max(self.last_answer)));
        }
        self.last_answer = now;
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn an_answer_is_late_that_takes_many_times_as_long_as_usual() {
        let start = Instant::now();
        let mut lateness = Lateness::new(Usual::default(), true, start);
        let mut now = start;
        for _ in 0..100 {
            assert!(!lateness.answered(now, now + 300 * MS));
            now += 300 * MS;
        }
        assert!(!lateness.answered(now, now + 1100 * MS));
        now += 1100 * MS;
        assert!(lateness.late_from(now) > now + 1200 * MS);
        assert!(lateness.answered(now, now + 3000 * MS));
    }

    #[tokio::test]
    async fn what_waits_behind_a_late_answer_is_not_late_itself() {
        let start = Instant::now();
        let mut lateness = Lateness::new(Usual::default(), true, start);
        assert!(lateness.answered(start, start + 2000 * MS));
        assert!(!lateness.answered(start, start + 2010 * MS));
    }

    #[tokio::test]
    async fn where_all_answers_are_slow_none_is_late() {
        let mut lateness = Lateness::new(Usual::default(), true, Instant::now());
        let mut now = Instant::now();
        let late = (0..50).filter(|_| {
            let late = lateness.answered(now, now + 2000 * MS);
            now += 2000 * MS;
            late
        });
        assert!(late.count() < 5);
    }
}
