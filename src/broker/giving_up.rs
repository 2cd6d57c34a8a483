//! Gives up records that their topic's rules say are not to wait any longer: those of partitions that are gone, and those that have
//! waited for too long.
//!
//! The supervisor does it, and not the task behind a connection: there may be none. Nothing is taken from under a connection: while
//! something of a partition is in flight there, nothing that was sent is given up; its answer, or the end of the connection, comes
//! first. What was sent and is in doubt is counted, and what comes next begins a new epoch, so that no lane has a hole.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::Context;
use super::flight::Effect;
use crate::cluster::snapshot::Snapshot;
use crate::config::{MissingPartitionPolicy, format_duration};
use crate::queue::item::Item;
use crate::queue::ledger::{DropReason, DuplicateCause};
use crate::queue::partition::Partition;
use crate::queue::receipt::Outcome;
use crate::queue::topic::{Held, Topic};
use crate::queue::window::{Built, Window};
use crate::wire::codes;

/// The shortest pause between two looks at what waits for too long: so much later it may be given up.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What was taken out of a partition, or of a topic whose partitions are not known.
#[derive(Default)]
struct Taken {
    batches: VecDeque<Box<Built>>,
    waiting: VecDeque<Box<Item>>,
    held: Vec<Held>,
}

impl Context {
    /// Gives up what waits in partitions that the cluster no longer has, where the topic's rule says so.
    pub(super) fn give_up_missing(&self, snapshot: &Snapshot) {
        for topic in self.topics.all() {
            let rules = &topic.info().rules;
            if rules.on_missing_partition != MissingPartitionPolicy::DeadLetter {
                continue;
            }
            let has_lacked = |id| snapshot.has_lacked(&topic.info().name, id, rules.max_block);
            let partitions = topic.partitions();
            for partition in partitions.iter().flat_map(|all| all.iter()).filter(|each| has_lacked(each.id())) {
                self.dead_letter_all(partition);
            }
        }
    }

    fn dead_letter_all(&self, partition: &Arc<Partition>) {
        let mut taken = Taken::default();
        let mut effects = Vec::new();
        let mut window = partition.window();
        if window.in_flight() > 0 {
            return;
        }
        window.give_up_sent(&mut taken.batches, &mut effects);
        window.take_unsent(&mut taken.batches, |_| true);
        taken.waiting = partition.take_waiting(&mut window, |_| true);
        drop(window);
        self.carry_out(partition, &mut effects);
        let words = format!("topic {} has no partition {} any more", partition.topic().name, partition.id());
        let records = self.release(taken, partition.id(), codes::UNKNOWN_TOPIC_OR_PARTITION, &words);
        if records == 0 {
            return;
        }
        self.ledger.dead_letter(codes::UNKNOWN_TOPIC_OR_PARTITION, records);
        if let Some(events) = self.said.dead.admit() {
            let (topic, id) = (&partition.topic().name, partition.id());
            warn!(%topic, partition = id, events, records, reason = %words, "records dead-lettered");
        }
        // Whatever list it stands in, it is looked at with nothing in it, so that the next push announces itself.
        partition.announce();
    }

    /// Gives up what has waited for longer than its topic's `delivery_timeout`, and says when to look again; `None`: when there
    /// are more topics.
    pub(super) fn give_up_late(&self, now: Instant) -> Option<Instant> {
        if !self.config.may_time_out() {
            return None;
        }
        let mut next: Option<Instant> = None;
        for topic in self.topics.all() {
            let Some(timeout) = topic.info().rules.delivery_timeout else { continue };
            // What is read from now on may wait at least until then.
            let oldest = self.give_up_late_of(&topic, now, timeout).map_or(now, |oldest| oldest.min(now));
            let look = (oldest + timeout).max(now + LOOK_PAUSE);
            next = Some(next.map_or(look, |next| next.min(look)));
        }
        next
    }

