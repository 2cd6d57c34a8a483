//! A Kafka cluster, simulated: several brokers, each with its own replicas and its own, perhaps outdated, view of who leads.
//!
//! [`controller`] knows who leads and who is in sync, and tells the brokers, each some time later. [`replication`] has followers
//! copy from leaders, which moves high watermarks, and leaders drop laggards. [`append`] is the leader's side of Produce,
//! [`inquiries`] what else a client may ask a leader. [`server`] is a connection to a broker. [`controls`] is what a test may do
//! to all of it. Each rule names the place in Kafka that it is taken from.
//!
//! All state lies behind one lock; what has to happen later lies in [`events`], carried out by one task.

pub mod append;
pub mod controller;
pub mod controls;
pub mod events;
pub mod inquiries;
pub mod producers;
pub mod replica;
pub mod replication;
pub mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::network::Wire;
use crate::trace::Trace;
use controller::Topic;
use events::Events;
use replica::{Entry, Replica};

/// A partition of one incarnation of a topic.
pub type Key = (Uuid, i32);

/// What a cluster is like, for the whole of a schedule.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many brokers: 1, 2, ...
    pub brokers: i32,
    /// The longest that bytes are under way while nothing is wrong.
    pub latency: Duration,
    /// The longest until a broker learns of an election.
    pub learning: Duration,
    /// The longest until a follower fetches.
    pub fetching: Duration,
    /// `replica.lag.time.max.ms`.
    pub lag_max: Duration,
    /// `producer.id.expiration.ms`.
    pub expiry: Duration,
    /// How often producers are swept; 0 is never. (`producer.id.expiration.check.interval.ms`)
    pub sweeping: Duration,
    /// The newest versions of Produce and Metadata.
    pub versions: (i16, i16),
    /// The client may describe producers and fetch.
    pub read: bool,
    /// `unclean.leader.election.enable`.
    pub unclean: bool,
}

/// What a topic allows now.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `max.message.bytes`.
    pub message_bytes_max: usize,
    /// `min.insync.replicas`.
    pub in_sync_min: usize,
    /// The client may write.
    pub authorised: bool,
    /// An interceptor refuses records that begin with [`append::POISON`].
    pub refuses_poison: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { message_bytes_max: 1 << 20, in_sync_min: 1, authorised: true, refuses_poison: false }
    }
}

/// A code that the next batches of a broker are answered with, and whether they are appended all the same.
#[derive(Clone, Copy, Debug)]
pub struct Ordered {
    pub code: i16,
    pub appended: bool,
    pub left: u32,
}

/// A broker.
pub struct Broker {
    pub is_up: bool,
    /// The controller counts on it.
    pub is_registered: bool,
    /// Where it is reached.
    pub port: u16,
    /// Ends all that this life of it does.
    pub life: CancellationToken,
    /// What it has learnt of the controller's topics.
    pub image: BTreeMap<Arc<str>, Topic>,
    pub replicas: BTreeMap<Key, Replica>,
    /// Its followers do not fetch before.
    pub stalled_until: tokio::time::Instant,
    /// Produce answers ask to be left alone for so long.
    pub throttle: Duration,
    /// See [`Ordered`].
    pub ordered: Option<Ordered>,
    /// It has a block of producer ids.
    pub has_ids: bool,
}

/// Everything.
pub struct State {
    pub settings: Settings,
    pub random: fastrand::Rng,
    pub trace: Trace,
    pub brokers: BTreeMap<i32, Broker>,
    /// The controller's.
    pub topics: BTreeMap<Arc<str>, Topic>,
    pub rules: BTreeMap<Arc<str>, Rules>,
    /// The most partitions that topics of a name ever had.
    pub most_partitions: BTreeMap<Arc<str>, usize>,
    /// The logs of topics that are gone, as far as they were committed.
    pub graves: BTreeMap<Key, Vec<Entry>>,
    /// Records that were committed, and that an unclean election took.
    pub lost: BTreeSet<u32>,
    /// Partitions where that has happened.
    pub unclean: BTreeSet<Key>,
    /// Connections: to which broker, and the wire.
    pub wires: Vec<(i32, Wire)>,
    /// Ports that are answered by silence.
    pub silent_ports: BTreeSet<u16>,
    pub events: Events,
    next_producer_id: i64,
    topics_made: u128,
    ports_used: u16,
    changes: Arc<Notify>,
}

/// A handle to the cluster.
#[derive(Clone)]
pub struct Kafka {
    state: Arc<Mutex<State>>,
    /// Rings when something that an answer may wait for has changed.
    pub changes: Arc<Notify>,
}

impl Kafka {
    /// Brokers without topics. [`Kafka::run`] must run.
    pub fn new(settings: Settings, random: fastrand::Rng, trace: Trace) -> Self {
        let changes = Arc::new(Notify::new());
        let mut state = State {
            brokers: BTreeMap::new(),
            settings,
            random,
            trace,
            topics: BTreeMap::new(),
            rules: BTreeMap::new(),
            most_partitions: BTreeMap::new(),
            graves: BTreeMap::new(),
            lost: BTreeSet::new(),
            unclean: BTreeSet::new(),
            wires: Vec::new(),
            silent_ports: BTreeSet::new(),
            events: Events::default(),
            next_producer_id: 1000,
            topics_made: 0,
            ports_used: controls::BOOTSTRAP_PORT,
            changes: changes.clone(),
        };
        for id in 1..=state.settings.brokers {
            let broker = Broker {
                is_up: true,
                is_registered: true,
                port: state.new_port(),
                life: CancellationToken::new(),
                image: BTreeMap::new(),
                replicas: BTreeMap::new(),
                stalled_until: tokio::time::Instant::now(),
                throttle: Duration::ZERO,
                ordered: None,
                has_ids: false,
            };
            state.brokers.insert(id, broker);
            state.sweep_later(id);
        }
        Kafka { state: Arc::new(Mutex::new(state)), changes }
    }

    /// The state, locked: never over an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Carries out what is due, for as long as it is polled.
    pub async fn run(self) {
        loop {
            let (next, bell) = {
                let mut state = self.state();
                while let Some(event) = state.events.take_due() {
                    state.carry_out(event);
                }
                (state.events.next(), state.events.bell())
            };
            let timer = async {
                match next {
                    Some(moment) => tokio::time::sleep_until(moment).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = bell.notified() => {}
                () = timer => {}
            }
        }
    }
}

impl State {
    /// A duration up to `longest`, at random.
    pub fn within(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.random.f64())
    }

    /// The brokers that can be talked to, in order.
    pub fn up(&self) -> Vec<i32> {
        self.brokers.iter().filter(|(_, broker)| broker.is_up).map(|(id, _)| *id).collect()
    }

    /// What a topic allows now.
    pub fn rules(&self, topic: &str) -> Rules {
        self.rules.get(topic).copied().unwrap_or_default()
    }

    /// An address that nobody has had.
    pub fn new_port(&mut self) -> u16 {
        self.ports_used += 1;
        self.ports_used
    }

    /// Something that an answer may wait for has changed.
    fn changed(&self) {
        self.changes.notify_waiters();
    }

    fn sweep_later(&mut self, broker: i32) {
        let pause = self.settings.sweeping;
        if !pause.is_zero() {
            let jitter = self.within(pause);
            self.events.add(pause + jitter, events::Event::Sweep { broker });
        }
    }
}
