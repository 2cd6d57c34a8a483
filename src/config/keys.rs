//! Every key of the file, once: its name, its kind and what is allowed.
//!
//! A visitor walks over the sections and their keys: the reader fills a [`Config`], the writer writes one down, and the
//! list of names serves suggestions. So what can be read, written and suggested cannot differ.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::address::{DirectoryPath, GroupName, ListenAddress, Mode, Servers, SocketPath, SystemdSocket};
use super::value::{Bytes, Choice, Count, Flag, Kind, Level, Name, OrNone, Rate, Size, Time};
use super::{
    Admin, Backlog, CompressionType, Config, Daemon, FullPolicy, GrowthPolicy, InvalidTimestampPolicy, Kafka, Limits,
    Listener, ListenerKind, Memory, MissingPartitionPolicy, SocketFile, StorePolicy, StreamLimits, TopicRules, Topics,
    UnprovenPolicy,
};

/// Walks over the file's sections.
pub(super) trait Sections {
    /// `[name]`.
    fn section(&mut self, name: &'static str, section: &mut impl Section);
    /// `[[listeners]]`.
    fn listeners(&mut self, listeners: &mut Vec<Listener>);
    /// `[topics."…"]`, whose entries say what differs from `producer`.
    fn topics(&mut self, producer: &TopicRules, topics: &mut Topics);
}

/// Walks over a section's keys.
pub(super) trait Keys {
    /// The key `name`, whose value is of this kind.
    fn key<K: Kind>(&mut self, name: &'static str, kind: K, value: &mut K::Value);
}

/// What has keys.
pub(super) trait Section {
    /// Shows each key once.
    fn visit(&mut self, keys: &mut impl Keys);
}

/// Every section that has a fixed place, with every key.
pub(super) fn visit(config: &mut Config, sections: &mut impl Sections) {
    sections.section("daemon", &mut config.daemon);
    sections.section("kafka", &mut config.kafka);
    sections.section("memory", &mut config.memory);
    sections.section("backlog", &mut config.backlog);
    sections.listeners(&mut config.listeners);
    sections.section("admin", &mut config.admin);
    sections.section("producer", &mut config.producer);
    sections.topics(&config.producer, &mut config.topics);
    sections.section("limits", &mut config.limits);
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
const MINUTE_MS: u64 = 60_000;

fn ms(range: RangeInclusive<u64>) -> Time {
    Time(Duration::from_millis(*range.start())..=Duration::from_millis(*range.end()))
}

impl Section for Daemon {
    fn visit(&mut self, keys: &mut impl Keys) {
        keys.key("drain_timeout", ms(0..=DAY_MS), &mut self.drain_timeout);
        keys.key("worker_threads", Count(0..=1024), &mut self.worker_threads);
    }
}

impl Section for Kafka {
    fn visit(&mut self, keys: &mut impl Keys) {
        keys.key("bootstrap_servers", Servers, &mut self.bootstrap_servers);
        keys.key("client_id", Name { max: 255 }, &mut self.client_id);
        keys.key("request_timeout", ms(10..=HOUR_MS), &mut self.request_timeout);
        keys.key("socket_connection_setup_timeout", ms(10..=HOUR_MS), &mut self.socket_connection_setup_timeout);
        keys.key("reconnect_backoff", ms(1..=HOUR_MS), &mut self.reconnect_backoff);
        keys.key("reconnect_backoff_max", ms(1..=HOUR_MS), &mut self.reconnect_backoff_max);
        keys.key("retry_backoff", ms(1..=HOUR_MS), &mut self.retry_backoff);
        keys.key("retry_backoff_max", ms(1..=HOUR_MS), &mut self.retry_backoff_max);
        keys.key("metadata_max_age", ms(100..=DAY_MS), &mut self.metadata_max_age);
        let in_flight = &mut self.max_in_flight_requests_per_connection;
        keys.key("max_in_flight_requests_per_connection", Count(1..=5), in_flight);
        keys.key("max_request_size", Size(KIB..=GIB), &mut self.max_request_size);
        keys.key("producer_id_expiration", ms(1000..=366 * DAY_MS), &mut self.producer_id_expiration);
        keys.key("allow_auto_create_topics", Flag, &mut self.allow_auto_create_topics);
    }
}

impl Section for Memory {
    fn visit(&mut self, keys: &mut impl Keys) {
        keys.key("limit", Size(MIB..=1024 * GIB), &mut self.limit);
    }
}

impl Section for Backlog {
    fn visit(&mut self, keys: &mut impl Keys) {
        keys.key("directory", DirectoryPath, &mut self.directory);
        keys.key("limit", Bytes(64 * MIB..=1024 * 1024 * GIB), &mut self.limit);
        keys.key("dead_letters_limit", Bytes(64 * MIB..=1024 * 1024 * GIB), &mut self.dead_letters_limit);
        keys.key("min_free_space", Bytes(0..=1024 * 1024 * GIB), &mut self.min_free_space);
    }
}

/// The value of a listener's `type`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ListenerType {
    Stream,
    Datagram,
}

pub(super) const LISTENER_TYPE: Choice<ListenerType> =
    Choice { words: &[("stream", ListenerType::Stream), ("datagram", ListenerType::Datagram)], later: &[] };

impl Section for Listener {
    /// The type is shown, not taken: it decides which keys there are, so who reads knows it before.
    fn visit(&mut self, keys: &mut impl Keys) {
        let mut listener_type = match self.kind {
            ListenerKind::Stream(_) => ListenerType::Stream,
            ListenerKind::Datagram => ListenerType::Datagram,
        };
        keys.key("type", LISTENER_TYPE, &mut listener_type);
        keys.key("path", SocketPath, &mut self.socket.path);
        keys.key("systemd_socket", SystemdSocket, &mut self.systemd_socket);
        // Who may use a socket that systemd makes stands in its unit.
        if self.systemd_socket.is_none() {
            self.socket.visit_permissions(keys);
        }
        keys.key("max_frame_size", Size(KIB..=GIB), &mut self.max_frame_size);
        if let ListenerKind::Stream(limits) = &mut self.kind {
            limits.visit(keys);
        }
    }
}

impl Section for StreamLimits {
    fn visit(&mut self, keys: &mut impl Keys) {
        keys.key("max_connections", Count(1..=1_000_000), &mut self.max_connections);
        keys.key("max_records_per_request", Count(1..=10_000_000), &mut self.max_records_per_request);
        keys.key("max_unanswered_requests", Count(1..=1_000_000), &mut self.max_unanswered_requests);
        keys.key("max_unanswered_size", Size(KIB..=GIB), &mut self.max_unanswered_size);
        keys.key("frame_timeout", ms(10..=HOUR_MS), &mut self.frame_timeout);
    }
}

impl SocketFile {
    fn visit_permissions(&mut self, keys: &mut impl Keys) {
        keys.key("mode", Mode, &mut self.mode);
        keys.key("group", GroupName, &mut self.group);
    }
}

impl Section for Admin {
    fn visit(&mut self, keys: &mut impl Keys) {
        keys.key("path", SocketPath, &mut self.socket.path);
        self.socket.visit_permissions(keys);
        keys.key("metrics_address", ListenAddress, &mut self.metrics_address);
    }
}

pub(super) const COMPRESSION_TYPE: Choice<CompressionType> = Choice {
    words: &[
        ("none", CompressionType::None),
        ("gzip", CompressionType::Gzip),
        ("snappy", CompressionType::Snappy),
        ("lz4", CompressionType::Lz4),
        ("zstd", CompressionType::Zstd),
    ],
    later: &[],
};

pub(super) const STORE: Choice<StorePolicy> = Choice {
    words: &[("never", StorePolicy::Never), ("overflow", StorePolicy::Overflow), ("always", StorePolicy::Always)],
    later: &[],
};

const FULL: Choice<FullPolicy> = Choice {
    words: &[("block", FullPolicy::Block), ("reject", FullPolicy::Reject)],
    later: &["drop_oldest", "drop_newest"],
};

const ON_PARTITION_GROWTH: Choice<GrowthPolicy> =
    Choice { words: &[("drain_first", GrowthPolicy::DrainFirst), ("at_once", GrowthPolicy::AtOnce)], later: &[] };

const ON_MISSING_PARTITION: Choice<MissingPartitionPolicy> = Choice {
    words: &[("hold", MissingPartitionPolicy::Hold), ("dead_letter", MissingPartitionPolicy::DeadLetter)],
    later: &[],
};

const ON_UNPROVEN: Choice<UnprovenPolicy> =
    Choice { words: &[("redeliver", UnprovenPolicy::Redeliver), ("hold", UnprovenPolicy::Hold)], later: &[] };

const ON_INVALID_TIMESTAMP: Choice<InvalidTimestampPolicy> = Choice {
    words: &[
        ("restamp", InvalidTimestampPolicy::Restamp),
        ("hold", InvalidTimestampPolicy::Hold),
        ("dead_letter", InvalidTimestampPolicy::DeadLetter),
    ],
    later: &[],
};

impl Section for TopicRules {
    fn visit(&mut self, keys: &mut impl Keys) {
        keys.key("linger", ms(0..=MINUTE_MS), &mut self.linger);
        keys.key("batch_size", Size(1..=GIB), &mut self.batch_size);
        keys.key("compression_type", COMPRESSION_TYPE, &mut self.compression_type);
        // Those of zstd, which has the most; `check` knows each codec's own.
        keys.key("compression_level", Level(-131_072..=22), &mut self.compression_level);
        keys.key("max_block", ms(0..=DAY_MS), &mut self.max_block);
        keys.key("store", STORE, &mut self.store);
        keys.key("spill_after", ms(100..=DAY_MS), &mut self.spill_after);
        keys.key("delivery_timeout", OrNone(ms(100..=366 * DAY_MS)), &mut self.delivery_timeout);
        keys.key("rate_limit", OrNone(Rate(KIB..=1024 * GIB)), &mut self.rate_limit);
        keys.key("full", FULL, &mut self.full);
        keys.key("on_partition_growth", ON_PARTITION_GROWTH, &mut self.on_partition_growth);
        keys.key("on_missing_partition", ON_MISSING_PARTITION, &mut self.on_missing_partition);
        keys.key("on_unproven", ON_UNPROVEN, &mut self.on_unproven);
        keys.key("on_invalid_timestamp", ON_INVALID_TIMESTAMP, &mut self.on_invalid_timestamp);
    }
}

impl Section for Limits {
    fn visit(&mut self, keys: &mut impl Keys) {
        keys.key("max_topics", Count(1..=10_000_000), &mut self.max_topics);
        keys.key("max_unknown_topics", Count(1..=10_000_000), &mut self.max_unknown_topics);
    }
}

/// A key and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyName {
    /// The section's name without brackets.
    pub(super) section: &'static str,
    /// The key's.
    pub(super) key: &'static str,
    /// Its default as the file writes it.
    pub(super) default: String,
    /// What is allowed.
    pub(super) allowed: String,
}

/// Every key of the file in the order of [`visit`]. Those of `[topics."…"]` are those of `[producer]`.
pub(super) fn names() -> Vec<KeyName> {
    let mut names = Names { section: "", names: Vec::new() };
    visit(&mut Config::default(), &mut names);
    names.names
}

struct Names {
    section: &'static str,
    names: Vec<KeyName>,
}

impl Sections for Names {
    fn section(&mut self, name: &'static str, section: &mut impl Section) {
        self.section = name;
        section.visit(self);
    }

    fn listeners(&mut self, listeners: &mut Vec<Listener>) {
        // The default is a stream listener, and that has all that a datagram listener has.
        if let Some(listener) = listeners.first_mut() {
            self.section("listeners", listener);
        }
    }

    fn topics(&mut self, _: &TopicRules, _: &mut Topics) {}
}

impl Keys for Names {
    fn key<K: Kind>(&mut self, key: &'static str, kind: K, value: &mut K::Value) {
        self.names.push(KeyName { section: self.section, key, default: kind.write(value), allowed: kind.allowed() });
    }
}
