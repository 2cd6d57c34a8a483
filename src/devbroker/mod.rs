//! An in-memory Kafka cluster, for `forebay dev-broker`, `forebay demo` and the tests.
//!
//! It owns any number of brokers, each with a listener on 127.0.0.1, and what they hold. Kafka's protocol comes in and goes out;
//! beside it there is [`DevCluster`], the handle with which a test starts and stops brokers, moves leaders, orders faults and
//! reads back what was stored. It answers like Apache Kafka 4 where a producer can tell the difference: validation, then the
//! four rules of deduplication, leader epochs and hints, and the ways in which a broker forgets.
//!
//! ```text
//! DevCluster ──► Shared { Cluster (pure: topics, leaders, faults, counters), holds, changed }
//!                   ▲
//! listener task per broker ──► connection task each (server) ──► answer/* one per API
//! partition: log and leader · producers: deduplication · check: validation
//! ```
//!
//! Invariants: requests of a connection are carried out in order, one at a time; a lock is never held over an await; the
//! logs' bytes, partitions, connections and request sizes are bounded, and over a bound the client gets an error.
//!
//! Deliberately absent: disks, replication as such (all replicas are in sync at once), consumer groups, transactions,
//! authentication.

mod answer;
mod check;
mod cluster;
mod controls;
mod faults;
mod listener;
mod partition;
mod producers;
mod server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use cluster::Cluster;
use faults::Holds;
use listener::{Listener, bind};

pub use cluster::Counters;
pub use faults::At;
pub use partition::{StoredBatch, StoredRecord};

/// What a cluster is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many brokers; their ids are 1, 2, ….
    pub brokers: usize,
    /// Ports by broker; where there is none, or 0, any free one.
    pub ports: Vec<u16>,
    /// What it calls itself.
    pub cluster_id: String,
    /// Whether a client's Metadata request creates the topics that it names.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is created so.
    pub default_partitions: usize,
    /// `min.insync.replicas` of all topics: with fewer brokers up, `acks=all` is answered by 19. Of more than there are
    /// brokers all are meant.
    pub min_insync_replicas: usize,
    /// `max.message.bytes` of a new topic.
    pub max_message_bytes: usize,
    /// Bytes that all logs may hold together; over it, Produce is answered by 56 KAFKA_STORAGE_ERROR.
    pub log_limit_bytes: u64,
    /// `producer.id.expiration.ms`, for [`DevCluster::sweep_producers`].
    pub producer_id_expiration: Duration,
    /// Whether a broker answers the first InitProducerId after its start by 14, as Kafka does.
    pub first_producer_id_fails: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            brokers: 1,
            ports: vec![],
            cluster_id: "forebay-dev-broker".to_owned(),
            auto_create_topics: false,
            default_partitions: 4,
            min_insync_replicas: 1,
            max_message_bytes: 1_048_588,
            log_limit_bytes: 1 << 30,
            producer_id_expiration: Duration::from_secs(24 * 3600),
            first_producer_id_fails: true,
        }
    }
}

/// Why something could not be done with the cluster.
#[derive(Debug, thiserror::Error)]
pub enum DevBrokerError {
    /// The system gave no listener.
    #[error("cannot listen on {address}: {source}; choose another port, or 0 for any")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no such broker.
    #[error("there is no broker {0}")]
    NoBroker(i32),
    /// What Kafka itself would answer.
    #[error("{what}: {} ({code})", crate::wire::codes::name(*code))]
    Kafka {
        /// What was asked for.
        what: String,
        /// Kafka's code.
        code: i16,
    },
}

/// What every connection and every handle sees.
#[derive(Debug)]
struct Shared {
    cluster: Mutex<Cluster>,
    /// Woken after every change: of what can be fetched, and of the counters.
    changed: Notify,
    holds: watch::Sender<Holds>,
    clock: Clock,
}

impl Shared {
    /// Looks at the cluster. A panic elsewhere leaves counters at worst, so the lock's poison is not passed on.
    fn with<T>(&self, look: impl FnOnce(&mut Cluster) -> T) -> T {
        look(&mut self.cluster.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the cluster, and wakes who waits for a change.
    fn change<T>(&self, change: impl FnOnce(&mut Cluster) -> T) -> T {
        let result = self.with(change);
        self.changed.notify_waiters();
        result
    }
}

/// The wall clock at the start, carried on by tokio's, which tests can pause.
#[derive(Debug)]
struct Clock {
    started: Instant,
    started_ms: i64,
}

impl Clock {
    fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), started_ms: as_millis(since_1970) }
    }

    /// Milliseconds since 1970.
    fn now(&self) -> i64 {
        self.started_ms.saturating_add(as_millis(self.started.elapsed()))
    }
}

