//! Back to memory alone: a partition of a topic that overflows is turned off when everything that the log has of it is settled there, durably.
//!
//! Not earlier: a batch that the log does not know, sent behind one whose acknowledgement it may forget in a crash, would stand between that one and the start
//! that sends it again. And while records keep coming there is always something that is not settled. So when there is no more reason to store, appending pauses for
//! the partition: what is pushed waits in memory for the round trip and the sync that settle the rest. If a reason comes up meanwhile, or it takes long, it goes on.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::append::Appender;
use super::durable::Waiter;
use super::overflow::has_waited;
use crate::backlog::log::append::Ticket;
use crate::backlog::log::engine::Log;
use crate::backlog::log::storage::{Storage, StorageFile};
use crate::queue::partition::Partition;

/// For so long there must have been no reason to store. Tests come back to memory often.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });
/// After attempts that failed, at most.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// A pause ends after so long.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A partition that is on, and may be turned off.
#[derive(Debug)]
pub(super) struct Spilled {
    pub(super) partition: Arc<Partition>,
    /// When there last was a reason.
    wanted: Instant,
    patience: Duration,
    /// Since when nothing is appended.
    paused: Option<Instant>,
    /// All of it was found settled, by notes that are durable with this frame.
    settled_by: Option<Ticket>,
}

impl Spilled {
    fn new(partition: Arc<Partition>) -> Self {
        Spilled { partition, wanted: Instant::now(), patience: PATIENCE, paused: None, settled_by: None }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// It is appended to again: it took too long, or there is a reason.
    fn go_on(&mut self, now: Instant) {
        self.paused = None;
        self.settled_by = None;
        self.wanted = now;
        self.patience = (self.patience * 2).min(PATIENCE_MAX);
    }

    /// Somebody wants it to be stored.
    pub(super) fn is_wanted(&mut self, now: Instant) {
        self.wanted = now;
    }
}

impl<F: StorageFile> Appender<F> {
    /// Looks at each partition that is on: at all of them when it is time, else at those that pause.
    pub(super) fn unspill<S: Storage<File = F>>(&mut self, log: &Log<S>) {
        while let Some(partition) = self.shared.inbox.next_spilled() {
            self.spilled.insert(Arc::as_ptr(&partition).addr(), Spilled::new(partition));
        }
        let looks_at_all = self.shared.is_look_due.swap(false, Ordering::Relaxed);
        if !looks_at_all && !self.spilled.values().any(Spilled::is_paused) {
            return;
        }
        let now = Instant::now();
        let mut spilled = std::mem::take(&mut self.spilled);
        spilled.retain(|_, each| !((looks_at_all || each.is_paused()) && self.look_at_spilled(log, each, now)));
        self.spilled = spilled;
        self.shared.has_spilled.store(!self.spilled.is_empty(), Ordering::Relaxed);
    }

    /// For a stop: nothing waits any more to go back to memory.
    pub(super) fn end_pauses(&mut self) {
        let mut paused = Vec::new();
        for each in self.spilled.values_mut().filter(|each| each.is_paused()) {
            each.go_on(Instant::now());
            paused.push(each.partition.clone());
        }
        paused.into_iter().for_each(|partition| self.enqueue(partition));
    }

    /// True when it was turned off.
    fn look_at_spilled<S: Storage<File = F>>(&mut self, log: &Log<S>, each: &mut Spilled, now: Instant) -> bool {
        let partition = each.partition.clone();
        let (Some(stored), budget) = (partition.stored(), &self.shared.budget) else { return true };
        let wants_log = stored.pushed().iter().any(|item| item.wants_stored());
        if wants_log || budget.is_pressed() || !stored.log_only().is_empty() {
            each.is_wanted(now);
        }
        match each.paused {
            None => {
                // What does not move is not settled soon.
                let moves = partition.has_leader() && !has_waited(&partition, now, PAUSE_MAX);
                let is_stopping = self.shared.is_stopping.load(Ordering::SeqCst);
                if moves && !is_stopping && now.saturating_duration_since(each.wanted) >= each.patience {
                    each.paused = Some(now);
                }
            }
            Some(since) if each.wanted > since || now.saturating_duration_since(since) > PAUSE_MAX => {
                each.go_on(now);
                self.enqueue(partition.clone());
                self.shared.inbox.ring();
            }
            Some(_) => {}
        }
        each.is_paused() && self.is_settled(log, each) && self.turn_off(log, &partition)
    }

    /// Whether the log has nothing of it that is not settled, and that is on disk.
    fn is_settled<S: Storage<File = F>>(&self, log: &Log<S>, each: &mut Spilled) -> bool {
        let number = each.partition.stored().and_then(|stored| stored.number().get());
        let known = number.and_then(|number| log.partition(*number));
        if known.is_some_and(|known| known.settled < known.next) {
            each.settled_by = None;
            return false;
        }
        let by = *each.settled_by.get_or_insert_with(|| {
            let by = log.appended();
            // So that it is looked at again then.
            self.shared.waiting.lock().push(by, Waiter::Room);
            by
        });
        log.synced() >= by
    }

    /// False if something is left in its window all the same.
    fn turn_off<S: Storage<File = F>>(&self, log: &Log<S>, partition: &Arc<Partition>) -> bool {
        let Some(stored) = partition.stored() else { return true };
        let mut window = partition.window();
        let is_empty = window.batches.is_empty() && window.unnumbered().next().is_none() && window.front.is_empty();
        if !is_empty || window.unburied > 0 || !stored.is_drained() {
            return false;
        }
        let lane = stored.number().get().and_then(|number| log.partition(*number)?.lane);
        if lane.is_some_and(|lane| lane.next_sequence == 0) {
            // A later start may go on in the lane that the log ends with, from its beginning: whatever memory sends until then must not stand there.
            window.leave_lane();
        }
        let is_wanted = stored.turn_off(&mut window);
        drop(window);
        fence(Ordering::SeqCst);
        let is_wanted = is_wanted || self.shared.is_stopping.load(Ordering::SeqCst);
        debug!(topic = %partition.topic().name, partition = partition.id(), "held in memory alone again");
        if is_wanted {
            stored.ask_unless_on();
        }
        partition.announce();
        true
    }
}
