//! Which of a broker's two connections a partition is served on, see `broker::lateness`.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::debug;

use super::{Link, Slot};
use crate::queue::drainer::Drainer;
use crate::queue::partition::Partition;

/// Which of its broker's two connections a slot has, and who drains those that are to go to the other one.
#[derive(Debug)]
pub enum Place {
    /// That of all whose answers come in time.
    Usual {
        /// Drains the others.
        apart: Arc<Drainer>,
    },
    /// That of those whose answers are late: a request carries one partition, so that each is judged by itself.
    Apart {
        /// Drains the others.
        usual: Arc<Drainer>,
    },
}

impl Slot {
    /// When those that wait for room on the connection are no longer to wait for the oldest answer.
    pub(super) fn late_from(&self, link: &Link) -> Option<Instant> {
        let oldest = link.pending.requests.front().filter(|_| self.schedule.queued() > 0)?;
        Some(link.lateness.late_from(oldest.sent))
    }

    /// The oldest answer is late: those that wait, and have nothing in flight here, need not.
    pub(super) fn evade(&mut self) {
        let now = Instant::now();
        for partition in self.schedule.take_idle() {
            match &self.place {
                _ if partition.is_leaving() => {}
                Place::Usual { apart } => {
                    partition.keep_apart();
                    partition.assign(apart);
                }
                Place::Apart { usual } if partition.has_been_in_time() => {
                    partition.rejoin();
                    partition.assign(usual);
                }
                Place::Apart { .. } => {}
            }
            // Its linger is over: begun anew, it would end at once, and this be done again and again.
            self.schedule.consider(&partition, now, true);
        }
    }

    /// Whether the partitions of an answered request are on the right connection. One that holds up nobody may be late.
    pub(super) fn judge<'a>(
        &self,
        parts: impl ExactSizeIterator<Item = &'a Arc<Partition>>,
        late: bool,
        is_alone: bool,
    ) {
        let is_alone = is_alone && parts.len() == 1 && self.schedule.queued() == 0;
        if matches!(self.place, Place::Usual { .. }) && (!late || is_alone) {
            // As nearly always: nothing is looked up for it.
            return;
        }
        for partition in parts {
            match &self.place {
                _ if partition.is_leaving() => {}
                Place::Usual { apart } => {
                    debug!(topic = %partition.topic().name, partition = partition.id(), "late, and kept apart");
                    partition.keep_apart();
                    partition.assign(apart);
                }
                Place::Apart { .. } if late => partition.keep_apart(),
                Place::Apart { usual } if partition.was_in_time() => partition.assign(usual),
                Place::Apart { .. } => {}
            }
        }
    }
}
