//! The shell around the engine: one thread appends, another syncs, and many wait for one sync.
//!
//! Work comes in as closures that run on the appending thread with the log in their hands; each may ask to hear when what it appended
//! is durable. While a sync runs, the appending thread goes on; what it appends is in the next one. A sync begins at once when
//! somebody waits, else when enough was appended or enough time has passed.
//!
//! Where syncs are quick, handing one to another thread and back takes about as long as the sync. So the appending thread runs small ones
//! itself while the last was quick: what is handed over meanwhile waits for that, and is in the next sync all the same.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::append::Ticket;
use super::engine::Log;
use super::error::LogError;
use super::storage::{Storage, StorageFile};
use super::sync::{SyncJob, SyncOutcome};

/// At most so much work waits for the appending thread.
const WORK_MAX: usize = 4096;
/// How long after a sync that failed the next is tried, unless something is appended.
const RETRY: Duration = Duration::from_secs(1);
/// A sync of at most so much, that somebody waits for, the appending thread runs itself.
const OWN_SYNC_BYTES: usize = 64 << 10;
/// Unless the last sync took longer.
const OWN_SYNC_TIME: Duration = Duration::from_millis(2);

/// When to sync what nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncPolicy {
    /// When so many bytes are not synced.
    pub after_bytes: usize,
    /// When something has not been synced for so long.
    pub after: Duration,
}

impl Default for SyncPolicy {
    fn default() -> Self {
        SyncPolicy { after_bytes: 8 << 20, after: Duration::from_millis(5) }
    }
}

/// What the appending thread does with the log. It may be called again when a sync was in the way ([`LogError::Busy`]).
pub type Work<S> = Box<dyn FnMut(&mut Log<S>) -> Result<Ticket, LogError> + Send>;
/// Hears, once, that what the work appended is durable, or why it is not (yet): it may become so later.
pub type Durable = Box<dyn FnOnce(Result<Ticket, Arc<LogError>>) + Send>;

/// The two threads. When it is dropped they stop as by [`LogThread::stop`], and nobody hears how.
#[derive(Debug)]
pub struct LogThread<S: Storage> {
    handle: LogHandle<S>,
    appender: Option<JoinHandle<Result<(), LogError>>>,
}

impl<S: Storage> Drop for LogThread<S> {
    fn drop(&mut self) {
        self.handle.shared.inbox.lock().stopping = true;
        self.handle.shared.filled.notify_one();
    }
}

/// Hands work to the appending thread.
#[derive(Debug)]
pub struct LogHandle<S: Storage> {
    shared: Arc<Shared<S>>,
}

impl<S: Storage> Clone for LogHandle<S> {
    fn clone(&self) -> Self {
        LogHandle { shared: Arc::clone(&self.shared) }
    }
}

/// The log has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log has stopped")]
pub struct Stopped;

struct Shared<S: Storage> {
    inbox: Mutex<Inbox<S>>,
    /// The inbox has work, an outcome, or the order to stop.
    filled: Condvar,
    /// The inbox has room again.
    emptied: Condvar,
    /// A job for the syncing thread.
    job: Mutex<Job<S>>,
    job_given: Condvar,
}

impl<S: Storage> std::fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Work in the order in which it was handed over, and who waits for what it appends.
type Handed<S> = VecDeque<(Work<S>, Option<Durable>)>;

struct Inbox<S: Storage> {
    work: Handed<S>,
    /// And how long the sync took.
    outcome: Option<(SyncOutcome, Duration)>,
    stopping: bool,
    stopped: bool,
}

enum Job<S: Storage> {
    None,
    Sync(SyncJob<S::File>),
    Stop,
}

