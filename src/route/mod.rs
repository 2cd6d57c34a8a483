//! Which topic, which partition: from a record to the queue it waits in.
//!
//! Each connection has an [`Outlet`] of its own: handles to the topics it has named, and the bursts that one socket read has
//! begun. A record is put into its partition's burst ([`Outlet::put`]); at the end of the read all bursts are pushed
//! ([`Outlet::flush`]), so a record that has been put is never kept back by a client that sends no more.
//!
//! Where a record goes: the partition that it names; else murmur2 of its key, as in the Java client; else the topic's *sticky*
//! partition, which changes when a batch's worth of bytes has gone there (KIP-480, KIP-794). Records of a topic whose
//! partitions are not known are held, in order, until [`placer`] can place them.

pub mod murmur2;
mod outlet;
pub mod placer;
mod sticky;

use std::sync::Arc;

use crate::queue::budget::Budget;
use crate::queue::ledger::{DropReason, Ledger};
use crate::queue::receipt::{Outcome, Receipt};
use crate::queue::topic::Topics;
use crate::wire::codes;

pub use outlet::{By, Outlet};

/// What all outlets share.
#[derive(Debug)]
pub struct Router {
    topics: Arc<Topics>,
    budget: Arc<Budget>,
    ledger: Arc<Ledger>,
}

impl Router {
    /// For these.
    pub fn new(topics: Arc<Topics>, budget: Arc<Budget>, ledger: Arc<Ledger>) -> Arc<Self> {
        Arc::new(Router { topics, budget, ledger })
    }

    /// An outlet for one connection; `random` decides its sticky partitions.
    pub fn outlet(self: &Arc<Self>, random: fastrand::Rng) -> Outlet {
        Outlet::new(self.clone(), random)
    }

    /// The budget that bursts are charged to.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// All topics that clients have named.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.topics
    }
}

/// The Kafka error that a client is told for a drop.
pub fn drop_code(reason: DropReason) -> i16 {
    match reason {
        DropReason::UnknownTopic | DropReason::UnknownPartition => codes::UNKNOWN_TOPIC_OR_PARTITION,
        DropReason::TooManyTopics => codes::POLICY_VIOLATION,
        DropReason::MemoryFull => codes::THROTTLING_QUOTA_EXCEEDED,
        DropReason::DeliveryTimeout | DropReason::Stopped => codes::REQUEST_TIMED_OUT,
        DropReason::Damaged => codes::KAFKA_STORAGE_ERROR,
    }
}

/// Tells a receipt why its records were dropped.
pub fn settle_dropped(receipt: Receipt, partition: i32, reason: DropReason, words: &str) {
    receipt.settle(Outcome::Failed { partition, error_code: drop_code(reason), reason: words.into() });
}
