//! What of a partition is on its way: records taken from the intake, the batches made of them, and the state of their flight.
//!
//! This is the data alone, so that it outlives every connection; the rules by which it changes are `broker::flight`
//! (`docs/` has them in words). All of it lies behind the partition's lock and is touched by its drainer, and, to give up what it
//! holds, by the supervisor.

mod phase;

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::compressibility::Compressibility;
use super::item::Item;
use super::receipt::Mark;
use crate::record::TimestampMs;
use crate::wire::record_batch::{Lane, SealedBatch, Stamp, next_sequence};

pub use phase::{Parked, Phase, Refusal, Setback, Why};

/// At most so many batches of a partition between the oldest unacknowledged and the newest sent: what a broker remembers
/// of a producer (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub const MAX_BATCHES: usize = 5;

/// What a batch is charged beside its bytes.
pub const BATCH_OVERHEAD_BYTES: usize = 256;

/// The next epoch of a producer id of which all are used up.
pub const NO_EPOCH: u16 = i16::MAX.unsigned_abs() + 1;

/// One connection to a broker, never the same number twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId(pub u64);

/// Which producer id a batch is numbered under: old ones fly alone, under an id of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Its newest record is younger than half of the brokers' `producer.id.expiration.ms`.
    Fresh = 0,
    /// It is not, and a broker may forget the producer at any time after it.
    Old = 1,
}

/// The lane in use, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneState {
    /// Producer id and epoch.
    pub lane: Lane,
    /// Which of the two ids.
    pub side: Side,
    /// The next new batch's first number.
    pub next_sequence: i32,
    /// It has had a success: brokers know it.
    pub proven: bool,
    /// An earlier start of the daemon opened it, or it is a later epoch of one such.
    pub inherited: bool,
}

/// A batch that has no numbers: it was never sent, or is to be sent in another lane than before.
#[derive(Debug)]
pub struct Built {
    /// The batch.
    pub sealed: SealedBatch,
    /// Which producer id it will fly under, as of the last look at the clocks.
    pub side: Side,
    /// Receipts of its records.
    pub marks: Vec<Mark>,
    /// When its newest record was read from its socket.
    pub arrived: Instant,
    /// What it is charged in the memory budget.
    pub charged: usize,
    /// Counted as a possible duplicate already, under numbers that it had before.
    pub counted: bool,
    /// Its first record's index in the log; means nothing where the window is not stored.
    pub first_index: u64,
}

/// How far the note is that a batch is sent. Nothing of the batch leaves before it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentNote {
    /// Not asked for: the batch has not had its turn.
    Missing,
    /// Given to the log.
    Written,
    /// On disk, or not needed.
    Durable,
}

/// A batch that has been sent: frozen.
#[derive(Debug)]
pub struct Batch {
    /// The batch as it goes out.
    pub bytes: Bytes,
    /// Its lane and first sequence number.
    pub stamp: Stamp,
    /// Records in it.
    pub count: u32,
    /// Whether it is old. Once it is it stays so, though its lane may be the fresh one.
    pub side: Side,
    /// Its newest record's timestamp.
    pub max_timestamp: TimestampMs,
    /// By the wall clock, when it was sent first by this start of the daemon.
    pub first_sent: Option<TimestampMs>,
    /// Receipts of its records.
    pub marks: Vec<Mark>,
    /// What it is charged in the memory budget.
    pub charged: usize,
    /// Some attempt has no answer that says what became of it.
    pub in_doubt: bool,
    /// One of those was on a connection that was lost: it may still be carried out.
    pub lost: bool,
    /// Counted as a possible duplicate already.
    pub counted: bool,
    /// Its records have been given another time, since theirs was refused.
    pub restamped: bool,
    /// Its first record's index in the log; means nothing where the window is not stored.
    pub first_index: u64,
    /// Whether the log knows that it is sent.
    pub note: SentNote,
}

