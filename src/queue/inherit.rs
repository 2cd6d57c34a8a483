//! What a window takes over from the log: batches that an earlier start of the daemon sent, or may have sent, and did not see settled.
//!
//! They are in doubt, and go again in their own lane with their own numbers (`broker::flight`). Of a batch that was cut, its pieces
//! go, and the whole is remembered: it may still land. What was sent in other lanes than the last one has been given up: what of it is
//! not settled counts as a possible duplicate, as do records of which the log says that their notes were lost.

use tokio::time::Instant;
use uuid::Uuid;

use super::window::{
    Attempt, BATCH_OVERHEAD_BYTES, Batch, ConnectionId, Flight, LaneState, SentNote, Side, Version, Window,
};
use crate::backlog::log::entry::{IndexRange, Sent};
use crate::backlog::log::state::Partition;
use crate::wire::record_batch::{Lane, SealedBatch, Stamp, next_sequence};

/// The connection of an earlier start, which is closed.
const EARLIER_CONNECTION: ConnectionId = ConnectionId(u64::MAX);

/// What is to be taken over, but for the records themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inheritance {
    lane: Option<LaneState>,
    /// From the oldest record that is not settled on, without a gap but for records that are gone.
    batches: Vec<Part>,
    /// Earlier cuts of the same records, in the order in which they were sent.
    versions: Vec<Part>,
    next_index: u64,
    counted_until: u64,
    possible_duplicates: u64,
    acknowledged_end: Option<i64>,
    topic_id: Uuid,
}

/// Records that were sent as one batch, or have their numbers at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    range: IndexRange,
    count: u32,
    stamp: Stamp,
    /// A note says that it was about to be sent. Else it is the rest of one that was.
    was_sent: bool,
}

/// What [`Window::inherit`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// What the batches are charged in the memory budget.
    pub charged: usize,
    /// Records that may be there twice and that the log has not counted yet, since it counts them when they are done with.
    pub possible_duplicates: u64,
}

impl Inheritance {
    /// What the log says of a partition when it is opened.
    pub fn of(partition: &Partition) -> Self {
        let lane = partition.lane.map(|note| Lane { producer_id: note.producer_id, epoch: note.epoch });
        let is_of_lane = |sent: &Sent| lane == Some(lane_of(sent));
        let of_lane: Vec<&Sent> = partition.sent.iter().filter(|sent| is_of_lane(sent)).collect();
        let plan = Plan::of(partition, &of_lane);
        let given_up = partition.sent.iter().filter(|sent| plan.is_none() || !is_of_lane(sent));
        let mut counted_until = given_up.map(|sent| sent.range.last + 1).fold(partition.unproven, u64::max);
        let Plan { batches, versions, next_sequence } = plan.unwrap_or_default();
        // A batch is counted as a whole.
        if let Some(part) =
            batches.iter().find(|part| part.range.first < counted_until && counted_until <= part.range.last)
        {
            counted_until = part.range.last + 1;
        }
        let first = partition.after_gone(partition.settled);
        let next_index = batches.last().map_or(first, |part| partition.after_gone(part.range.last + 1));
        let opened =
            partition.lane.filter(|note| !batches.is_empty() || note.next_sequence == 0 && first < partition.next);
        let topic_id = partition.sent.back().map_or(partition.position.topic_id, |sent| sent.topic_id);
        Inheritance {
            lane: lane.filter(|_| opened.is_some()).map(|lane| LaneState {
                lane,
                side: Side::Fresh,
                next_sequence: next_sequence.unwrap_or(0),
                // Before anything else is sent in a lane, the first has had a success.
                proven: batches.first().is_some_and(|oldest| oldest.stamp.base_sequence != 0),
                inherited: true,
            }),
            batches,
            versions,
            next_index,
            counted_until,
            possible_duplicates: partition.held_before(counted_until),
            acknowledged_end: acknowledged_end(partition, topic_id),
            topic_id: Uuid::from_bytes(topic_id),
        }
    }

    /// Whether there is nothing to be rebuilt from the log's records.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The index of the first record behind all that is taken over: from there on the log is read for new batches.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }
}

/// Behind the last record that the log knows to be acknowledged, unless that was in an earlier topic of the same name.
fn acknowledged_end(partition: &Partition, topic_id: [u8; 16]) -> Option<i64> {
    let position = &partition.position;
    let is_known = [topic_id, position.topic_id].iter().all(|id| !Uuid::from_bytes(*id).is_nil());
    let is_of_topic = topic_id == position.topic_id || !is_known;
    let end = u64::try_from(position.offset).ok().filter(|_| is_of_topic)?;
    i64::try_from(end + 1).ok()
}

fn lane_of(sent: &Sent) -> Lane {
    Lane { producer_id: sent.producer_id, epoch: sent.epoch }
}

