//! What a partition remembers of idempotent producers, and the rules by which it recognises a batch that it has already.
//!
//! Kafka's own (`ProducerStateManager`, `ProducerAppendInfo`, `ProducerStateEntry`), for batches of clients outside of
//! transactions, per partition and producer id:
//!
//! 1. same epoch and exactly the first and last sequence number of one of the last five batches: a duplicate. Contents
//!    are not compared;
//! 2. a lower epoch is fenced (47); a higher one must start at sequence 0 (else 45);
//! 3. in the same epoch the next batch must follow the last one without a gap (else 45, also for what is older than the window);
//! 4. of a producer id that is not known, any sequence number is taken.
//!
//! Replicas are not modelled one by one. A broker that was restarted has read a snapshot, which holds only the last batch of
//! each producer, and has seen all that came later; so its window follows from the log's end when it stopped, see `Horizon`.

use std::collections::{HashMap, VecDeque};

use crate::wire::api::describe_producers::Producer;
use crate::wire::codes;
use crate::wire::record_batch::{Lane, next_sequence};

/// How many batches of a producer are remembered (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub(super) const WINDOW: usize = 5;

/// Where a replica's full memory begins: of the batches below this offset, it knows only each producer's last.
/// 0 for a broker that has been up all along.
pub(super) type Horizon = i64;

/// The lane and the sequence numbers of a batch; `producer_id` -1 is a producer without idempotence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub producer_id: i64,
    pub epoch: i16,
    pub first: i32,
    pub last: i32,
}

impl Numbers {
    /// `count` records from `first` on; all are -1 without idempotence.
    pub(super) fn new(producer_id: i64, epoch: i16, first: i32, count: i32) -> Self {
        let mut numbers = Numbers { producer_id, epoch, first, last: first };
        numbers.last = numbers.nth(count.saturating_sub(1));
        numbers
    }

    /// The number of the record at `index`, counted from the batch's first.
    pub(super) fn nth(&self, index: i32) -> i32 {
        if self.first < 0 { self.first } else { next_sequence(self.first, index.unsigned_abs()) }
    }
}

/// What to do with a batch that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new.
    Append,
    /// It is there already, from this offset on.
    Duplicate(i64),
}

/// What is known of one producer.
#[derive(Debug)]
struct Remembered {
    epoch: i16,
    batches: VecDeque<Seen>,
    last_timestamp: i64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: i32,
    last: i32,
    offset: i64,
}

impl Remembered {
    /// What a replica with this horizon remembers, newest first. Offsets rise, so all within the horizon come first.
    fn remembered(&self, horizon: Horizon) -> impl Iterator<Item = &Seen> {
        let within = self.batches.iter().filter(|seen| seen.offset >= horizon).count();
        let from_snapshot = usize::from(within < self.batches.len());
        self.batches.iter().rev().take(within + from_snapshot)
    }
}

/// All producers that a partition knows.
#[derive(Debug, Default)]
pub(super) struct Producers {
    by_id: HashMap<i64, Remembered>,
}

impl Producers {
    /// Judges a batch, which has been validated, by the four rules. An error is Kafka's code.
    pub(super) fn judge(&self, batch: &Numbers, horizon: Horizon) -> Result<Verdict, i16> {
        let Some(producer) = self.by_id.get(&batch.producer_id) else { return Ok(Verdict::Append) };
        if batch.epoch < producer.epoch {
            return Err(codes::INVALID_PRODUCER_EPOCH);
        }
        if batch.epoch > producer.epoch {
            return if batch.first == 0 { Ok(Verdict::Append) } else { Err(codes::OUT_OF_ORDER_SEQUENCE_NUMBER) };
        }
        let same = |seen: &&Seen| (seen.first, seen.last) == (batch.first, batch.last);
        if let Some(seen) = producer.remembered(horizon).find(same) {
            return Ok(Verdict::Duplicate(seen.offset));
        }
        match producer.batches.back() {
            Some(newest) if next_sequence(newest.last, 1) != batch.first => Err(codes::OUT_OF_ORDER_SEQUENCE_NUMBER),
            _ => Ok(Verdict::Append),
        }
    }

    /// Notes a batch that was appended at `offset`. Batches without a producer id leave no trace.
    pub(super) fn note(&mut self, batch: &Numbers, offset: i64, max_timestamp: i64) {
        if batch.producer_id < 0 {
            return;
        }
        let producer = self.by_id.entry(batch.producer_id).or_insert_with(|| Remembered {
            epoch: batch.epoch,
            batches: VecDeque::with_capacity(WINDOW),
            last_timestamp: max_timestamp,
        });
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == WINDOW {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Seen { first: batch.first, last: batch.last, offset });
        producer.last_timestamp = max_timestamp;
    }

    /// Whether a producer is known.
    pub(super) fn knows(&self, producer_id: i64) -> bool {
        self.by_id.contains_key(&producer_id)
    }

    /// Forgets the producers whose last batch is stamped at or before `expired_at` (ms), however lately it was appended.
    /// Returns how many.
    pub(super) fn sweep(&mut self, expired_at: i64) -> usize {
        let before = self.by_id.len();
        self.by_id.retain(|_, producer| producer.last_timestamp > expired_at);
        before - self.by_id.len()
    }

    /// All of them, by id.
    pub(super) fn describe(&self) -> Vec<Producer> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .filter_map(|(&producer_id, known)| {
                let last_sequence = known.batches.back()?.last;
                let lane = Lane { producer_id, epoch: known.epoch };
                Some(Producer { lane, last_sequence, last_timestamp: known.last_timestamp })
            })
            .collect();
        all.sort_by_key(|producer| producer.lane.producer_id);
        all
    }
}
