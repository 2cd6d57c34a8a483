//! Keeps what Kafka refuses for good: a log of its own, and one thread that writes it.
//!
//! A letter is counted as dead, and its client answered, when it is on disk; until then it stays held and charged. So while the log is
//! full or the disk fails, letters wait in memory, writers are slowed when that is full, and nothing is lost. The log is opened
//! for the first letter: who has none has no files. Only an operator takes letters out ([`DeadLetters::give_up`]).

mod writer;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

use crate::backlog::letter::Refusal;
use crate::backlog::log::engine::Log;
use crate::backlog::log::entry::IndexRange;
use crate::backlog::log::error::LogError;
use crate::backlog::log::storage::Storage;
use crate::queue::budget::Budget;
use crate::queue::ledger::Ledger;
use crate::queue::note::Note;
use crate::queue::partition::Partition;
use crate::queue::receipt::Mark;
use crate::record::TimestampMs;
use crate::store::content::Content;

use writer::Writer;
pub use writer::give_up;

/// Requests that may wait for the thread.
const REQUESTS_MAX: usize = 64;

/// Records that Kafka refuses for good.
#[derive(Debug)]
pub struct Letter {
    /// Where they were to go.
    pub partition: Arc<Partition>,
    /// The records.
    pub content: Content,
    /// What the log that they were stored in is to say of them, as soon as they are letters.
    pub note: Option<Note>,
    /// Why Kafka does not take them.
    pub refusal: Refusal,
    /// Their receipts.
    pub marks: Vec<Mark>,
    /// What they are charged in the memory budget.
    pub charged: usize,
}

/// Letters that an operator wants no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The partition's number in the log.
    pub partition: u32,
    /// Which.
    pub range: IndexRange,
    /// Why: what the log will say.
    pub reason: u32,
}

/// Letters that are not on disk yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many records.
    pub records: u64,
    /// What keeps them from being written.
    pub trouble: Option<Arc<str>>,
}

/// Takes letters. Its clones are the same.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    shared: Arc<Shared>,
}

/// The thread. Dropped, it is told to stop, and nobody hears how.
#[derive(Debug)]
pub struct Thread {
    shared: Arc<Shared>,
    handle: Option<JoinHandle<()>>,
}

/// What the thread needs of the others.
#[derive(Debug)]
pub struct Accounts {
    /// The balance.
    pub ledger: Arc<Ledger>,
    /// The memory budget.
    pub budget: Arc<Budget>,
    /// The wall clock.
    pub clock: fn() -> TimestampMs,
}

#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    filled: Condvar,
    ended: Notify,
}

/// Letters are bounded by the memory budget, which they stay charged to.
#[derive(Debug, Default)]
struct Inbox {
    letters: VecDeque<Letter>,
    requests: VecDeque<Request>,
    waiting: Waiting,
    stopping: bool,
}

#[derive(Debug)]
struct Request {
    what: GivenUp,
    answer: oneshot::Sender<Result<u64, Arc<str>>>,
}

/// Starts the thread. `open` opens the log; it is called for the first letter, and again as long as it fails.
///
/// # Errors
/// If the system gives no thread.
pub fn start<S: Storage>(
    open: impl FnMut() -> Result<Log<S>, LogError> + Send + 'static,
    accounts: Accounts,
) -> std::io::Result<(DeadLetters, Thread)> {
    let shared = Arc::new(Shared { inbox: Mutex::default(), filled: Condvar::new(), ended: Notify::new() });
    let writer = Writer::new(open, accounts, shared.clone());
    let ended = Ended(shared.clone());
    let handle = std::thread::Builder::new().name("dead-letters".to_owned()).spawn(move || {
        let _ended = ended;
        writer.run();
    })?;
    Ok((DeadLetters { shared: shared.clone() }, Thread { shared, handle: Some(handle) }))
}

impl DeadLetters {
    /// Hands a letter over. Never waits.
    pub fn put(&self, letter: Letter) {
        let mut inbox = self.shared.inbox.lock();
        inbox.waiting.records += u64::from(letter.content.count);
        inbox.letters.push_back(letter);
        drop(inbox);
        self.shared.filled.notify_one();
    }

    /// What is not on disk yet.
    pub fn waiting(&self) -> Waiting {
        self.shared.inbox.lock().waiting.clone()
    }

    /// Takes letters out for good. Returns how many records that were. Cancel safe: what was asked for is done all the same.
    ///
    /// # Errors
    /// In words: there is no such partition, the disk fails, or too many ask at once.
    pub async fn give_up(&self, what: GivenUp) -> Result<u64, Arc<str>> {
        const STOPPING: &str = "the daemon is stopping";
        let (answer, answered) = oneshot::channel();
        {
            let mut inbox = self.shared.inbox.lock();
            if inbox.stopping {
                return Err(STOPPING.into());
            }
            if inbox.requests.len() >= REQUESTS_MAX {
                return Err("too many requests at once".into());
            }
            inbox.requests.push_back(Request { what, answer });
        }
        self.shared.filled.notify_one();
        answered.await.unwrap_or_else(|_| Err(STOPPING.into()))
    }
}

impl Thread {
    /// Waits until the thread has ended: told to, or by a panic. Cancel safe.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared.clone();
        async move { shared.ended.notified().await }
    }

    /// Writes what was handed over, once more if the disk has failed, and ends. What cannot be written stays counted as held, and its clients
    /// hear that its fate is not known. Blocks.
    ///
    /// # Panics
    /// If the thread has panicked.
    pub fn stop(mut self) {
        self.tell();
        if let Some(Err(panic)) = self.handle.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }

    fn tell(&self) {
        self.shared.inbox.lock().stopping = true;
        self.shared.filled.notify_one();
    }
}

/// However the thread ends, nobody waits for it any longer.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut inbox = self.0.inbox.lock();
        inbox.stopping = true;
        let (letters, requests) = (std::mem::take(&mut inbox.letters), std::mem::take(&mut inbox.requests));
        drop(inbox);
        drop((letters, requests));
        self.0.ended.notify_one();
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.tell();
    }
}

#[cfg(test)]
mod tests;
