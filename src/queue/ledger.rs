//! The counted balance: accepted = delivered + held + dead-lettered + dropped, in records.
//!
//! `held` is not counted but follows: a record is held from when it is accepted until it is counted in one of the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Why a record was dropped. Each has a policy that says so; nothing is dropped without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DropReason {
    /// The cluster does not know its topic, and did not create it within `max_block`.
    UnknownTopic,
    /// It named a partition that its topic does not have.
    UnknownPartition,
    /// More topics than `limits` allows.
    TooManyTopics,
    /// Memory was full and its topic's rule is `full = "reject"`.
    MemoryFull,
    /// It has waited for longer than its topic's `delivery_timeout`.
    DeliveryTimeout,
    /// The daemon stopped before Kafka had taken it.
    Stopped,
    /// The disk of the backlog has damaged it.
    Damaged,
}

impl DropReason {
    /// All of them.
    pub const ALL: [DropReason; 7] = [
        DropReason::UnknownTopic,
        DropReason::UnknownPartition,
        DropReason::TooManyTopics,
        DropReason::MemoryFull,
        DropReason::DeliveryTimeout,
        DropReason::Stopped,
        DropReason::Damaged,
    ];

    /// As it stands in the status and the log.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::UnknownTopic => "unknown_topic",
            DropReason::UnknownPartition => "unknown_partition",
            DropReason::TooManyTopics => "too_many_topics",
            DropReason::MemoryFull => "memory_full",
            DropReason::DeliveryTimeout => "delivery_timeout",
            DropReason::Stopped => "stopped",
            DropReason::Damaged => "damaged",
        }
    }
}

/// Why records may be there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DuplicateCause {
    /// They were old and in doubt: a broker may have forgotten that it has them.
    Old,
    /// They, or one before them, were refused while they were in doubt.
    Refused,
    /// They were in doubt, and nothing could prove whether they are there.
    Unsettled,
    /// They were in doubt when Kafka had lost what it had acknowledged.
    Unclean,
    /// They were in doubt when somebody else used their producer id.
    Fenced,
    /// They were in doubt when they were given up: they may be there all the same.
    GivenUp,
}

impl DuplicateCause {
    /// All of them.
    pub const ALL: [DuplicateCause; 6] = [
        DuplicateCause::Old,
        DuplicateCause::Refused,
        DuplicateCause::Unsettled,
        DuplicateCause::Unclean,
        DuplicateCause::Fenced,
        DuplicateCause::GivenUp,
    ];

    /// As it stands in the status and the log.
    pub fn name(self) -> &'static str {
        match self {
            DuplicateCause::Old => "old",
            DuplicateCause::Refused => "refused",
            DuplicateCause::Unsettled => "unsettled",
            DuplicateCause::Unclean => "unclean",
            DuplicateCause::Fenced => "fenced",
            DuplicateCause::GivenUp => "given_up",
        }
    }
}

/// The counters, all in records.
#[derive(Debug, Default)]
pub struct Ledger {
    accepted: AtomicU64,
    delivered: AtomicU64,
    dead_lettered: AtomicU64,
    /// By Kafka's error code.
    dead_letters: Mutex<BTreeMap<i16, u64>>,
    possible_duplicates: [AtomicU64; DuplicateCause::ALL.len()],
    restamped: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

/// The ledger at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Taken from clients.
    pub accepted: u64,
    /// Acknowledged by Kafka, or proven to be there.
    pub delivered: u64,
    /// Neither yet.
    pub held: u64,
    /// Refused by Kafka for good.
    pub dead_lettered: u64,
    /// The same by Kafka's error code.
    pub dead_letters: Vec<(i16, u64)>,
    /// By reason; only reasons that have occurred.
    pub dropped: Vec<(DropReason, u64)>,
    /// Delivered, and perhaps twice.
    pub possible_duplicates: u64,
    /// The same by cause; only causes that have occurred.
    pub duplicate_causes: Vec<(DuplicateCause, u64)>,
    /// Given another time, since Kafka refused theirs.
    pub restamped: u64,
}

impl Ledger {
    /// Records were taken from a client.
    pub fn accept(&self, records: u64) {
        self.accepted.fetch_add(records, Ordering::Relaxed);
    }

    /// Kafka has acknowledged records.
    pub fn deliver(&self, records: u64) {
        self.delivered.fetch_add(records, Ordering::Release);
    }

    /// Kafka will never take these, and says so by this error code.
    pub fn dead_letter(&self, code: i16, records: u64) {
        *self.dead_letters.lock().entry(code).or_default() += records;
        self.dead_lettered.fetch_add(records, Ordering::Release);
    }

    /// These are or will be delivered, and may be there twice.
    pub fn possible_duplicates(&self, cause: DuplicateCause, records: u64) {
        self.possible_duplicates[cause as usize].fetch_add(records, Ordering::Release);
    }

    /// Records were given another time than their client's.
    pub fn restamp(&self, records: u64) {
        self.restamped.fetch_add(records, Ordering::Relaxed);
    }

    /// Records were dropped.
    pub fn drop_records(&self, reason: DropReason, records: u64) {
        self.dropped[reason as usize].fetch_add(records, Ordering::Release);
    }

    /// The balance now. What leaves is read before what enters, and is counted with release after it entered, so that
    /// `held` is never too small.
    pub fn balance(&self) -> Balance {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let dropped: Vec<_> =
            DropReason::ALL.iter().map(|r| (*r, read(&self.dropped[*r as usize]))).filter(|(_, n)| *n > 0).collect();
        let delivered = read(&self.delivered);
        let dead_lettered = read(&self.dead_lettered);
        let duplicates =
            DuplicateCause::ALL.iter().map(|cause| (*cause, read(&self.possible_duplicates[*cause as usize])));
        let duplicate_causes: Vec<_> = duplicates.filter(|(_, n)| *n > 0).collect();
        let possible_duplicates = duplicate_causes.iter().map(|(_, n)| n).sum();
        let restamped = read(&self.restamped);
        let accepted = read(&self.accepted);
        let gone = delivered + dead_lettered + dropped.iter().map(|(_, n)| n).sum::<u64>();
        Balance {
            accepted,
            delivered,
            held: accepted.saturating_sub(gone),
            dead_lettered,
            dead_letters: self.dead_letters.lock().iter().map(|(code, n)| (*code, *n)).collect(),
            dropped,
            possible_duplicates,
            duplicate_causes,
            restamped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_delivered_nor_given_up_is_held() {
        let ledger = Ledger::default();
        ledger.accept(10);
        ledger.deliver(4);
        ledger.dead_letter(10, 1);
        ledger.drop_records(DropReason::Stopped, 2);
        let balance = ledger.balance();
        assert_eq!((balance.accepted, balance.held), (10, 3));
        assert_eq!(balance.dropped, [(DropReason::Stopped, 2)]);
    }

    #[test]
    fn reasons_index_their_counters() {
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
    }
}
