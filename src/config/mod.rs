//! What the operator decides: a TOML file in, a checked [`Config`] out.
//!
//! ```text
//! text ─► TOML with places ─► Reader ─► Config ─► checks between keys ─► Config
//!                               │                       │
//!                               └── problems, each with its place, the line and the remedy ──► ConfigError
//! ```
//!
//! - `keys` names every key once, with its unit and range: reading, writing and suggesting all follow that list.
//! - `defaults` is the one place where a default stands. A file says only what differs.
//! - `topics` finds the rules of a topic: exact name, else the glob with the most literal characters, else `[producer]`.
//!
//! Strict: an unknown key, a missing unit, a value out of range are errors, and all of them are reported at once.
//!
//! Invariants: a `Config` that came out of [`Config::parse`] passed every check, and `Config::parse(config.to_toml())` gives it
//! back. It does not look at the machine: that a path can be written or a group exists shows when the socket is made.

mod address;
mod check;
mod defaults;
mod error;
mod keys;
mod read;
mod suggest;
mod topics;
mod units;
mod value;
mod write;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, Problem};
pub use topics::{InvalidPattern, PatternOverlap, TopicPattern, Topics};
pub use units::{UnitError, format_duration, parse_duration, parse_size};

/// Everything that the configuration file decides. The fields are the file's keys, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[daemon]`: the process.
    pub daemon: Daemon,
    /// `[kafka]`: the cluster and how it is spoken to.
    pub kafka: Kafka,
    /// `[memory]`: the budget for all that is held.
    pub memory: Memory,
    /// `[backlog]`: the log on disk.
    pub backlog: Backlog,
    /// `[[listeners]]`: the sockets that take records, at least one, each path once.
    pub listeners: Vec<Listener>,
    /// `[admin]`: the socket that tells how the daemon is.
    pub admin: Admin,
    /// `[producer]`: the rules of every topic that no entry of `topics` speaks of.
    pub producer: TopicRules,
    /// `[topics."NAME or glob"]`: the rules of some topics. Ask [`Config::topic_rules`].
    pub topics: Topics,
    /// `[limits]`: how many of what may exist.
    pub limits: Limits,
}

/// `[daemon]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// How long a stop delivers what is held before it gives up. At most a day.
    pub drain_timeout: Duration,
    /// Threads that run the daemon's tasks, at most 1024. 0: one per core, but no more than four.
    pub worker_threads: usize,
}

/// `[kafka]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Where the cluster is asked for its brokers; at least one.
    pub bootstrap_servers: Vec<HostPort>,
    /// How forebay names itself in requests. Not empty.
    pub client_id: String,
    /// How long a request may stay without an answer.
    pub request_timeout: Duration,
    /// How long a connection may take to open.
    pub socket_connection_setup_timeout: Duration,
    /// The first wait before a broker is connected again.
    pub reconnect_backoff: Duration,
    /// The longest such wait; each failure doubles it. Not below `reconnect_backoff`.
    pub reconnect_backoff_max: Duration,
    /// The first wait before a failed request is sent again.
    pub retry_backoff: Duration,
    /// The longest such wait; each failure doubles it. Not below `retry_backoff`.
    pub retry_backoff_max: Duration,
    /// Metadata older than this is fetched again, asked for or not.
    pub metadata_max_age: Duration,
    /// Produce requests that may be unanswered on a connection, 1 to 5: a broker remembers five batches of a producer and
    /// partition (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
    pub max_in_flight_requests_per_connection: usize,
    /// Bytes of the largest Produce request, and so of the largest batch, before compression.
    pub max_request_size: usize,
    /// The brokers' `producer.id.expiration.ms`: what is older than half of it flies alone.
    pub producer_id_expiration: Duration,
    /// Whether a Metadata request asks the broker to create the topic.
    pub allow_auto_create_topics: bool,
}

/// `[memory]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that read buffers, bursts, batches, requests and unanswered requests may take together.
    pub limit: usize,
}

/// `[backlog]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Absolute. `None`: there is no backlog, and all is held in memory.
    pub directory: Option<PathBuf>,
    /// Bytes that its files may take together.
    pub limit: u64,
    /// Bytes that the files of the dead letters may take together, beside them.
    pub dead_letters_limit: u64,
    /// Bytes of its file system that are left to others: no file is begun for records, and for dead letters, that would take of them.
    pub min_free_space: u64,
}

/// One of `[[listeners]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens and who may use it.
    pub socket: SocketFile,
    /// systemd makes the socket, at this same path and with permissions of its own choosing, and hands it over under this
    /// name. `None`: the daemon makes it.
    pub systemd_socket: Option<String>,
    /// Bytes of the largest frame, its size field included, or of the largest datagram. At most `memory.limit`.
    pub max_frame_size: usize,
    /// What kind of socket it is, with what only that kind has.
    pub kind: ListenerKind,
}

/// What kind of socket a listener has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// A stream of frames, answered.
    Stream(StreamLimits),
    /// One message a datagram, never answered.
    Datagram,
}

/// What only a stream listener has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Connections open at once.
    pub max_connections: usize,
    /// Records in one Produce request.
    pub max_records_per_request: usize,
    /// Requests of a connection that may be unanswered; beyond it the connection is not read.
    pub max_unanswered_requests: usize,
    /// Bytes of such requests; beyond it the connection is not read. At most `memory.limit`.
    pub max_unanswered_size: usize,
    /// How long a frame that has begun may take to be complete, counted while the connection is read.
    pub frame_timeout: Duration,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens and who may use it.
    pub socket: SocketFile,
    /// Where Prometheus may ask over TCP; nothing else is answered there.
    pub metrics_address: Option<SocketAddr>,
}

