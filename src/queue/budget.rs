//! The daemon's one budget of memory for records (`memory.limit`).
//!
//! Charged from the moment bytes are read until the records are released. A reader reserves room before it reads
//! ([`Budget::reserve`]) and so waits, its client with it, when there is none; what happens inside (a burst that becomes
//! a batch) is charged and released without waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::drainer::Drainer;

/// Counts bytes against a limit.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
    waiting: AtomicUsize,
    freed: Notify,
    drainers: Mutex<Vec<Weak<Drainer>>>,
    rose: Notify,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Budget {
            used: AtomicUsize::new(0),
            limit,
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            drainers: Mutex::new(Vec::new()),
            rose: Notify::new(),
        }
    }

    /// Bytes charged now. May pass the limit by what is converted inside.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether anything more fits.
    pub fn has_room(&self) -> bool {
        self.used() < self.limit
    }

    /// Whether waiting for fuller batches would keep writers waiting, and what can be elsewhere should not be in memory: half of the budget is used.
    pub fn is_pressed(&self) -> bool {
        self.used() > self.limit / 2
    }

    /// Whether it is worth a look what could be elsewhere: a quarter is used.
    pub fn is_filling(&self) -> bool {
        self.used() > self.limit / 4
    }

    /// Waits until a quarter of the memory, or half, have come to be used since the last call. For one task. Cancel safe.
    pub async fn rose(&self) {
        self.rose.notified().await;
    }

    fn charged(&self, before: usize, bytes: usize) {
        let after = before.saturating_add(bytes);
        if [self.limit / 4, self.limit / 2].into_iter().any(|mark| before <= mark && after > mark) {
            self.rose.notify_one();
        }
    }

    /// Charges `bytes` whether there is room or not: for what is in memory already.
    pub fn charge(&self, bytes: usize) {
        self.charged(self.used.fetch_add(bytes, Ordering::Relaxed), bytes);
    }

    /// Gives `bytes` back.
    pub fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        // SeqCst here and in `reserve`: either we see the waiter, or the waiter's second look sees what we freed.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }

    /// Charges `bytes` if that stays within the limit. One reader alone may always have them, however large, so that a
    /// limit smaller than a read stalls nobody.
    pub fn try_reserve(&self, bytes: usize) -> bool {
        let before = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            (used == 0 || used.saturating_add(bytes) <= self.limit).then_some(used.saturating_add(bytes))
        });
        before.map(|before| self.charged(before, bytes)).is_ok()
    }

    /// Charges `bytes`, waiting for room. Cancel safe: a call that is dropped has charged nothing.
    pub async fn reserve(&self, bytes: usize) {
        if self.try_reserve(bytes) {
            return;
        }
        let _waiting = Waiting::new(&self.waiting);
        // Lingering batches are sent now: they hold what we wait for.
        self.wake_drainers();
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.try_reserve(bytes) {
                return;
            }
            freed.await;
        }
    }

    /// `drainer` is woken when a reader has to wait for room.
    pub fn register(&self, drainer: &Arc<Drainer>) {
        let mut drainers = self.drainers.lock();
        drainers.retain(|known| known.strong_count() > 0);
        drainers.push(Arc::downgrade(drainer));
    }

    /// Wakes all drainers: what lingers is to be sent now.
    pub fn wake_drainers(&self) {
        for drainer in self.drainers.lock().iter().filter_map(Weak::upgrade) {
            drainer.wake();
        }
    }
}

/// Counts a waiter for as long as it lives, so that a cancelled wait is not counted on.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// Adds one to `count`.
    pub(crate) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_reservation_waits_until_there_is_room() {
        let budget = Arc::new(Budget::new(100));
        budget.reserve(60).await;
        let waiter = tokio::spawn({
            let budget = budget.clone();
            async move { budget.reserve(60).await }
        });
        while budget.waiting.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!waiter.is_finished());
        budget.release(60);
        waiter.await.expect("reserved");
        assert_eq!(budget.used(), 60);
        assert_eq!(budget.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_reservation_charges_nothing() {
        let budget = Budget::new(100);
        budget.charge(100);
        assert!(tokio::time::timeout(Duration::from_secs(1), budget.reserve(1)).await.is_err());
        assert_eq!(budget.used(), 100);
        assert_eq!(budget.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_once_when_memory_fills_and_when_half_is_used() {
        let budget = Budget::new(100);
        let mut heard = Vec::new();
        for _ in 0..10 {
            budget.charge(10);
            heard.push(tokio::time::timeout(Duration::from_secs(1), budget.rose()).await.is_ok());
        }
        let at = |bytes: usize| heard[bytes / 10 - 1];
        assert!(at(30) && at(60), "{heard:?}");
        assert_eq!(heard.iter().filter(|heard| **heard).count(), 2, "{heard:?}");
    }

    #[test]
    fn one_reader_alone_may_pass_the_limit() {
        let budget = Budget::new(10);
        assert!(budget.try_reserve(64));
        assert!(!budget.try_reserve(1));
        budget.release(64);
        assert_eq!(budget.used(), 0);
    }
}
