//! What notes do to one partition.

use super::{Gone, LaneNote, Partition, SENT_MAX};
use crate::backlog::log::entry::{IndexRange, Sent};

impl Partition {
    /// Records that are neither settled, nor gone, nor records of other partitions.
    pub fn held(&self) -> u64 {
        self.unsettled().map_or(0, |range| range.count().saturating_sub(self.excluded(range)))
    }

    /// Records that are not settled, those that are gone among them.
    pub fn unsettled(&self) -> Option<IndexRange> {
        IndexRange::new(self.settled, self.next.checked_sub(1)?)
    }

    /// Records below this index that are held.
    pub fn held_before(&self, index: u64) -> u64 {
        let last = index.min(self.next).checked_sub(1);
        let range = last.and_then(|last| IndexRange::new(self.settled, last));
        range.map_or(0, |range| range.count().saturating_sub(self.excluded(range)))
    }

    /// Whether a record of this range must be kept: it is not settled, and not wholly gone.
    pub fn needs(&self, range: IndexRange) -> bool {
        let gone = self.gone_at(range.first.max(self.settled));
        range.last >= self.settled && gone.is_none_or(|gone| gone.range.last < range.last)
    }

    /// Whether no record of this range is settled, gone, or another partition's.
    pub fn holds_all(&self, range: IndexRange) -> bool {
        range.first >= self.settled && self.excluded(range) == 0
    }

    /// The first index at or behind this one that is not gone.
    pub fn after_gone(&self, mut index: u64) -> u64 {
        while let Some(gone) = self.gone_at(index) {
            index = gone.range.last + 1;
        }
        index
    }

    pub(super) fn sent(&mut self, sent: Sent) {
        // It is read again: a checkpoint may know more than what stands behind it.
        let is_of_ended_lane =
            self.lane.is_some_and(|lane| lane.producer_id == sent.producer_id && sent.epoch < lane.epoch);
        let left = rest_of(sent, self.settled).filter(|left| !is_of_ended_lane && !self.sent.contains(left));
        let Some(left) = left else { return };
        let next_sequence = sequence_behind(sent.base_sequence, sent.range.count());
        self.lane = Some(LaneNote { producer_id: sent.producer_id, epoch: sent.epoch, next_sequence });
        if self.sent.len() >= SENT_MAX
            && let Some(forgotten) = self.sent.pop_front()
        {
            self.unproven = self.unproven.max(forgotten.range.last + 1);
        }
        self.sent.push_back(left);
    }

    /// These records will not be delivered. If the lane gave them numbers, it ends: nothing that was sent behind them can be accepted
    /// there any more, and what is sent next opens its next epoch. What was sent in it stays as what may be there, unless it is
    /// known that nothing of it is.
    pub(super) fn end_lane(&mut self, gone: IndexRange, nothing_is_there: bool) {
        let Some(lane) = self.lane else { return };
        let is_of_lane = |sent: &Sent| (sent.producer_id, sent.epoch) == (lane.producer_id, lane.epoch);
        let overlaps = |sent: &Sent| sent.range.first <= gone.last && gone.first <= sent.range.last;
        if !self.sent.iter().any(|sent| is_of_lane(sent) && overlaps(sent)) {
            return;
        }
        if nothing_is_there {
            self.sent.retain(|sent| !is_of_lane(sent));
        }
        self.lane = lane.epoch.checked_add(1).map(|epoch| LaneNote { epoch, next_sequence: 0, ..lane });
    }

    /// Everything before `settled` is done with, and what is gone behind it, too.
    pub(super) fn settle(&mut self, settled: u64) {
        self.settled = settled;
        while let Some(first) = self.gone.first_entry().filter(|first| *first.key() <= self.settled) {
            self.settled = self.settled.max(first.remove().range.last + 1);
        }
        let settled = self.settled;
        self.placed.retain(|placed| placed.range.last >= settled);
        self.settle_sent();
        self.next = self.next.max(settled);
    }

    /// Of batches that are settled in part, the rest stays, once.
    fn settle_sent(&mut self) {
        if self.sent.iter().all(|sent| sent.range.first >= self.settled) {
            return;
        }
        for sent in std::mem::take(&mut self.sent).into_iter().filter_map(|sent| rest_of(sent, self.settled)) {
            if !self.sent.contains(&sent) {
                self.sent.push_back(sent);
            }
        }
    }

    /// Records of the range that are gone or placed.
    pub(super) fn excluded(&self, range: IndexRange) -> u64 {
        self.taken(range).map(|taken| taken.count()).fold(0, u64::saturating_add)
    }

    /// The parts of the range that are held.
    pub(super) fn still_held(&self, range: IndexRange) -> Vec<IndexRange> {
        let mut held = Vec::new();
        let mut from = range.first.max(self.settled);
        let mut taken: Vec<IndexRange> = self.taken(range).collect();
        taken.sort_unstable();
        for other in taken {
            held.extend(other.first.checked_sub(1).and_then(|before| IndexRange::new(from, before)));
            from = from.max(other.last + 1);
        }
        held.extend(IndexRange::new(from, range.last));
        held
    }

    /// Neighbours of one kind are kept as one.
    pub(super) fn insert_gone(&mut self, gone: Gone) {
        match self.gone.range_mut(..gone.range.first).next_back() {
            Some((_, before)) if before.dead == gone.dead && before.range.last + 1 == gone.range.first => {
                before.range.last = gone.range.last;
            }
            _ => _ = self.gone.insert(gone.range.first, gone),
        }
    }

    fn gone_at(&self, index: u64) -> Option<Gone> {
        let (_, gone) = self.gone.range(..=index).next_back()?;
        (gone.range.last >= index).then_some(*gone)
    }

    /// What of the range is gone or placed.
    fn taken(&self, range: IndexRange) -> impl Iterator<Item = IndexRange> {
        let from = self.gone_at(range.first).map_or(range.first, |gone| gone.range.first);
        let gone = self.gone.range(from..=range.last.max(from)).map(|(_, gone)| gone.range);
        let placed = self.placed.iter().map(|placed| placed.range);
        gone.chain(placed)
            .filter_map(move |other| IndexRange::new(other.first.max(range.first), other.last.min(range.last)))
    }
}

/// What is left of a batch when all before `settled` is done with: its other records, each under the number that it was sent under.
fn rest_of(sent: Sent, settled: u64) -> Option<Sent> {
    let range = IndexRange::new(sent.range.first.max(settled), sent.range.last)?;
    let base_sequence = sequence_behind(sent.base_sequence, range.first - sent.range.first);
    Some(Sent { range, base_sequence, ..sent })
}

/// The sequence number so many records behind another. They wrap at 2^31.
fn sequence_behind(sequence: i32, records: u64) -> i32 {
    const MASK: i64 = i32::MAX as i64;
    ((i64::from(sequence) + (records as i64 & MASK)) & MASK) as i32
}