/// The file of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketFile {
    /// Absolute, at most 107 bytes: the room in `sockaddr_un`.
    pub path: PathBuf,
    /// Permission bits, at most 0o777.
    pub mode: u32,
    /// The group that owns it. `None`: the group of the process.
    pub group: Option<Group>,
}

/// A group of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// By name, looked up when the socket is made.
    Name(String),
    /// By number.
    Id(u32),
}

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A host name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

/// How the records of a topic are sent: `[producer]`, with what the topic's own entry says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRules {
    /// How long a record may wait for others to share its batch. At most a minute.
    pub linger: Duration,
    /// Bytes that make a partition ready before `linger` is over. At most `kafka.max_request_size`.
    pub batch_size: usize,
    /// How batches are compressed.
    pub compression_type: CompressionType,
    /// How hard, within [`CompressionType::levels`]; `None`: the codec's default. Unused by a codec without levels.
    pub compression_level: Option<i32>,
    /// How long records wait for a topic that the cluster does not know, before error 3.
    pub max_block: Duration,
    /// Which records go through the log on disk.
    pub store: StorePolicy,
    /// With [`StorePolicy::Overflow`]: how long a record may wait in memory alone.
    pub spill_after: Duration,
    /// How long a record may wait to be delivered before it is given up, from when it was read; `None`: without end. At least
    /// `linger`.
    pub delivery_timeout: Option<Duration>,
    /// Bytes a second that are sent of the topic at most, by this daemon; `None`: as many as there are.
    pub rate_limit: Option<u64>,
    /// What happens to new records when memory is full.
    pub full: FullPolicy,
    /// What happens when the topic gets more partitions.
    pub on_partition_growth: GrowthPolicy,
    /// What happens to records of a partition that the cluster no longer has.
    pub on_missing_partition: MissingPartitionPolicy,
    /// What happens to records that were sent when nothing can prove whether they are there.
    pub on_unproven: UnprovenPolicy,
    /// What happens to records whose timestamp Kafka refuses.
    pub on_invalid_timestamp: InvalidTimestampPolicy,
}

/// Kafka's `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompressionType {
    /// As they are.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, in xerial's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard; brokers take it from 2.1 on (KIP-110).
    Zstd,
}

/// Which records go through the log on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StorePolicy {
    /// None: they are held in memory.
    Never,
    /// Those that memory cannot keep, see [`TopicRules::spill_after`].
    Overflow,
    /// All: none is sent before it is in the log.
    Always,
}

/// What happens to new records when memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FullPolicy {
    /// The client's socket is not read until there is room.
    Block,
    /// The client is told by an error.
    Reject,
}

/// What happens when a topic gets more partitions: most keys then belong to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GrowthPolicy {
    /// Records are held until those before them are delivered, so that the order of each key is kept.
    DrainFirst,
    /// They go on at once.
    AtOnce,
}

/// What happens to records of a partition that the cluster no longer has: its topic was deleted, or made again with fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissingPartitionPolicy {
    /// They wait until it has it again.
    Hold,
    /// They are given up once the cluster has said for `max_block` that it does not have it.
    DeadLetter,
}

/// What happens to records that were sent when nothing can prove whether they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnprovenPolicy {
    /// They are sent again, and counted as possible duplicates.
    Redeliver,
    /// Their partition waits until it can be proven.
    Hold,
}

/// What happens to records whose timestamp Kafka refuses (`message.timestamp.before.max.ms`, `.after.max.ms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InvalidTimestampPolicy {
    /// They get the time of the host's clock; their own stands in a header.
    Restamp,
    /// Their partition waits until Kafka takes them.
    Hold,
    /// They are given up.
    DeadLetter,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Topics known at once.
    pub max_topics: usize,
    /// Topics held while the cluster does not know them. At most `max_topics`.
    pub max_unknown_topics: usize,
}

impl Config {
    /// Reads and checks the file at `path`. A file of more than a mebibyte is refused, unread.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        read::load(path)
    }

    /// Checks `text`. `name` is what errors call it: the file's path.
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigError> {
        read::parse(text, name)
    }

    /// Every key with the value in force, as a file that [`Config::parse`] takes.
    pub fn to_toml(&self) -> String {
        write::to_toml(self)
    }

    /// The rules of `topic`. Walks over the patterns: ask once a topic, and keep the answer.
    pub fn topic_rules(&self, topic: &str) -> TopicRules {
        self.topics.find(topic).unwrap_or(self.producer)
    }

    /// Whether the records of any topic go through the log, or may.
    pub fn may_store(&self) -> bool {
        self.any_rules(|rules| rules.store != StorePolicy::Never)
    }

    /// Whether the records of any topic are rejected when memory is full.
    pub fn may_reject(&self) -> bool {
        self.any_rules(|rules| rules.full == FullPolicy::Reject)
    }

    fn any_rules(&self, is_so: impl Fn(&TopicRules) -> bool) -> bool {
        self.topics.iter().map(|(_, rules)| rules).chain([&self.producer]).any(is_so)
    }
}

impl CompressionType {
    /// What `compression_level` may be, as in Kafka's `compression.gzip.level`, `.lz4.level` and `.zstd.level` (KIP-390);
    /// `None` where there are no levels.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            CompressionType::None | CompressionType::Snappy => None,
            CompressionType::Gzip => Some(1..=9),
            CompressionType::Lz4 => Some(1..=17),
            CompressionType::Zstd => Some(-131_072..=22),
        }
    }
}

impl fmt::Display for HostPort {
    /// As in the file: `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests;
