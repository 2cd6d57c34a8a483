//! What the daemon says about itself. The names are those of `forebay status --json`: scripts depend on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::queue::ledger::{Balance, DropReason, DuplicateCause};
use crate::wire::codes;

/// The daemon at one moment. A key that is added later does not hinder an older reader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the running daemon.
    pub version: String,
    /// Since it started.
    pub uptime_seconds: u64,
    /// What is known of Kafka.
    pub cluster: Cluster,
    /// The budget and what is taken of it.
    pub memory: Memory,
    /// The log on disk; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
    /// Dead letters that are not on disk yet; `None` where none are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLetters>,
    /// What became of the records.
    pub ledger: Ledger,
    /// Counters of the listeners, by name.
    pub connections: BTreeMap<String, u64>,
    /// Every topic that has been used, by name.
    pub topics: Vec<Topic>,
}

/// What is known of Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// `None` until the cluster has been reached.
    pub id: Option<String>,
    /// By id.
    pub brokers: Vec<Broker>,
    /// How old this knowledge is; `None` until the cluster has been reached.
    pub as_of_seconds: Option<u64>,
}

/// A broker that the cluster has named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its number in the cluster.
    pub id: i32,
    /// As `host:port`.
    pub address: String,
}

/// The budget and what is taken of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Taken now.
    pub used_bytes: u64,
    /// `memory.limit`.
    pub limit_bytes: u64,
}

/// The log on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// `well`, `full` or `failing`.
    pub state: String,
    /// Why it is not well, and what to do.
    pub message: String,
    /// Bytes of its files.
    pub used_bytes: u64,
    /// `backlog.limit`.
    pub limit_bytes: u64,
    /// Records that it holds for Kafka.
    pub held_records: u64,
    /// How old the oldest of them is in the log, about; `None` while it holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_seconds: Option<u64>,
    /// When it is full if it goes on like in the last minute; `None` while it does not grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_in_seconds: Option<u64>,
    /// Records that it was ever given, over all starts of the daemon.
    pub accepted: u64,
    /// Of those: acknowledged by Kafka, or proven to be there.
    pub delivered: u64,
    /// Refused by Kafka for good.
    pub dead_lettered: u64,
    /// Given up for another reason.
    pub dropped: u64,
    /// Delivered, and perhaps twice.
    pub possible_duplicates: u64,
}

/// Dead letters on their way to their log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// Records that Kafka has refused and that are not on disk yet. They stay held.
    pub waiting_records: u64,
    /// What keeps them from being written, and what to do; empty where nothing does.
    pub message: String,
}

/// The balance in records: accepted = delivered + held + dead-lettered + dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Taken from clients.
    pub accepted: u64,
    /// Acknowledged by Kafka, or proven to be there.
    pub delivered: u64,
    /// Neither yet.
    pub held: u64,
    /// Refused by Kafka for good.
    pub dead_lettered: u64,
    /// By reason; only reasons that have occurred.
    pub dropped: BTreeMap<String, u64>,
    /// Delivered, and perhaps twice.
    pub possible_duplicates: u64,
    /// The same by cause; only causes that have occurred.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub possible_duplicates_by_cause: BTreeMap<String, u64>,
    /// Those refused for good, by Kafka's name of the error.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dead_lettered_by_error: BTreeMap<String, u64>,
    /// Given the present time, since Kafka refused theirs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restamped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn named<T: Copy>(counts: &[(T, u64)], name: impl Fn(T) -> &'static str) -> BTreeMap<String, u64> {
    let mut by_name = BTreeMap::new();
    for (what, count) in counts {
        // Codes that do not exist yet share a name.
        *by_name.entry(name(*what).to_owned()).or_default() += count;
    }
    by_name
}

impl From<Balance> for Ledger {
    fn from(balance: Balance) -> Self {
        Ledger {
            accepted: balance.accepted,
            delivered: balance.delivered,
            held: balance.held,
            dead_lettered: balance.dead_lettered,
            dropped: named(&balance.dropped, DropReason::name),
            possible_duplicates: balance.possible_duplicates,
            possible_duplicates_by_cause: named(&balance.duplicate_causes, DuplicateCause::name),
            dead_lettered_by_error: named(&balance.dead_letters, codes::name),
            restamped: balance.restamped,
        }
    }
}

/// A topic that has been used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has; 0 while the cluster does not know it.
    pub partitions: u64,
    /// Records that wait or are in flight.
    pub held_records: u64,
    /// Partitions that no broker leads now.
    pub without_leader: u64,
    /// Partitions that are not sent to because of an error that only a person can mend.
    pub parked: Vec<Parked>,
    /// Partitions whose answers come late, and which are sent on a connection of their own for it.
    #[serde(default)]
    pub late: Vec<i32>,
    /// Partitions that wait for the topic's `rate_limit` to let them send.
    #[serde(default)]
    pub held_back: Vec<i32>,
    /// Partitions that hold records, and that the cluster says do not exist.
    #[serde(default)]
    pub missing: Vec<i32>,
    /// Partitions whose records go through the log now because memory could not keep them (`store = "overflow"`).
    #[serde(default)]
    pub stored: Vec<i32>,
    /// Records that were stored because memory could not keep them, since the start.
    #[serde(default)]
    pub spilled_records: u64,
    /// And their bytes.
    #[serde(default)]
    pub spilled_bytes: u64,
}

/// A partition that is not sent to, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Its number in the topic.
    pub partition: i32,
    /// Kafka's error code.
    pub code: i16,
    /// Kafka's name of the code.
    pub name: String,
    /// In words.
    pub message: String,
}