/// A batch as it was before it was cut into pieces with the same numbers. It is in doubt: whichever of it and its first piece lands
/// first makes the other impossible.
#[derive(Debug)]
pub struct Version {
    /// What it is called while it is in flight.
    pub attempt: Attempt,
    /// The batch as it went out.
    pub bytes: Bytes,
    /// What it is charged in the memory budget.
    pub charged: usize,
}

/// What identifies an attempt while it is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The batch's stamp.
    pub stamp: Stamp,
    /// And its number of records.
    pub count: u32,
}

/// In which of its drainer's lists a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    /// None: a push or an answer brings it back.
    #[default]
    None,
    /// Waiting for its linger to be over, for which this timer stands; others are of lingers that ended early.
    Lingering(u32),
    /// Waiting for room on the connection.
    Queued,
    /// Waiting for a backoff to be over, likewise.
    Holding(u32),
    /// Waiting because of its topic's `rate_limit`, likewise.
    Paced(u32),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Window {
    /// Taken from the intake, not yet in a batch.
    pub front: VecDeque<Box<Item>>,
    /// The next one without numbers: waits until what was sent before is settled.
    pub built: Option<Box<Built>>,
    /// Sent and not settled, oldest first.
    pub batches: VecDeque<Batch>,
    /// The lane of all batches in the window.
    pub lane: Option<LaneState>,
    /// The next epoch of the partition's two producer ids, fresh and old; one more than `i16::MAX` when all are used up.
    pub next_epoch: [u16; 2],
    /// Of which generation the daemon's producer ids are that those epochs count for, and of which they are to be.
    pub ids_of: u32,
    /// See [`Window::ids_of`].
    pub ids_wanted: u32,
    /// The flight; absent when there is nothing to remember.
    pub flight: Option<Box<Flight>>,
    /// The drainer's list.
    pub listing: Listing,
    /// The topic's id when a connection last took the partition on.
    pub topic_id: Uuid,
    /// The offset behind the last acknowledged batch.
    pub acknowledged_end: Option<i64>,
    /// Whether compressing its batches pays.
    pub compressibility: Compressibility,
    /// Its records are in the log, which is told what becomes of them: [`Note`](super::note::Note).
    pub is_stored: bool,
    /// Dead letters of a stored window whose notes have not been given to the log.
    pub unburied: u32,
    /// Records with a lower index were counted as possible duplicates by an earlier start.
    pub counted_until: u64,
}

/// The state of a flight.
#[derive(Debug)]
pub struct Flight {
    /// The connection that `in_flight` was sent on.
    pub connection: ConnectionId,
    /// Sent on that connection and not answered, in order.
    pub in_flight: VecDeque<Attempt>,
    /// One in flight until the next success.
    pub alone: bool,
    /// See [`Setback`].
    pub setback: Option<Setback>,
    /// See [`Phase`].
    pub phase: Phase,
    /// Earlier cuts of what is in the window now, in the order in which they were sent.
    pub versions: Vec<Version>,
    /// To be numbered anew, oldest first, behind `Window::built`; new records come after them.
    pub renumbered: VecDeque<Box<Built>>,
    /// Rounds of probes that were all answered by 45.
    pub rounds: u32,
    /// The oldest has been looked for since it was last sent.
    pub scanned: bool,
    /// The question that is being asked, by its number.
    pub inquiry: Option<u32>,
    /// Questions asked so far.
    pub inquiries: u32,
    /// Questions in a row that found no answer.
    pub inquiries_failed: u32,
    /// Producer ids of this partition alone, fresh and old: those of the daemon are used up here.
    pub own_ids: [Option<i64>; 2],
    /// When a batch was last acknowledged, or the flight began.
    pub last_success: Instant,
    /// When the newest record that was sent was read from its socket.
    pub newest_arrived: Instant,
    /// Setbacks since the last success.
    pub attempts: u32,
    /// Nothing is sent before.
    pub not_before: Option<Instant>,
    /// Why nothing comes of it.
    pub parked: Option<Parked>,
}

