//! What `forebay status` shows, put together from the parts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::now;
use crate::admin::status::{self, Status};
use crate::cluster::Cluster;
use crate::cluster::snapshot::Snapshot;
use crate::ingest;
use crate::queue::ledger::Ledger;
use crate::queue::partition::Partition;
use crate::queue::topic::Topic;
use crate::queue::window::Listing;
use crate::route::Router;
use crate::store::dead_letters::DeadLetters;
use crate::store::{Figures, Health, Shared};
use crate::wire::codes;

/// Looks at the running parts.
pub struct View {
    router: Arc<Router>,
    ledger: Arc<Ledger>,
    cluster: Cluster,
    counters: Arc<ingest::Counters>,
    started: Instant,
    store: Option<Arc<Shared>>,
    dead_letters: Option<DeadLetters>,
}

impl View {
    /// Counts the uptime from now.
    pub fn new(
        router: Arc<Router>,
        ledger: Arc<Ledger>,
        cluster: Cluster,
        counters: Arc<ingest::Counters>,
        store: Option<Arc<Shared>>,
        dead_letters: Option<DeadLetters>,
    ) -> Self {
        View { router, ledger, cluster, counters, started: Instant::now(), store, dead_letters }
    }
}

/// Records of `topic` that are held: those whose partitions are not known, and those in its partitions.
pub fn held_records(topic: &Topic) -> u64 {
    let partitions = topic.partitions();
    let windows = partitions.iter().flat_map(|partitions| partitions.iter());
    topic.held_records() + windows.map(|partition| partition.held_records()).sum::<u64>()
}

/// Of those, the ones that are not in the log.
pub fn held_in_memory_only(topic: &Topic) -> u64 {
    let partitions = topic.partitions();
    let partitions = partitions.iter().flat_map(|partitions| partitions.iter());
    topic.held_records() + partitions.map(|partition| partition.records_in_memory_only()).sum::<u64>()
}

impl View {
    /// The daemon now, in a line.
    pub fn line(&self) -> String {
        let held = self.ledger.balance().held;
        let snapshot = self.cluster.now();
        match (snapshot.as_of, snapshot.brokers.len()) {
            (None, _) => format!("{held} records held, Kafka not reached yet"),
            (Some(_), 1) => format!("{held} records held, 1 broker"),
            (Some(_), brokers) => format!("{held} records held, {brokers} brokers"),
        }
    }

    /// The daemon now. The figures are read one after the other, so those of a busy daemon are not of one instant; the ledger's
    /// balance.
    pub fn status(&self) -> Status {
        let snapshot = self.cluster.now();
        let budget = self.router.budget();
        let brokers = snapshot.brokers.iter();
        let mut topics: Vec<status::Topic> =
            self.router.topics().all().iter().map(|topic| topic_status(topic, &snapshot)).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            cluster: status::Cluster {
                id: snapshot.cluster_id.clone(),
                brokers: brokers.map(|(id, at)| status::Broker { id: *id, address: at.to_string() }).collect(),
                as_of_seconds: snapshot.as_of.map(|at| at.elapsed().as_secs()),
            },
            memory: status::Memory { used_bytes: budget.used() as u64, limit_bytes: budget.limit() as u64 },
            backlog: self.store.as_ref().map(|store| backlog_status(&store.figures())),
            dead_letters: self.dead_letters.as_ref().map(|letters| {
                let waiting = letters.waiting();
                let message = waiting.trouble.as_deref().unwrap_or_default().to_owned();
                status::DeadLetters { waiting_records: waiting.records, message }
            }),
            ledger: self.ledger.balance().into(),
            connections: self.counters.by_name(),
            topics,
        }
    }
}

fn backlog_status(figures: &Figures) -> status::Backlog {
    let (state, message) = match &figures.health {
        Health::Well => ("well", String::new()),
        Health::Full(words) => ("full", words.clone()),
        Health::Failing(words) => ("failing", words.clone()),
    };
    let ledger = &figures.ledger;
    status::Backlog {
        state: state.to_owned(),
        message,
        used_bytes: figures.used_bytes,
        limit_bytes: figures.limit_bytes,
        held_records: ledger.held(),
        oldest_seconds: figures.oldest_stored_at.map(|at| now().saturating_sub(at).max(0).unsigned_abs() / 1000),
        full_in_seconds: figures.full_in.map(|time| time.as_secs()),
        accepted: ledger.accepted,
        delivered: ledger.delivered,
        dead_lettered: ledger.dead,
        dropped: ledger.dropped.values().sum(),
        possible_duplicates: ledger.possible_duplicates,
    }
}

fn topic_status(topic: &Topic, snapshot: &Snapshot) -> status::Topic {
    let partitions = topic.partitions();
    let partitions = || partitions.iter().flat_map(|partitions| partitions.iter());
    let parked = |partition: &Arc<Partition>| {
        let window = partition.window();
        let parked = window.flight.as_ref()?.parked.as_ref()?;
        Some(status::Parked {
            partition: partition.id(),
            code: parked.code,
            name: codes::name(parked.code).to_owned(),
            message: parked.message.clone().unwrap_or_default(),
        })
    };
    let name = &topic.info().name;
    let missing = |partition: &&Arc<Partition>| snapshot.lacks(name, partition.id()) && partition.held_records() > 0;
    let is_held_back = |partition: &&Arc<Partition>| matches!(partition.window().listing, Listing::Paced(_));
    let has_spilled = |partition: &&Arc<Partition>| {
        topic.info().overflows() && partition.stored().is_some_and(|stored| stored.is_on())
    };
    status::Topic {
        name: name.to_string(),
        partitions: partitions().count() as u64,
        held_records: held_records(topic),
        late: partitions().filter(|partition| partition.is_apart()).map(|partition| partition.id()).collect(),
        held_back: partitions().filter(is_held_back).map(|partition| partition.id()).collect(),
        missing: partitions().filter(missing).map(|partition| partition.id()).collect(),
        without_leader: partitions().filter(|partition| !partition.has_leader()).count() as u64,
        parked: partitions().filter_map(parked).collect(),
        stored: partitions().filter(has_spilled).map(|partition| partition.id()).collect(),
        spilled_records: topic.info().spilled.records.load(Ordering::Relaxed),
        spilled_bytes: topic.info().spilled.bytes.load(Ordering::Relaxed),
    }
}