impl<S: Storage> LogThread<S> {
    /// Starts the threads.
    pub fn start(log: Log<S>, policy: SyncPolicy) -> io::Result<LogThread<S>> {
        let inbox = Inbox { work: VecDeque::new(), outcome: None, stopping: false, stopped: false };
        let shared = Arc::new(Shared {
            inbox: Mutex::new(inbox),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            job: Mutex::new(Job::None),
            job_given: Condvar::new(),
        });
        let syncing = Arc::clone(&shared);
        std::thread::Builder::new().name("log-sync".to_owned()).spawn(move || sync_jobs(&syncing))?;
        let appending = Arc::clone(&shared);
        let appender = std::thread::Builder::new().name("log-append".to_owned()).spawn(move || {
            // However this thread ends, nobody waits for it any longer.
            let _end = Ended(Arc::clone(&appending));
            Appender {
                log,
                policy,
                shared: appending,
                waiting: VecDeque::new(),
                syncing: false,
                last_sync: None,
                due: None,
            }
            .run()
        });
        match appender {
            Ok(appender) => Ok(LogThread { handle: LogHandle { shared }, appender: Some(appender) }),
            Err(error) => {
                drop(Ended(shared));
                Err(error)
            }
        }
    }

    /// A handle.
    pub fn handle(&self) -> LogHandle<S> {
        self.handle.clone()
    }

    /// Does what has been handed over, then makes everything durable and closes the log. Blocks.
    ///
    /// # Panics
    /// If work has panicked.
    pub fn stop(mut self) -> Result<(), LogError> {
        let appender = self.appender.take();
        drop(self);
        match appender.map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(closed)) => closed,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl<S: Storage> LogHandle<S> {
    /// Hands work over; blocks while too much waits, so it is not for asynchronous tasks. Work that is never run is dropped with its `durable`.
    pub fn submit(&self, work: Work<S>, durable: Option<Durable>) -> Result<(), Stopped> {
        let mut inbox = self.shared.inbox.lock();
        while inbox.work.len() >= WORK_MAX && !inbox.stopped && !inbox.stopping {
            self.shared.emptied.wait(&mut inbox);
        }
        if inbox.stopped || inbox.stopping {
            return Err(Stopped);
        }
        inbox.work.push_back((work, durable));
        drop(inbox);
        self.shared.filled.notify_one();
        Ok(())
    }
}

struct Ended<S: Storage>(Arc<Shared<S>>);

impl<S: Storage> Drop for Ended<S> {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox.lock();
        inbox.stopped = true;
        let work = std::mem::take(&mut inbox.work);
        drop(inbox);
        drop(work);
        self.0.emptied.notify_all();
        *self.0.job.lock() = Job::Stop;
        self.0.job_given.notify_one();
    }
}

fn sync_jobs<S: Storage>(shared: &Shared<S>) {
    loop {
        let mut given = shared.job.lock();
        let job = loop {
            match std::mem::replace(&mut *given, Job::None) {
                Job::None => shared.job_given.wait(&mut given),
                Job::Sync(job) => break job,
                Job::Stop => return,
            }
        };
        drop(given);
        let outcome = run_timed(job);
        shared.inbox.lock().outcome = Some(outcome);
        shared.filled.notify_one();
    }
}

fn run_timed<F: StorageFile>(job: SyncJob<F>) -> (SyncOutcome, Duration) {
    let began = Instant::now();
    let outcome = job.run();
    (outcome, began.elapsed())
}

struct Appender<S: Storage> {
    log: Log<S>,
    policy: SyncPolicy,
    shared: Arc<Shared<S>>,
    /// Who waits for which frame, in the order of frames.
    waiting: VecDeque<(Ticket, Durable)>,
    syncing: bool,
    /// How long the last sync took.
    last_sync: Option<Duration>,
    /// When to sync what nobody waits for.
    due: Option<Instant>,
}

impl<S: Storage> Appender<S> {
    fn run(mut self) -> Result<(), LogError> {
        loop {
            let (work, stop) = self.wait();
            for (work, durable) in work {
                self.do_work(work, durable);
                // What waits together is synced together, unless it is much.
                if self.log.unsynced_bytes() >= self.policy.after_bytes {
                    let outcome = self.shared.inbox.lock().outcome.take();
                    outcome.into_iter().for_each(|outcome| self.take_outcome(outcome));
                    self.sync_if_due();
                    self.answer_waiting(None);
                }
            }
            // The next sync runs while those are answered who waited for the last.
            self.sync_if_due();
            self.answer_waiting(None);
            self.mark_when_idle();
            if stop {
                while self.syncing {
                    self.wait_for_outcome();
                }
                let synced = self.log.sync().map(|_| ());
                self.answer_waiting(None);
                return synced.and_then(|()| self.log.close());
            }
        }
    }

