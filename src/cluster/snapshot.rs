//! What is known of the cluster at one moment: immutable, numbered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::config::HostPort;
use crate::wire::api::metadata::{self, Broker, Metadata, Topic};
use crate::wire::codes;

/// Answers in a row with older epochs than those known before they are believed: a broker that is behind is not so for long. A
/// topic that was made anew begins its epochs anew, which only brokers that give topic ids say at once.
const REWINDS_MAX: u32 = 5;

/// So many answers in a row must say that there is no such partition before that is acted on, however short the time that they must
/// say it for: one broker alone may be behind.
const LACKING_ANSWERS_MIN: u32 = 2;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts up with each change.
    pub generation: u64,
    /// When the brokers were last asked; `None` before the first answer.
    pub as_of: Option<Instant>,
    /// Which cluster it is.
    pub cluster_id: Option<String>,
    /// Where brokers are reached, by id.
    pub brokers: BTreeMap<i32, HostPort>,
    /// The topics that were asked for, by name.
    pub topics: HashMap<Arc<str>, TopicState>,
}

/// What the cluster says of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicState {
    /// 0, or why the cluster does not serve it.
    pub error_code: i16,
    /// Nil where brokers do not say.
    pub id: Uuid,
    /// By partition number. Empty while the topic is unknown.
    pub leaders: Vec<Leader>,
    /// Answers in a row that said an older epoch than a known one.
    rewinds: u32,
    /// How many partitions there are by the latest answers; `None` where the last one did not say.
    said: Option<Said>,
}

/// What answers in a row agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    /// 0: there is no such topic.
    partitions: usize,
    answers: u32,
    since: Instant,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// `None` while there is none.
    pub broker: Option<i32>,
    /// Counts elections; −1 where brokers do not say.
    pub epoch: i32,
}

/// A broker's word, in a Produce answer, that somebody else leads a partition (KIP-951).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The topic.
    pub topic: Arc<str>,
    /// Its id, as it was answered for; nil where requests go by name.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// The leader's id and epoch.
    pub leader: (i32, i32),
    /// Where brokers are reached, as far as the answer said.
    pub endpoints: Vec<Broker>,
}

impl Snapshot {
    /// Who leads a partition, if that is known.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let index = usize::try_from(partition).ok()?;
        self.topics.get(topic)?.leaders.get(index)?.broker
    }

    /// In which epoch a partition's leader is, where brokers say so.
    pub fn leader_epoch(&self, topic: &str, partition: i32) -> Option<i32> {
        let index = usize::try_from(partition).ok()?;
        let leader = self.topics.get(topic)?.leaders.get(index)?;
        (leader.epoch >= 0).then_some(leader.epoch)
    }

    /// Whether the last answer said that there is no such partition: its topic is gone, or has fewer.
    pub fn lacks(&self, topic: &str, partition: i32) -> bool {
        self.lacking(topic, partition).is_some()
    }

    /// Whether answers in a row have said so, from the first to the last one, for at least `long`.
    pub fn has_lacked(&self, topic: &str, partition: i32, long: Duration) -> bool {
        let (Some(said), Some(as_of)) = (self.lacking(topic, partition), self.as_of) else { return false };
        said.answers >= LACKING_ANSWERS_MIN && as_of.saturating_duration_since(said.since) >= long
    }

    fn lacking(&self, topic: &str, partition: i32) -> Option<Said> {
        let index = usize::try_from(partition).ok()?;
        self.topics.get(topic)?.said.filter(|said| said.partitions <= index)
    }

    /// This snapshot after an answer to a metadata request.
    #[must_use]
    pub fn after(&self, answer: &Metadata, now: Instant) -> Snapshot {
        let mut next = self.clone();
        next.generation += 1;
        next.as_of = Some(now);
        if answer.cluster_id.is_some() {
            next.cluster_id.clone_from(&answer.cluster_id);
        }
        if !answer.brokers.is_empty() {
            next.brokers = answer.brokers.iter().map(|broker| (broker.id, address(broker))).collect();
        }
        // Every request names all topics, so one that is not answered is no longer asked for.
        let mut known = std::mem::take(&mut next.topics);
        for topic in &answer.topics {
            let Some(name) = topic.name.as_deref() else { continue };
            let (name, mut state) = known.remove_entry(name).unwrap_or_else(|| (name.into(), TopicState::default()));
            state.learn(topic, now);
            next.topics.insert(name, state);
        }
        next
    }

    /// This snapshot after some hints; `None` if none says anything new.
    #[must_use]
    pub fn with_hints(&self, hints: &[Hint]) -> Option<Snapshot> {
        // When a broker goes, each of its partitions gets a hint: one copy for all of them.
        let news: Vec<_> =
            hints.iter().filter(|hint| self.known(hint).is_some_and(|known| hint.leader.1 > known.epoch)).collect();
        if news.is_empty() {
            return None;
        }
        let mut next = self.clone();
        next.generation += 1;
        for hint in news {
            next.take(hint);
        }
        Some(next)
    }

    /// The leader as it is known, of a partition of which a hint speaks.
    fn known(&self, hint: &Hint) -> Option<&Leader> {
        let index = usize::try_from(hint.partition).ok().filter(|_| hint.leader.0 >= 0)?;
        let topic = self.topics.get(&hint.topic)?;
        // Made anew since it was asked: its epochs are others.
        let is_same = hint.topic_id.is_nil() || hint.topic_id == topic.id;
        topic.leaders.get(index).filter(|_| is_same)
    }

    fn take(&mut self, hint: &Hint) {
        let (broker, epoch) = hint.leader;
        let leaders = self.topics.get_mut(&hint.topic).map(|topic| topic.leaders.iter_mut());
        let leader = usize::try_from(hint.partition).ok().and_then(|index| leaders?.nth(index));
        let Some(leader) = leader.filter(|leader| epoch > leader.epoch) else { return };
        *leader = Leader { broker: Some(broker), epoch };
        for endpoint in &hint.endpoints {
            self.brokers.entry(endpoint.id).or_insert_with(|| address(endpoint));
        }
    }
}