    /// When the oldest record was read that stays.
    fn give_up_late_of(&self, topic: &Topic, now: Instant, timeout: Duration) -> Option<Instant> {
        let is_late = |arrived: Instant| arrived + timeout <= now;
        let (held, mut oldest) = topic.take_held(|burst| is_late(burst.arrived));
        self.drop_late(topic, Taken { held, ..Taken::default() }, -1, timeout);
        let partitions = topic.partitions();
        for partition in partitions.iter().flat_map(|all| all.iter()) {
            let mut taken = Taken::default();
            let mut effects = Vec::new();
            let mut window = partition.window();
            if window.in_flight() == 0 && window.sent_until().is_some_and(is_late) {
                window.give_up_sent(&mut taken.batches, &mut effects);
            }
            window.take_unsent(&mut taken.batches, is_late);
            taken.waiting = partition.take_waiting(&mut window, |item| is_late(item.arrived()));
            let stays = window.oldest_arrived();
            drop(window);
            oldest = oldest.into_iter().chain(stays).min();
            self.carry_out(partition, &mut effects);
            if self.drop_late(topic, taken, partition.id(), timeout) > 0 {
                // As in `dead_letter_all`.
                partition.announce();
            }
        }
        oldest
    }

    /// Counts what was taken out, and tells its clients. Returns how many records it was.
    fn drop_late(&self, topic: &Topic, taken: Taken, partition: i32, timeout: Duration) -> u64 {
        let words = format!("not delivered within {} (delivery_timeout)", format_duration(timeout));
        let records = self.release(taken, partition, codes::REQUEST_TIMED_OUT, &words);
        if records > 0 {
            self.ledger.drop_records(DropReason::DeliveryTimeout, records);
            if let Some(events) = self.said.late.admit() {
                let topic = &topic.info().name;
                warn!(%topic, partition, events, records, reason = %words, "records dropped");
            }
        }
        records
    }

    /// Tells whoever waits for what was taken out, and gives its memory back. Returns how many records it was.
    fn release(&self, taken: Taken, partition: i32, error_code: i16, words: &str) -> u64 {
        let outcome = Outcome::Failed { partition, error_code, reason: words.into() };
        let mut records = 0;
        for batch in taken.batches {
            records += u64::from(batch.sealed.count());
            self.budget.release(batch.charged);
            batch.marks.into_iter().for_each(|mark| mark.receipt.settle(outcome.clone()));
        }
        for item in taken.waiting {
            records += u64::from(item.left());
            self.budget.release(item.charged_bytes());
            item.fail(&outcome);
        }
        for burst in taken.held {
            records += u64::from(burst.run.count());
            self.budget.release(burst.charged);
            burst.marks.into_iter().for_each(|mark| mark.receipt.settle(outcome.clone()));
        }
        records
    }
}

impl Window {
    /// When the newest record was read that was sent and is not settled.
    fn sent_until(&self) -> Option<Instant> {
        self.flight.as_ref().filter(|_| !self.batches.is_empty()).map(|flight| flight.newest_arrived)
    }

    /// About when the oldest record was read that is here: batches that were sent are as old as the youngest of them.
    fn oldest_arrived(&self) -> Option<Instant> {
        let built = || self.built.as_ref().map(|built| built.arrived);
        let waiting = || self.front.front().map(|item| item.arrived());
        self.sent_until().or_else(built).or_else(waiting)
    }

    /// Takes out all that was sent. Nothing may be in flight. What was in doubt is counted. All of it together, since what is behind a
    /// batch that is given up needs other numbers, and must not be in doubt under those that it has.
    pub(super) fn give_up_sent(&mut self, taken: &mut VecDeque<Box<Built>>, effects: &mut Vec<Effect>) {
        let sent = self.batches.len();
        self.count_doubt(DuplicateCause::GivenUp, effects);
        if sent > 0 {
            self.new_epoch(effects);
        }
        if let Some(flight) = &mut self.flight {
            flight.inquiry = None;
            flight.inquiries_failed = 0;
            flight.setback = None;
            flight.parked = None;
        }
        for _ in 0..sent {
            taken.extend(self.take_built());
        }
    }

    /// Takes out batches that have no numbers, oldest first, for as long as `wants` says yes to when the newest record of the next one
    /// was read.
    fn take_unsent(&mut self, taken: &mut VecDeque<Box<Built>>, wants: impl Fn(Instant) -> bool) {
        while self.built.as_ref().is_some_and(|built| wants(built.arrived)) {
            taken.extend(self.take_built());
        }
    }

    fn take_built(&mut self) -> Option<Box<Built>> {
        let next = self.flight.as_mut().and_then(|flight| flight.renumbered.pop_front());
        std::mem::replace(&mut self.built, next)
    }
}