    /// Waits for work, an outcome, or the time to sync. The work, and whether it is the last.
    fn wait(&mut self) -> (Handed<S>, bool) {
        let idle_until = self.due_in();
        let mut inbox = self.shared.inbox.lock();
        if inbox.work.is_empty() && inbox.outcome.is_none() && !inbox.stopping {
            match idle_until {
                Some(due) => _ = self.shared.filled.wait_for(&mut inbox, due),
                None => self.shared.filled.wait(&mut inbox),
            }
        }
        let work = std::mem::take(&mut inbox.work);
        let (outcome, stop) = (inbox.outcome.take(), inbox.stopping);
        drop(inbox);
        if work.len() >= WORK_MAX {
            self.shared.emptied.notify_all();
        }
        outcome.into_iter().for_each(|outcome| self.take_outcome(outcome));
        (work, stop)
    }

    /// How long until a sync is due that nobody waits for; `None`: whatever comes next says so.
    fn due_in(&self) -> Option<Duration> {
        let due = self.due.filter(|_| !self.syncing)?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn do_work(&mut self, mut work: Work<S>, durable: Option<Durable>) {
        let result = loop {
            match work(&mut self.log) {
                Err(LogError::Busy) if self.syncing => self.wait_for_outcome(),
                other => break other,
            }
        };
        if self.log.appended() > self.log.synced() {
            let after = self.policy.after;
            self.due.get_or_insert_with(|| Instant::now() + after);
        }
        match (durable, result) {
            (Some(durable), Ok(ticket)) if ticket > self.log.synced() => self.waiting.push_back((ticket, durable)),
            (Some(durable), result) => durable(result.map_err(Arc::new)),
            (None, _) => {}
        }
    }

    fn sync_if_due(&mut self) {
        if self.syncing {
            return;
        }
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        let synced = self.log.synced();
        let somebody_waits = self.waiting.back().is_some_and(|(ticket, _)| *ticket > synced);
        if !somebody_waits && !is_due && self.log.unsynced_bytes() < self.policy.after_bytes {
            return;
        }
        self.due = None;
        let is_quick = self.last_sync.is_some_and(|took| took <= OWN_SYNC_TIME);
        let runs_itself = somebody_waits && is_quick && self.log.unsynced_bytes() <= OWN_SYNC_BYTES;
        match self.log.begin_sync() {
            Ok(Some(job)) if runs_itself => self.take_outcome(run_timed(job)),
            Ok(Some(job)) => {
                self.syncing = true;
                *self.shared.job.lock() = Job::Sync(job);
                self.shared.job_given.notify_one();
            }
            Ok(None) => {}
            Err(error) => self.sync_failed(error),
        }
    }

    fn wait_for_outcome(&mut self) {
        let mut inbox = self.shared.inbox.lock();
        let outcome = loop {
            match inbox.outcome.take() {
                Some(outcome) => break outcome,
                None => self.shared.filled.wait(&mut inbox),
            }
        };
        drop(inbox);
        self.take_outcome(outcome);
    }

    fn take_outcome(&mut self, (outcome, took): (SyncOutcome, Duration)) {
        self.syncing = false;
        self.last_sync = Some(took);
        // A failure has made the segment unusable: what it lacks is made durable in another, at once.
        if self.log.finish_sync(outcome).is_err() {
            match self.log.sync() {
                Ok(_) => {}
                Err(error) => self.sync_failed(error),
            }
        }
    }

    fn mark_when_idle(&mut self) {
        if !self.syncing && self.log.appended() == self.log.synced() {
            self.due = None;
            // Only says in the log what is known; without it nothing is lost.
            let _ = self.log.mark();
        }
    }

    /// Whoever waits hears of it; the sync is tried again.
    fn sync_failed(&mut self, error: LogError) {
        self.answer_waiting(Some(Arc::new(error)));
        self.due = Some(Instant::now() + RETRY);
    }

    /// Answers those whose frames are durable; with an error all others, too.
    fn answer_waiting(&mut self, error: Option<Arc<LogError>>) {
        let synced = self.log.synced();
        while let Some((ticket, durable)) =
            self.waiting.pop_front_if(|(ticket, _)| *ticket <= synced || error.is_some())
        {
            match &error {
                Some(error) if ticket > synced => durable(Err(Arc::clone(error))),
                _ => durable(Ok(ticket)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
