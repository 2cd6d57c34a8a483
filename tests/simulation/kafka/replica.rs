//! One replica of a partition: its log, its high watermark, and what it remembers of producers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::producers::{Numbers, Producers};

/// A batch in a log.
#[derive(Clone)]
pub struct Entry {
    /// Offset of its first record.
    pub base_offset: i64,
    /// The epoch of the leader that appended it.
    pub leader_epoch: i32,
    pub numbers: Numbers,
    /// The newest timestamp in it.
    pub max_timestamp: i64,
    /// What its records are, in order: numbers in the book of the schedule.
    pub records: Arc<[u32]>,
    /// As it was sent, with its offset and leader epoch.
    pub bytes: Bytes,
}

impl Entry {
    /// The offset behind its last record.
    pub fn end(&self) -> i64 {
        self.base_offset + self.records.len() as i64
    }
}

/// See the module.
#[derive(Default)]
pub struct Replica {
    pub log: Vec<Entry>,
    pub producers: Producers,
    /// Snapshots of the producers, by offset. One of nothing at 0 is implied.
    snapshots: Vec<(i64, Producers)>,
    pub high_watermark: i64,
    /// As a leader: how far each follower is known to have come.
    pub progress: BTreeMap<i32, i64>,
    /// As a leader: where its log ended when it was elected.
    pub elected_at: i64,
}

impl Replica {
    /// The offset of the next record.
    pub fn end(&self) -> i64 {
        self.log.last().map_or(0, Entry::end)
    }

    /// Appends a batch that was judged, or that the leader has.
    pub fn append(&mut self, entry: Entry) {
        self.producers.note(&entry.numbers, (entry.base_offset, entry.end()), entry.max_timestamp);
        self.log.push(entry);
    }

    /// How many batches it has in common with `leader`: those before the first that differ in leader epoch or offset
    /// (KIP-320; `AbstractFetcherThread.truncateOnFetchResponse`).
    pub fn common(&self, leader: &Replica) -> usize {
        let mut common = self.log.len().min(leader.log.len());
        let place = |entry: &Entry| (entry.base_offset, entry.leader_epoch, entry.records.len());
        while common > 0 && place(&self.log[common - 1]) != place(&leader.log[common - 1]) {
            common -= 1;
        }
        common
    }

    /// Cuts the log and reads the producers anew (`UnifiedLog.truncateTo`). Returns what was cut off.
    pub fn truncate(&mut self, batches: usize, now: i64, expiry: Duration) -> Vec<Entry> {
        let cut = self.log.split_off(batches.min(self.log.len()));
        self.high_watermark = self.high_watermark.min(self.end());
        let end = self.end();
        self.snapshots.retain(|(offset, _)| *offset <= end);
        self.reload(now, expiry);
        cut
    }

    /// Producers from the newest snapshot, but for the expired ones, and from the log behind it
    /// (`ProducerStateManager.truncateAndReload`, `UnifiedLog.rebuildProducerState`).
    pub fn reload(&mut self, now: i64, expiry: Duration) {
        let (from, mut producers) = self.snapshots.last().cloned().unwrap_or_default();
        producers.sweep(now, expiry);
        for entry in self.log.iter().filter(|entry| entry.base_offset >= from) {
            producers.note(&entry.numbers, (entry.base_offset, entry.end()), entry.max_timestamp);
        }
        self.producers = producers;
    }

    /// Writes a snapshot: at a clean stop, and when a segment is full.
    pub fn snapshot(&mut self) {
        let end = self.end();
        self.snapshots.retain(|(offset, _)| *offset < end);
        self.snapshots.push((end, self.producers.snapshot()));
    }
}
