//! The flag that keeps a push from waking anybody needlessly, and says whom to wake.
//!
//! An intake is *idle* (nobody looks at it), *listed* (its drainer knows of it and will look at it when its linger is
//! over) or *urgent* (its drainer will look at it as soon as it can). Only a push that raises the state has to tell the
//! drainer; all others are one atomic operation. The drainer lowers the state to idle *before* it looks, so that a push
//! that it has not seen raises it again.
//!
//! Beside that it says who drains the intake now: the drainer, or the log's thread. All its changes are one atomic operation each, and so in one
//! order: a push that raises the flag before it is passed on to the other is seen by the other, who looks after that, and a later one tells the other.
//!
//! The shape is known from franz-go's `workLoop` (`pkg/kgo/atomic_maybe_work.go`).

use super::sync::{AtomicU8, Ordering};

/// Something waits.
const LISTED: u8 = 0b001;
/// A whole batch does.
const URGENT: u8 = 0b010;
/// The log's thread drains it.
const LOGGED: u8 = 0b100;

/// How soon a partition wants to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Urgency {
    /// It may wait for more records until its linger is over.
    Listed = LISTED,
    /// A batch is full: now.
    Urgent = LISTED | URGENT,
}

/// Who has to be told of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// They know already.
    Nobody,
    /// The partition's drainer.
    Drainer,
    /// The log's thread.
    Log,
}

/// One intake's flag.
#[derive(Debug)]
pub struct Signal(AtomicU8);

impl Default for Signal {
    fn default() -> Self {
        Signal(AtomicU8::new(0))
    }
}

impl Signal {
    /// Raises the state to at least `urgency`; says who has to be told. What was written before this call is seen by them after
    /// their next [`Signal::lower`].
    #[must_use]
    pub fn raise(&self, urgency: Urgency) -> Tell {
        // Release: pairs with `lower`'s acquire, so that a drainer that lowers after us sees our item. Acquire: a pusher
        // that finds the flag lowered sees where the partition has moved to.
        let before = self.0.fetch_or(urgency as u8, Ordering::AcqRel);
        match (before & LOGGED != 0, before & urgency as u8 == urgency as u8) {
            (true, _) if before & LISTED == 0 => Tell::Log,
            (false, false) => Tell::Drainer,
            _ => Tell::Nobody,
        }
    }

    /// To listed at most: a batch that is full from now on is reported again. The drainer calls this before it looks whether
    /// one is full already.
    pub fn lower_to_listed(&self) {
        self.0.fetch_and(!URGENT, Ordering::AcqRel);
    }

    /// To idle. Who drains the intake calls this before looking into it.
    pub fn lower(&self) {
        // Not a store: as one step in the flag's single order of changes it either comes after a push's raise
        // (and sees that push's item) or before it (and the raise reports).
        self.0.fetch_and(LOGGED, Ordering::AcqRel);
    }

    /// From now on the log's thread drains the intake, or else the drainer; it is idle for them. They must look into it after this.
    pub fn pass_on(&self, to_the_log: bool) {
        // A swap for the same reason.
        self.0.swap(if to_the_log { LOGGED } else { 0 }, Ordering::AcqRel);
    }
}

#[cfg(all(test, not(forebay_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_a_raise_is_reported() {
        let signal = Signal::default();
        assert_eq!(signal.raise(Urgency::Listed), Tell::Drainer);
        assert_eq!(signal.raise(Urgency::Listed), Tell::Nobody);
        assert_eq!(signal.raise(Urgency::Urgent), Tell::Drainer);
        assert_eq!(signal.raise(Urgency::Urgent), Tell::Nobody);
        assert_eq!(signal.raise(Urgency::Listed), Tell::Nobody);
        signal.lower_to_listed();
        assert_eq!(signal.raise(Urgency::Listed), Tell::Nobody);
        assert_eq!(signal.raise(Urgency::Urgent), Tell::Drainer);
        signal.lower();
        assert_eq!(signal.raise(Urgency::Urgent), Tell::Drainer);
    }

    #[test]
    fn whoever_drains_is_told_once_until_they_look() {
        let signal = Signal::default();
        assert_eq!(signal.raise(Urgency::Urgent), Tell::Drainer);
        signal.pass_on(true);
        assert_eq!(signal.raise(Urgency::Listed), Tell::Log);
        assert_eq!(signal.raise(Urgency::Urgent), Tell::Nobody);
        signal.lower();
        assert_eq!(signal.raise(Urgency::Urgent), Tell::Log);
        signal.pass_on(false);
        assert_eq!(signal.raise(Urgency::Listed), Tell::Drainer);
    }
}

#[cfg(all(test, forebay_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::sync::Mutex;
    use loom::sync::atomic::AtomicUsize;

    use super::*;

    /// A partition as far as its signal is concerned: what waits, the intake, and how often its drainer and the log were told.
    #[derive(Default)]
    struct Partition {
        signal: Signal,
        waiting: AtomicUsize,
        intake: Mutex<usize>,
        told: AtomicUsize,
        log_told: AtomicUsize,
    }

    impl Partition {
        fn push(&self, urgency: Urgency) {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            *self.intake.lock().unwrap() += 1;
            match self.signal.raise(urgency) {
                Tell::Nobody => {}
                Tell::Drainer => _ = self.told.fetch_add(1, Ordering::Release),
                Tell::Log => _ = self.log_told.fetch_add(1, Ordering::Release),
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

    fn push_from_two(partition: &Arc<Partition>) -> [loom::thread::JoinHandle<()>; 2] {
        [Urgency::Listed, Urgency::Urgent].map(|urgency| {
            let partition = partition.clone();
            loom::thread::spawn(move || partition.push(urgency))
        })
    }

    /// Two pushers, and a drainer that looks once unasked, as after an answer, and then whenever it was told: no item is left
    /// behind, and the next push is told of.
    #[test]
    fn loom_no_push_is_left_behind() {
        loom::model(|| {
            let partition = Arc::new(Partition::default());
            let pushers = push_from_two(&partition);
            let mut taken = partition.take();
            taken += partition.attend();
            for pusher in pushers {
                pusher.join().unwrap();
            }
            taken += partition.attend();
            assert_eq!(taken, 2);
            assert_eq!(partition.signal.raise(Urgency::Listed), Tell::Drainer, "a later push would wake nobody");
        });
    }

    /// Two pushers, while the intake is passed on to the log's thread, which looks after that, and then when it was told: no item is left behind.
    #[test]
    fn loom_no_push_is_left_behind_when_another_drains() {
        loom::model(|| {
            let partition = Arc::new(Partition::default());
            let pushers = push_from_two(&partition);
            partition.signal.pass_on(true);
            let mut taken = partition.take();
            if partition.log_told.swap(0, Ordering::Acquire) > 0 {
                taken += partition.take();
            }
            for pusher in pushers {
                pusher.join().unwrap();
            }
            if partition.log_told.swap(0, Ordering::Acquire) > 0 {
                taken += partition.take();
            }
            assert_eq!(taken, 2);
            assert_eq!(partition.signal.raise(Urgency::Listed), Tell::Log, "a later push would not tell the log");
        });
    }
}
