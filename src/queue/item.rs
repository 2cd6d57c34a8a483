//! What a queue holds: bursts, and the place up to which each has been taken.
//!
//! An item owns its bytes: a slice of a read buffer would keep 64 KiB alive for one record of a slow partition.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::receipt::{Mark, Outcome, Receipt, When};
use crate::record::{RawRecord, Run, TimestampMs};
use crate::wire::codec::Codec;

/// What an item is charged beside the bytes of its records: the box, its place in the queue, the allocator's share.
const ITEM_OVERHEAD_BYTES: usize = 144;

/// A deep queue has left the caches, so an item is kept small: one cache line and a half.
const _: () = assert!(size_of::<Item>() <= 96);

/// What room for a receipt is charged.
const MARK_BYTES: usize = 32;

/// The index of an item that has none.
const NO_INDEX: u64 = u64::MAX;

/// The records of an item.
#[derive(Debug)]
pub enum Payload {
    /// Records one by one; batches may be cut anywhere between them.
    Records(Run),
    /// Records that are a batch already, compressed by whoever made it. Sent as one batch, never opened.
    Batch(Box<OpaqueBatch>),
}

/// A ready-made batch: the records section of a Kafka record batch and what its header has to say about it.
#[derive(Debug)]
pub struct OpaqueBatch {
    /// How `records` is compressed.
    pub codec: Codec,
    /// How many records.
    pub count: u32,
    /// The timestamp that the records' deltas count from.
    pub base_timestamp: TimestampMs,
    /// The newest.
    pub max_timestamp: TimestampMs,
    /// The records section.
    pub records: Bytes,
    /// Where it came from, if its source wants to know how far it has got.
    pub origin: Option<Origin>,
}

/// Who handed an item in, and up to where that source has been read: what a reader of files or of another log remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The source's name.
    pub source: Arc<str>,
    /// Everything below this position of the source is in this item or in earlier ones.
    pub up_to: u64,
}

/// A burst: what one socket read held for one partition.
#[derive(Debug)]
pub struct Item {
    payload: Payload,
    /// Of a run, which no frame limit lets grow to 4 GiB.
    taken_bytes: u32,
    taken: u32,
    /// Never grows, so neither does what the item is charged.
    marks: VecDeque<Mark>,
    arrived: Instant,
    first_index: u64,
}

impl Item {
    /// A burst of records that arrived at `arrived`. `marks` are in the order of the records they stand for.
    pub fn records(mut run: Run, marks: VecDeque<Mark>, arrived: Instant) -> Box<Self> {
        run.trim();
        Self::new(Payload::Records(run), marks, arrived)
    }

    /// A ready-made batch.
    pub fn batch(batch: OpaqueBatch, receipt: Option<Receipt>, arrived: Instant) -> Box<Self> {
        let marks = receipt.into_iter().map(|receipt| Mark { at: 0, receipt }).collect();
        Self::new(Payload::Batch(Box::new(batch)), marks, arrived)
    }

    fn new(payload: Payload, marks: VecDeque<Mark>, arrived: Instant) -> Box<Self> {
        Box::new(Item { payload, taken_bytes: 0, taken: 0, marks, arrived, first_index: NO_INDEX })
    }

    /// The item is in the log: its first record, taken or not, has this index there.
    pub fn set_first_index(&mut self, index: u64) {
        self.first_index = index;
    }

    /// The index of the oldest record that has not been taken; `None` for an item that is not in the log.
    pub fn next_index(&self) -> Option<u64> {
        (self.first_index != NO_INDEX).then(|| self.first_index.saturating_add(self.taken.into()))
    }

    /// Its records.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The bytes it is charged in the memory budget, for as long as it exists.
    pub fn charged_bytes(&self) -> usize {
        let records = match &self.payload {
            Payload::Records(run) => run.capacity_bytes(),
            Payload::Batch(batch) => batch.records.len() + size_of::<OpaqueBatch>(),
        };
        records + self.marks.capacity() * MARK_BYTES + ITEM_OVERHEAD_BYTES
    }

    /// When it was read from its socket.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Bytes of the records that have not been taken.
    pub fn left_bytes(&self) -> usize {
        match &self.payload {
            Payload::Records(run) => run.len_bytes() - self.taken_bytes as usize,
            Payload::Batch(batch) => batch.records.len(),
        }
    }

    /// Records that have not been taken.
    pub fn left(&self) -> u32 {
        self.count() - self.taken
    }

    fn count(&self) -> u32 {
        match &self.payload {
            Payload::Records(run) => run.count(),
            Payload::Batch(batch) => batch.count,
        }
    }

    /// The first bytes of its records, so that they are in the cache by when they are taken.
    pub fn first_bytes(&self) -> Option<&[u8]> {
        match &self.payload {
            Payload::Records(run) => run.records_from(self.taken_bytes as usize).next().map(|record| record.suffix),
            Payload::Batch(_) => None,
        }
    }

