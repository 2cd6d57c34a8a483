//! What `forebay status` shows, put together from the parts.

use std::sync::Arc;

use tokio::time::Instant;

use crate::admin::status::{self, Status};
use crate::cluster::Cluster;
use crate::ingest;
use crate::queue::ledger::Ledger;
use crate::queue::partition::Partition;
use crate::queue::topic::Topic;
use crate::route::Router;
use crate::wire::codes;

/// Looks at the running parts.
pub struct View {
    router: Arc<Router>,
    ledger: Arc<Ledger>,
    cluster: Cluster,
    counters: Arc<ingest::Counters>,
    started: Instant,
}

impl View {
    /// Counts the uptime from now.
    pub fn new(router: Arc<Router>, ledger: Arc<Ledger>, cluster: Cluster, counters: Arc<ingest::Counters>) -> Self {
        View { router, ledger, cluster, counters, started: Instant::now() }
    }
}

/// Records of `topic` that are held: those whose partitions are not known, and those in its partitions.
pub fn held_records(topic: &Topic) -> u64 {
    let partitions = topic.partitions();
    let windows = partitions.iter().flat_map(|partitions| partitions.iter());
    topic.held_records() + windows.map(|partition| partition.held_records()).sum::<u64>()
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
            self.router.topics().all().iter().map(|topic| topic_status(topic)).collect();
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
            ledger: self.ledger.balance().into(),
            connections: self.counters.by_name(),
            topics,
        }
    }
}

fn topic_status(topic: &Topic) -> status::Topic {
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
    status::Topic {
        name: topic.info().name.to_string(),
        partitions: partitions().count() as u64,
        held_records: held_records(topic),
        late: partitions().filter(|partition| partition.is_apart()).map(|partition| partition.id()).collect(),
        without_leader: partitions().filter(|partition| !partition.has_leader()).count() as u64,
        parked: partitions().filter_map(parked).collect(),
    }
}
