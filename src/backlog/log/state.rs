//! What the notes of a log mean: for each partition what is settled, sent and held, and the ledger. Pure.
//!
//! Entries go in, in the order of the log. An entry that comes twice changes nothing the second time, so a checkpoint may be older or
//! newer than what is read behind it. An entry that names an index says that the records up to it existed: what of them is
//! missing was lost to damage, and stays held until it is found missing and dropped.

mod partition;

use std::collections::{BTreeMap, VecDeque};

use super::entry::{Acknowledged, Entry, IndexRange, MAY_BE_DELIVERED, Placed, Records, Sent};

/// At most so many batches are remembered for a partition: five are in flight at most, and each may have been split several times. What the
/// oldest beyond them say is not lost: their records are then unproven.
pub const SENT_MAX: usize = 256;

/// All that a checkpoint says, but for the list of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Id of the cluster that all this is for; empty while it is not known.
    pub cluster_id: Vec<u8>,
    /// The next partition's number.
    pub next_number: u32,
    /// The balance.
    pub ledger: Ledger,
    /// Up to where each origin has handed records over.
    pub origins: BTreeMap<Vec<u8>, i64>,
    /// By number.
    pub partitions: BTreeMap<u32, Partition>,
    /// Partitions that are gone for good, and the segment that says so. While older segments are there, entries may be read again that name
    /// them, and mean nothing.
    pub retired: BTreeMap<u32, u64>,
}

/// Records since the log began: accepted = delivered + held + dead + dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Stored here.
    pub accepted: u64,
    /// Acknowledged.
    pub delivered: u64,
    /// Dead letters.
    pub dead: u64,
    /// Of those accepted: may be there twice.
    pub possible_duplicates: u64,
    /// Dropped, by reason.
    pub dropped: BTreeMap<u32, u64>,
}

/// What is known of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Whatever the owner names it by; empty when damage took it.
    pub name: Vec<u8>,
    /// All records before this index are done with.
    pub settled: u64,
    /// The next new record's index.
    pub next: u64,
    /// What is not settled below this index may have been sent although no batch says so: notes were lost to damage, or there were too many.
    pub unproven: u64,
    /// The segment in which the first record that is not settled was written last: where to look first.
    pub segment: u64,
    /// Where Kafka stands.
    pub position: KafkaPosition,
    /// The lane in use, and its next sequence number.
    pub lane: Option<LaneNote>,
    /// Dead letters so far.
    pub dead: u64,
    /// Dropped so far, by reason.
    pub dropped: BTreeMap<u32, u64>,
    /// Batches that may be in doubt, in the order in which they were sent. A batch that was cut stands beside its piece; one whose first
    /// records are settled is what is left of it, with the sequence number of the first that is left.
    pub sent: VecDeque<Sent>,
    /// Ranges behind `settled` that will not be delivered, by their first index.
    pub gone: BTreeMap<u64, Gone>,
    /// Ranges behind `settled` that are records of other partitions now, in order.
    pub placed: Vec<Placed>,
}

/// Where the last acknowledged record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KafkaPosition {
    /// Its offset, -1 when it is not known.
    pub offset: i64,
    /// Epoch of the leader that said so, -1 when it is not known.
    pub leader_epoch: i32,
    /// The topic's id, zero when it is not known.
    pub topic_id: [u8; 16],
}

/// A lane as the last batch of a partition left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneNote {
    /// Producer id.
    pub producer_id: i64,
    /// Epoch.
    pub epoch: i16,
    /// The next batch's first sequence number.
    pub next_sequence: i32,
}

/// A range that will not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Which records.
    pub range: IndexRange,
    /// Kept as dead letters, not dropped.
    pub dead: bool,
}

/// Why records will not be delivered, with the owner's reason.
#[derive(Clone, Copy)]
enum GoneBy {
    Dropped(u32),
    Dead(u32),
}

impl Default for KafkaPosition {
    fn default() -> Self {
        KafkaPosition { offset: -1, leader_epoch: -1, topic_id: [0; 16] }
    }
}

impl Ledger {
    /// Records that are neither delivered nor given up.
    pub fn held(&self) -> u64 {
        let dropped = self.dropped.values().fold(0_u64, |sum, n| sum.saturating_add(*n));
        self.accepted.saturating_sub(self.delivered.saturating_add(self.dead).saturating_add(dropped))
    }
}

impl State {
    /// Takes an entry into account that stands in `segment`.
    pub fn apply(&mut self, entry: &Entry<'_>, segment: u64) {
        if entry.partition().is_some_and(|number| self.retired.contains_key(&number)) {
            return;
        }
        match entry {
            Entry::Partition { number, name } => {
                let partition = self.partitions.entry(*number).or_default();
                partition.name = name.to_vec();
                self.next_number = self.next_number.max(number.saturating_add(1));
            }
            Entry::Records(records) => self.records(records, segment),
            Entry::Sent { partition, sent } => {
                let (partition, _) = self.reach(*partition, sent.range.last);
                partition.sent(*sent);
            }
            Entry::Acknowledged(acknowledged) => self.acknowledged(acknowledged),
            Entry::Dropped { partition, range, reason } => self.gone(*partition, *range, GoneBy::Dropped(*reason)),
            Entry::Dead { partition, range, reason } => self.gone(*partition, *range, GoneBy::Dead(*reason)),
            Entry::Placed { partition, placed } => self.placed(*partition, placed),
            Entry::Cluster { id } => self.cluster_id = id.to_vec(),
            Entry::Retired { partition } => {
                self.next_number = self.next_number.max(partition.saturating_add(1));
                self.partitions.remove(partition);
                self.retired.insert(*partition, segment);
            }
        }
    }

