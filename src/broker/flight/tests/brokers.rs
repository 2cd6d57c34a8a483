//! A model of the brokers of one partition: two replicas of which one leads, as `UnifiedLog` and `ProducerAppendInfo` are seen by
//! an idempotent producer.

use std::collections::{HashMap, VecDeque};

use super::*;
use crate::wire::codes::*;
use crate::wire::record_batch::{BatchHeader, Lane, next_sequence, parse_header};

/// The timestamp of old records.
pub const OLD: i64 = 1;

#[derive(Clone)]
pub struct Stored {
    header: BatchHeader,
    numbers: Vec<u32>,
    pub offset: i64,
}

impl Stored {
    fn is_same(&self, other: &Stored) -> bool {
        let key = |s: &Stored| (s.header.producer_id, s.header.epoch, s.header.base_sequence, s.header.count, s.offset);
        key(self) == key(other)
    }
}

/// What a replica knows of a producer: its epoch, and the first and last numbers of its last batches and their places.
pub struct Known {
    epoch: i16,
    last: VecDeque<(i32, i32, usize)>,
    pub is_old: bool,
}

#[derive(Default)]
pub struct Replica {
    pub log: Vec<Stored>,
    pub known: HashMap<i64, Known>,
}

impl Replica {
    fn append(&mut self, batch: Stored) {
        let header = &batch.header;
        let first = header.base_sequence;
        let last = next_sequence(first, header.count as u32 - 1);
        let known = self.known.entry(header.producer_id).or_insert(Known {
            epoch: header.epoch,
            last: VecDeque::new(),
            is_old: false,
        });
        if known.epoch != header.epoch {
            (known.epoch, known.last) = (header.epoch, VecDeque::new());
        }
        known.is_old = header.max_timestamp == OLD;
        known.last.push_back((first, last, self.log.len()));
        if known.last.len() > MAX_BATCHES {
            known.last.pop_front();
        }
        self.log.push(batch);
    }

    fn end(&self) -> i64 {
        self.log.last().map_or(0, |last| last.offset + last.numbers.len() as i64)
    }

    /// A snapshot has the last batch of each producer only.
    pub fn snapshot_only(&mut self) {
        self.known.values_mut().for_each(|known| drop(known.last.drain(..known.last.len() - 1)));
    }

    /// Producers are read anew from what is left of the log.
    fn truncate(&mut self, len: usize) {
        if self.log.len() > len {
            let log = self.log.drain(..).take(len).collect::<Vec<_>>();
            self.known.clear();
            log.into_iter().for_each(|batch| self.append(batch));
        }
    }
}

/// One Produce request that runs.
pub enum Ran {
    /// Appended, or there already: to be answered when so many batches are replicated.
    Waits(usize),
    Answers(i16),
}

#[derive(Default)]
pub struct Brokers {
    pub replicas: [Replica; 2],
    pub leader: usize,
    pub leader_epoch: u32,
    pub largest: Option<i32>,
    pub poison: Option<u32>,
}

impl Brokers {
    pub fn produce(&mut self, to: usize, bytes: &Bytes) -> Ran {
        if to != self.leader {
            return Ran::Answers(NOT_LEADER_OR_FOLLOWER);
        }
        let header = parse_header(bytes).unwrap();
        let numbers = numbers_of(bytes);
        // Validation comes before deduplication.
        if self.poison.is_some_and(|poison| numbers.contains(&poison)) {
            return Ran::Answers(INVALID_RECORD);
        }
        if self.largest.is_some_and(|largest| header.count > largest) {
            return Ran::Answers(MESSAGE_TOO_LARGE);
        }
        let replica = &mut self.replicas[to];
        let first = header.base_sequence;
        let last = next_sequence(first, header.count as u32 - 1);
        // A producer that is not known may start anywhere.
        if let Some(known) = replica.known.get(&header.producer_id) {
            if header.epoch < known.epoch {
                return Ran::Answers(INVALID_PRODUCER_EPOCH);
            }
            if header.epoch > known.epoch {
                if first != 0 {
                    return Ran::Answers(OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
            } else if let Some((.., place)) = known.last.iter().find(|(f, l, _)| (*f, *l) == (first, last)) {
                return Ran::Waits(place + 1);
            } else if known.last.back().is_some_and(|(_, newest, _)| first != next_sequence(*newest, 1)) {
                return Ran::Answers(OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
        }
        let offset = replica.end();
        replica.append(Stored { header, numbers, offset });
        Ran::Waits(replica.log.len())
    }

    pub fn replicate(&mut self) {
        let at = self.replicas[1 - self.leader].log.len();
        if let Some(batch) = self.replicas[self.leader].log.get(at).cloned() {
            self.replicas[1 - self.leader].append(batch);
        }
    }

    /// The offset behind the leader's last record.
    pub fn end(&self) -> i64 {
        self.replicas[self.leader].end()
    }

    /// In batches: both replicas are in sync.
    pub fn high_watermark(&self) -> usize {
        self.replicas.iter().map(|replica| replica.log.len()).min().unwrap()
    }

    pub fn committed(&self) -> impl Iterator<Item = u32> {
        let committed = &self.replicas[self.leader].log[..self.high_watermark()];
        committed.iter().flat_map(|batch| batch.numbers.iter().copied())
    }

    /// DescribeProducers: what the leader knows, committed or not.
    pub fn last_sequence(&self, lane: Lane) -> Option<i32> {
        let known =
            self.replicas[self.leader].known.get(&lane.producer_id).filter(|known| known.epoch == lane.epoch)?;
        known.last.back().map(|(_, last, _)| *last)
    }

    /// The offset of a committed batch, from `from` on.
    pub fn find(&self, sent: Attempt, from: i64) -> Option<i64> {
        let is_it = |stored: &&Stored| {
            stored.offset >= from
                && stored.header.stamp() == Some(sent.stamp)
                && stored.header.count as u32 == sent.count
        };
        self.replicas[self.leader].log[..self.high_watermark()].iter().find(is_it).map(|stored| stored.offset)
    }

    /// The other replica leads, without the last of what was committed: so many batches, which are returned as numbers.
    pub fn elect_unclean(&mut self, batches: usize) -> Vec<u32> {
        let committed = self.high_watermark();
        let keep = committed.saturating_sub(batches);
        let gone = &self.replicas[self.leader].log[keep..committed];
        let gone = gone.iter().flat_map(|batch| batch.numbers.iter().copied()).collect();
        (self.leader, self.leader_epoch) = (1 - self.leader, self.leader_epoch + 1);
        self.replicas.iter_mut().for_each(|replica| {
            replica.truncate(keep);
            replica.snapshot_only();
        });
        gone
    }

    /// A clean change: what is not on the new leader had not been acknowledged.
    pub fn change_leader(&mut self, from_snapshot: bool) {
        let (old, new) = (self.leader, 1 - self.leader);
        (self.leader, self.leader_epoch) = (new, self.leader_epoch + 1);
        let logs = self.replicas[old].log.iter().zip(&self.replicas[new].log);
        let common = logs.take_while(|(a, b)| a.is_same(b)).count();
        self.replicas[old].truncate(common);
        if from_snapshot {
            self.replicas[old].snapshot_only();
        }
    }
}
