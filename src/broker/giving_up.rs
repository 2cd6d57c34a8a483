//! Gives up records that their topic's rules say are not to wait any longer: those of partitions that are gone, and those that have
//! waited for too long.
//!
//! The supervisor does it, and not the task behind a connection: there may be none. Nothing is taken from under a connection: while
//! something of a partition is in flight there, nothing that was sent is given up; its answer, or the end of the connection, comes
//! first. What was sent and is in doubt is counted, and what comes next begins a new epoch, so that no lane has a hole.
//!
//! What the log holds is given up by a note in the log: clients are told, and it is counted, when that is on disk, so that it does not come back
//! after a kill.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::Context;
use super::flight::Effect;
use super::letter::Body;
use crate::backlog::letter::Refusal;
use crate::cluster::snapshot::Snapshot;
use crate::config::{MissingPartitionPolicy, format_duration};
use crate::queue::given_up::GivenUp;
use crate::queue::item::Item;
use crate::queue::ledger::{DropReason, DuplicateCause};
use crate::queue::partition::Partition;
use crate::queue::receipt::{Mark, Outcome};
use crate::queue::topic::Topic;
use crate::queue::window::{Built, Window};
use crate::wire::codes;

/// The shortest pause between two looks at what waits for too long: so much later it may be given up.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What was taken out of a partition, oldest first.
#[derive(Default)]
struct Taken {
    batches: VecDeque<Box<Built>>,
    waiting: VecDeque<Box<Item>>,
}

impl Taken {
    fn into_bodies(self) -> Vec<Body> {
        let Taken { batches, waiting } = self;
        batches.into_iter().map(Body::from).chain(waiting.into_iter().map(Body::from)).collect()
    }
}

impl Context {
    /// Gives up what waits in partitions that the cluster no longer has, where the topic's rule says so. Says when to look again, where only the
    /// log has more of them.
    pub(super) fn give_up_missing(&self, snapshot: &Snapshot, now: Instant) -> Option<Instant> {
        let mut has_more = false;
        for topic in self.topics.all() {
            let rules = &topic.info().rules;
            if rules.on_missing_partition != MissingPartitionPolicy::DeadLetter {
                continue;
            }
            let has_lacked = |id| snapshot.has_lacked(&topic.info().name, id, rules.max_block);
            let partitions = topic.partitions();
            for partition in partitions.iter().flat_map(|all| all.iter()).filter(|each| has_lacked(each.id())) {
                self.dead_letter_all(partition);
                has_more |= partition.may_get_more();
            }
        }
        has_more.then(|| now + LOOK_PAUSE)
    }

    fn dead_letter_all(&self, partition: &Arc<Partition>) {
        let code = codes::UNKNOWN_TOPIC_OR_PARTITION;
        let mut taken = Taken::default();
        let mut effects = Vec::new();
        let mut window = partition.window();
        if window.in_flight() > 0 {
            return;
        }
        window.give_up_sent(&mut taken.batches, &mut effects);
        window.take_unsent(&mut taken.batches, |_| true);
        taken.waiting = partition.take_waiting(&mut window, |_| true);
        let bury = |body: Body| (window.bury_taken(&body, code), window.is_counted(&body), body);
        let letters: Vec<_> = taken.into_bodies().into_iter().map(bury).collect();
        drop(window);
        self.carry_out(partition, &mut effects);
        partition.want_more();
        if letters.is_empty() {
            return;
        }
        let words = format!("topic {} has no partition {} any more", partition.topic().name, partition.id());
        for (note, may_be_delivered, body) in letters {
            self.bury(partition, body, note, Refusal { code, may_be_delivered, words: words.clone() });
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
        if !held.is_empty() {
            let stretches = held.into_iter().map(|burst| (burst.run.count(), burst.charged, burst.marks));
            let given_up = given_up(stretches, -1, timeout);
            self.say_late(topic, &given_up);
            given_up.settle(&self.ledger, &self.budget);
        }
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
            let mut stays = window.oldest_arrived();
            if stays.is_none() && partition.may_get_more() {
                // How old it is shows when it has been read back from the log.
                partition.want_more();
                stays = now.checked_sub(timeout);
            }
            oldest = oldest.into_iter().chain(stays).min();
            self.drop_late(topic, partition, &window, taken, timeout);
            drop(window);
            self.carry_out(partition, &mut effects);
        }
        oldest
    }

    /// Counts what was taken out, and tells its clients: at once, or, of a stored partition, when the log has on disk that it is given up.
    /// The notes are given to the log while the window is held, so before any of what is sent next.
    fn drop_late(&self, topic: &Topic, partition: &Arc<Partition>, window: &Window, taken: Taken, timeout: Duration) {
        let bodies = taken.into_bodies();
        if bodies.is_empty() {
            return;
        }
        let notes: Vec<_> = bodies.iter().filter_map(|body| window.drop_late(body)).collect();
        let given_up =
            given_up(bodies.into_iter().map(|body| (body.count, body.charged, body.marks)), partition.id(), timeout);
        self.say_late(topic, &given_up);
        if notes.is_empty() {
            given_up.settle(&self.ledger, &self.budget);
        } else {
            partition.give_up(notes, given_up);
        }
        // As in `dead_letter_all`.
        partition.announce();
    }

    fn say_late(&self, topic: &Topic, given_up: &GivenUp) {
        if let Outcome::Failed { partition, reason, .. } = &given_up.outcome
            && let Some(events) = self.said.late.admit()
        {
            let (topic, records) = (&topic.info().name, given_up.records);
            warn!(%topic, partition, events, records, %reason, "records dropped");
        }
    }
}

/// What has waited for longer than `timeout`: of each stretch its number of records, what it is charged, and its receipts.
fn given_up<M: IntoIterator<Item = Mark>>(
    stretches: impl Iterator<Item = (u32, usize, M)>,
    partition: i32,
    timeout: Duration,
) -> GivenUp {
    let words = format!("not delivered within {} (delivery_timeout)", format_duration(timeout));
    let outcome = Outcome::Failed { partition, error_code: codes::REQUEST_TIMED_OUT, reason: words.into() };
    let reason = DropReason::DeliveryTimeout;
    let mut given_up = GivenUp { reason, records: 0, charged: 0, receipts: Vec::new(), outcome };
    for (records, charged, marks) in stretches {
        given_up.records += u64::from(records);
        given_up.charged += charged;
        given_up.receipts.extend(marks.into_iter().map(|mark| mark.receipt));
    }
    given_up
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