    /// Takes records from the front for as long as `wants` says yes to the next one; returns how many were taken.
    /// A ready-made batch has no records to take this way.
    pub fn take_while(&mut self, mut wants: impl FnMut(&RawRecord<'_>) -> bool) -> u32 {
        let Payload::Records(run) = &self.payload else { return 0 };
        let before = self.taken;
        for record in run.records_from(self.taken_bytes as usize) {
            if !wants(&record) {
                break;
            }
            self.taken_bytes += record.len_bytes() as u32;
            self.taken += 1;
        }
        self.taken - before
    }

    /// The receipts of the `count` records that were taken last, their places counted from `base` for the first of
    /// those records. Call it once after each take.
    pub fn take_marks(&mut self, count: u32, base: u32, out: &mut Vec<Mark>) {
        let first = self.taken - count.min(self.taken);
        while let Some(mut mark) = self.marks.pop_front() {
            if mark.at >= self.taken {
                self.marks.push_front(mark);
                break;
            }
            if let Some(receipt) = mark.receipt.split_off(self.taken - mark.at) {
                self.marks.push_front(Mark { at: self.taken, receipt });
            }
            out.push(Mark { at: base + (mark.at - first), receipt: mark.receipt });
        }
    }

    /// The receipts of those who want to know when their records are in the log; those of the others stay. Nothing may have been taken.
    pub fn take_stored_receipts(&mut self) -> Vec<Receipt> {
        let mut stored = Vec::new();
        for _ in 0..self.marks.len() {
            match self.marks.pop_front() {
                Some(mark) if mark.receipt.when() == When::Stored => stored.push(mark.receipt),
                Some(mark) => self.marks.push_back(mark),
                None => break,
            }
        }
        stored
    }

    /// Whether somebody wants to know when it is in the log.
    pub fn wants_stored(&self) -> bool {
        self.marks.iter().any(|mark| mark.receipt.when() == When::Stored)
    }

    /// What has not been taken of it, as a burst of its own.
    pub fn into_rest(self: Box<Self>) -> Box<Self> {
        match &self.payload {
            Payload::Records(run) if self.taken > 0 => {
                let mut rest = Run::default();
                run.records_from(self.taken_bytes as usize).for_each(|record| rest.push_raw(&record));
                let taken = self.taken;
                let marks = self.marks.into_iter().map(|mark| Mark { at: mark.at.saturating_sub(taken), ..mark });
                Self::records(rest, marks.collect(), self.arrived)
            }
            _ => self,
        }
    }

    /// The index of each receipt's first record, and the receipt. Nothing may have been taken.
    pub fn into_receipts(self) -> impl Iterator<Item = (u64, Receipt)> {
        let first = self.first_index;
        self.marks.into_iter().map(move |mark| (first.saturating_add(mark.at.into()), mark.receipt))
    }

    /// Takes the whole of a ready-made batch: it counts as taken, its receipts come with it.
    pub fn take_whole(&mut self, out: &mut Vec<Mark>) {
        self.taken = self.count();
        let count = self.taken;
        self.take_marks(count, 0, out);
    }

    /// Ends it: what was not taken will not be sent.
    pub fn fail(self, outcome: &Outcome) {
        for mark in self.marks {
            mark.receipt.settle(outcome.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::receipt::{Answers, Request};
    use crate::record::Record;

    fn burst(records: u32, marks: VecDeque<Mark>) -> Box<Item> {
        let mut run = Run::default();
        for i in 0..records {
            let value = i.to_string();
            let value = Some(value.as_bytes());
            run.push(&Record { timestamp: i.into(), stamped_here: false, key: None, value, headers: &[] });
        }
        Item::records(run, marks, Instant::now())
    }

    fn take(item: &mut Item, n: u32) -> u32 {
        let mut room = n;
        item.take_while(|_| {
            let wanted = room > 0;
            room = room.saturating_sub(1);
            wanted
        })
    }

    #[tokio::test]
    async fn the_rest_of_a_burst_is_what_was_not_taken_with_its_receipts() {
        let answers = Arc::new(Answers::default());
        let request = Request::new(1, 5, 0, answers.clone());
        let mut item = burst(9, [Mark { at: 2, receipt: request.receipt(0, 5) }].into());
        take(&mut item, 4);
        let mut out = vec![];
        item.take_marks(4, 0, &mut out);
        let mut rest = item.into_rest();
        assert_eq!((rest.left(), out.len()), (5, 1));
        let Payload::Records(run) = rest.payload() else { panic!("it has records") };
        assert_eq!(run.records_from(0).map(|record| record.timestamp).collect::<Vec<_>>(), [4, 5, 6, 7, 8]);
        take(&mut rest, 5);
        rest.take_marks(5, 0, &mut out);
        assert_eq!(out.iter().map(|m| (m.at, m.receipt.count())).collect::<Vec<_>>(), [(2, 2), (0, 3)]);
    }

    #[tokio::test]
    async fn receipts_follow_their_records_through_cuts() {
        let answers = Arc::new(Answers::default());
        let (a, b) = (Request::new(1, 4, 0, answers.clone()), Request::new(2, 3, 0, answers.clone()));
        let marks = [Mark { at: 1, receipt: a.receipt(0, 4) }, Mark { at: 5, receipt: b.receipt(0, 3) }];
        let mut item = burst(9, marks.into());
        let mut places = vec![];
        for (n, base) in [(3, 10), (1, 0), (5, 20)] {
            assert_eq!(take(&mut item, n), n);
            let mut out = vec![];
            item.take_marks(n, base, &mut out);
            places.extend(out.iter().map(|m| (m.at, m.receipt.count())));
            for mark in out {
                mark.receipt.settle(Outcome::Delivered { partition: 0, base_offset: 0 });
            }
        }
        assert_eq!(places, [(11, 2), (0, 1), (20, 1), (21, 3)]);
        assert_eq!(item.left(), 0);
        assert!(answers.pop().is_some() && answers.pop().is_some());
    }
}
