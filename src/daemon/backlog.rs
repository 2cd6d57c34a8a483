//! The log's part of the daemon: opened before anything else, looked after while it runs, closed last.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Failure;
use crate::backlog::log::storage::real::RealStorage;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::queue::budget::Budget;
use crate::queue::ledger::Ledger;
use crate::queue::stored::LogInbox;
use crate::queue::topic::Topics;
use crate::record::TimestampMs;
use crate::store::{self, Shared, Store};

/// How often what failed or had no room is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How often it is looked, while records are held, whether some must be stored.
const LOOK: Duration = Duration::from_secs(1);
/// How often the directory is proven to be usable.
const PROBE: Duration = Duration::from_secs(60);

/// The topics, and the log that they are stored in, if there is one.
pub(super) struct Opened {
    pub topics: Arc<Topics>,
    pub store: Option<Store<RealStorage>>,
    /// The cluster that the log's records are for, if it knows.
    pub cluster_id: Option<String>,
}

/// Opens the log and restores what it holds. Blocks.
pub(super) fn open(
    config: &Arc<Config>,
    budget: &Arc<Budget>,
    ledger: &Arc<Ledger>,
    clock: fn() -> TimestampMs,
) -> Result<Opened, Failure> {
    let Some(directory) = &config.backlog.directory else {
        warn!("there is no backlog (directory of [backlog]): records are held in memory only, and a crash loses them");
        return Ok(Opened { topics: Arc::new(Topics::new(config.clone())), store: None, cluster_id: None });
    };
    let started = Instant::now();
    let (mut log, damage) = store::open(directory, &config.backlog, config.memory.limit, fastrand::u64(..))?;
    if !damage.gaps.is_empty() || !damage.unreadable_segments.is_empty() {
        let (places, segments) = (damage.gaps.len(), damage.unreadable_segments.len());
        warn!(places, segments, "the backlog is damaged; what was damaged lies in its quarantine/");
    }
    let inbox = Arc::new(LogInbox::new(log.options().frame_bytes_max()));
    let topics = Arc::new(Topics::with_log(config.clone(), Some(inbox.clone())));
    let parts = store::Parts { config, topics: &topics, budget, ledger };
    let records = store::restore(&mut log, parts)?;
    let cluster_id = String::from_utf8(log.state().cluster_id.clone()).ok().filter(|id| !id.is_empty());
    info!(directory = %directory.display(), records, within = ?started.elapsed(), "backlog opened");
    let store = Store::start(log, inbox, budget.clone(), ledger.clone(), clock)?;
    Ok(Opened { topics, store: Some(store), cluster_id })
}

/// Looks after the log until `stop`: tries again what failed, proves its directory, tells it the cluster, and has stored what memory cannot keep. Sleeps
/// while there is nothing of the kind. Cancel safe.
pub(super) async fn look_after(
    shared: Arc<Shared>,
    topics: Arc<Topics>,
    budget: Arc<Budget>,
    cluster: Cluster,
    stop: CancellationToken,
) {
    let mut snapshots = cluster.follow();
    let mut probe = Instant::now() + PROBE;
    let mut look = Some(Instant::now());
    loop {
        if let Some(id) = &snapshots.borrow_and_update().cluster_id {
            shared.belongs_to(id);
        }
        let now = Instant::now();
        if probe <= now {
            probe = now + PROBE;
            shared.probe();
        }
        let is_filling = budget.is_filling();
        if is_filling || look.is_some_and(|look| look <= now) {
            look = shared.look_at_overflow(&topics, now).then(|| now + LOOK);
        }
        let retry = (shared.retry() || is_filling).then(|| now + RETRY);
        let is_at_rest = look.is_none() && retry.is_none();
        let next = [look, retry, Some(probe)].into_iter().flatten().min().unwrap_or(probe);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Ok(()) = snapshots.changed() => {}
            () = budget.rose() => {}
            () = sleep_until(next) => {}
            () = shared.sleep(), if is_at_rest => look = Some(Instant::now() + LOOK),
        }
    }
}
