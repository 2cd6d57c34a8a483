//! What the cluster looks like: asks brokers for metadata and publishes it as numbered [`Snapshot`]s.
//!
//! One task ([`MetadataTask::run`]) with one connection, to any broker that answers. It asks when a topic is new, when somebody says that
//! what he knows is out of date ([`Cluster::refresh`]), every `metadata_max_age`, and, with backoff, for as long as a topic is
//! unknown or without a leader. It only asks about topics that clients have named.
//!
//! It does not decide what follows from a snapshot: that is the supervisor's (`broker`) and the placer's (`route`).

pub mod dial;
pub mod snapshot;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::backoff::Backoff;
use crate::config::{Config, HostPort};
use crate::queue::partition::Partition;
use crate::queue::topic::{Topic, Topics};
use crate::wire::WireError;
use crate::wire::api::{ApiKey, metadata};
use crate::wire::codes;
use crate::wire::connection::ConnectionError;
use dial::{BrokerConnection, Dialer};
use snapshot::{Hint, Snapshot};

/// Hints that wait to be looked at. One that finds no room is dropped: the refresh that goes with it brings the same.
const HINTS_MAX: usize = 1024;

/// Why a broker gave no metadata.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("it offers no version of Metadata that forebay speaks; Kafka 1.0 or later is needed")]
    Version,
    #[error("no answer within {0:?} (kafka.request_timeout)")]
    Timeout(Duration),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// The rest of the daemon's view of the metadata task.
#[derive(Clone, Debug)]
pub struct Cluster {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    wanted: Arc<Notify>,
    hints: mpsc::Sender<Hint>,
}

