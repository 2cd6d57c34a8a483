//! One partition: its log of batches, who leads it, and what it remembers of producers.
//!
//! The log only grows; a deleted topic takes its log with it. All replicas are taken to be in sync, so the high watermark
//! is the log's end. Replicas differ in one thing only: what a restart made them forget, see `producers`.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::check::{CheckedBatch, DECOMPRESSED_MAX, is_log_append_time};
use super::producers::{Horizon, Numbers, Producers, Verdict};
use crate::record::TimestampMs;
use crate::wire::api::describe_producers::Producer;
use crate::wire::record_batch;

/// A partition that nobody leads has this leader in Metadata.
pub(super) const NO_LEADER: i32 = -1;

/// A batch in the log, with its final offset in its header.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub base_offset: i64,
    pub numbers: Numbers,
    pub count: i32,
    pub max_timestamp: i64,
    pub bytes: Bytes,
}

/// A record as a consumer would see it, and who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its place in the partition.
    pub offset: i64,
    /// The producer's, or the broker's where the topic says so.
    pub timestamp: TimestampMs,
    /// `None` is null.
    pub key: Option<Bytes>,
    /// `None` is null.
    pub value: Option<Bytes>,
    /// In order; names may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// -1: not idempotent.
    pub producer_id: i64,
    /// -1: not idempotent.
    pub epoch: i16,
    /// Its sequence number; -1: not idempotent.
    pub sequence: i32,
}

/// A batch in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Records in it.
    pub count: i32,
    /// -1: not idempotent.
    pub producer_id: i64,
    /// -1: not idempotent.
    pub epoch: i16,
    /// Sequence number of its first record; -1: not idempotent.
    pub base_sequence: i32,
    /// The whole of it as it was sent, but for offset, leader epoch and append time.
    pub bytes: Bytes,
}

impl Stored {
    /// Its records. They were all decoded before the batch was appended, so none is left out.
    pub(super) fn records(&self) -> impl Iterator<Item = StoredRecord> {
        let append_time = is_log_append_time(&self.bytes).then_some(self.max_timestamp);
        let records = record_batch::records(&self.bytes, DECOMPRESSED_MAX).ok();
        let numbers = self.numbers;
        records.into_iter().flatten().map_while(Result::ok).map(move |record| StoredRecord {
            offset: self.base_offset + i64::from(record.offset_delta),
            timestamp: append_time.unwrap_or(record.timestamp),
            key: record.key,
            value: record.value,
            headers: record.headers,
            producer_id: numbers.producer_id,
            epoch: numbers.epoch,
            sequence: numbers.nth(record.offset_delta),
        })
    }

