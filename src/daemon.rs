//! The wiring: the only file that knows every part, and the order in which they start and stop.
//!
//! Start: sockets are bound (so that what is wrong with them is said at once) → backlog → cluster → brokers → ingest → `READY=1`. Kafka need
//! not be there. Stop: ingest closes, what is held in memory only drains for at most `drain_timeout`, or is stored after a moment where its topic's rule
//! says so; the brokers' tasks end, what is stored is made durable, and what is left is counted as dropped and reported. A second signal skips the
//! drain, never the store.
//!
//! A panic in a connection's task closes that connection. A panic in any other task stops the daemon in this same order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::admin::{self, Door};
use crate::backlog::log::error::LogError;
use crate::backlog::log::storage::real::RealStorage;
use crate::broker;
use crate::cluster;
use crate::cluster::dial::Dialer;
use crate::config::Config;
use crate::ingest;
use crate::ingest::activation::HandedOver;
use crate::ingest::bind::{BindError, StreamSocket, stream_socket};
use crate::queue::budget::Budget;
use crate::queue::ledger::{DropReason, Ledger};
use crate::queue::topic::Topics;
use crate::record::TimestampMs;
use crate::route::{Router, placer};
use crate::store::Store;
use crate::store::dead_letters::{self as letters, Accounts};

mod backlog;
mod catalog;
mod dead_letters;
mod notify;
mod open_files;
mod status;

/// How long clients have, at the very end, to take the answers that are left.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How often the drain looks whether anything is left.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// For so long a stop lets Kafka take what topics that overflow hold in memory, before it has that stored.
const STORE_AFTER: Duration = Duration::from_secs(1);

/// How often the service manager is told what is left to drain.
const DRAIN_REPORT: Duration = Duration::from_secs(1);

/// Why the daemon has ended otherwise than in order.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Metrics cannot be offered where they are to be.
    #[error("cannot listen on {address}, metrics_address of [admin]: {error}")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The operating system refuses something that every process may do.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// The backlog cannot be opened.
    #[error(transparent)]
    Backlog(#[from] LogError),
    /// What the backlog was given last may not be on its disk.
    #[error("what was stored last may be lost: {0}")]
    NotStored(LogError),
    /// A task that must run has ended.
    #[error("{0} has failed; this is a defect of forebay")]
    Task(&'static str),
    /// Records were still held in memory at the end.
    #[error("{records} records were not delivered within drain_timeout and are lost: they were held in memory only")]
    NotDelivered {
        /// How many.
        records: u64,
    },
}

impl Failure {
    /// What the process ends with, as in `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Task(_) | Failure::System(_) => 1,
            Failure::Bind(BindError::Activation(_)) => 78,
            Failure::Bind(_) | Failure::Metrics { .. } | Failure::Backlog(_) => 73,
            Failure::NotStored(_) => 74,
            Failure::NotDelivered { .. } => 75,
        }
    }
}

/// Signals that end the daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The parts, running.
struct Parts {
    topics: Arc<Topics>,
    ledger: Arc<Ledger>,
    senders: Arc<broker::Context>,
    /// Writes the dead letters, where there is a backlog.
    graveyard: Option<letters::Thread>,
    view: Arc<status::View>,
    store: Option<Store<RealStorage>>,
    /// The tasks that must run until they are told to stop: their name, if they have failed.
    core: JoinSet<Option<&'static str>>,
    /// Ends ingest's reading.
    closing: CancellationToken,
    /// Ends everything else.
    stop: CancellationToken,
    connections: TaskTracker,
}

/// Runs the daemon until SIGTERM, SIGINT or a failure. `handed_over` are the sockets that systemd has made for it.
pub async fn run(config: Config, handed_over: HandedOver) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let config = Arc::new(config);
    let mut parts = start(&config, handed_over)?;
    notify::ready(&parts.view);
    info!(version = env!("CARGO_PKG_VERSION"), "ready");
    let failed = tokio::select! {
        signal = signals.next() => {
            info!(signal, "stopping");
            None
        }
        failed = parts.core.join_next() => Some(name_of(failed)),
    };
    let outcome = parts.stop(config.daemon.drain_timeout, &mut signals).await;
    match failed {
        Some(task) => Err(Failure::Task(task)),
        None => outcome,
    }
}