fn as_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A running cluster. Clones are handles to the same one; when the last is dropped, it stops.
#[derive(Clone, Debug)]
pub struct DevCluster {
    shared: Arc<Shared>,
    listeners: Arc<tokio::sync::Mutex<BTreeMap<i32, Listener>>>,
    stop: CancellationToken,
    _stop_at_end: Arc<DropGuard>,
}

impl DevCluster {
    /// Starts all brokers.
    ///
    /// Errors: a port that is taken. Must be called within a tokio runtime with time and I/O.
    pub async fn start(settings: Settings) -> Result<Self, DevBrokerError> {
        let ports = settings.ports.iter().copied().chain(std::iter::repeat(0)).take(settings.brokers.max(1));
        let sockets = ports.map(bind).collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<_> = sockets.iter().map(|(_, address)| *address).collect();
        let shared = Shared {
            cluster: Mutex::new(Cluster::new(settings, &addresses)),
            changed: Notify::new(),
            holds: watch::Sender::default(),
            clock: Clock::start(),
        };
        let stop = CancellationToken::new();
        let guard = Arc::new(stop.clone().drop_guard());
        let cluster = DevCluster { shared: Arc::new(shared), listeners: Arc::default(), stop, _stop_at_end: guard };
        for (id, (socket, address)) in (1..).zip(sockets) {
            let listener = Listener::start(socket, address, id, &cluster.shared, &cluster.stop)?;
            cluster.listeners.lock().await.insert(id, listener);
        }
        Ok(cluster)
    }

    /// Stops every broker and waits until all tasks have ended. What is stored can still be read back.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        for listener in self.listeners.lock().await.values() {
            if let Listener::Up { tasks, .. } = listener {
                tasks.wait().await;
            }
        }
    }

    /// Stops a broker: its listener and all its connections are closed when this returns, and what it led is led by others, if
    /// any are up. What was being carried out may or may not have happened. Nothing happens if it is down.
    pub async fn stop_broker(&self, id: i32) -> Result<(), DevBrokerError> {
        let mut listeners = self.listeners.lock().await;
        let listener = listeners.get_mut(&id).ok_or(DevBrokerError::NoBroker(id))?;
        let Listener::Up { stop, tasks, .. } = listener else { return Ok(()) };
        self.shared.change(|cluster| cluster.stop(id));
        stop.cancel();
        tasks.wait().await;
        // If somebody else was quicker, the next start says so.
        *listener = Listener::Down { _port: bind(self.address(id)?.port()).ok().map(|(socket, _)| socket) };
        Ok(())
    }

    /// Starts a broker that was stopped, at the address that it had. Of each producer it remembers the last batch before the stop,
    /// and all since. Nothing happens if it is up.
    pub async fn start_broker(&self, id: i32) -> Result<(), DevBrokerError> {
        let mut listeners = self.listeners.lock().await;
        let listener = listeners.get_mut(&id).ok_or(DevBrokerError::NoBroker(id))?;
        if matches!(listener, Listener::Up { .. }) {
            return Ok(());
        }
        let address = self.address(id)?;
        // The new socket is bound while the old one still keeps the port.
        let (socket, _) = bind(address.port())?;
        *listener = Listener::start(socket, address, id, &self.shared, &self.stop)?;
        self.shared.change(|cluster| cluster.start(id, address));
        Ok(())
    }

    /// Starts a broker that was stopped at another port, which it returns. The old one is refused from now on, or given away.
    pub async fn start_broker_elsewhere(&self, id: i32) -> Result<SocketAddr, DevBrokerError> {
        let mut listeners = self.listeners.lock().await;
        let listener = listeners.get_mut(&id).ok_or(DevBrokerError::NoBroker(id))?;
        if matches!(listener, Listener::Up { .. }) {
            return self.address(id);
        }
        // While the old socket is bound, the new one gets another port.
        let (socket, address) = bind(0)?;
        *listener = Listener::start(socket, address, id, &self.shared, &self.stop)?;
        self.shared.change(|cluster| cluster.start(id, address));
        Ok(address)
    }

    /// Closes a broker's connections and keeps the broker up.
    pub async fn drop_connections(&self, id: i32) -> Result<(), DevBrokerError> {
        match self.listeners.lock().await.get(&id).ok_or(DevBrokerError::NoBroker(id))? {
            Listener::Up { drop_connections, .. } => {
                drop_connections.send_replace(());
            }
            Listener::Down { .. } => {}
        }
        Ok(())
    }

    /// Where a broker listens, or did.
    pub fn address(&self, id: i32) -> Result<SocketAddr, DevBrokerError> {
        let address = self.shared.with(|cluster| cluster.nodes.get(&id).map(|node| node.address));
        address.ok_or(DevBrokerError::NoBroker(id))
    }

    /// The addresses of all brokers, up or not, as `bootstrap_servers` takes them.
    pub fn bootstrap_servers(&self) -> Vec<String> {
        self.shared.with(|cluster| cluster.nodes.values().map(|node| node.address.to_string()).collect())
    }
}

#[cfg(test)]
mod tests;
