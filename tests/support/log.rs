//! A small log for tests of the engine, and what is written into it.

#![allow(dead_code, reason = "each target uses a part of it")]

use forebay::backlog::log::append::Ticket;
use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Acknowledged, Entry, NO_TAGS, Records};
use forebay::backlog::log::error::LogError;
use forebay::backlog::log::options::Options;
use forebay::backlog::log::storage::Storage;

pub const SEGMENT_BYTES: u64 = 64 << 10;

/// One record, not compressed, without times and tags.
pub fn records(partition: u32, first: u64, data: &[u8]) -> Records<'_> {
    Records {
        partition,
        first,
        count: 1,
        base_timestamp: 0,
        max_timestamp: 0,
        stored_at: 0,
        codec: 0,
        tags: NO_TAGS,
        data,
    }
}

/// A log of that many small segments.
pub fn options(segments: u64) -> Options {
    Options { segment_bytes: SEGMENT_BYTES, write_bytes: 8 << 10, ..Options::with_limit(segments * SEGMENT_BYTES) }
}

/// Opened with [`options`].
pub fn open<S: Storage>(storage: &S, segments: u64) -> Log<S> {
    Log::open(storage.clone(), options(segments), 1).expect("the directory is well").0
}

/// Appends a record to a partition.
pub fn store<S: Storage>(log: &mut Log<S>, partition: u32, data: &[u8]) -> Result<Ticket, LogError> {
    let first = log.partition(partition).expect("it is defined").next;
    log.append(&[Entry::Records(records(partition, first, data))])
}

/// Notes that all of a partition is delivered.
pub fn acknowledge<S: Storage>(log: &mut Log<S>, partition: u32) -> Result<Ticket, LogError> {
    let last = log.partition(partition).expect("it is defined").next - 1;
    let done = Acknowledged { partition, last, offset: 1, leader_epoch: 1, topic_id: [0; 16], possible_duplicates: 0 };
    log.append(&[Entry::Acknowledged(done)])
}
