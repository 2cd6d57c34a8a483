//! When what topics that overflow hold in memory goes to the log: when memory is short, when it has waited for too long, and at a stop.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::queue::partition::Partition;
use crate::queue::topic::Topics;

/// With a quarter of the memory used, what has waited for so long is not about to leave.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Partitions that are off and hold something.
fn holding(topics: &Topics) -> Vec<Arc<Partition>> {
    let all = topics.all();
    let partitions = all.iter().filter(|topic| topic.info().overflows()).filter_map(|topic| topic.partitions());
    let of_topic = partitions.flat_map(|partitions| partitions.iter().cloned().collect::<Vec<_>>());
    of_topic.filter(|partition| partition.records_in_memory_only() > 0).collect()
}

fn is_off(partition: &Partition) -> bool {
    partition.stored().is_some_and(|stored| !stored.is_on())
}

pub(super) fn has_waited(partition: &Partition, now: Instant, time: Duration) -> bool {
    partition.waits_since().is_some_and(|since| now.saturating_duration_since(since) >= time)
}

fn ask(partition: &Partition) {
    partition.stored().into_iter().for_each(|stored| stored.ask_unless_on());
}

impl Shared {
    /// Has all that topics that overflow hold in memory stored, now and from now on: for a stop. To be called again while something is left.
    pub fn spill_all(&self, topics: &Topics) {
        self.is_stopping.store(true, Ordering::SeqCst);
        // Either we see that a partition is off, or who turns it off sees that it must not stay so.
        fence(Ordering::SeqCst);
        holding(topics).iter().for_each(|partition| ask(partition));
        self.inbox.ring();
    }

    /// Has stored what must not wait in memory any longer. To be called every second, and often while memory is filling. True while there is something to
    /// be called for.
    pub fn look_at_overflow(&self, topics: &Topics, now: Instant) -> bool {
        let mut off: Vec<_> = holding(topics).into_iter().filter(|partition| is_off(partition)).collect();
        let is_any_off = !off.is_empty();
        for partition in &off {
            if has_waited(partition, now, partition.topic().rules.spill_after) {
                ask(partition);
            }
        }
        if self.budget.is_filling() {
            let (used, limit) = (self.budget.used(), self.budget.limit());
            let is_pressed = self.budget.is_pressed();
            if !is_pressed {
                // Those that move are left alone.
                off.retain(|partition| !partition.has_leader() || has_waited(partition, now, STUCK_AFTER));
            }
            // Those with the most bytes first; early, so that what comes meanwhile finds room.
            off.sort_by_cached_key(|partition| Reverse(partition.waiting_bytes()));
            let mut too_much = used.saturating_sub(if is_pressed { limit / 4 } else { limit / 8 });
            for partition in &off {
                if too_much == 0 {
                    break;
                }
                too_much = too_much.saturating_sub(partition.waiting_bytes());
                ask(partition);
            }
        }
        let has_spilled = self.has_spilled.load(Ordering::Relaxed);
        if has_spilled {
            self.is_look_due.store(true, Ordering::Relaxed);
            self.inbox.ring();
        }
        has_spilled || is_any_off
    }
}
