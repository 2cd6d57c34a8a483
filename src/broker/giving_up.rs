//! Gives up records that their topic's rules say are not to wait any longer: those of partitions that are gone, and those that have
//! waited for too long.
//!
//! The supervisor does it, and not the task behind a connection: there may be none. Nothing is taken from under a connection: while
//! something of a partition is in flight there, nothing that was sent is given up; its answer, or the end of the connection, comes
//! first. What was sent and is in doubt is counted, and what comes next begins a new epoch, so that no lane has a hole.
//!
//! What the log holds is given up by a note in the log: clients are told, and it is counted, when that is on disk, so that it does not come back
//! after a kill.

use std::collections::{BTreeMap, VecDeque};
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

/// What records may be given up in.
enum Place {
    /// A partition that is gone, and whose topic says what becomes of what waits for it.
    Gone(Arc<Partition>),
    /// What waits for its topic's partitions to be known, where that has a `delivery_timeout`.
    Held(Arc<Topic>, Duration),
    /// A partition of such a topic.
    Timed(Arc<Topic>, Arc<Partition>, Duration),
}

/// Where records may be given up, and when it is to be looked at again: so that one place that is looked at often costs nothing for all the others.
#[derive(Default)]
pub(super) struct Watched {
    by_moment: BTreeMap<(Instant, u64), Place>,
    added: u64,
}

impl Watched {
    fn add(&mut self, look: Instant, place: Place) {
        self.added += 1;
        self.by_moment.insert((look, self.added), place);
    }

