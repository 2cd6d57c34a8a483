//! What a replica remembers of producers, and its judgement of a batch (`ProducerStateManager`, `ProducerAppendInfo`,
//! `ProducerStateEntry`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use forebay::wire::api::describe_producers::Producer;
use forebay::wire::codes;
use forebay::wire::record_batch::{Lane, next_sequence};

/// `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`.
const WINDOW: usize = 5;

/// The lane and sequence numbers of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub lane: Lane,
    pub first: i32,
    pub last: i32,
}

/// A batch that is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    first: i32,
    last: i32,
    /// Offsets of its first record and behind its last.
    pub offsets: (i64, i64),
}

#[derive(Clone, Debug)]
struct Known {
    epoch: i16,
    batches: VecDeque<Seen>,
    last_timestamp: i64,
}

/// All producers that a replica knows.
#[derive(Clone, Debug, Default)]
pub struct Producers(BTreeMap<i64, Known>);

impl Producers {
    /// Whether a batch is there already (`Some`) or to be appended. An error is Kafka's code.
    ///
    /// Of a producer that is not known any number is taken (KIP-360; `ProducerAppendInfo.checkSequence`).
    pub fn judge(&self, batch: &Numbers) -> Result<Option<Seen>, i16> {
        let Some(known) = self.0.get(&batch.lane.producer_id) else { return Ok(None) };
        if batch.lane.epoch < known.epoch {
            return Err(codes::INVALID_PRODUCER_EPOCH);
        }
        if batch.lane.epoch > known.epoch {
            return if batch.first == 0 { Ok(None) } else { Err(codes::OUT_OF_ORDER_SEQUENCE_NUMBER) };
        }
        let same = |seen: &&Seen| (seen.first, seen.last) == (batch.first, batch.last);
        if let Some(seen) = known.batches.iter().find(same) {
            return Ok(Some(*seen));
        }
        match known.batches.back() {
            Some(newest) if next_sequence(newest.last, 1) != batch.first => Err(codes::OUT_OF_ORDER_SEQUENCE_NUMBER),
            _ => Ok(None),
        }
    }

    /// A batch was appended at these offsets.
    pub fn note(&mut self, batch: &Numbers, offsets: (i64, i64), last_timestamp: i64) {
        let Numbers { lane, first, last } = *batch;
        let fresh = || Known { epoch: lane.epoch, batches: VecDeque::new(), last_timestamp };
        let known = self.0.entry(lane.producer_id).or_insert_with(fresh);
        if known.epoch != lane.epoch {
            known.epoch = lane.epoch;
            known.batches.clear();
        }
        if known.batches.len() == WINDOW {
            known.batches.pop_front();
        }
        known.batches.push_back(Seen { first, last, offsets });
        known.last_timestamp = last_timestamp;
    }

    /// What a snapshot holds: the last batch of each (`ProducerStateManager.writeSnapshot`).
    pub fn snapshot(&self) -> Producers {
        let mut snapshot = self.clone();
        for known in snapshot.0.values_mut() {
            known.batches.drain(..known.batches.len().saturating_sub(1));
        }
        snapshot
    }

    /// Forgets those whose last batch is stamped longer ago than `expiry`, however lately it was appended
    /// (`ProducerStateManager.removeExpiredProducers`, and the same at the loading of a snapshot). How many.
    pub fn sweep(&mut self, now: i64, expiry: Duration) -> usize {
        let before = self.0.len();
        let expiry = expiry.as_millis() as i64;
        self.0.retain(|_, known| now - known.last_timestamp < expiry);
        before - self.0.len()
    }

    /// As DescribeProducers tells.
    pub fn describe(&self) -> Vec<Producer> {
        let one = |(id, known): (&i64, &Known)| {
            let lane = Lane { producer_id: *id, epoch: known.epoch };
            let last_sequence = known.batches.back()?.last;
            Some(Producer { lane, last_sequence, last_timestamp: known.last_timestamp })
        };
        self.0.iter().filter_map(one).collect()
    }
}