    /// Segments before this one are not there any more.
    pub fn forget_retired(&mut self, oldest_segment: u64) {
        self.retired.retain(|_, segment| *segment >= oldest_segment);
    }

    /// Notes were lost to damage: what is held may have been sent.
    pub fn doubt_what_is_held(&mut self) {
        for partition in self.partitions.values_mut() {
            if partition.settled < partition.next {
                partition.unproven = partition.next;
            }
        }
    }

    /// The partition, which has records up to `last`, and the ledger.
    fn reach(&mut self, number: u32, last: u64) -> (&mut Partition, &mut Ledger) {
        self.next_number = self.next_number.max(number.saturating_add(1));
        let partition = self.partitions.entry(number).or_default();
        let new = (last + 1).saturating_sub(partition.next);
        partition.next += new;
        self.ledger.accepted = self.ledger.accepted.saturating_add(new);
        (partition, &mut self.ledger)
    }

    fn records(&mut self, records: &Records<'_>, segment: u64) {
        let Some(range) = records.range() else { return };
        let known = self.partitions.get(&records.partition);
        let held_nothing = known.is_none_or(|partition| partition.settled == partition.next);
        let (partition, _) = self.reach(records.partition, range.last);
        let holds_first = (range.first..=range.last).contains(&partition.settled);
        if holds_first || (held_nothing && range.last >= partition.settled) {
            partition.segment = segment;
        }
        for origin in records.origins() {
            match self.origins.get_mut(origin.name) {
                Some(up_to) => *up_to = origin.up_to.max(*up_to),
                None => _ = self.origins.insert(origin.name.to_vec(), origin.up_to),
            }
        }
    }

    fn acknowledged(&mut self, acknowledged: &Acknowledged) {
        let (partition, ledger) = self.reach(acknowledged.partition, acknowledged.last);
        let Some(range) = IndexRange::new(partition.settled, acknowledged.last) else { return };
        let delivered = range.count().saturating_sub(partition.excluded(range));
        ledger.delivered = ledger.delivered.saturating_add(delivered);
        ledger.possible_duplicates = ledger.possible_duplicates.saturating_add(acknowledged.possible_duplicates);
        partition.position = KafkaPosition {
            offset: acknowledged.offset,
            leader_epoch: acknowledged.leader_epoch,
            topic_id: acknowledged.topic_id,
        };
        partition.settle(range.last + 1);
    }

    fn gone(&mut self, number: u32, range: IndexRange, by: GoneBy) {
        let (partition, ledger) = self.reach(number, range.last);
        let is_clean_dead = matches!(by, GoneBy::Dead(reason) if reason & MAY_BE_DELIVERED == 0);
        for piece in partition.still_held(range) {
            partition.end_lane(piece, is_clean_dead);
            match by {
                GoneBy::Dropped(reason) => {
                    if reason & MAY_BE_DELIVERED != 0 {
                        ledger.possible_duplicates = ledger.possible_duplicates.saturating_add(piece.count());
                    }
                    let reason = reason & !MAY_BE_DELIVERED;
                    add(&mut ledger.dropped, reason, piece.count());
                    add(&mut partition.dropped, reason, piece.count());
                }
                GoneBy::Dead(_) => {
                    if !is_clean_dead {
                        ledger.possible_duplicates = ledger.possible_duplicates.saturating_add(piece.count());
                    }
                    ledger.dead = ledger.dead.saturating_add(piece.count());
                    partition.dead = partition.dead.saturating_add(piece.count());
                }
            }
            partition.insert_gone(Gone { range: piece, dead: matches!(by, GoneBy::Dead(_)) });
        }
        partition.settle(partition.settled);
    }

    /// Placing neither adds records nor settles any: the balance stays, they are held elsewhere.
    fn placed(&mut self, number: u32, placed: &Placed) {
        let (partition, _) = self.reach(number, placed.range.last);
        let known = partition.placed.iter().any(|other| other.range.first == placed.range.first);
        if !known && placed.range.last >= partition.settled {
            partition.placed.push(placed.clone());
        }
        for (number, range) in placed.parts.iter().filter_map(|part| Some((part.partition, part.range()?))) {
            if self.retired.contains_key(&number) {
                continue;
            }
            if let Some(before) = range.first.checked_sub(1) {
                self.reach(number, before);
            }
            self.next_number = self.next_number.max(number.saturating_add(1));
            let target = self.partitions.entry(number).or_default();
            target.next = target.next.max(range.last + 1);
        }
    }
}

fn add(counts: &mut BTreeMap<u32, u64>, reason: u32, count: u64) {
    let sum = counts.entry(reason).or_default();
    *sum = sum.saturating_add(count);
}

#[cfg(test)]
mod tests;
