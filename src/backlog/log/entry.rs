//! Entries: what a frame says. Pure.
//!
//! Each has a kind, a size and a tagged section, so that a reader passes over what later versions add. What a checkpoint holds is in
//! `checkpoint`.

mod codec;
mod envelope;

pub use codec::entries;
pub(super) use envelope::{Envelope, end_entry, envelopes, put_entry};
pub use envelope::{is_tagged_section, tag_origins, tagged_section, tags};

use super::varint::varint_len;

/// An empty tagged section.
pub const NO_TAGS: &[u8] = &[0];
/// Reason of a Dropped whose records were lost to damage of the log itself. The others are the owner's.
pub const REASON_DAMAGED: u32 = 1;

/// The highest bit of a Dead's or a Dropped's reason: the records may have been delivered all the same, and what was sent behind them as well.
pub const MAY_BE_DELIVERED: u32 = 1 << 31;

/// Consecutive records of a partition. The last index is below `u64::MAX`, so that there always is a next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexRange {
    /// Index of the first.
    pub first: u64,
    /// Index of the last.
    pub last: u64,
}

/// A run of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    /// The partition's number.
    pub partition: u32,
    /// Index of the first record.
    pub first: u64,
    /// How many records, at least one.
    pub count: u32,
    /// Timestamp of the first record, in ms.
    pub base_timestamp: i64,
    /// The newest timestamp, in ms.
    pub max_timestamp: i64,
    /// When the run was stored, in ms since 1970-01-01 UTC.
    pub stored_at: i64,
    /// How `data` is encoded: 0 in run form, else Kafka's number of the compression.
    pub codec: u8,
    /// The tagged section, see [`tag_origins`]; [`NO_TAGS`] for none.
    pub tags: &'a [u8],
    /// The records.
    pub data: &'a [u8],
}

/// Who handed records over, and up to where in its own numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The highest of its numbers in the run.
    pub up_to: i64,
}

/// A batch: these records went out, or may have, under these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Which records.
    pub range: IndexRange,
    /// The lane's producer id.
    pub producer_id: i64,
    /// The lane's epoch.
    pub epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
    /// Kafka's id of the topic, zero when it is not known.
    pub topic_id: [u8; 16],
}

/// Everything of a partition up to an index is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// The partition's number.
    pub partition: u32,
    /// Index of the last record that is done with.
    pub last: u64,
    /// Offset of the last record in Kafka, -1 when it is not known.
    pub offset: i64,
    /// Epoch of the leader that said so, -1 when it is not known.
    pub leader_epoch: i32,
    /// Kafka's id of the topic, zero when it is not known.
    pub topic_id: [u8; 16],
    /// How many of the records may be there twice.
    pub possible_duplicates: u64,
}

/// Records whose partition was not chosen are now records of these partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Which records.
    pub range: IndexRange,
    /// How many partitions the topic had.
    pub partition_count: u32,
    /// Which partitions got records.
    pub parts: Vec<PlacedPart>,
}

/// What one partition got of what was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacedPart {
    /// The partition's number.
    pub partition: u32,
    /// Index of the first record there.
    pub first: u64,
    /// How many records, at least one.
    pub count: u64,
}

/// What a frame of kind entries holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A number for a partition.
    Partition {
        /// The number.
        number: u32,
        /// Whatever the owner names it by.
        name: &'a [u8],
    },
    /// A run.
    Records(Records<'a>),
    /// A batch.
    Sent {
        /// The partition's number.
        partition: u32,
        /// The batch.
        sent: Sent,
    },
    /// What is done with.
    Acknowledged(Acknowledged),
    /// Records that will not be delivered.
    Dropped {
        /// The partition's number.
        partition: u32,
        /// Which records.
        range: IndexRange,
        /// Why: [`REASON_DAMAGED`], or one of the owner's; with [`MAY_BE_DELIVERED`] or without.
        reason: u32,
    },
    /// Records that cannot be delivered and are kept elsewhere.
    Dead {
        /// The partition's number.
        partition: u32,
        /// Which records.
        range: IndexRange,
        /// Why, the owner's; with [`MAY_BE_DELIVERED`] or without.
        reason: u32,
    },
    /// Records whose partition is chosen now.
    Placed {
        /// The number of the partition that stood for none.
        partition: u32,
        /// Where they went.
        placed: Placed,
    },
    /// Which cluster all this is for.
    Cluster {
        /// Its id.
        id: &'a [u8],
    },
    /// A partition of which nothing is held and that will not come back.
    Retired {
        /// The partition's number.
        partition: u32,
    },
}

impl IndexRange {
    /// From `first` to `last`; `None` when it is empty or has nothing behind it.
    pub fn new(first: u64, last: u64) -> Option<IndexRange> {
        (first <= last && last < u64::MAX).then_some(IndexRange { first, last })
    }

    /// How many records.
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

impl<'a> Records<'a> {
    /// Which records; `None` when there are none or their indexes overflow.
    pub fn range(&self) -> Option<IndexRange> {
        let last = self.first.checked_add(u64::from(self.count).checked_sub(1)?)?;
        IndexRange::new(self.first, last)
    }

    /// Who handed them over.
    pub fn origins(&self) -> impl Iterator<Item = Origin<'a>> + use<'a> {
        envelope::origins(self.tags)
    }
}

impl PlacedPart {
    /// Which records of its partition; `None` when there are none or their indexes overflow.
    pub fn range(&self) -> Option<IndexRange> {
        IndexRange::new(self.first, self.first.checked_add(self.count.checked_sub(1)?)?)
    }
}

impl Entry<'_> {
    /// The partition that it is about.
    pub fn partition(&self) -> Option<u32> {
        match self {
            Entry::Partition { number: partition, .. }
            | Entry::Records(Records { partition, .. })
            | Entry::Sent { partition, .. }
            | Entry::Acknowledged(Acknowledged { partition, .. })
            | Entry::Dropped { partition, .. }
            | Entry::Dead { partition, .. }
            | Entry::Placed { partition, .. }
            | Entry::Retired { partition } => Some(*partition),
            Entry::Cluster { .. } => None,
        }
    }

    /// At most so many bytes will be appended.
    pub fn len_max(&self) -> usize {
        const FIELDS_MAX: usize = 128;
        FIELDS_MAX
            + match self {
                Entry::Records(records) => records.tags.len() + records.data.len(),
                Entry::Partition { name, .. } => name.len(),
                Entry::Placed { placed, .. } => placed.parts.len() * 3 * varint_len(u64::MAX),
                Entry::Cluster { id } => id.len(),
                _ => 0,
            }
    }
}

#[cfg(test)]
mod tests;
