//! What a flight is about, and what came in its way.

use std::collections::VecDeque;

use super::{Attempt, Side};

/// What the flight is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Send: what was sent before, oldest first, then what is new.
    #[default]
    Go,
    /// Error 45 on the oldest: something later is there. Ask which number was the last.
    Ask,
    /// Send these alone, one after the other, until one succeeds.
    Probe {
        /// The next one first.
        list: VecDeque<Attempt>,
        /// What a success is to show.
        why: Why,
    },
    /// Look for what was sent in Kafka's log.
    Scan(Why),
    /// Send a new batch, whose success proves all before it.
    Follow,
    /// All epochs of this side's producer id are used up: ask for another id.
    NewId(Side),
}

/// What a probe or a scan is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// An old batch in doubt is looked for before it is sent again.
    Resend,
    /// Which of them is there?
    Which {
        /// Some could not be asked: they were refused for what they are.
        refused: bool,
    },
    /// The oldest is in doubt and refused: is it there?
    Settle(Refusal),
    /// Is all before it there?
    Follows,
    /// An old one answered 45.
    Forgotten,
    /// The lane is fenced.
    Fenced,
}

/// A refusal that speaks of the records in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's error code.
    pub code: i16,
    /// The broker's words.
    pub message: Option<String>,
    /// It speaks of every record: none of them will ever be taken.
    pub of_all: bool,
}

/// The first answer of a flight that was no success; acted on when all answers are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The broker answered an error.
    Refused {
        /// Which attempt.
        attempt: Attempt,
        /// Kafka's error code.
        code: i16,
        /// The broker's words.
        message: Option<String>,
        /// Places in the batch of the records that are at fault, if the broker says.
        records: Vec<u32>,
    },
    /// A success at an offset that was acknowledged before: Kafka's log has shrunk.
    LogShrunk,
}

/// Why a partition makes no progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Kafka's error code.
    pub code: i16,
    /// The broker's words, if it had any.
    pub message: Option<String>,
}