    pub(super) fn batch(&self) -> StoredBatch {
        StoredBatch {
            base_offset: self.base_offset,
            count: self.count,
            producer_id: self.numbers.producer_id,
            epoch: self.numbers.epoch,
            base_sequence: self.numbers.first,
            bytes: self.bytes.clone(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Partition {
    /// Broker ids, the preferred leader first.
    pub replicas: Vec<i32>,
    pub leader: i32,
    pub leader_epoch: i32,
    /// Too few replicas are in sync: acks=all is answered by 19.
    pub min_insync_lost: bool,
    log: Vec<Stored>,
    end: i64,
    producers: Producers,
    horizons: BTreeMap<i32, Horizon>,
    /// Each leader's epoch and the log's end when it began.
    epochs: Vec<(i32, i64)>,
}

impl Partition {
    pub(super) fn new(replicas: Vec<i32>) -> Self {
        Partition {
            replicas,
            leader: NO_LEADER,
            leader_epoch: -1,
            min_insync_lost: false,
            log: vec![],
            end: 0,
            producers: Producers::default(),
            horizons: BTreeMap::new(),
            epochs: vec![],
        }
    }

    /// The offset that the next record gets: the high watermark.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Every batch, oldest first.
    pub(super) fn log(&self) -> &[Stored] {
        &self.log
    }

    /// Bytes of the whole log.
    pub(super) fn len_bytes(&self) -> u64 {
        self.log.iter().map(|stored| stored.bytes.len() as u64).sum()
    }

    /// The deduplication rules, as the leader's memory has it. An error is Kafka's code.
    pub(super) fn judge(&self, numbers: &Numbers) -> Result<Verdict, i16> {
        self.producers.judge(numbers, self.horizons.get(&self.leader).copied().unwrap_or(0))
    }

    /// Whether the producer has left a trace here.
    pub(super) fn knows(&self, producer_id: i64) -> bool {
        self.producers.knows(producer_id)
    }

    /// Appends a batch that was judged new; `append_time` replaces its timestamps (LogAppendTime). Returns its base offset.
    pub(super) fn append(&mut self, batch: &CheckedBatch, append_time: Option<i64>) -> i64 {
        let base_offset = self.end;
        let numbers = batch.numbers();
        let max_timestamp = append_time.unwrap_or(batch.max_timestamp());
        let bytes = batch.placed(base_offset, self.leader_epoch, append_time);
        self.producers.note(&numbers, base_offset, max_timestamp);
        self.end += i64::from(batch.count());
        self.log.push(Stored { base_offset, numbers, count: batch.count(), max_timestamp, bytes });
        base_offset
    }

    /// Whole batches from the one that holds `offset` on, up to `max_bytes`; the first one even if it is larger, if
    /// `at_least_one`.
    pub(super) fn read(&self, offset: i64, max_bytes: usize, at_least_one: bool) -> Bytes {
        let mut out = BytesMut::new();
        for stored in self.since(offset) {
            let forced = at_least_one && out.is_empty();
            if out.len() + stored.bytes.len() > max_bytes && !forced {
                break;
            }
            out.extend_from_slice(&stored.bytes);
        }
        out.freeze()
    }

    /// Bytes of batches from `offset` on, counted until there are `enough`.
    pub(super) fn readable(&self, offset: i64, enough: usize) -> usize {
        let mut bytes = 0;
        for stored in self.since(offset) {
            bytes += stored.bytes.len();
            if bytes >= enough {
                break;
            }
        }
        bytes
    }

    /// Timestamp and offset of the first record that is stamped at or after `timestamp`.
    pub(super) fn first_since(&self, timestamp: i64) -> Option<(i64, i64)> {
        let stored = self.log.iter().find(|stored| stored.max_timestamp >= timestamp)?;
        let record = stored.records().find(|record| record.timestamp >= timestamp)?;
        Some((record.timestamp, record.offset))
    }

    /// The batches that hold `offset` or what comes after it.
    fn since(&self, offset: i64) -> impl Iterator<Item = &Stored> {
        let from = self.log.partition_point(|stored| stored.base_offset + i64::from(stored.count) <= offset);
        self.log.iter().skip(from)
    }

    /// Makes `leader` the leader, in the next epoch.
    pub(super) fn lead(&mut self, leader: i32) {
        self.leader = leader;
        self.leader_epoch += 1;
        self.epochs.push((self.leader_epoch, self.end));
    }

    /// An epoch, or the largest below it that the log has, and the offset behind its last record; -1 where there is none.
    pub(super) fn epoch_end(&self, epoch: i32) -> (i32, i64) {
        if epoch > self.leader_epoch {
            return (-1, -1);
        }
        let has_records = |(at, (_, start)): &(usize, &(i32, i64))| {
            let end = self.epochs.get(at + 1).map_or(self.end, |(_, next)| *next);
            *start < end || at + 1 == self.epochs.len()
        };
        let found = self.epochs.iter().enumerate().filter(has_records).rfind(|(_, (known, _))| *known <= epoch);
        found.map_or((-1, -1), |(at, (known, _))| (*known, self.epochs.get(at + 1).map_or(self.end, |(_, next)| *next)))
    }

    /// `broker` stops: when it is back, it has a snapshot of what was there until now.
    pub(super) fn broker_stopped(&mut self, broker: i32) {
        self.horizons.insert(broker, self.end);
    }

    /// Forgets producers by their last batch's timestamp.
    pub(super) fn sweep(&mut self, expired_at: i64) -> usize {
        self.producers.sweep(expired_at)
    }

    /// What DescribeProducers answers.
    pub(super) fn producers(&self) -> Vec<Producer> {
        self.producers.describe()
    }
}
