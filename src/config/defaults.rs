//! Every default, and no default anywhere else. `config/forebay.toml` shows them to the operator; a test holds it to this file.

use std::path::PathBuf;
use std::time::Duration;

use super::{
    Admin, Backlog, CompressionType, Config, Daemon, FullPolicy, GrowthPolicy, HostPort, InvalidTimestampPolicy, Kafka,
    Limits, Listener, ListenerKind, Memory, MissingPartitionPolicy, SocketFile, StorePolicy, StreamLimits, TopicRules,
    Topics, UnprovenPolicy,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: u64 = 1 << 30;

impl Default for Config {
    fn default() -> Self {
        Config {
            daemon: Daemon::default(),
            kafka: Kafka::default(),
            memory: Memory::default(),
            backlog: Backlog::default(),
            listeners: vec![Listener::stream("/run/forebay/forebay.sock")],
            admin: Admin::default(),
            producer: TopicRules::default(),
            topics: Topics::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Daemon {
    fn default() -> Self {
        Daemon { drain_timeout: Duration::from_secs(30), worker_threads: 0 }
    }
}

impl Default for Kafka {
    /// Kafka's own defaults, but for the sizes and `retry_backoff`.
    fn default() -> Self {
        Kafka {
            bootstrap_servers: vec![HostPort { host: "127.0.0.1".to_owned(), port: 9092 }],
            client_id: "forebay".to_owned(),
            request_timeout: Duration::from_secs(30),
            socket_connection_setup_timeout: Duration::from_secs(10),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(5 * 60),
            max_in_flight_requests_per_connection: 5,
            max_request_size: MIB,
            producer_id_expiration: Duration::from_secs(24 * 60 * 60),
            allow_auto_create_topics: true,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory { limit: 256 * MIB }
    }
}

impl Default for Backlog {
    fn default() -> Self {
        Backlog { directory: None, limit: 8 * GIB, dead_letters_limit: GIB / 8, min_free_space: GIB / 8 }
    }
}

impl Listener {
    /// A stream listener at `path`, all else at its default.
    pub fn stream(path: impl Into<PathBuf>) -> Self {
        Listener {
            socket: SocketFile { path: path.into(), mode: 0o660, group: None },
            systemd_socket: None,
            max_frame_size: 16 * MIB,
            kind: ListenerKind::Stream(StreamLimits::default()),
        }
    }

    /// A datagram listener at `path`, all else at its default.
    pub fn datagram(path: impl Into<PathBuf>) -> Self {
        Listener {
            // Whoever may send need not be able to read.
            socket: SocketFile { path: path.into(), mode: 0o220, group: None },
            systemd_socket: None,
            // Above the largest that Linux carries with default buffers (212,960 bytes) and with doubled ones.
            max_frame_size: MIB,
            kind: ListenerKind::Datagram,
        }
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        StreamLimits {
            max_connections: 10_000,
            max_records_per_request: 100_000,
            max_unanswered_requests: 1000,
            max_unanswered_size: 16 * MIB,
            frame_timeout: Duration::from_secs(60),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            socket: SocketFile { path: "/run/forebay/admin.sock".into(), mode: 0o660, group: None },
            metrics_address: None,
        }
    }
}

impl Default for TopicRules {
    fn default() -> Self {
        TopicRules {
            linger: Duration::from_millis(5),
            batch_size: 256 * KIB,
            compression_type: CompressionType::None,
            compression_level: None,
            max_block: Duration::from_secs(60),
            store: StorePolicy::Never,
            spill_after: Duration::from_secs(10),
            delivery_timeout: None,
            rate_limit: None,
            full: FullPolicy::Block,
            on_partition_growth: GrowthPolicy::DrainFirst,
            on_missing_partition: MissingPartitionPolicy::Hold,
            on_unproven: UnprovenPolicy::Redeliver,
            on_invalid_timestamp: InvalidTimestampPolicy::Restamp,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_topics: 100_000, max_unknown_topics: 1000 }
    }
}
