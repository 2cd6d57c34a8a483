//! What the log's thread is told by everybody else, without anybody waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crossbeam::queue::SegQueue;
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::Noting;
use crate::queue::partition::Partition;

/// A frame has room for five batches in flight, one that waits, and what they are described by, though the log takes more for each record than
/// Kafka does: less than 2.5 times as much for those of one byte.
const FRAME_SHARE: usize = 16;

/// Wakes the log's thread. Called from tasks: it must not block.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// What the log's thread is to look at.
pub struct LogInbox {
    /// The largest batch of a topic that overflows, so that all that is in flight of a partition fits into a frame of the log.
    batch_bytes_max: usize,
    /// Partitions into which something was pushed, each once until it is looked at.
    pub(super) pushed: SegQueue<Arc<Partition>>,
    /// Partitions that have room for what only the log has, each once until it is looked at.
    pub(super) to_read: SegQueue<Arc<Partition>>,
    /// Partitions that are to be turned on, each once until it is looked at.
    pub(super) to_spill: SegQueue<Arc<Partition>>,
    /// Partitions that have been turned on, and may be turned off.
    pub(super) spilled: SegQueue<Arc<Partition>>,
    /// What became of records, in order.
    pub(super) notes: SegQueue<Noting>,
    rung: AtomicBool,
    bell: RwLock<Option<Bell>>,
    /// Bytes on ready sides that were read back from the log.
    pub(super) read_ahead: AtomicUsize,
    /// To be told of the next push into an idle partition that is off.
    pub(super) sleeper: Sleeper,
}

/// Somebody who sleeps while nothing waits.
#[derive(Default)]
pub(super) struct Sleeper {
    pub(super) is_asleep: AtomicBool,
    wake: Notify,
}

impl std::fmt::Debug for LogInbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogInbox").finish_non_exhaustive()
    }
}

impl Default for LogInbox {
    fn default() -> Self {
        LogInbox::new(usize::MAX)
    }
}

impl LogInbox {
    /// For a log whose frames hold at most so many bytes.
    pub fn new(frame_bytes_max: usize) -> Self {
        LogInbox {
            batch_bytes_max: frame_bytes_max / FRAME_SHARE,
            pushed: SegQueue::new(),
            to_read: SegQueue::new(),
            to_spill: SegQueue::new(),
            spilled: SegQueue::new(),
            notes: SegQueue::new(),
            rung: AtomicBool::new(false),
            bell: RwLock::default(),
            read_ahead: AtomicUsize::new(0),
            sleeper: Sleeper::default(),
        }
    }

    /// The largest batch of a topic that overflows.
    pub fn batch_bytes_max(&self) -> usize {
        self.batch_bytes_max
    }

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

    /// The next partition that is to be turned on.
    pub fn next_to_spill(&self) -> Option<Arc<Partition>> {
        self.to_spill.pop()
    }

    /// The next partition that has been turned on and may be turned off.
    pub fn next_spilled(&self) -> Option<Arc<Partition>> {
        self.spilled.pop()
    }

    /// Sleeps until something is pushed into an idle partition that is off, or [`LogInbox::wake`]; not at all when `is_needed`, asked after falling
    /// asleep, says so. For one task. Cancel safe.
    pub async fn sleep_unless(&self, is_needed: impl FnOnce() -> bool) {
        self.sleeper.is_asleep.store(true, Ordering::SeqCst);
        // Either a pusher sees that somebody sleeps, or we see what it has pushed.
        fence(Ordering::SeqCst);
        if !is_needed() {
            self.sleeper.wake.notified().await;
        }
        self.sleeper.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Wakes who sleeps.
    pub fn wake(&self) {
        self.sleeper.wake.notify_one();
    }

    /// Bytes that were read back and wait to be put into batches.
    pub fn read_ahead_bytes(&self) -> usize {
        self.read_ahead.load(Ordering::Relaxed)
    }
}
