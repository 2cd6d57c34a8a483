//! A stored partition's way to the log and back.
//!
//! ```text
//!  push ─► Stored::pushed ─► LogInbox ─► the log's thread appends ─┬─► the ready side, from which batches are made
//!                                                                  └─► in the log only ─► read back ─► the ready side
//! ```
//!
//! What the log holds of a partition and memory does not is always a suffix: while there is any, what is appended joins it, and it is read back from
//! its beginning. The answers that its records wait for stay in memory, by index.
//!
//! Pushing never waits: it takes a lock only when it rings the log's bell, once until the log has looked. What waits here is charged to the memory budget
//! like everything else, and bounded by it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crossbeam::queue::SegQueue;
use parking_lot::{Mutex, MutexGuard, RwLock};

use super::given_up::GivenUp;
use super::item::Item;
use super::note::Note;
use super::partition::Partition;
use super::receipt::Receipt;
use super::window::{Attempt, Window};

/// With less than this on its ready side a partition asks for more from the log.
pub const READY_BYTES: usize = 1 << 20;

/// Wakes the log's thread. Called from tasks: it must not block.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// A note on its way into the log.
#[derive(Debug)]
pub struct Noting {
    /// Whose it is.
    pub partition: Arc<Partition>,
    /// What it says.
    pub note: Note,
    /// What is settled when it is on disk.
    pub given_up: Option<Box<GivenUp>>,
}

/// What the log's thread is to look at.
#[derive(Default)]
pub struct LogInbox {
    /// Partitions into which something was pushed, each once until it is looked at.
    pushed: SegQueue<Arc<Partition>>,
    /// Partitions that have room for what only the log has, each once until it is looked at.
    to_read: SegQueue<Arc<Partition>>,
    /// What became of records, in order.
    notes: SegQueue<Noting>,
    rung: AtomicBool,
    bell: RwLock<Option<Bell>>,
    /// Bytes on ready sides that were read back from the log.
    read_ahead: AtomicUsize,
}

impl std::fmt::Debug for LogInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogInbox").finish_non_exhaustive()
    }
}

impl LogInbox {
    /// From now on `bell` is called when there is something to look at, once until [`LogInbox::attend`]. `None`: nobody looks any more.
    pub fn set_bell(&self, bell: Option<Bell>) {
        *self.bell.write() = bell;
        self.rung.store(false, Ordering::SeqCst);
        self.ring();
    }

    /// There is something to look at.
    pub fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst)
            && let Some(bell) = &*self.bell.read()
        {
            bell();
        }
    }

    /// To be called before looking: whatever comes from now on rings anew.
    pub fn attend(&self) {
        self.rung.store(false, Ordering::SeqCst);
    }

    /// The next partition into which something was pushed.
    pub fn next_pushed(&self) -> Option<Arc<Partition>> {
        self.pushed.pop()
    }

    /// The next note.
    pub fn next_note(&self) -> Option<Noting> {
        self.notes.pop()
    }

    /// The next partition that has room for what only the log has.
    pub fn next_to_read(&self) -> Option<Arc<Partition>> {
        self.to_read.pop()
    }

    /// Bytes that were read back and wait to be put into batches.
    pub fn read_ahead_bytes(&self) -> usize {
        self.read_ahead.load(Ordering::Relaxed)
    }
}

/// What the log tells a partition's window.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// The note that this attempt is sent is on disk.
    Noted(Attempt),
    /// A note that records are dead letters is in the log.
    Buried,
}

/// What a stored partition has beside the others.
#[derive(Debug)]
pub struct Stored {
    inbox: Arc<LogInbox>,
    /// Whose side this is.
    partition: Weak<Partition>,
    intake: SegQueue<Box<Item>>,
    /// It stands in the inbox, or its pusher is about to put it there.
    is_announced: AtomicBool,
    /// It stands in the inbox's other list.
    is_to_be_read: AtomicBool,
    /// Records that are not in the log yet.
    unappended: AtomicUsize,
    /// Of the bytes on the ready side: read back.
    read_ahead: AtomicUsize,
    number: OnceLock<u32>,
    waiting: Mutex<VecDeque<Box<Item>>>,
    told: SegQueue<Told>,
    log_only: Mutex<LogOnly>,
}

/// The newest records of a partition, which the log holds and memory does not.
#[derive(Debug, Default)]
pub struct LogOnly {
    /// Index of the first.
    pub first: u64,
    /// The index behind the last.
    pub end: u64,
    /// How many of them are held: some may have been given up.
    pub records: u64,
    /// They are being read.
    pub is_reading: bool,
    /// Who waits for some of them: the first record's index and the receipt, in order.
    pub receipts: VecDeque<(u64, Receipt)>,
}

impl LogOnly {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first >= self.end
    }
}

