//! What the log has to be told of the flight of a stored partition, so that a later start knows what was sent, and how.
//!
//! Notes of one partition go into the log in the order in which they come: what a Sent means depends on those before it.

use uuid::Uuid;

use crate::backlog::log::entry::{Acknowledged, Entry, IndexRange, MAY_BE_DELIVERED, Sent};
use crate::wire::record_batch::Lane;

/// Reason of a Dropped: they have waited for longer than their topic's `delivery_timeout`.
pub const REASON_DELIVERY_TIMEOUT: u32 = 2;

/// See the module. Indexes are those of the partition's records in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// These records are about to go out as one batch. It must be on disk before the first byte does:
    /// [`Window::noted`](super::window::Window::noted).
    Sent {
        /// The first record's index.
        first_index: u64,
        /// How many records.
        count: u32,
        /// Producer id and epoch.
        lane: Lane,
        /// The first record's sequence number.
        base_sequence: i32,
        /// The topic's id, nil when it is not known.
        topic_id: Uuid,
    },
    /// Everything up to this record is done with.
    Acknowledged {
        /// The last record's index.
        last_index: u64,
        /// Its offset in Kafka, -1 when it is not known.
        offset: i64,
        /// The epoch of the leader that said so, -1 when it is not known.
        leader_epoch: i32,
        /// The topic's id, nil when it is not known.
        topic_id: Uuid,
        /// How many of the records that are done with by it may be there twice.
        possible_duplicates: u64,
    },
    /// These records are dead letters. What was sent of the same lane behind them counts no longer.
    Dead {
        /// The first record's index.
        first_index: u64,
        /// How many records.
        count: u32,
        /// Kafka's error code.
        code: i16,
        /// They may be there all the same, and what was sent behind them as well.
        may_be_delivered: bool,
    },
    /// These records were given up.
    Dropped {
        /// The first record's index.
        first_index: u64,
        /// How many records.
        count: u32,
        /// Why: a number that the log keeps.
        reason: u32,
        /// They may be there all the same.
        may_be_delivered: bool,
    },
}

impl Note {
    /// How it stands in the log, where the partition has this number. `None` when no index can follow its last one.
    pub fn entry(&self, partition: u32) -> Option<Entry<'static>> {
        let range =
            |first: u64, count: u32| IndexRange::new(first, first.checked_add(u64::from(count).checked_sub(1)?)?);
        Some(match *self {
            Note::Sent { first_index, count, lane, base_sequence, topic_id } => {
                let (range, topic_id) = (range(first_index, count)?, topic_id.into_bytes());
                let sent = Sent { range, producer_id: lane.producer_id, epoch: lane.epoch, base_sequence, topic_id };
                Entry::Sent { partition, sent }
            }
            Note::Acknowledged { last_index, offset, leader_epoch, topic_id, possible_duplicates } => {
                Entry::Acknowledged(Acknowledged {
                    partition,
                    last: range(last_index, 1)?.last,
                    offset,
                    leader_epoch,
                    topic_id: topic_id.into_bytes(),
                    possible_duplicates,
                })
            }
            Note::Dead { first_index, count, code, may_be_delivered } => {
                let reason = u32::from(code as u16) | flag(may_be_delivered);
                Entry::Dead { partition, range: range(first_index, count)?, reason }
            }
            Note::Dropped { first_index, count, reason, may_be_delivered } => {
                let reason = reason | flag(may_be_delivered);
                Entry::Dropped { partition, range: range(first_index, count)?, reason }
            }
        })
    }
}

fn flag(may_be_delivered: bool) -> u32 {
    if may_be_delivered { MAY_BE_DELIVERED } else { 0 }
}
