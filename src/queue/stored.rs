//! A partition's way to the log and back.
//!
//! ```text
//!  push ─► the intake ─► the log's thread appends ─┬─► the ready side, from which batches are made
//!                                                  └─► in the log only ─► read back ─► the ready side
//! ```
//!
//! What the log holds of a partition and memory does not is always a suffix: while there is any, what is appended joins it, and it is read back from
//! its beginning. The answers that its records wait for stay in memory, by index.
//!
//! A partition of a topic whose rule is to overflow goes this way only while it is *on*. While it is off batches are made of the intake itself,
//! and the log knows nothing of it. The log's thread turns it on and off, under the window's lock: on together with all that is held in the window, which
//! goes to the log first; off when everything that the log has of it is settled there, durably.
//!
//! Pushing never waits: it takes a lock only when it rings the log's bell, once until the log has looked. What waits here is charged to the memory budget
//! like everything else, and bounded by it.

mod inbox;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};

use crossbeam::queue::SegQueue;
use parking_lot::{Mutex, MutexGuard};

use super::given_up::GivenUp;
use super::intake::{Bursts, Intake, Level};
use super::item::Item;
use super::note::Note;
use super::partition::Partition;
use super::receipt::Receipt;
use super::signal::Signal;
use super::window::{Attempt, Window};

pub use inbox::{Bell, LogInbox};

/// With less than this on its ready side a partition asks for more from the log.
pub const READY_BYTES: usize = 1 << 20;

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

/// What the log tells a partition's window.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// The note that this attempt is sent is on disk.
    Noted(Attempt),
    /// A note that records are dead letters is in the log.
    Buried,
}

/// What a partition has beside the others whose records go to the log, or may.
#[derive(Debug)]
pub struct Stored {
    inbox: Arc<LogInbox>,
    /// Whose side this is.
    partition: Weak<Partition>,
    /// The log's thread drains the intake. Changes under the window's lock.
    is_on: AtomicBool,
    /// What batches are made of while it is on.
    bursts: Bursts,
    signal: Signal,
    level: Level,
    /// It stands in the inbox's list of those that are to be turned on.
    is_asked: AtomicBool,
    /// It stands in the inbox's list of those that are to be read.
    is_to_be_read: AtomicBool,
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
    /// For a partition whose pushes go to the log behind `inbox`: now, or when it is turned on.
    pub(super) fn new(inbox: Arc<LogInbox>, partition: Weak<Partition>, is_on: bool) -> Self {
        Stored {
            inbox,
            partition,
            is_on: AtomicBool::new(is_on),
            bursts: Bursts::default(),
            signal: Signal::default(),
            level: Level::default(),
            is_asked: AtomicBool::new(false),
            is_to_be_read: AtomicBool::new(false),
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

    /// Whether its records go through the log now.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    pub(super) fn ready(&self) -> Intake<'_> {
        Intake { bursts: &self.bursts, signal: &self.signal, level: &self.level }
    }

    /// Something was pushed, and the log's thread does not know it.
    pub(super) fn announce(&self) {
        if let Some(partition) = self.partition.upgrade() {
            self.inbox.pushed.push(partition);
        }
        self.inbox.ring();
    }

    /// It is off, and something waits in it.
    pub(super) fn waits(&self) {
        fence(Ordering::SeqCst);
        if self.inbox.sleeper.is_asleep.load(Ordering::SeqCst) {
            self.inbox.wake();
        }
    }

    /// Asks for it to be turned on. What is pushed while it is being turned off asks anew: it is off before its flag says so.
    pub fn ask_unless_on(&self) {
        if !self.is_on() && !self.is_asked.swap(true, Ordering::AcqRel) {
            if let Some(partition) = self.partition.upgrade() {
                self.inbox.to_spill.push(partition);
            }
            self.inbox.ring();
        }
    }

    /// For the log's thread, before it looks whether to turn it on: asks from now on are new ones.
    pub fn lower_ask(&self) {
        self.is_asked.store(false, Ordering::Release);
    }

    /// For the log's thread, when it could not be turned on: it is still asked for. False if it was asked for anew, and so is looked at again anyway.
    pub fn raise_ask(&self) -> bool {
        !self.is_asked.swap(true, Ordering::AcqRel)
    }

    /// For the log's thread: turns it on. All in the window that is in a batch has an index; what is not yet in a batch goes to the log, and
    /// none of it may be taken in part.
    pub fn turn_on(&self, window: &mut Window) {
        let Some(partition) = self.partition.upgrade() else { return };
        window.is_stored = true;
        // It is empty, whatever its flag still says from the last time: a drainer that has gone may not have lowered it.
        self.ready().signal.pass_on(false);
        self.waiting.lock().extend(window.front.drain(..));
        self.is_on.store(true, Ordering::Release);
        partition.intake().signal.pass_on(true);
        self.inbox.spilled.push(partition);
    }

    /// For the log's thread: turns it off. Everything that has an index must be settled. What was pushed waits in the window from now on. True if some of it is
    /// to be stored all the same.
    pub fn turn_off(&self, window: &mut Window) -> bool {
        let Some(partition) = self.partition.upgrade() else { return false };
        window.is_stored = false;
        window.counted_until = 0;
        // Before the flag: who finds that changed asks by itself.
        self.is_on.store(false, Ordering::Release);
        partition.intake().signal.pass_on(false);
        window.front.append(&mut self.waiting.lock());
        while let Some(item) = partition.intake().pop() {
            window.front.push_back(item);
        }
        window.front.iter().any(|item| item.wants_stored())
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

    /// For the log's thread: what was pushed and is not appended, in order; nothing while it is off. Pushes from now on announce themselves anew.
    pub fn pushed(&self) -> MutexGuard<'_, VecDeque<Box<Item>>> {
        let mut waiting = self.waiting.lock();
        if let Some(partition) = self.partition.upgrade().filter(|_| self.is_on()) {
            partition.intake().signal.lower();
            while let Some(item) = partition.intake().pop() {
                waiting.push_back(item);
            }
        }
        waiting
    }

    /// For the log's thread: so many records, of so many bytes, are in the log now.
    pub fn appended(&self, records: u32, bytes: usize) {
        if let Some(partition) = self.partition.upgrade() {
            partition.intake().left(records, bytes);
        }
    }

    /// Records that are not in the log yet; none while it is off.
    pub fn unappended(&self) -> usize {
        self.partition.upgrade().filter(|_| self.is_on()).map_or(0, |partition| partition.intake().records())
    }

    /// Records on the ready side, or in the log only.
    pub(super) fn held_records(&self) -> u64 {
        // In the order in which they move on.
        let in_log = self.log_only.lock().records;
        in_log + self.ready().records() as u64
    }

    /// Whether nothing waits on the ready side, nor would be read back to it.
    pub fn is_drained(&self) -> bool {
        self.ready().records() == 0 && self.log_only.lock().is_empty()
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

    /// So many records, of so many bytes, have left the ready side. Which of them had been read back is not known: they are counted first, so that the count
    /// errs towards reading more, by what is on the ready side at most.
    pub(super) fn batched(&self, records: u32, bytes: usize) {
        let left = self.ready().left(records, bytes);
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
