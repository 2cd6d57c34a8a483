//! A lock-free queue of bursts with its flag and its counts: who pushes learns whom to tell, who takes counts what has left.

use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::queue::SegQueue;

use super::item::Item;
use super::signal::{Signal, Tell, Urgency};

/// The bursts.
pub type Bursts = SegQueue<Box<Item>>;

/// What is known of them without looking. It stands apart from them, since their queue takes whole cache lines.
#[derive(Debug, Default)]
pub struct Level {
    bytes: AtomicUsize,
    records: AtomicUsize,
}

/// See the module. What was taken out is counted here until [`Intake::left`].
#[derive(Clone, Copy, Debug)]
pub struct Intake<'a> {
    /// Where they are.
    pub bursts: &'a Bursts,
    /// Their flag.
    pub signal: &'a Signal,
    /// And how many.
    pub level: &'a Level,
}

impl Intake<'_> {
    /// Puts a burst at the end. With `urgent_bytes` or more it is urgent.
    #[must_use]
    pub fn push(self, item: Box<Item>, urgent_bytes: usize) -> Tell {
        let bytes = item.left_bytes();
        // Counted before it is there: so the count never falls below what is taken away.
        let waiting = self.level.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.level.records.fetch_add(item.left() as usize, Ordering::Relaxed);
        self.bursts.push(item);
        self.signal.raise(if waiting >= urgent_bytes { Urgency::Urgent } else { Urgency::Listed })
    }

    /// The oldest burst.
    pub fn pop(self) -> Option<Box<Item>> {
        self.bursts.pop()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.bursts.is_empty()
    }

    /// Bytes of what was pushed and has not left.
    pub fn bytes(self) -> usize {
        self.level.bytes.load(Ordering::Relaxed)
    }

    /// How many records that is.
    pub fn records(self) -> usize {
        self.level.records.load(Ordering::Relaxed)
    }

    /// So many records, of so many bytes, wait here no longer. Returns how many bytes do.
    pub fn left(self, records: u32, bytes: usize) -> usize {
        self.level.records.fetch_sub(records as usize, Ordering::Relaxed);
        self.level.bytes.fetch_sub(bytes, Ordering::Relaxed).saturating_sub(bytes)
    }
}
