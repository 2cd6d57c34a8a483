//! The three-state flag that keeps a push from waking anybody needlessly.
//!
//! A partition is *idle* (nobody looks at it), *listed* (its drainer knows of it and will look at it when its linger is
//! over) or *urgent* (its drainer will look at it as soon as it can). Only a push that raises the state has to tell the
//! drainer; all others are one atomic operation. The drainer lowers the state to idle *before* it looks, so that a push
//! that it has not seen raises it again.
//!
//! The shape is known from franz-go's `workLoop` (`pkg/kgo/atomic_maybe_work.go`).

use super::sync::{AtomicU8, Ordering};

/// How soon a partition wants to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Urgency {
    /// It may wait for more records until its linger is over.
    Listed = 1,
    /// A batch is full: now.
    Urgent = 2,
}

/// One partition's flag.
#[derive(Debug)]
pub struct Signal(AtomicU8);

impl Default for Signal {
    fn default() -> Self {
        Signal(AtomicU8::new(0))
    }
}

impl Signal {
    /// Raises the state to at least `urgency`. True if the drainer has to be told. What was written before this call is
    /// seen by the drainer after its next [`Signal::lower`].
    #[must_use]
    pub fn raise(&self, urgency: Urgency) -> bool {
        // Release: pairs with `lower`'s acquire, so that a drainer that lowers after us sees our item. Acquire: a pusher
        // that finds the flag lowered sees where the partition has moved to.
        self.0.fetch_max(urgency as u8, Ordering::AcqRel) < urgency as u8
    }

    /// To listed at most: a batch that is full from now on is reported again. The drainer calls this before it looks whether
    /// one is full already.
    pub fn lower_to_listed(&self) {
        self.0.fetch_min(Urgency::Listed as u8, Ordering::AcqRel);
    }

    /// To idle. The drainer calls this before it looks into the intake.
    pub fn lower(&self) {
        // A swap, not a store: as one step in the flag's single order of changes it either comes after a push's raise
        // (and sees that push's item) or before it (and the raise reports).
        self.0.swap(0, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(forebay_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_raise_is_reported() {
        let signal = Signal::default();
        assert!(signal.raise(Urgency::Listed));
        assert!(!signal.raise(Urgency::Listed));
        assert!(signal.raise(Urgency::Urgent));
        assert!(!signal.raise(Urgency::Urgent));
        assert!(!signal.raise(Urgency::Listed));
        signal.lower();
        assert!(signal.raise(Urgency::Urgent));
    }
}

#[cfg(all(test, forebay_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::sync::Mutex;
    use loom::sync::atomic::AtomicUsize;

    use super::*;

    /// A partition as far as its signal is concerned: what waits, the intake, and how often its drainer was told.
    #[derive(Default)]
    struct Partition {
        signal: Signal,
        waiting: AtomicUsize,
        intake: Mutex<usize>,
        told: AtomicUsize,
    }

    impl Partition {
        fn push(&self, urgency: Urgency) {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            *self.intake.lock().unwrap() += 1;
            if self.signal.raise(urgency) {
                self.told.fetch_add(1, Ordering::Release);
            }
        }

        /// The drainer takes what is there.
        fn take(&self) -> usize {
            self.signal.lower();
            let taken = std::mem::take(&mut *self.intake.lock().unwrap());
            self.waiting.fetch_sub(taken, Ordering::Relaxed);
            taken
        }

        /// The drainer was told: it takes what waits, or lowers the signal and looks once more.
        fn attend(&self) -> usize {
            if self.told.swap(0, Ordering::Acquire) == 0 {
                return 0;
            }
            if self.waiting.load(Ordering::Relaxed) == 0 {
                self.signal.lower();
                if self.waiting.load(Ordering::Relaxed) == 0 {
                    return 0;
                }
            }
            self.take()
        }
    }

    /// Two pushers, and a drainer that looks once unasked, as after an answer, and then whenever it was told: no item is left
    /// behind, and the next push is told of.
    #[test]
    fn loom_no_push_is_left_behind() {
        loom::model(|| {
            let partition = Arc::new(Partition::default());
            let pushers: Vec<_> = [Urgency::Listed, Urgency::Urgent]
                .into_iter()
                .map(|urgency| {
                    let partition = partition.clone();
                    loom::thread::spawn(move || partition.push(urgency))
                })
                .collect();
            let mut taken = partition.take();
            taken += partition.attend();
            for pusher in pushers {
                pusher.join().unwrap();
            }
            taken += partition.attend();
            assert_eq!(taken, 2);
            assert!(partition.signal.raise(Urgency::Listed), "a later push would wake nobody");
        });
    }
}
