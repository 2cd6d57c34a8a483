//! What goes into a flight and what comes out of it.

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::config::{InvalidTimestampPolicy, UnprovenPolicy};
use crate::queue::ledger::DuplicateCause;
use crate::queue::note::Note;
use crate::queue::window::{Attempt, Batch};
use crate::record::TimestampMs;
use crate::wire::record_batch::Lane;

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This batch, again.
    Resend(Attempt),
    /// A new one.
    New,
    /// A new one whose success is to prove what is before it, or if there is none, [`Window::nothing_follows`](crate::queue::window::Window::nothing_follows).
    Follow,
    /// Something is to be found out first: [`Window::inquire`](crate::queue::window::Window::inquire).
    Inquire,
    /// Nothing before this moment.
    NotBefore(Instant),
    /// Nothing until an answer comes.
    Nothing,
}

/// What is to be found out before anything else is sent; nothing of the partition is in flight meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The last sequence number that the leader knows of a lane (DescribeProducers), where its log does not end before what was acknowledged.
    LastSequence {
        /// The lane.
        lane: Lane,
        /// The offset behind the last acknowledged batch, if it is known.
        acknowledged_end: Option<i64>,
    },
    /// Which of these is the last one in Kafka's log, from `from` on to the log's end as the current leader has it.
    Scan {
        /// The offset behind the last acknowledged batch; `None`: none was acknowledged yet.
        from: Option<i64>,
        /// What was sent.
        sent: Vec<Attempt>,
    },
    /// Another producer id (InitProducerId).
    ProducerId,
}

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The lane's last number; `None`: the leader does not know the lane.
    LastSequence(Option<i32>),
    /// The last of what was sent that is in the log, and its offset.
    There(Attempt, i64),
    /// None of it is there.
    Absent,
    /// The log ends before what was acknowledged.
    Shrunk,
    /// It cannot be found out: the topic may not be read, or the broker has no such request.
    Unknown,
    /// A new producer id.
    ProducerId(i64),
    /// Not this time: somebody else leads, or the broker did not answer.
    Failed,
}

/// What has been decided, to be carried out by the caller.
#[derive(Debug)]
pub enum Effect {
    /// Replicated; −1: proven to be there, offset unknown.
    Delivered(Batch, i64),
    /// Never to be delivered.
    DeadLetter {
        /// The records.
        batch: Batch,
        /// Kafka's error code.
        code: i16,
        /// The broker's words.
        message: Option<String>,
        /// An earlier attempt may have delivered them all the same.
        may_be_delivered: bool,
        /// Of a stored window: for the log when the dead letter is kept elsewhere, before any other note. Nothing else of the partition is sent
        /// until [`Window::buried`](crate::queue::window::Window::buried): a later acknowledgement would settle these records, too.
        note: Option<Note>,
    },
    /// So many records may be there twice.
    PossibleDuplicates(u32, DuplicateCause),
    /// So many records were given another time, since Kafka refused theirs.
    Restamped(u32),
    /// The broker does not take so many bytes (before compression) in a batch.
    TooLarge(usize),
    /// The broker does not know the codec.
    CodecRefused,
    /// The cluster's metadata may be out of date.
    RefreshMetadata,
    /// The memory charged for the window's batches has changed by so much (they were cut anew).
    Recharged {
        /// Bytes to charge.
        more: usize,
        /// Bytes to give back.
        less: usize,
    },
    /// For the log, in this order: [`Window::may_leave`](crate::queue::window::Window::may_leave). Only stored windows have notes.
    Note(Note),
    /// Kafka no longer has what it had acknowledged (an unclean election, a re-created topic).
    KafkaLost,
}

/// An answer to one attempt.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Which.
    pub attempt: Attempt,
    /// Kafka's error code, 0 for success.
    pub code: i16,
    /// The first record's offset, −1 if the broker does not say.
    pub base_offset: i64,
    /// The broker's words.
    pub message: Option<String>,
    /// Places in the batch of the records that are at fault, if the broker says.
    pub records: Vec<u32>,
}

/// What holds while an answer is acted on.
pub struct Terms<'a> {
    /// Now.
    pub now: Instant,
    /// Now, by the wall clock: for records that need another time.
    pub wall: TimestampMs,
    /// How long setbacks are waited for.
    pub backoff: Backoff,
    /// For the jitter.
    pub random: &'a mut fastrand::Rng,
    /// Records older than this are old; `None`: brokers stamp the topic's records.
    pub old_before: Option<TimestampMs>,
    /// For batches that are cut anew.
    pub compression_level: Option<i32>,
    /// What becomes of doubt that cannot be settled.
    pub on_unproven: UnprovenPolicy,
    /// What becomes of a time that is refused.
    pub on_invalid_timestamp: InvalidTimestampPolicy,
}