    fn take_due(&mut self, now: Instant) -> Option<Place> {
        let first = self.by_moment.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

impl Context {
    /// All that there is to be looked at as the cluster is now, from now on.
    pub(super) fn watch(&self, snapshot: &Snapshot, now: Instant) -> Watched {
        let mut watched = Watched::default();
        for topic in self.topics.all() {
            let rules = &topic.info().rules;
            let dead_letters = rules.on_missing_partition == MissingPartitionPolicy::DeadLetter;
            if let Some(timeout) = rules.delivery_timeout {
                watched.add(now, Place::Held(topic.clone(), timeout));
            }
            if !dead_letters && rules.delivery_timeout.is_none() {
                continue;
            }
            for partition in topic.partitions().iter().flat_map(|all| all.iter()) {
                if dead_letters && snapshot.has_lacked(&topic.info().name, partition.id(), rules.max_block) {
                    watched.add(now, Place::Gone(partition.clone()));
                }
                if let Some(timeout) = rules.delivery_timeout {
                    watched.add(now, Place::Timed(topic.clone(), partition.clone(), timeout));
                }
            }
        }
        watched
    }

    /// Gives up what waits in partitions that the cluster no longer has, and what has waited for longer than its topic's `delivery_timeout`, where that is
    /// due to be looked at. Says when to look again; `None`: when there is something new of the cluster or the topics.
    pub(super) fn give_up(&self, watched: &mut Watched, now: Instant) -> Option<Instant> {
        while let Some(place) = watched.take_due(now) {
            let (oldest, timeout) = match &place {
                Place::Gone(partition) => {
                    self.dead_letter_all(partition);
                    if partition.may_get_more() {
                        watched.add(now + LOOK_PAUSE, place);
                    }
                    continue;
                }
                Place::Held(topic, timeout) => (self.give_up_held(topic, now, *timeout), *timeout),
                Place::Timed(topic, partition, timeout) => {
                    (self.give_up_late(topic, partition, now, *timeout), *timeout)
                }
            };
            // What is read from now on may wait at least until then.
            let oldest = oldest.map_or(now, |oldest| oldest.min(now));
            watched.add((oldest + timeout).max(now + LOOK_PAUSE), place);
        }
        let next = watched.by_moment.keys().next().map(|(look, _)| *look);
        next.map(|look| look.max(now + LOOK_PAUSE))
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

    /// When the oldest record was read that stays.
    fn give_up_held(&self, topic: &Topic, now: Instant, timeout: Duration) -> Option<Instant> {
        let (held, oldest) = topic.take_held(|burst| burst.arrived + timeout <= now);
        if !held.is_empty() {
            let stretches = held.into_iter().map(|burst| (burst.run.count(), burst.charged, burst.marks));
            let given_up = given_up(stretches, -1, timeout);
            self.say_late(topic, &given_up);
            given_up.settle(&self.ledger, &self.budget);
        }
        oldest
    }

    /// When the oldest record was read that stays, or as long ago as it may be where that is not known.
    fn give_up_late(
        &self,
        topic: &Topic,
        partition: &Arc<Partition>,
        now: Instant,
        timeout: Duration,
    ) -> Option<Instant> {
        let is_late = |arrived: Instant| arrived + timeout <= now;
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
        self.drop_late(topic, partition, &window, taken, timeout);
        drop(window);
        self.carry_out(partition, &mut effects);
        stays
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::lanes::ProducerIds;
    use crate::cluster::Cluster;
    use crate::cluster::dial::Dialer;
    use crate::config::{Config, TopicRules};
    use crate::queue::topic::Topics;
    use crate::queue::window::{ConnectionId, Side};
    use crate::record::{Record, Run};
    use crate::wire::api::metadata::{self, Metadata};
    use crate::wire::codec::Codec;
    use crate::wire::record_batch::BatchBuilder;

    fn context(rules: &[(&str, TopicRules)]) -> Arc<Context> {
        let mut config = Config::default();
        for (topic, rules) in rules {
            config.topics.insert(topic.parse().unwrap(), *rules).unwrap();
        }
        let config = Arc::new(config);
        let topics = Arc::new(Topics::new(config.clone()));
        for (topic, _) in rules {
            let topic = topics.find_or_create(topic).unwrap();
            topics.place(&topic, 2, |_, _| {});
        }
        let dialer = Dialer::tcp("test", Duration::from_secs(1));
        Context::that_is_alone(config, topics, Cluster::that_stays(Snapshot::default()), dialer)
    }

    /// A record of the topic's first partition is in flight.
    fn send(context: &Context, topic: &str) -> Arc<Partition> {
        let mut run = Run::default();
        run.push(&Record { timestamp: 1, stamped_here: false, key: None, value: None, headers: &[] });
        let mut builder = BatchBuilder::new();
        run.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
        let sealed = builder.finish(Codec::None, None).0;
        let (side, marks, arrived) = (Side::Fresh, Vec::new(), Instant::now());
        let partition = context.topics.find(topic).unwrap().partitions().unwrap()[0].clone();
        let mut window = partition.window();
        let topic_id = partition.topic().id();
        window.adopt(ConnectionId(1), topic_id, Instant::now(), Duration::from_secs(3600), &mut Vec::new());
        let built = Built { sealed, side, marks, arrived, charged: 0, counted: false, first_index: 0 };
        window.built = Some(Box::new(built));
        let attempt = window.seal_built(ProducerIds { fresh: 1, old: 2, generation: 0 }).unwrap();
        window.sent(attempt, 0);
        drop(window);
        partition
    }

    /// How many batches wait for an answer, or to be sent again.
    fn sent(partition: &Partition) -> usize {
        partition.window().batches.len()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_flight_is_waited_for_however_late_it_is_and_what_is_in_doubt_is_counted() {
        let second = Duration::from_secs(1);
        let context = context(&[("a", TopicRules { delivery_timeout: Some(second), ..Config::default().producer })]);
        let (start, partition) = (Instant::now(), send(&context, "a"));
        let mut watched = context.watch(&Snapshot::default(), start);
        context.give_up(&mut watched, start + 2 * second);
        assert_eq!((sent(&partition), context.ledger.balance().possible_duplicates), (1, 0));
        partition.window().lost(ConnectionId(1), &mut Vec::new());
        context.give_up(&mut watched, start + 4 * second);
        assert_eq!((sent(&partition), context.ledger.balance().possible_duplicates), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_partition_that_is_gone_is_given_up_where_its_topic_says_so_once_nothing_is_in_flight() {
        let gives_up = TopicRules {
            on_missing_partition: MissingPartitionPolicy::DeadLetter,
            max_block: Duration::ZERO,
            ..Config::default().producer
        };
        let waits = TopicRules { on_missing_partition: MissingPartitionPolicy::Hold, ..gives_up };
        let context = context(&[("a", gives_up), ("b", waits)]);
        let unknown = |name: &str| metadata::Topic {
            name: Some(name.into()),
            error_code: codes::UNKNOWN_TOPIC_OR_PARTITION,
            ..metadata::Topic::default()
        };
        let answer = Metadata { topics: vec![unknown("a"), unknown("b")], ..Metadata::default() };
        let now = Instant::now();
        let gone = Snapshot::default().after(&answer, now).after(&answer, now);
        let [a, b] = ["a", "b"].map(|topic| send(&context, topic));
        context.give_up(&mut context.watch(&gone, now), now);
        assert_eq!((sent(&a), sent(&b)), (1, 1), "in flight");
        for partition in [&a, &b] {
            partition.window().lost(ConnectionId(1), &mut Vec::new());
        }
        context.give_up(&mut context.watch(&gone, now), now);
        assert_eq!((sent(&a), sent(&b)), (0, 1));
        assert_eq!(context.ledger.balance().dead_lettered, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_due_is_looked_at() {
        let timeout =
            |seconds| TopicRules { delivery_timeout: Some(Duration::from_secs(seconds)), ..Config::default().producer };
        let context = context(&[("a", timeout(1)), ("b", timeout(60)), ("c", Config::default().producer)]);
        let start = Instant::now();
        let mut watched = context.watch(&Snapshot::default(), start);
        let next = context.give_up(&mut watched, start);
        assert_eq!(next, Some(start + Duration::from_secs(1)));
        // Each with its two partitions, and what waits for partitions.
        let looks = |watched: &Watched| -> Vec<u64> {
            watched.by_moment.keys().map(|(look, _)| (*look - start).as_secs()).collect()
        };
        assert_eq!(looks(&watched), [1, 1, 1, 60, 60, 60]);
        assert_eq!(context.give_up(&mut watched, start + Duration::from_secs(1)), Some(start + Duration::from_secs(2)));
        assert_eq!(looks(&watched), [2, 2, 2, 60, 60, 60]);
    }
}
