//! Wires the log into the daemon: what stored topics are given goes to the log first, and comes back from it when memory is short.
//!
//! ```text
//!  push ─► inbox ─► append ─► durable ─► answers acks=1
//!                      │
//!                      ├─► the partition's ready side, while memory has room
//!                      └─► in the log only ─► read ─► the ready side, when it has room again
//! ```
//!
//! `append` runs on the log's own thread and is all that touches the log; `read` is a thread that reads runs back; [`Shared`] is what they and the
//! daemon's tasks have in common. What was appended becomes ready before it is durable: a batch's first byte waits for its Sent, and that stands
//! behind the batch's records in the same log.
//!
//! What always holds: a partition's records are appended in the order in which they were pushed, and become ready in the order of their indexes;
//! acks=1 is answered when the sync that covers the record has succeeded; nothing is taken out of memory that the log does not have; what
//! only the log has is read when its partition has a leader and its ready side has room.

mod append;
pub mod content;
pub mod dead_letters;
mod durable;
mod health;
mod notes;
mod outlook;
mod overflow;
mod read;
mod restore;
mod spill;
mod unspill;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backlog::log::engine::Log;
use crate::backlog::log::error::LogError;
use crate::backlog::log::options::Options;
use crate::backlog::log::recovery::Damage;
use crate::backlog::log::state::Ledger as LogLedger;
use crate::backlog::log::storage::Storage;
use crate::backlog::log::storage::real::RealStorage;
use crate::backlog::log::thread::{LogThread, SyncPolicy};
use crate::config::Backlog;
use crate::queue::budget::Budget;
use crate::queue::ledger::Ledger;
use crate::queue::partition::Partition;
use crate::queue::stored::LogInbox;
use crate::record::TimestampMs;
use crate::sampler::Sampler;

pub use restore::{Parts, restore};

use append::Appender;
use durable::Waiting;

/// How the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It takes what it is given.
    #[default]
    Well,
    /// It has no room for records; it goes on by itself when Kafka has taken some. In words.
    Full(String),
    /// The disk fails; it is tried again every second. In words, with what to do.
    Failing(String),
}

/// The log at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How it is.
    pub health: Health,
    /// Bytes of its files.
    pub used_bytes: u64,
    /// How many there may be.
    pub limit_bytes: u64,
    /// How long until it is full if it goes on like in the last minute; `None` while it does not grow.
    pub full_in: Option<Duration>,
    /// When the oldest record that it holds was stored, about.
    pub oldest_stored_at: Option<TimestampMs>,
    /// What became of all that it was ever given.
    pub ledger: LogLedger,
}

/// What the log's threads and the daemon's tasks have in common.
#[derive(Debug)]
pub struct Shared {
    inbox: Arc<LogInbox>,
    budget: Arc<Budget>,
    ledger: Arc<Ledger>,
    clock: fn() -> TimestampMs,
    waiting: Mutex<Waiting>,
    figures: Mutex<Figures>,
    /// While the disk fails: since when, and how much memory was taken then.
    failing: Mutex<Option<(Instant, usize)>>,
    /// The cluster that the log is for, once it is known.
    cluster_id: Mutex<Option<String>>,
    /// Partitions that could not be read.
    resting: Mutex<Vec<Arc<Partition>>>,
    /// Bytes that are being read.
    reading_bytes: AtomicUsize,
    /// Segments that were freed when the log was found full; `u64::MAX`: it was not.
    full_at: AtomicU64,
    /// Some partitions wait for memory to be read back into.
    is_hungry: AtomicBool,
    /// Some partitions wait to be turned on.
    has_unspilled: AtomicBool,
    /// Some have been.
    has_spilled: AtomicBool,
    /// It is to be looked whether these can be turned off.
    is_look_due: AtomicBool,
    /// What is in memory is to be stored, and not to go back there.
    is_stopping: AtomicBool,
    is_probe_due: AtomicBool,
    said: Sampler,
}

/// The running log.
#[derive(Debug)]
pub struct Store<S: Storage> {
    shared: Arc<Shared>,
    log: LogThread<S>,
    reader: JoinHandle<()>,
}

/// What is gathered for the disk takes no more than this part of memory beside it.
const UNSYNCED_SHARE: usize = 16;

/// Opens the log in `directory`, which must exist and be the one of `config`; proves that it can be used. Blocks. `memory` is the limit of the budget
/// that it works beside.
///
/// # Errors
/// If another process has it, it cannot be read or written, or a later version wrote it.
pub fn open(
    directory: &Path,
    config: &Backlog,
    memory: usize,
    seed: u64,
) -> Result<(Log<RealStorage>, Damage), LogError> {
    let options = Options::with_limit(config.limit);
    let unsynced_bytes_max = options.unsynced_bytes_max.min((memory / UNSYNCED_SHARE).max(options.write_bytes * 2));
    let options = Options { free_space_floor_bytes: config.min_free_space, unsynced_bytes_max, ..options };
    let (log, damage) = Log::open(RealStorage::new(PathBuf::from(directory)), options, seed)?;
    log.prove(seed)?;
    Ok((log, damage))
}

