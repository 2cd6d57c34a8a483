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
    use super::*;
    use loom::sync::Mutex;
    use loom::sync::atomic::AtomicUsize;
    use std::sync::Arc;

    /// Two pushers and a drainer that looks whenever it was told: no item is left behind untold.
    #[test]
    fn loom_no_push_is_left_behind() {
        loom::model(|| {
            let signal = Arc::new(Signal::default());
            let intake = Arc::new(Mutex::new(0));
            let told = Arc::new(AtomicUsize::new(0));
            let pushers: Vec<_> = [Urgency::Listed, Urgency::Urgent]
                .into_iter()
                .map(|urgency| {
                    let (signal, intake, told) = (signal.clone(), intake.clone(), told.clone());
                    loom::thread::spawn(move || {
                        *intake.lock().unwrap() += 1;
                        if signal.raise(urgency) {
                            told.fetch_add(1, Ordering::Release);
                        }
                    })
                })
                .collect();
            let mut taken = 0;
            let look = |taken: &mut usize| {
                if told.swap(0, Ordering::Acquire) > 0 {
                    signal.lower();
                    *taken += std::mem::take(&mut *intake.lock().unwrap());
                }
            };
            look(&mut taken);
            for pusher in pushers {
                pusher.join().unwrap();
            }
            look(&mut taken);
            assert_eq!(taken, 2);
        });
    }
}