impl Cluster {
    /// Follows the snapshots.
    pub fn follow(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// The latest snapshot.
    pub fn now(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// Something that is known is out of date: ask soon. Many calls make one request.
    pub fn refresh(&self) {
        self.wanted.notify_one();
    }

    /// A broker has said who leads a partition now.
    pub fn hint(&self, hint: Hint) {
        // Full: the refresh that accompanies every hint will say the same.
        let _ = self.hints.try_send(hint);
    }
}

#[cfg(test)]
impl Cluster {
    /// One of which nothing new is ever known.
    pub(crate) fn that_stays(snapshot: Snapshot) -> Self {
        let snapshots = watch::channel(Arc::new(snapshot)).1;
        Cluster { snapshots, wanted: Arc::default(), hints: mpsc::channel(HINTS_MAX).0 }
    }
}

/// The task, not yet running.
pub struct MetadataTask {
    config: Arc<Config>,
    topics: Arc<Topics>,
    dialer: Dialer,
    random: fastrand::Rng,
    snapshots: watch::Sender<Arc<Snapshot>>,
    wanted: Arc<Notify>,
    hints: mpsc::Receiver<Hint>,
    connection: Option<(HostPort, BrokerConnection)>,
}

/// A metadata task and the handle to it.
pub fn metadata_task(
    config: Arc<Config>,
    topics: Arc<Topics>,
    dialer: Dialer,
    random: fastrand::Rng,
) -> (MetadataTask, Cluster) {
    let (snapshots, follow) = watch::channel(Arc::new(Snapshot::default()));
    let (hints, hinted) = mpsc::channel(HINTS_MAX);
    let wanted = Arc::new(Notify::new());
    let cluster = Cluster { snapshots: follow, wanted: wanted.clone(), hints };
    let task = MetadataTask { config, topics, dialer, random, snapshots, wanted, hints: hinted, connection: None };
    (task, cluster)
}

impl MetadataTask {
    /// Believes only brokers of this cluster.
    pub fn of_cluster(self, cluster_id: &str) -> Self {
        self.snapshots.send_modify(|known| {
            *known = Arc::new(Snapshot { cluster_id: Some(cluster_id.to_owned()), ..Snapshot::clone(known) });
        });
        self
    }

    /// Runs until `stop`. Nothing is lost if it is dropped at any point.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.topics.follow();
        let backoff = Backoff { first: self.config.kafka.retry_backoff, max: self.config.kafka.retry_backoff_max };
        let mut restless = 0u32;
        loop {
            changes.mark_unchanged();
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                asked = self.ask() => asked,
            };
            let settled = asked && self.is_settled();
            restless = if settled { 0 } else { restless.saturating_add(1) };
            let now = Instant::now();
            // No two requests follow each other at once, however many want one; a new topic waits for the shortest time only.
            let earliest = now + backoff.delay(restless.max(1), &mut self.random);
            let latest = if settled { now + self.config.kafka.metadata_max_age } else { earliest };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                is_new = self.wait(&mut changes, latest) => {
                    let earliest = if is_new { earliest.min(now + backoff.first) } else { earliest };
                    self.wait_out(earliest, &stop).await;
                }
            }
        }
    }

    async fn wait_out(&self, earliest: Instant, stop: &CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = sleep_until(earliest) => {}
        }
    }

    /// Until somebody wants news, or `latest`. Hints are taken meanwhile. True if topics are new.
    async fn wait(&mut self, changes: &mut watch::Receiver<u64>, latest: Instant) -> bool {
        let mut hints = Vec::new();
        loop {
            tokio::select! {
                biased;
                Ok(()) = changes.changed() => return true,
                () = self.wanted.notified() => return false,
                1.. = self.hints.recv_many(&mut hints, HINTS_MAX) => self.take_hints(&mut hints),
                () = sleep_until(latest) => return false,
            }
        }
    }

    fn take_hints(&mut self, hints: &mut Vec<Hint>) {
        let next = self.snapshots.borrow().with_hints(hints);
        if let Some(next) = next {
            debug!(hints = hints.len(), "brokers name new leaders");
            self.snapshots.send_replace(Arc::new(next));
        }
        hints.clear();
    }

    /// Every topic that clients have named is there, each of its partitions has a leader that can be reached, and nothing is held
    /// for partitions that are gone.
    fn is_settled(&self) -> bool {
        let snapshot = self.snapshots.borrow();
        self.topics.all().iter().all(|topic| {
            snapshot.topics.get(&topic.info().name).is_some_and(|state| {
                let reachable = |id: i32| snapshot.brokers.contains_key(&id);
                !state.leaders.is_empty() && state.leaders.iter().all(|l| l.broker.is_some_and(reachable))
            }) && !holds_for_the_missing(topic, &snapshot)
        })
    }

    /// Asks brokers one after the other until one answers. False if none did.
    async fn ask(&mut self) -> bool {
        if let Some((address, connection)) = self.connection.take()
            && self.ask_one(address, connection).await
        {
            return true;
        }
        for address in self.candidates() {
            match self.dialer.dial(&address).await {
                Ok(connection) => {
                    if self.ask_one(address, connection).await {
                        return true;
                    }
                }
                Err(cause) => warn!(error = %cause, "broker cannot be asked for metadata"),
            }
        }
        false
    }

    /// Known brokers in random order, then the bootstrap list, each once.
    fn candidates(&mut self) -> Vec<HostPort> {
        let mut known: Vec<HostPort> = self.snapshots.borrow().brokers.values().cloned().collect();
        self.random.shuffle(&mut known);
        known.extend(self.config.kafka.bootstrap_servers.iter().cloned());
        let mut seen = HashSet::new();
        known.retain(|address| seen.insert(address.clone()));
        known
    }

    async fn ask_one(&mut self, address: HostPort, mut connection: BrokerConnection) -> bool {
        let within = self.config.kafka.request_timeout;
        match self.exchange(&mut connection, within).await {
            Ok(answer) => {
                if !self.learn(&address, &answer) {
                    return false;
                }
                self.connection = Some((address, connection));
                true
            }
            Err(cause) => {
                warn!(broker = %address, error = %cause, "metadata request failed");
                false
            }
        }
    }

    async fn exchange(
        &self,
        connection: &mut BrokerConnection,
        within: Duration,
    ) -> Result<metadata::Metadata, AskError> {
        let version = connection.versions().pick(ApiKey::Metadata, metadata::VERSIONS).ok_or(AskError::Version)?;
        let topics = self.topics.all();
        let names: Vec<&str> = topics.iter().map(|topic| &*topic.info().name).collect();
        let correlation_id = connection.next_correlation_id();
        let create = self.config.kafka.allow_auto_create_topics;
        let frame = metadata::encode(version, correlation_id, &self.config.kafka.client_id, Some(&names), create)?;
        let body = timeout(within, connection.call(frame)).await.map_err(|_| AskError::Timeout(within))??;
        Ok(metadata::decode(version, body)?)
    }

    /// Publishes what a broker has said. False if it is not to be believed.
    fn learn(&mut self, address: &HostPort, answer: &metadata::Metadata) -> bool {
        if answer.error_code != codes::NONE {
            warn!(broker = %address, code = answer.error_code, name = codes::name(answer.error_code), "metadata refused");
            return false;
        }
        let known = self.snapshots.borrow().clone();
        if let (Some(known), Some(says)) = (&known.cluster_id, &answer.cluster_id)
            && known != says
        {
            error!(broker = %address, cluster = %known, says = %says, "broker belongs to another cluster and is not believed; mend kafka.bootstrap_servers");
            return false;
        }
        if known.as_of.is_none() {
            info!(broker = %address, cluster = answer.cluster_id.as_deref().unwrap_or("unnamed"), brokers = answer.brokers.len(), "cluster found");
        }
        self.snapshots.send_replace(Arc::new(known.after(answer, Instant::now())));
        true
    }
}

/// Whether records wait in partitions that the cluster no longer has.
fn holds_for_the_missing(topic: &Topic, snapshot: &Snapshot) -> bool {
    let lacks = |partition: &Arc<Partition>| snapshot.lacks(&topic.info().name, partition.id());
    let partitions = topic.partitions();
    partitions.iter().flat_map(|all| all.iter()).any(|partition| lacks(partition) && partition.held_records() > 0)
}