impl<S: Storage> Store<S> {
    /// Starts the log's threads, which serve `inbox` from now on.
    pub fn start(
        log: Log<S>,
        inbox: Arc<LogInbox>,
        budget: Arc<Budget>,
        ledger: Arc<Ledger>,
        clock: fn() -> TimestampMs,
    ) -> io::Result<Store<S>> {
        let shared = Arc::new(Shared {
            inbox,
            budget,
            ledger,
            clock,
            waiting: Mutex::default(),
            figures: Mutex::default(),
            failing: Mutex::default(),
            cluster_id: Mutex::default(),
            resting: Mutex::default(),
            reading_bytes: AtomicUsize::new(0),
            full_at: AtomicU64::new(u64::MAX),
            is_hungry: AtomicBool::new(false),
            has_unspilled: AtomicBool::new(false),
            has_spilled: AtomicBool::new(false),
            is_look_due: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            is_probe_due: AtomicBool::new(false),
            said: Sampler::default(),
        });
        let (jobs, reader) = read::start(shared.clone())?;
        let appender = Arc::new(Mutex::new(Appender::new(shared.clone(), &log, jobs)));
        // A sync begins when half of what may be unsynced is, so that the other half has room meanwhile.
        let policy = SyncPolicy::default();
        let after_bytes = policy.after_bytes.min(log.options().unsynced_bytes_max / 2);
        let log = LogThread::start(log, SyncPolicy { after_bytes, ..policy })?;
        let (handle, told) = (log.handle(), shared.clone());
        shared.inbox.set_bell(Some(Box::new(move || {
            let (appender, told) = (appender.clone(), told.clone());
            let work = Box::new(move |log: &mut Log<S>| appender.lock().work(log));
            // At most a few are handed over at a time, for the bell rings once until it is attended; after the end nobody looks any more.
            let _ = handle.submit(work, Some(Box::new(move |durable| told.durable(durable))));
        })));
        Ok(Store { shared, log, reader })
    }

    /// For the daemon's tasks.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Appends what was pushed, makes all of it durable, and closes the log. Nothing may be pushed any more. Blocks.
    ///
    /// # Errors
    /// If the disk does not take all of it: [`Shared::figures`] says what the log has.
    pub fn stop(self) -> Result<(), LogError> {
        self.shared.inbox.ring();
        let closed = self.log.stop();
        // With the bell go the appender and its end of the reader's queue, and so the reader.
        self.shared.inbox.set_bell(None);
        // A panic there has been logged; what it was reading is in the log.
        let _ = self.reader.join();
        closed
    }
}

impl Shared {
    /// The log now.
    pub fn figures(&self) -> Figures {
        let mut figures = self.figures.lock().clone();
        if let Health::Failing(words) = &mut figures.health {
            words.push_str("; ");
            words.push_str(&self.outlook());
        }
        figures
    }

    /// The log is for this cluster. It says so once: [`crate::backlog`]'s owner must not give it to another.
    pub fn belongs_to(&self, cluster_id: &str) {
        let mut known = self.cluster_id.lock();
        if known.is_none() {
            *known = Some(cluster_id.to_owned());
            drop(known);
            self.inbox.ring();
        }
    }

    /// To be called every minute: the log proves that its directory can be used.
    pub fn probe(&self) {
        self.is_probe_due.store(true, Ordering::Relaxed);
        self.inbox.ring();
    }

    fn probe_again(&self) {
        self.is_probe_due.store(true, Ordering::Relaxed);
    }

    /// Whether something failed or had no room, and is to be tried again.
    fn wants_retry(&self) -> bool {
        let is_wanted = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        self.figures.lock().health != Health::Well
            || is_wanted(&self.is_hungry)
            || is_wanted(&self.has_unspilled)
            || !self.waiting.lock().is_empty()
            || !self.resting.lock().is_empty()
    }

    /// To be called a few times a second while it says so: tries again what failed or had no room.
    pub fn retry(&self) -> bool {
        let resting = std::mem::take(&mut *self.resting.lock());
        let was_resting = !resting.is_empty();
        for stored in resting.iter().filter_map(|partition| partition.stored()) {
            stored.want_more();
        }
        let is_wanted = self.wants_retry();
        if is_wanted {
            self.full_at.store(u64::MAX, Ordering::Relaxed);
            self.inbox.ring();
        }
        is_wanted || was_resting
    }

    /// Sleeps until there may be something to look after, unless records are held. Cancel safe.
    pub async fn sleep(&self) {
        self.inbox.sleep_unless(|| self.wants_retry() || self.ledger.balance().held > 0).await;
    }
}

#[cfg(test)]
mod tests;
