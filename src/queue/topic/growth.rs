//! What happens when a topic gets more partitions.
//!
//! Most keys then belong to another partition than before. Kafka's own producer follows at once, and what it sends of a key can be
//! read before what it sent earlier, which waits in the old partition. `on_partition_growth = "drain_first"` holds the topic's
//! records, in order, until the old partitions are empty, and then distributes them over all.
//!
//! That must not cost more than it gains: while a partition of the topic is parked, or when it takes too long, the topic goes
//! on with the partitions that it had, and tries again later.

use std::time::Duration;

use tokio::time::Instant;

use super::{Held, Partitions, State, Topic};

/// For how long a topic is held at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// And how long it is left alone after that.
const PAUSE: Duration = Duration::from_secs(30);
/// The old partitions must be empty for so long: a task that has looked up the partitions before has pushed to them by then, for it
/// does so before it waits for anything.
const QUIET: Duration = Duration::from_millis(50);

/// A topic whose old partitions are being emptied.
#[derive(Debug)]
pub(super) struct Growing {
    /// Where its records went.
    old: Partitions,
    /// All that it ever had.
    pub all: Partitions,
    /// So many are there now.
    count: usize,
    /// What has come since.
    pub held: Vec<Held>,
    since: Instant,
    empty_since: Option<Instant>,
}

impl Growing {
    pub fn new(old: Partitions, all: Partitions, count: usize) -> Self {
        Growing { old, all, count, held: Vec::new(), since: Instant::now(), empty_since: None }
    }

    /// The partitions where records go from now on, if it is known by now.
    fn outcome(&mut self, now: Instant) -> Option<Partitions> {
        if self.old.iter().any(|partition| partition.held_records() > 0) {
            self.empty_since = None;
        } else if now >= *self.empty_since.get_or_insert(now) + QUIET {
            return Some(self.all.iter().take(self.count).cloned().collect());
        }
        let is_in_vain = is_parked(&self.old) || now >= self.since + PATIENCE;
        is_in_vain.then(|| self.old.clone())
    }
}

impl Topic {
    /// Whether it is worth while to hold the topic for new partitions now.
    pub(super) fn may_grow(&self, old: &Partitions) -> bool {
        self.grow_from.lock().is_none_or(|from| from <= Instant::now()) && !is_parked(old)
    }

    /// How long until [`Topic::grow`] is to be called; `None` if it need not be.
    pub fn growing(&self) -> Option<Duration> {
        matches!(&*self.state.lock(), State::Growing(_)).then_some(QUIET / 2)
    }

    /// Goes on with more partitions if the old ones are empty, or without them if they do not get empty. `distribute` is given what
    /// was held, in order, and must push it before it returns. True if records go to partitions again.
    pub fn grow(&self, now: Instant, distribute: impl FnOnce(Vec<Held>, &Partitions)) -> bool {
        let mut state = self.state.lock();
        let State::Growing(growing) = &mut *state else { return false };
        let Some(open) = growing.outcome(now) else { return false };
        if open.len() < growing.count {
            *self.grow_from.lock() = Some(now + PAUSE);
        }
        distribute(std::mem::take(&mut growing.held), &open);
        *state = State::Placed { open, all: growing.all.clone() };
        self.version.fetch_add(1, std::sync::atomic::Ordering::Release);
        true
    }
}

fn is_parked(partitions: &Partitions) -> bool {
    partitions.iter().any(|partition| partition.window().flight.as_ref().is_some_and(|flight| flight.parked.is_some()))
}

#[cfg(test)]
mod tests;