impl Flight {
    /// Nothing sent yet on `connection`, which begins alone.
    pub fn new(connection: ConnectionId, now: Instant) -> Box<Self> {
        Box::new(Flight {
            connection,
            in_flight: VecDeque::new(),
            alone: true,
            setback: None,
            phase: Phase::Go,
            versions: Vec::new(),
            renumbered: VecDeque::new(),
            rounds: 0,
            scanned: false,
            inquiry: None,
            inquiries: 0,
            inquiries_failed: 0,
            own_ids: [None; 2],
            last_success: now,
            newest_arrived: now,
            attempts: 0,
            not_before: None,
            parked: None,
        })
    }
}

impl Batch {
    /// What it is called while it is in flight.
    pub fn attempt(&self) -> Attempt {
        Attempt { stamp: self.stamp, count: self.count }
    }

    /// How many of its records have been counted as possible duplicates; all below `counted_until` were by an earlier start.
    pub fn counted_records(&self, counted_until: u64) -> u32 {
        let before = counted_until.saturating_sub(self.first_index).min(self.count.into());
        if self.counted { self.count } else { before as u32 }
    }

    /// From now on all of them are counted; returns how many were not.
    pub fn count_rest(&mut self, counted_until: u64) -> u32 {
        let rest = self.count - self.counted_records(counted_until);
        self.counted = true;
        rest
    }
}

impl Attempt {
    /// The number after its last record's.
    pub fn end(&self) -> i32 {
        next_sequence(self.stamp.base_sequence, self.count)
    }
}

/// Whether the sequence number `a` comes before `b`. Numbers wrap, and those of a window are close together.
pub fn comes_before(a: i32, b: i32) -> bool {
    let distance = b.wrapping_sub(a) & i32::MAX;
    0 < distance && distance < 1 << 30
}

impl Window {
    /// For a stored window: the note that `attempt` is sent is on disk. False if it waits for none: it was numbered anew meanwhile.
    pub fn noted(&mut self, attempt: Attempt) -> bool {
        let waits = |batch: &&mut Batch| batch.note == SentNote::Written && batch.attempt() == attempt;
        self.batches.iter_mut().find(waits).map(|batch| batch.note = SentNote::Durable).is_some()
    }

    /// What is sent next opens another lane, under a producer id that the present one does not have. Nothing that was sent may be unsettled.
    pub fn leave_lane(&mut self) {
        if let Some(lane) = self.lane.take().filter(|lane| !lane.inherited) {
            self.next_epoch[lane.side as usize] = NO_EPOCH;
        }
    }

    /// For a stored window: the note of a dead letter has been given to the log.
    pub fn buried(&mut self) {
        self.unburied = self.unburied.saturating_sub(1);
    }

    /// About when the oldest record was read that is in a batch or in the front: batches that were sent are as old as the youngest of them.
    pub fn waits_since(&self) -> Option<Instant> {
        let sent = || self.flight.as_ref().filter(|_| !self.batches.is_empty()).map(|flight| flight.newest_arrived);
        let built = || self.built.as_ref().map(|built| built.arrived);
        sent().or_else(built).or_else(|| self.front.front().map(|item| item.arrived()))
    }

    /// Batches without numbers, oldest first: they come behind those that have some.
    pub fn unnumbered(&self) -> impl Iterator<Item = &Built> {
        let renumbered = self.flight.iter().flat_map(|flight| &flight.renumbered);
        self.built.iter().chain(renumbered).map(|built| &**built)
    }

    /// Records in batches that are not settled.
    pub fn batched_records(&self) -> u64 {
        let unnumbered: u64 = self.unnumbered().map(|built| u64::from(built.sealed.count())).sum();
        unnumbered + self.batches.iter().map(|batch| u64::from(batch.count)).sum::<u64>()
    }

    /// Whether something of that batch may have been appended by an attempt before this one.
    pub fn may_be_a_duplicate(&self, attempt: Attempt) -> bool {
        let batch = self.batches.iter().find(|batch| batch.attempt() == attempt);
        !self.flight.as_ref().is_none_or(|flight| flight.versions.is_empty())
            || batch.is_none_or(|batch| batch.in_doubt)
    }

    /// Attempts that wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.flight.as_ref().map_or(0, |flight| flight.in_flight.len())
    }
}
