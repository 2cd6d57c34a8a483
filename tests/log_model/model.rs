//! What a log should say: a list of records for each partition, and what became of each.

use std::collections::BTreeMap;

use forebay::backlog::log::entry::{IndexRange, Sent};
use forebay::backlog::log::state::State;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Held,
    Delivered,
    Dropped(u32),
    Dead,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Runs as they were stored: index of the first record, count, data.
    pub runs: Vec<(u64, u32, Vec<u8>)>,
    pub fates: Vec<Fate>,
    pub settled: u64,
    pub sent: Vec<Sent>,
    /// Of the lane that the next batch is sent in.
    pub epoch: i16,
}

/// A log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub partitions: BTreeMap<u32, Partition>,
    pub origins: BTreeMap<Vec<u8>, i64>,
    pub possible_duplicates: u64,
    /// What became of the records of partitions that are retired.
    pub retired: Vec<Fate>,
}

impl Partition {
    pub fn next(&self) -> u64 {
        self.fates.len() as u64
    }

    pub fn store(&mut self, count: u32, data: Vec<u8>) {
        self.runs.push((self.next(), count, data));
        self.fates.extend((0..count).map(|_| Fate::Held));
    }

    pub fn settle(&mut self, range: IndexRange, fate: Fate) {
        if fate != Fate::Delivered {
            self.end_lane(range, fate);
        }
        for index in range.first..=range.last {
            let at = &mut self.fates[index as usize];
            if index >= self.settled && *at == Fate::Held {
                *at = fate;
            }
        }
        if fate == Fate::Delivered {
            self.settled = self.settled.max(range.last + 1);
        }
        while self.fates.get(self.settled as usize).is_some_and(|fate| *fate != Fate::Held) {
            self.settled += 1;
        }
        for sent in std::mem::take(&mut self.sent) {
            self.send(sent);
        }
    }

    /// Behind a dead letter what was sent counts no longer; behind a drop it may be there.
    fn end_lane(&mut self, range: IndexRange, fate: Fate) {
        let is_held = |index: u64| index >= self.settled && self.fates[index as usize] == Fate::Held;
        let epoch = self.epoch;
        let of_lane: Vec<_> = self.sent.iter().filter(|sent| sent.epoch == epoch).map(|sent| sent.range).collect();
        let was_sent = |index: u64| of_lane.iter().any(|range| (range.first..=range.last).contains(&index));
        if (range.first..=range.last).any(|index| is_held(index) && was_sent(index)) {
            self.epoch += 1;
            if fate == Fate::Dead {
                self.sent.retain(|sent| sent.epoch != epoch);
            }
        }
    }

    /// Of a batch counts what is not settled, under the numbers that it was sent with.
    pub fn send(&mut self, mut sent: Sent) {
        while sent.range.first < self.settled {
            if sent.range.first == sent.range.last {
                return;
            }
            sent.range.first += 1;
            sent.base_sequence = sent.base_sequence.checked_add(1).unwrap_or(0);
        }
        if !self.sent.contains(&sent) {
            self.sent.push(sent);
        }
    }
}

impl Model {
    pub fn retire(&mut self, number: u32, reason: u32) {
        let mut partition = self.partitions.remove(&number).expect("it is known");
        if partition.settled < partition.next() {
            let range = IndexRange { first: partition.settled, last: partition.next() - 1 };
            partition.settle(range, Fate::Dropped(reason));
        }
        self.retired.extend(partition.fates);
    }

    /// How a log's state differs from this; `None` when it does not.
    pub fn difference(&self, state: &State) -> Option<String> {
        for (number, partition) in &self.partitions {
            let Some(found) = state.partitions.get(number) else { return Some(format!("no partition {number}")) };
            let is = (found.settled, found.next, found.sent.iter().copied().collect::<Vec<_>>(), found.unproven);
            let should = (partition.settled, partition.next(), partition.sent.clone(), 0);
            if is != should {
                return Some(format!("partition {number} is {is:?}, should be {should:?}"));
            }
        }
        if state.partitions.len() != self.partitions.len() {
            return Some("a partition too many".to_owned());
        }
        let ledger = &state.ledger;
        let mut dropped = BTreeMap::new();
        let (mut accepted, mut delivered, mut dead) = (0, 0, 0);
        for fate in self.partitions.values().flat_map(|partition| &partition.fates).chain(&self.retired) {
            accepted += 1;
            match fate {
                Fate::Held => {}
                Fate::Delivered => delivered += 1,
                Fate::Dead => dead += 1,
                Fate::Dropped(reason) => *dropped.entry(*reason).or_default() += 1,
            }
        }
        let is = (ledger.accepted, ledger.delivered, ledger.dead, ledger.dropped.clone(), ledger.possible_duplicates);
        let should = (accepted, delivered, dead, dropped, self.possible_duplicates);
        if is != should {
            return Some(format!("the ledger is {is:?}, should be {should:?}"));
        }
        (state.origins != self.origins).then(|| format!("origins are {:?}", state.origins))
    }
}
