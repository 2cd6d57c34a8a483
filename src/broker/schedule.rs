//! Which of a drainer's partitions are to be looked at, and when: the queue of those that can send now, in turn, and the times at
//! which others will be able to.
//!
//! A partition stands in at most one list, named in its window ([`Listing`]); entries that no longer agree with it are skipped.
//! One that waits for an answer stands in none: the answer brings it back. One that is idle stands in none: a push does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::flight::Next;
use crate::queue::drainer::Drainer;
use crate::queue::partition::Partition;
use crate::queue::window::{Listing, Window};

/// tokio's timers count milliseconds, rounded up, and so does the wait for them: they end about one too late.
const TIMER_LATENESS: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug)]
pub struct Schedule {
    drainer: Arc<Drainer>,
    queued: VecDeque<Arc<Partition>>,
    /// Ends of lingers. A hurry ends them at once.
    lingering: Timers,
    /// Ends of backoffs. These no hurry ends: taken out early, they would be put back for the same moment.
    holding: Timers,
    /// From when on their topics' `rate_limit` lets others send. Nothing ends these early but [`Schedule::lift_limits`].
    paced: Timers,
    limits_lifted: bool,
}

/// Partitions by a moment.
#[derive(Debug, Default)]
struct Timers {
    by_moment: BTreeMap<(Instant, u32), Arc<Partition>>,
    count: u32,
}

impl Timers {
    /// Returns the timer's number.
    fn add(&mut self, moment: Instant, partition: &Arc<Partition>) -> u32 {
        self.count = self.count.wrapping_add(1);
        self.by_moment.insert((moment, self.count), partition.clone());
        self.count
    }

    /// The next one that is over: its number and partition.
    fn take_due(&mut self, now: Instant, all: bool) -> Option<(u32, Arc<Partition>)> {
        let first = self.by_moment.first_entry().filter(|entry| all || entry.key().0 <= now)?;
        Some((first.key().1, first.remove()))
    }

    fn first(&self) -> Option<Instant> {
        self.by_moment.keys().next().map(|(moment, _)| *moment)
    }
}

impl Schedule {
    /// Nothing yet, for the partitions of `drainer`.
    pub fn new(drainer: Arc<Drainer>) -> Self {
        Schedule {
            drainer,
            queued: VecDeque::new(),
            lingering: Timers::default(),
            holding: Timers::default(),
            paced: Timers::default(),
            limits_lifted: false,
        }
    }

    /// Takes in what was announced and what is due. In a hurry nothing lingers.
    pub fn attend(&mut self, now: Instant, hurry: bool) {
        while let Some(partition) = self.drainer.next_ready() {
            self.consider(&partition, now, hurry);
        }
        while let Some((timer, partition)) = self.holding.take_due(now, false) {
            self.expired(&partition, now, Listing::Holding(timer));
        }
        while let Some((timer, partition)) = self.paced.take_due(now, self.limits_lifted) {
            self.expired(&partition, now, Listing::Paced(timer));
        }
        while let Some((timer, partition)) = self.lingering.take_due(now, hurry) {
            self.expired(&partition, now, Listing::Lingering(timer));
        }
    }

    /// A timer of a partition that then stood in `list` is over.
    fn expired(&mut self, partition: &Arc<Partition>, now: Instant, list: Listing) {
        let mut window = partition.window();
        // One that has moved on may stand in its new drainer's list under the same name.
        if window.listing == list && partition.is_drained_by(&self.drainer) {
            window.listing = Listing::None;
            self.place(partition, window, now, matches!(list, Listing::Lingering(_) | Listing::Paced(_)));
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
                // What the old leader's answer made it wait for does not hold for the new one (KIP-951), nor what it is asked.
                if let Some(flight) = &mut window.flight {
                    flight.not_before = None;
                    flight.inquiry = None;
                }
                return;
            }
            // It is to stay after all.
        }
        if matches!(window.listing, Listing::Queued | Listing::Holding(_) | Listing::Paced(_)) {
            return;
        }
        let rules = &partition.topic().rules;
        match window.next(now) {
            Next::Nothing => window.listing = Listing::None,
            // An old batch behind fresh ones, or the other way round: their answers bring it back.
            Next::New if window.built.is_some() && !window.may_send_built() => window.listing = Listing::None,
            Next::NotBefore(moment) => {
                window.listing = Listing::Holding(self.holding.add(moment, partition));
            }
            Next::New if window.built.is_none() && is_empty(partition) => window.listing = Listing::None,
            Next::New if let Some(moment) = self.paced_until(partition, now) => {
                window.listing = Listing::Paced(self.paced.add(moment, partition));
            }
            Next::New
                if window.built.is_none()
                    && !linger_is_over
                    && !partition.is_full_or_will_say()
                    && !rules.linger.is_zero() =>
            {
                if !matches!(window.listing, Listing::Lingering(_)) {
                    let since = window.front.front().map_or(now, |item| item.arrived());
                    let over = since + timer(rules.linger);
                    window.listing = Listing::Lingering(self.lingering.add(over, partition));
                }
            }
            Next::New | Next::Resend(_) | Next::Follow | Next::Inquire => {
                window.listing = Listing::Queued;
                self.queued.push_back(partition.clone());
            }
        }
    }

    /// From now on no topic's `rate_limit` holds: the daemon is stopping.
    pub fn lift_limits(&mut self) {
        self.limits_lifted = true;
    }

    /// Until when a partition's topic may send nothing new.
    pub fn paced_until(&self, partition: &Partition, now: Instant) -> Option<Instant> {
        let pace = partition.topic().pace.as_ref().filter(|_| !self.limits_lifted)?;
        pace.free_from(now)
    }

    /// The next partition in turn that may have something to send.
    pub fn next_queued(&mut self) -> Option<Arc<Partition>> {
        self.queued.pop_front()
    }

    /// Puts it back where it was: the request had no room for it.
    pub fn put_back(&mut self, partition: Arc<Partition>) {
        self.queued.push_front(partition);
    }

    /// Takes out those of the queue that have nothing in flight.
    pub fn take_idle(&mut self) -> Vec<Arc<Partition>> {
        // One that has moved on stands in its new drainer's list under the same name: taken out of that, nobody would look at it again.
        self.queued.retain(|partition| partition.is_drained_by(&self.drainer));
        let (idle, others) = self.queued.drain(..).partition(|partition| {
            let mut window = partition.window();
            let is_idle = window.listing == Listing::Queued && window.in_flight() == 0;
            if is_idle {
                window.listing = Listing::None;
            }
            is_idle
        });
        self.queued = others;
        idle.into()
    }

    /// How many may have something to send.
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// When the next timer is due.
    pub fn next_timer(&self) -> Option<Instant> {
        [&self.lingering, &self.holding, &self.paced].into_iter().filter_map(Timers::first).min()
    }
}

/// For how long a timer is set so that it ends when `linger` is over, or by a part of it earlier: a linger says how long a record
/// may wait at most (`linger.ms`).
fn timer(linger: Duration) -> Duration {
    linger - TIMER_LATENESS.min(linger / 4)
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
mod tests;