impl Stored {
    /// For a partition whose pushes go to the log behind `inbox`.
    pub(super) fn new(inbox: Arc<LogInbox>, partition: Weak<Partition>) -> Self {
        Stored {
            inbox,
            partition,
            intake: SegQueue::new(),
            is_announced: AtomicBool::new(false),
            is_to_be_read: AtomicBool::new(false),
            unappended: AtomicUsize::new(0),
            read_ahead: AtomicUsize::new(0),
            number: OnceLock::new(),
            waiting: Mutex::default(),
            told: SegQueue::new(),
            log_only: Mutex::default(),
        }
    }

    /// The number that the log knows the partition by, once it has one.
    pub fn number(&self) -> &OnceLock<u32> {
        &self.number
    }

    pub(super) fn push(&self, item: Box<Item>) {
        self.unappended.fetch_add(item.left() as usize, Ordering::Relaxed);
        self.intake.push(item);
        // A swap, as in `Signal`: either the log's thread sees the item, or this sees that it must be told.
        if !self.is_announced.swap(true, Ordering::AcqRel) {
            if let Some(partition) = self.partition.upgrade() {
                self.inbox.pushed.push(partition);
            }
            self.inbox.ring();
        }
    }

    /// What became of its records, for the log. Bounded by what is in flight: nothing more is sent before its note is on disk.
    pub(super) fn note(&self, note: Note, given_up: Option<Box<GivenUp>>) {
        if let Some(partition) = self.partition.upgrade() {
            self.inbox.notes.push(Noting { partition, note, given_up });
            self.inbox.ring();
        }
    }

    /// For the log's thread: tells the window, which hears of it when it is next looked at, and has it looked at.
    pub fn tell(&self, told: Told) {
        self.told.push(told);
        if let Some(partition) = self.partition.upgrade() {
            partition.announce();
        }
    }

    pub(super) fn tell_window(&self, window: &mut Window) {
        while let Some(told) = self.told.pop() {
            match told {
                // One that was numbered anew meanwhile waits for another note.
                Told::Noted(attempt) => _ = window.noted(attempt),
                Told::Buried => window.buried(),
            }
        }
    }

    /// Whether there is more of it than is ready.
    pub(super) fn has_more(&self) -> bool {
        self.unappended() > 0 || !self.log_only.lock().is_empty()
    }

    /// For the log's thread: what was pushed and is not appended, in order. Pushes from now on announce themselves anew.
    pub fn pushed(&self) -> MutexGuard<'_, VecDeque<Box<Item>>> {
        self.is_announced.swap(false, Ordering::AcqRel);
        let mut waiting = self.waiting.lock();
        while let Some(item) = self.intake.pop() {
            waiting.push_back(item);
        }
        waiting
    }

    /// For the log's thread: so many records are in the log now.
    pub fn appended(&self, records: u32) {
        self.unappended.fetch_sub(records as usize, Ordering::Relaxed);
    }

    /// Records that are not in the log yet.
    pub fn unappended(&self) -> usize {
        self.unappended.load(Ordering::Relaxed)
    }

    /// Records that are neither ready nor in a batch.
    pub(super) fn held_records(&self) -> u64 {
        self.unappended() as u64 + self.log_only.lock().records
    }

    /// For the log's thread and who reads for it.
    pub fn log_only(&self) -> MutexGuard<'_, LogOnly> {
        self.log_only.lock()
    }

    /// For who reads for the log's thread: so many bytes were put on the ready side.
    pub fn read(&self, bytes: usize) {
        self.read_ahead.fetch_add(bytes, Ordering::Relaxed);
        self.inbox.read_ahead.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes have left the ready side, and `left` are there still. Which of them had been read back is not known: they are counted first, so that the count
    /// errs towards reading more, by what is on the ready side at most.
    pub(super) fn batched(&self, bytes: usize, left: usize) {
        let take = |ahead: usize| (ahead > 0).then(|| ahead.saturating_sub(bytes));
        if let Ok(before) = self.read_ahead.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            self.inbox.read_ahead.fetch_sub(before.min(bytes), Ordering::Relaxed);
        }
        if left < READY_BYTES {
            self.want_more();
        }
    }

    /// Asks for what only the log has, if there is any and it is not asked for yet.
    pub fn want_more(&self) {
        if !self.log_only.lock().is_empty() && !self.is_to_be_read.swap(true, Ordering::AcqRel) {
            if let Some(partition) = self.partition.upgrade() {
                self.inbox.to_read.push(partition);
            }
            self.inbox.ring();
        }
    }

    /// For the log's thread, before it looks whether to read: asks from now on are new ones.
    pub fn lower_want(&self) {
        self.is_to_be_read.store(false, Ordering::Release);
    }
}