impl TopicState {
    /// Whether the epochs have gone back for so long that it must be another topic of that name.
    fn has_rewound(&mut self, topic: &Topic) -> bool {
        let is_behind = |partition: &metadata::Partition| {
            let known = usize::try_from(partition.id).ok().and_then(|index| self.leaders.get(index));
            partition.leader_epoch >= 0 && known.is_some_and(|known| partition.leader_epoch < known.epoch)
        };
        let rewinds = if topic.partitions.iter().any(is_behind) { self.rewinds + 1 } else { 0 };
        let has_rewound = rewinds > REWINDS_MAX;
        self.rewinds = if has_rewound { 0 } else { rewinds };
        has_rewound
    }

    /// Counts the answers in a row that say the same number of partitions.
    fn hear(&mut self, topic: &Topic, now: Instant) {
        let partitions = match topic.error_code {
            codes::UNKNOWN_TOPIC_OR_PARTITION | codes::UNKNOWN_TOPIC_ID => Some(0),
            codes::NONE => Some(topic.partitions.len()).filter(|count| *count > 0),
            // It may be there, and not be ours to see, or not be served now.
            _ => None,
        };
        let before = self.said.take();
        self.said = partitions.map(|partitions| match before.filter(|said| said.partitions == partitions) {
            Some(said) => Said { answers: said.answers.saturating_add(1), ..said },
            None => Said { partitions, answers: 1, since: now },
        });
    }

    fn learn(&mut self, topic: &Topic, now: Instant) {
        self.error_code = topic.error_code;
        self.hear(topic, now);
        if topic.partitions.is_empty() {
            // A broker that has not heard of the topic yet, or no longer: whoever led it is asked until a broker knows better.
            return;
        }
        // Epochs count within one topic: one that was deleted and made again begins anew.
        let again = self.has_rewound(topic) || topic.id != self.id && !self.id.is_nil();
        self.id = topic.id;
        if again {
            self.leaders.clear();
        }
        for partition in &topic.partitions {
            let Ok(index) = usize::try_from(partition.id) else { continue };
            // Ids are dense; one far beyond the number of partitions is an answer that lies.
            if index >= topic.partitions.len().max(self.leaders.len()) {
                continue;
            }
            if self.leaders.len() <= index {
                self.leaders.resize(index + 1, Leader { broker: None, epoch: -1 });
            }
            let known = &mut self.leaders[index];
            let stale = partition.leader_epoch >= 0 && partition.leader_epoch < known.epoch;
            if again || !stale {
                let leads = partition.error_code == codes::NONE && partition.leader >= 0;
                // A replica that is offline is said with error 9 beside a leader that works.
                let leads = leads || partition.error_code == codes::REPLICA_NOT_AVAILABLE && partition.leader >= 0;
                *known = Leader { broker: leads.then_some(partition.leader), epoch: partition.leader_epoch };
            }
        }
    }
}