fn start(config: &Arc<Config>, handed_over: HandedOver) -> Result<Parts, Failure> {
    open_files::raise_limit(config);
    let listeners = ingest::bind_all(&config.listeners, handed_over)?;
    let admin_socket = stream_socket(&config.admin.socket)?;
    let metrics = config.admin.metrics_address.map(metrics_listener).transpose()?;

    let mut random = fastrand::Rng::new();
    let budget = Arc::new(Budget::new(config.memory.limit));
    let ledger = Arc::new(Ledger::default());
    let backlog::Opened { topics, store, cluster_id } = backlog::open(config, &budget, &ledger, now)?;
    let router = Router::new(topics.clone(), budget.clone(), ledger.clone());
    let kafka = &config.kafka;
    let dialer = Dialer::tcp(&kafka.client_id, kafka.socket_connection_setup_timeout);
    let (metadata, cluster) = cluster::metadata_task(config.clone(), topics.clone(), dialer.clone(), random.fork());
    // What is stored for one cluster must not go to another.
    let metadata = match &cluster_id {
        Some(id) => metadata.of_cluster(id),
        None => metadata,
    };
    let senders = broker::Context::new(
        config.clone(),
        topics.clone(),
        budget.clone(),
        ledger.clone(),
        cluster.clone(),
        dialer,
        broker::Clocks { wall: now, since_boot },
    );
    let counters = Arc::new(ingest::Counters::default());
    let (dead_letters, graveyard) = match &config.backlog.directory {
        Some(directory) => {
            let accounts = Accounts { ledger: ledger.clone(), budget: budget.clone(), clock: now };
            let (dead_letters, thread) = dead_letters::open(directory, &config.backlog, accounts)?;
            senders.keep_dead_letters(dead_letters.clone());
            (Some(dead_letters), Some(thread))
        }
        None => (None, None),
    };

    let (closing, stop) = (CancellationToken::new(), CancellationToken::new());
    let mut core = JoinSet::new();
    spawn(&mut core, "the metadata task", metadata.run(stop.clone()));
    spawn(&mut core, "the placer", placer::run(router.clone(), cluster.clone(), random.fork(), stop.clone()));
    let supervised = broker::supervise(senders.clone(), random.fork(), stop.clone());
    core.spawn(async move {
        supervised.await.err().map(|cause| {
            error!(error = %cause, "broker task failed");
            "the supervisor of the brokers"
        })
    });
    if let Some(directory) = &config.backlog.directory {
        let keeper = catalog::open(directory, config, cluster_id.as_deref(), &topics);
        spawn(&mut core, "the keeper of the catalog", keeper.run(cluster.clone(), stop.clone()));
    }
    if let Some(store) = &store {
        let looked_after =
            backlog::look_after(store.shared().clone(), topics.clone(), budget.clone(), cluster.clone(), stop.clone());
        spawn(&mut core, "the backlog's keeper", looked_after);
    }
    if let Some(thread) = &graveyard {
        let (ended, stop) = (thread.ended(), stop.clone());
        core.spawn(async move { stop.run_until_cancelled(ended).await.map(|()| "the dead letters' thread") });
    }
    let shared = store.as_ref().map(|store| store.shared().clone());
    let view = Arc::new(status::View::new(
        router.clone(),
        ledger.clone(),
        cluster,
        counters.clone(),
        shared,
        dead_letters.clone(),
    ));
    let fed = notify::feed_watchdog(view.clone(), closing.clone(), stop.clone());
    spawn(&mut core, "the watchdog's feeder", fed);
    let StreamSocket { listener, file } = admin_socket;
    let asked = view.clone();
    let served = admin::serve(Door::Admin(listener), move || asked.status(), dead_letters, stop.clone());
    spawn(&mut core, "the admin socket", async move {
        served.await;
        drop(file);
    });
    if let Some(listener) = metrics {
        let asked = view.clone();
        let served = admin::serve(Door::Public(listener), move || asked.status(), None, stop.clone());
        spawn(&mut core, "the listener for metrics", served);
    }

    let connections = TaskTracker::new();
    let may_reject = config.may_reject();
    for listener in listeners {
        let context = ingest::Context {
            router: router.clone(),
            counters: counters.clone(),
            clock: now,
            may_reject,
            random: random.fork(),
        };
        listener.run(context, closing.clone(), stop.clone(), &connections);
    }
    Ok(Parts { topics, ledger, senders, graveyard, view, store, core, closing, stop, connections })
}

