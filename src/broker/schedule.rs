//! Which of a drainer's partitions are to be looked at, and when: the queue of those that can send now, in turn, and the times at
//! which others will be able to.
//!
//! A partition stands in at most one list, named in its window ([`Listing`]); entries that no longer agree with it are skipped.
//! One that waits for an answer stands in none: the answer brings it back. One that is idle stands in none: a push does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::flight::Next;
use crate::queue::drainer::Drainer;
use crate::queue::partition::Partition;
use crate::queue::window::{Listing, Window};

/// See the module.
#[derive(Debug)]
pub struct Schedule {
    drainer: Arc<Drainer>,
    queued: VecDeque<Arc<Partition>>,
    timers: BTreeMap<(Instant, u64), Arc<Partition>>,
    timer_count: u64,
}

impl Schedule {
    /// Nothing yet, for the partitions of `drainer`.
    pub fn new(drainer: Arc<Drainer>) -> Self {
        Schedule { drainer, queued: VecDeque::new(), timers: BTreeMap::new(), timer_count: 0 }
    }

    /// Takes in what was announced and what is due. In a hurry nothing lingers.
    pub fn attend(&mut self, now: Instant, hurry: bool) {
        while let Some(partition) = self.drainer.next_ready() {
            self.consider(&partition, now, hurry);
        }
        let due = if hurry {
            std::mem::take(&mut self.timers)
        } else {
            let later = self.timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut self.timers, later)
        };
        for ((moment, number), partition) in due {
            let mut window = partition.window();
            // One that has moved on may stand in its new drainer's list under the same name.
            if !partition.is_drained_by(&self.drainer) {
                continue;
            }
            match window.listing {
                // A backoff is waited for, in a hurry too.
                Listing::Holding if moment > now => {
                    drop(window);
                    self.timers.insert((moment, number), partition);
                }
                Listing::Holding | Listing::Lingering => {
                    let lingered = hurry || window.listing == Listing::Lingering;
                    window.listing = Listing::None;
                    self.place(&partition, window, now, lingered);
                }
                Listing::None | Listing::Queued => {}
            }
        }
    }

    /// Puts a partition in the list where it belongs now.
    pub fn consider(&mut self, partition: &Arc<Partition>, now: Instant, hurry: bool) {
        self.place(partition, partition.window(), now, hurry);
    }

    fn place(
        &mut self,
        partition: &Arc<Partition>,
        mut window: parking_lot::MutexGuard<'_, Window>,
        now: Instant,
        linger_is_over: bool,
    ) {
        if !partition.is_drained_by(&self.drainer) {
            return;
        }
        if partition.is_leaving() {
            if window.in_flight() > 0 {
                return;
            }
            window.listing = Listing::None;
            if partition.hand_over() {
                return;
            }
            // It is to stay after all.
        }
        if matches!(window.listing, Listing::Queued | Listing::Holding) {
            return;
        }
        let rules = &partition.topic().rules;
        match window.next(now) {
            Next::Nothing => window.listing = Listing::None,
            // An old batch behind fresh ones, or the other way round: their answers bring it back.
            Next::New if window.built.is_some() && !window.may_send_built() => window.listing = Listing::None,
            Next::NotBefore(moment) => {
                window.listing = Listing::Holding;
                self.at(moment, partition);
            }
            Next::New if window.built.is_none() && is_empty(partition) => window.listing = Listing::None,
            Next::New
                if window.built.is_none()
                    && !linger_is_over
                    && !partition.is_full_or_will_say()
                    && !rules.linger.is_zero() =>
            {
                if window.listing != Listing::Lingering {
                    let since = window.front.front().map_or(now, |item| item.arrived());
                    window.listing = Listing::Lingering;
                    self.at(since + rules.linger, partition);
                }
            }
            Next::New | Next::Resend(_) => {
                window.listing = Listing::Queued;
                self.queued.push_back(partition.clone());
            }
        }
    }

    fn at(&mut self, moment: Instant, partition: &Arc<Partition>) {
        self.timer_count += 1;
        self.timers.insert((moment, self.timer_count), partition.clone());
    }

    /// The next partition in turn that may have something to send.
    pub fn next_queued(&mut self) -> Option<Arc<Partition>> {
        self.queued.pop_front()
    }

    /// Puts it back where it was: the request had no room for it.
    pub fn put_back(&mut self, partition: Arc<Partition>) {
        self.queued.push_front(partition);
    }

    /// How many may have something to send.
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// When the next timer is due.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(moment, _)| *moment)
    }
}

/// Whether nothing waits. If so, the next push announces itself: the signal is lowered, which a push may have raised after what it
/// pushed was taken, and then looked again, for one that raised it before.
fn is_empty(partition: &Partition) -> bool {
    partition.waiting_bytes() == 0 && {
        partition.lower_signal();
        partition.waiting_bytes() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::queue::topic::TopicInfo;
    use crate::queue::window::{ConnectionId, Flight};

    fn drained() -> (Schedule, Arc<Drainer>, Arc<Partition>) {
        let drainer = Drainer::new(1);
        let partition = Partition::new(TopicInfo::new("t", Config::default().producer), 0);
        partition.assign(&drainer);
        (Schedule::new(drainer.clone()), drainer, partition)
    }

    fn hold(partition: &Partition, until: Instant) {
        let mut flight = Flight::new(ConnectionId(1), until);
        flight.not_before = Some(until);
        partition.window().flight = Some(flight);
    }

    #[tokio::test]
    async fn a_backoff_is_waited_for_in_a_hurry_too() {
        let (mut schedule, _drainer, partition) = drained();
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        hold(&partition, until);
        for hurry in [false, true, true] {
            schedule.attend(now, hurry);
            assert_eq!((schedule.next_timer(), schedule.queued()), (Some(until), 0));
        }
    }

    #[tokio::test]
    async fn a_timer_of_the_drainer_before_does_not_take_a_partition_from_its_next_one() {
        let (mut before, _, partition) = drained();
        let (now, after) = (Instant::now(), Drainer::new(2));
        let until = now + Duration::from_secs(1);
        hold(&partition, until);
        before.attend(now, false);
        partition.assign(&after);
        before.attend(now, false);
        let mut schedule = Schedule::new(after);
        schedule.attend(now, false);
        assert_eq!(schedule.next_timer(), Some(until));
        before.attend(until, false);
        assert_eq!(partition.window().listing, Listing::Holding);
    }

    #[tokio::test]
    async fn a_partition_is_not_handed_to_a_drainer_that_is_gone() {
        let (mut schedule, _drainer, partition) = drained();
        let gone = Drainer::new(2);
        partition.assign(&gone);
        partition.abandon(&gone);
        schedule.attend(Instant::now(), false);
        assert_eq!(partition.leader(), Some(1));
    }
}