fn address(broker: &Broker) -> HostPort {
    HostPort { host: broker.host.clone(), port: broker.port }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::api::metadata::Partition;

    fn answer(id: u128, leaders: &[(i32, i32)]) -> Metadata {
        let partitions = (0i32..)
            .zip(leaders)
            .map(|(id, (leader, epoch))| Partition {
                id,
                leader: *leader,
                leader_epoch: *epoch,
                ..Partition::default()
            })
            .collect();
        let topic = Topic { name: Some("t".into()), id: Uuid::from_u128(id), partitions, ..Topic::default() };
        let broker = |id| Broker { id, host: "h".into(), port: 9092, rack: None };
        Metadata { brokers: vec![broker(1), broker(2)], topics: vec![topic], ..Metadata::default() }
    }

    #[tokio::test]
    async fn a_leader_of_an_older_epoch_is_not_believed() {
        let now = Instant::now();
        let known = Snapshot::default().after(&answer(7, &[(1, 5)]), now);
        assert_eq!(known.after(&answer(7, &[(2, 4)]), now).leader("t", 0), Some(1));
        assert_eq!(known.after(&answer(7, &[(2, 6)]), now).leader("t", 0), Some(2));
        assert_eq!(known.after(&answer(7, &[(-1, 6)]), now).leader("t", 0), None);
    }

    #[tokio::test]
    async fn a_topic_with_a_new_id_begins_its_epochs_anew() {
        let now = Instant::now();
        let known = Snapshot::default().after(&answer(7, &[(1, 5)]), now);
        assert_eq!(known.after(&answer(8, &[(2, 0)]), now).leader("t", 0), Some(2));
    }

    #[tokio::test]
    async fn an_older_epoch_is_believed_when_it_is_said_again_and_again() {
        let now = Instant::now();
        let mut known = Snapshot::default().after(&answer(7, &[(1, 5)]), now);
        for _ in 0..REWINDS_MAX {
            known = known.after(&answer(7, &[(2, 0)]), now);
            assert_eq!(known.leader("t", 0), Some(1));
        }
        assert_eq!(known.after(&answer(7, &[(1, 5)]), now).after(&answer(7, &[(2, 0)]), now).leader("t", 0), Some(1));
        known = known.after(&answer(7, &[(2, 0)]), now);
        assert_eq!(known.leader("t", 0), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_is_missing_only_when_answers_in_a_row_have_said_so_for_long_enough() {
        let long = Duration::from_secs(10);
        let start = Instant::now();
        let (two, one) = (answer(7, &[(1, 5), (1, 5)]), answer(8, &[(1, 0)]));
        let known = Snapshot::default().after(&two, start);
        assert!(!known.lacks("t", 1));
        let first = known.after(&one, start + long);
        assert!(first.lacks("t", 1) && !first.lacks("t", 0));
        assert!(!first.has_lacked("t", 1, Duration::ZERO), "one answer alone");
        let later = |seconds| start + long + Duration::from_secs(seconds);
        assert!(!first.after(&one, later(9)).has_lacked("t", 1, long));
        assert!(first.after(&one, later(10)).has_lacked("t", 1, long));
        assert!(!first.after(&two, later(5)).after(&one, later(10)).has_lacked("t", 1, long), "it was there meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_is_missing_when_it_is_unknown_and_not_when_it_is_not_to_be_seen() {
        let start = Instant::now();
        let says = |error_code| {
            let topic = Topic { name: Some("t".into()), error_code, ..Topic::default() };
            Metadata { topics: vec![topic], ..Metadata::default() }
        };
        let twice = |code| {
            let known = Snapshot::default().after(&answer(7, &[(1, 5)]), start);
            known.after(&says(code), start).after(&says(code), start)
        };
        assert!(twice(codes::UNKNOWN_TOPIC_OR_PARTITION).has_lacked("t", 0, Duration::ZERO));
        for code in [codes::TOPIC_AUTHORIZATION_FAILED, codes::LEADER_NOT_AVAILABLE, codes::NONE] {
            assert!(!twice(code).lacks("t", 0), "{code}");
        }
    }

    #[tokio::test]
    async fn a_hint_counts_if_its_epoch_is_later() {
        let known = Snapshot::default().after(&answer(7, &[(1, 5)]), Instant::now());
        let endpoint = Broker { id: 3, host: "new".into(), port: 1, rack: None };
        let topic_id = Uuid::from_u128(7);
        let hint =
            |leader| Hint { topic: "t".into(), topic_id, partition: 0, leader, endpoints: vec![endpoint.clone()] };
        let next = known.with_hints(&[hint((2, 7)), hint((3, 6)), hint((3, 8))]).expect("news");
        assert_eq!((next.leader("t", 0), next.generation), (Some(3), known.generation + 1));
        assert_eq!(next.brokers[&3].host, "new");
        assert!(known.with_hints(&[hint((3, 5)), hint((-1, 9))]).is_none());
        assert_eq!(known.with_hints(&[hint((2, 7)), hint((3, 6))]).expect("news").leader("t", 0), Some(2));
        let of_another = Hint { topic_id: Uuid::from_u128(6), ..hint((3, 6)) };
        assert!(known.with_hints(&[of_another]).is_none());
        let by_name = Hint { topic_id: Uuid::nil(), ..hint((3, 6)) };
        assert!(known.with_hints(&[by_name]).is_some());
    }

    #[tokio::test]
    async fn a_partition_number_that_lies_allocates_nothing() {
        let mut lie = answer(7, &[(1, 5)]);
        lie.topics[0].partitions[0].id = i32::MAX;
        assert!(Snapshot::default().after(&lie, Instant::now()).topics["t"].leaders.is_empty());
    }
}
