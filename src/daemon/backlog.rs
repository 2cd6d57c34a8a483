//! The log's part of the daemon: opened before anything else, looked after while it runs, closed last.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
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
/// How often it is looked whether there is anything of the kind.
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
    let (mut log, damage) = store::open(directory, &config.backlog, fastrand::u64(..))?;
    if !damage.gaps.is_empty() || !damage.unreadable_segments.is_empty() {
        let (places, segments) = (damage.gaps.len(), damage.unreadable_segments.len());
        warn!(places, segments, "the backlog is damaged; what was damaged lies in its quarantine/");
    }
    let inbox = Arc::new(LogInbox::default());
    let topics = Arc::new(Topics::with_log(config.clone(), Some(inbox.clone())));
    let parts = store::Parts { config, topics: &topics, budget, ledger };
    let records = store::restore(&mut log, parts)?;
    let cluster_id = String::from_utf8(log.state().cluster_id.clone()).ok().filter(|id| !id.is_empty());
    info!(directory = %directory.display(), records, within = ?started.elapsed(), "backlog opened");
    let store = Store::start(log, inbox, budget.clone(), ledger.clone(), clock)?;
    Ok(Opened { topics, store: Some(store), cluster_id })
}

/// Looks after the log until `stop`: tries again what failed, proves its directory, and tells it the cluster. Cancel safe.
pub(super) async fn look_after(shared: Arc<Shared>, cluster: Cluster, stop: CancellationToken) {
    let mut snapshots = cluster.follow();
    let mut proven = Instant::now();
    loop {
        if let Some(id) = &snapshots.borrow_and_update().cluster_id {
            shared.belongs_to(id);
        }
        if proven.elapsed() >= PROBE {
            proven = Instant::now();
            shared.probe();
        }
        let pause = if shared.retry() { RETRY } else { LOOK };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Ok(()) = snapshots.changed() => {}
            () = sleep(pause) => {}
        }
    }
}