fn metrics_listener(address: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |error| Failure::Metrics { address, error };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map_err(failed)
}

/// Runs `task` as one that must not end before it is told to.
fn spawn(
    core: &mut JoinSet<Option<&'static str>>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let task = tokio::spawn(task);
    core.spawn(async move { task.await.is_err().then_some(name) });
}

fn name_of(ended: Option<Result<Option<&'static str>, tokio::task::JoinError>>) -> &'static str {
    ended.and_then(Result::ok).flatten().unwrap_or("a task that must run")
}

impl Parts {
    async fn stop(mut self, drain_timeout: Duration, signals: &mut Signals) -> Result<(), Failure> {
        self.closing.cancel();
        notify::stopping(&self.view, drain_timeout);
        self.connections.close();
        self.senders.drain();
        let drained = tokio::select! {
            drained = self.drained(Instant::now() + drain_timeout) => drained,
            signal = signals.next() => {
                warn!(signal, "second signal: not waiting for what is held");
                false
            }
        };
        self.stop.cancel();
        while self.core.join_next().await.is_some() {}
        self.store_what_is_left();
        // What they decide goes into the log, too.
        if let Some(thread) = self.graveyard.take() {
            let _ = tokio::task::spawn_blocking(move || thread.stop()).await;
        }
        // No task delivers any more. What waits for the log is stored, and then these figures are final.
        let mut not_stored = None;
        if let Some(store) = self.store.take() {
            match tokio::task::spawn_blocking(move || store.stop()).await {
                Ok(closed) => not_stored = closed.err(),
                Err(_) => return Err(Failure::Task("the backlog's thread")),
            }
        }
        let left = if drained { 0 } else { self.report_what_is_left() };
        self.ledger.drop_records(DropReason::Stopped, left);
        // Those who wait for what was not delivered are told.
        let _ = timeout(LAST_ANSWERS, self.connections.wait()).await;
        let balance = self.ledger.balance();
        info!(
            accepted = balance.accepted,
            delivered = balance.delivered,
            dead_lettered = balance.dead_lettered,
            possible_duplicates = balance.possible_duplicates,
            "stopped"
        );
        match not_stored {
            Some(error) => Err(Failure::NotStored(error)),
            None if left > 0 => Err(Failure::NotDelivered { records: left }),
            None => Ok(()),
        }
    }

    /// Waits until nothing is held in memory only and the clients have their answers. False if `deadline` comes first.
    async fn drained(&self, deadline: Instant) -> bool {
        let mut look = interval(DRAIN_LOOK);
        let mut report = interval(DRAIN_REPORT);
        let store_at = (Instant::now() + STORE_AFTER).min(deadline);
        loop {
            if self.held_in_memory_only() == 0 {
                // A connection that was reading when it was told not to may have taken more: only when all have ended is what is
                // held final. One whose client does not take its answers does not hold up the stop.
                let _ = timeout(LAST_ANSWERS, self.connections.wait()).await;
                if self.held_in_memory_only() == 0 {
                    return true;
                }
            }
            tokio::select! {
                _ = look.tick() => {
                    if store_at <= Instant::now() {
                        self.store_what_is_left();
                    }
                }
                _ = report.tick() => notify::still_stopping(&self.view),
                () = sleep_until(deadline) => return false,
            }
        }
    }

    /// Has stored what topics that overflow hold in memory.
    fn store_what_is_left(&self) {
        if let Some(store) = &self.store {
            store.shared().spill_all(&self.topics);
        }
    }

    /// How many records are held, and a line for each topic that holds some.
    fn report_what_is_left(&self) -> u64 {
        for topic in self.topics.all() {
            let records = status::held_in_memory_only(&topic);
            if records > 0 {
                error!(topic = %topic.info().name, records, "records not delivered");
            }
        }
        self.held_in_memory_only()
    }

    /// Records that a stop loses unless they are delivered before.
    fn held_in_memory_only(&self) -> u64 {
        match self.ledger.balance().held {
            0 => 0,
            held if self.store.is_none() && !self.topics.has_log() => held,
            _ => self.topics.all().iter().map(|topic| status::held_in_memory_only(topic)).sum(),
        }
    }
}

/// The time since the machine was started, suspended or not; where there is no such clock it stands still, and no suspend is noticed.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The wall clock, in Kafka's milliseconds.
fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as TimestampMs)
}