/// What was sent in the partition's lane.
#[derive(Default)]
struct Plan {
    batches: Vec<Part>,
    versions: Vec<Part>,
    next_sequence: Option<i32>,
}

impl Plan {
    /// At each place the latest cut. `None` if the notes contradict each other, which damage to the log can do.
    fn of(partition: &Partition, sent: &[&Sent]) -> Option<Plan> {
        let Some(end) = sent.iter().map(|sent| sent.range.last + 1).max() else { return Some(Plan::default()) };
        let mut plan = Plan::default();
        let mut at = partition.after_gone(partition.settled);
        while at < end {
            let part = match sent.iter().rev().find(|sent| sent.range.first == at) {
                Some(sent) => part(sent, sent.range, true)?,
                None => rest(sent, at)?,
            };
            let is_next = plan.next_sequence.is_none_or(|sequence| sequence == part.stamp.base_sequence);
            if !is_next || !partition.holds_all(part.range) {
                return None;
            }
            plan.next_sequence = Some(next_sequence(part.stamp.base_sequence, part.count));
            at = partition.after_gone(part.range.last + 1);
            plan.batches.push(part);
        }
        // What begins with a record that is settled can no longer land.
        for sent in sent.iter().filter(|sent| sent.range.first >= partition.settled) {
            let version = part(sent, sent.range, true)?;
            if !plan.batches.contains(&version) {
                plan.versions.push(version);
            }
        }
        Some(plan)
    }
}

/// The rest of a batch that was cut, from record `at` on: it has its numbers, and was never sent alone.
fn rest(sent: &[&Sent], at: u64) -> Option<Part> {
    let whole = sent.iter().find(|sent| (sent.range.first..=sent.range.last).contains(&at))?;
    let behind = sent.iter().filter(|sent| sent.range.last >= at);
    let last = behind.map(|sent| if sent.range.first > at { sent.range.first - 1 } else { sent.range.last }).min()?;
    part(whole, IndexRange::new(at, last)?, false)
}

/// The records `range` of a batch.
fn part(sent: &Sent, range: IndexRange, was_sent: bool) -> Option<Part> {
    let count = u32::try_from(range.count()).ok().filter(|count| i32::try_from(*count).is_ok())?;
    let behind = u32::try_from(range.first.checked_sub(sent.range.first)?).ok()?;
    let base_sequence = next_sequence(sent.base_sequence, behind);
    Some(Part { range, count, stamp: Stamp { lane: lane_of(sent), base_sequence }, was_sent })
}

impl Window {
    /// Takes over what an earlier start left, in a window that is empty. `build` makes a batch of the records of a range, of exactly these; when it
    /// fails the window is as it was.
    pub fn inherit<E>(
        &mut self,
        inheritance: Inheritance,
        now: Instant,
        mut build: impl FnMut(IndexRange) -> Result<SealedBatch, E>,
    ) -> Result<Inherited, E> {
        let Inheritance {
            lane, batches, versions, counted_until, possible_duplicates, acknowledged_end, topic_id, ..
        } = inheritance;
        let mut flight = Flight::new(EARLIER_CONNECTION, now);
        let mut inherited = Inherited { charged: 0, possible_duplicates };
        let mut taken = Vec::with_capacity(batches.len());
        for part in batches {
            let batch = part.batch(build(part.range)?, counted_until);
            inherited.charged += batch.charged;
            taken.push(batch);
        }
        for part in versions {
            let bytes = build(part.range)?.stamp(part.stamp);
            let charged = bytes.len() + BATCH_OVERHEAD_BYTES;
            inherited.charged += charged;
            flight.versions.push(Version { attempt: Attempt { stamp: part.stamp, count: part.count }, bytes, charged });
        }
        (self.batches, self.lane) = (taken.into(), lane);
        self.flight = (!self.batches.is_empty() || lane.is_some()).then_some(flight);
        self.is_stored = true;
        self.counted_until = counted_until;
        self.acknowledged_end = acknowledged_end;
        self.topic_id = topic_id;
        Ok(inherited)
    }
}

impl Part {
    fn batch(&self, sealed: SealedBatch, counted_until: u64) -> Batch {
        let max_timestamp = sealed.max_timestamp();
        let charged = sealed.len_bytes() + BATCH_OVERHEAD_BYTES;
        Batch {
            bytes: sealed.stamp(self.stamp),
            stamp: self.stamp,
            count: self.count,
            side: Side::Fresh,
            max_timestamp,
            first_sent: None,
            marks: Vec::new(),
            charged,
            // The earlier start's connections are lost: what was on them may still be carried out.
            in_doubt: self.was_sent,
            lost: self.was_sent,
            counted: self.range.first < counted_until,
            restamped: false,
            first_index: self.range.first,
            note: if self.was_sent { SentNote::Durable } else { SentNote::Missing },
        }
    }
}

#[cfg(test)]
mod tests;
