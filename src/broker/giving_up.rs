//! Gives up records that their topic's rules say are not to wait any longer.
//!
//! The supervisor does it, and not the task behind a connection: there may be none. Nothing is taken from under a connection: while
//! something of a partition is in flight there, nothing of the partition is given up; its answer, or the end of the connection, comes
//! first. What was sent and is in doubt is counted, and what comes next begins a new epoch, so that no lane has a hole.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::warn;

use super::Context;
use super::flight::Effect;
use crate::cluster::snapshot::Snapshot;
use crate::config::MissingPartitionPolicy;
use crate::queue::item::Item;
use crate::queue::ledger::DuplicateCause;
use crate::queue::partition::Partition;
use crate::queue::receipt::Outcome;
use crate::queue::window::{Built, Window};
use crate::wire::codes;

/// What was taken out of a partition.
#[derive(Default)]
struct Taken {
    batches: VecDeque<Box<Built>>,
    waiting: VecDeque<Box<Item>>,
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
        taken.batches.extend(std::iter::from_fn(|| window.take_built()));
        taken.waiting = partition.take_waiting(&mut window, |_| true);
        drop(window);
        self.carry_out(partition, &mut effects);
        let words = format!("topic {} has no partition {} any more", partition.topic().name, partition.id());
        let records = self.release(partition, taken, codes::UNKNOWN_TOPIC_OR_PARTITION, &words);
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

    /// Tells whoever waits for what was taken out, and gives its memory back. Returns how many records it was.
    fn release(&self, partition: &Partition, taken: Taken, error_code: i16, words: &str) -> u64 {
        let outcome = Outcome::Failed { partition: partition.id(), error_code, reason: words.into() };
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
        records
    }
}

impl Window {
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

    /// The oldest batch without numbers.
    fn take_built(&mut self) -> Option<Box<Built>> {
        let next = self.flight.as_mut().and_then(|flight| flight.renumbered.pop_front());
        std::mem::replace(&mut self.built, next)
    }
}
