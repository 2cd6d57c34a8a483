//! At a start: what the log holds becomes topics, partitions and windows, before Kafka has ever answered.
//!
//! What an earlier start sent and did not see settled is rebuilt, the same records under the same numbers, and goes again first. What is behind
//! it is read when its partition may send.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::read::unpacked;
use crate::backlog::log::engine::Log;
use crate::backlog::log::entry::IndexRange;
use crate::backlog::log::error::LogError;
use crate::backlog::log::read::{Cursor, Next, ReadError};
use crate::backlog::log::state::Partition as Known;
use crate::backlog::log::storage::Storage;
use crate::backlog::name::PartitionName;
use crate::config::{Config, StorePolicy};
use crate::queue::budget::Budget;
use crate::queue::inherit::Inheritance;
use crate::queue::ledger::{DuplicateCause, Ledger};
use crate::queue::partition::Partition;
use crate::queue::topic::Topics;
use crate::wire::codec::Codec;
use crate::wire::record_batch::{BatchBuilder, SealedBatch};

/// So many bytes of runs are read at a time.
const READ_BYTES: usize = 1 << 20;

/// Where what is restored goes.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Whose rules hold.
    pub config: &'a Config,
    /// None of them may be in use yet.
    pub topics: &'a Topics,
    /// What is rebuilt is charged to it.
    pub budget: &'a Budget,
    /// What is held is accepted there.
    pub ledger: &'a Ledger,
}

/// Why a batch cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
enum Unbuilt {
    /// Some of its records are damaged or gone.
    #[error("some of its records are damaged")]
    Damaged,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot read the backlog: {0}")]
    Io(#[from] std::io::Error),
}

/// Restores all that the log holds, and the topics that are stored; returns how many records it holds. Blocks.
///
/// # Errors
/// If the disk does not give what it holds. Damage is no error: it is said, and counted when its turn comes.
pub fn restore<S: Storage>(log: &mut Log<S>, parts: Parts<'_>) -> Result<u64, LogError> {
    // By topic: its id, and its partitions' numbers.
    let mut by_topic: BTreeMap<String, (Uuid, BTreeMap<i32, u32>)> = BTreeMap::new();
    for (number, known) in &log.state().partitions {
        let name = PartitionName::decode(&known.name);
        let named = name.and_then(|name| Some((std::str::from_utf8(name.topic).ok()?, name.partition?, name.topic_id)));
        let Some((topic, id, topic_id)) = named else {
            if known.held() > 0 {
                error!(
                    number,
                    records = known.held(),
                    "the backlog holds records of which it does not know where they belong; they stay"
                );
            }
            continue;
        };
        let (known_id, numbers) = by_topic.entry(topic.to_owned()).or_default();
        if topic_id != [0; 16] {
            *known_id = Uuid::from_bytes(topic_id);
        }
        numbers.insert(id, *number);
    }
    let mut held = 0;
    for (name, (id, numbers)) in by_topic {
        let is_held = |number: &u32| log.partition(*number).is_some_and(|known| known.held() > 0);
        let is_stored = parts.config.topic_rules(&name).store == StorePolicy::Always;
        if !is_stored && !numbers.values().any(is_held) {
            continue;
        }
        let count = numbers.keys().next_back().map_or(0, |last| usize::try_from(*last).unwrap_or(0) + 1);
        let topic = parts.topics.restore(&name, id, count);
        for partition in topic.partitions().iter().flat_map(|partitions| partitions.iter()) {
            if let Some(number) = numbers.get(&partition.id()) {
                held += take_over(log, *number, partition, parts)?;
            }
        }
    }
    if held > 0 {
        info!(records = held, "the backlog holds records of an earlier start");
    }
    Ok(held)
}

/// A partition of the log's becomes one of the queue's. Returns how many records it holds.
fn take_over<S: Storage>(
    log: &mut Log<S>,
    number: u32,
    partition: &Arc<Partition>,
    parts: Parts<'_>,
) -> Result<u64, LogError> {
    let (Some(known), Some(stored)) = (log.partition(number).cloned(), partition.stored()) else { return Ok(0) };
    // Set once: nobody else knows the partition yet.
    let _ = stored.number().set(number);
    let held = known.held();
    parts.ledger.accept(held);
    let inheritance = Inheritance::of(&known);
    let mut first = inheritance.next_index();
    let mut window = partition.window();
    let build = |range| build(log, number, range, partition);
    let mut batched = 0;
    match window.inherit(inheritance, Instant::now(), build) {
        Ok(inherited) => {
            parts.budget.charge(inherited.charged);
            parts.ledger.possible_duplicates(DuplicateCause::Unsettled, inherited.possible_duplicates);
            batched = window.batched_records();
        }
        Err(Unbuilt::Damaged) => {
            // Its numbers can no longer be used for the same records. What of it is there already comes twice.
            let sent: u64 = in_doubt(&known);
            let (topic, id) = (&partition.topic().name, partition.id());
            warn!(%topic, partition = id, records = sent, "records that may have been sent are damaged; those around them may be delivered twice");
            parts.ledger.possible_duplicates(DuplicateCause::Unsettled, sent);
            first = known.after_gone(known.settled);
        }
        Err(Unbuilt::Log(error)) => return Err(error),
        Err(Unbuilt::Io(error)) => {
            return Err(crate::backlog::log::disk_error::DiskError::new("read", log.storage().path(""), error).into());
        }
    }
    if partition.topic().overflows() {
        if held > 0 {
            stored.turn_on(&mut window);
        } else {
            // What it held was settled: it begins in memory.
            (window.is_stored, window.counted_until) = (false, 0);
        }
    }
    drop(window);
    let mut log_only = stored.log_only();
    (log_only.first, log_only.end) = (first, known.next);
    log_only.records = held.saturating_sub(batched);
    Ok(held)
}

fn in_doubt(known: &Known) -> u64 {
    let last = known.sent.iter().map(|sent| sent.range.last).max();
    last.and_then(|last| IndexRange::new(known.settled, last)).map_or(0, |range| range.count())
}

/// The batch of exactly these records.
fn build<S: Storage>(
    log: &mut Log<S>,
    number: u32,
    range: IndexRange,
    partition: &Partition,
) -> Result<SealedBatch, Unbuilt> {
    let mut builder = BatchBuilder::new();
    let mut cursor = Cursor::new(number, range.first);
    let mut next = range.first;
    while next <= range.last {
        let Next::Runs(handles) = log.locate(&mut cursor, READ_BYTES)? else { return Err(Unbuilt::Damaged) };
        for handle in handles {
            let run = match handle.read() {
                Ok(run) => run,
                Err(ReadError::Damaged) => {
                    log.note_unreadable(&handle);
                    return Err(Unbuilt::Damaged);
                }
                Err(ReadError::Io(error)) => return Err(error.into()),
            };
            let records = run.records();
            let unpacked = unpacked(&records).map_err(|_| Unbuilt::Damaged)?;
            for (index, record) in (records.first..).zip(unpacked.records_from(0)) {
                if index > range.last {
                    break;
                }
                if index == next {
                    builder.append(record.timestamp, record.suffix);
                    next += 1;
                }
            }
        }
    }
    let rules = &partition.topic().rules;
    // What does not compress goes as it is, like any batch.
    Ok(builder.finish(Codec::from(rules.compression_type), rules.compression_level).0)
}
