//! Who leads, who is in sync, and how brokers hear of it (`ReplicationControlManager`).

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::events::Event;
use super::replica::Replica;
use super::{Key, State};

/// Nobody leads.
pub const NO_LEADER: i32 = -1;

/// The longest until the controller notices that a broker is gone (`broker.session.timeout.ms`).
const SESSION_TIMEOUT: Duration = Duration::from_millis(400);

/// A topic, as the controller or a broker knows it.
#[derive(Clone, Debug)]
pub struct Topic {
    pub id: Uuid,
    pub partitions: Vec<Assignment>,
}

/// A partition's place.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The preferred leader first.
    pub replicas: Vec<i32>,
    /// -1: none.
    pub leader: i32,
    /// Counts elections.
    pub epoch: i32,
    pub in_sync: Vec<i32>,
}

impl State {
    /// A topic with so many partitions on all brokers.
    pub fn create_topic(&mut self, name: &str, partitions: usize) {
        self.topics_made += 1;
        let topic = Topic { id: Uuid::from_u128(self.topics_made), partitions: Vec::new() };
        self.topics.insert(name.into(), topic);
        self.trace.note(|| format!("topic {name} is created with {partitions} partitions"));
        self.add_partitions(name, partitions);
    }

    /// More partitions.
    pub fn add_partitions(&mut self, name: &str, more: usize) {
        let registered: Vec<i32> = self.brokers.iter().filter(|(_, b)| b.is_registered).map(|(id, _)| *id).collect();
        let all: Vec<i32> = self.brokers.keys().copied().collect();
        let Some(topic) = self.topics.get_mut(name) else { return };
        for _ in 0..more {
            let mut replicas = all.clone();
            replicas.rotate_left(topic.partitions.len() % all.len());
            let mut in_sync: Vec<i32> = replicas.iter().copied().filter(|id| registered.contains(id)).collect();
            let leader = in_sync.first().copied().unwrap_or(NO_LEADER);
            if in_sync.is_empty() {
                in_sync.clone_from(&replicas);
            }
            topic.partitions.push(Assignment { replicas, leader, epoch: 0, in_sync });
        }
        let most = self.most_partitions.entry(name.into()).or_default();
        *most = topic.partitions.len().max(*most);
        self.tell(name);
    }

    /// How many partitions a topic has, and the most that one of its name ever had.
    pub fn width(&self, name: &str) -> (usize, usize) {
        let there = self.topics.get(name).map_or(0, |topic| topic.partitions.len());
        (there, self.most_partitions.get(name).copied().unwrap_or_default())
    }

    /// The topic is deleted.
    pub fn delete_topic(&mut self, name: &str) {
        self.topics.remove(name);
        self.trace.note(|| format!("topic {name} is deleted"));
        self.tell(name);
    }

    /// Each broker hears of it, some time later.
    pub fn tell(&mut self, topic: &str) {
        for broker in self.up() {
            let after = self.within(self.settings.learning);
            self.events.add(after, Event::Learn { broker, topic: topic.into() });
        }
    }

    /// A broker hears what the controller says of a topic now.
    pub fn learn(&mut self, broker: i32, topic: &Arc<str>) {
        let known = self.topics.get(topic).cloned();
        let Some(node) = self.brokers.get_mut(&broker).filter(|node| node.is_up) else { return };
        let before = match &known {
            Some(new) => node.image.insert(topic.clone(), new.clone()),
            None => node.image.remove(topic),
        };
        let is_same = |new: &Topic| before.as_ref().is_some_and(|old| old.id == new.id);
        self.bury(broker);
        let Some(new) = known else { return self.changed() };
        for (index, now) in (0i32..).zip(&new.partitions) {
            let key = (new.id, index);
            let then = before.as_ref().filter(|_| is_same(&new)).and_then(|old| old.partitions.get(index as usize));
            let Some(node) = self.brokers.get_mut(&broker) else { return };
            let replica = node.replicas.entry(key).or_insert_with(Replica::default);
            let is_elected = now.leader == broker && then.is_none_or(|then| then.epoch != now.epoch);
            if is_elected {
                replica.progress.clear();
                replica.elected_at = replica.end();
                let (end, epoch) = (replica.end(), now.epoch);
                self.trace.note(|| format!("broker {broker} leads {topic}-{index} in epoch {epoch} from {end}"));
            }
            for follower in now.replicas.iter().copied().filter(|id| *id != now.leader) {
                self.fetch_soon(follower, key);
            }
            self.advance(broker, key);
        }
        self.changed();
    }

    /// A broker drops its replicas of topics that are gone, as far as it knows: one that has just started may never have known
    /// them. What was committed is kept for the balance.
    pub fn bury(&mut self, broker: i32) {
        let Some(node) = self.brokers.get_mut(&broker) else { return };
        let there: Vec<Uuid> = self.topics.values().chain(node.image.values()).map(|topic| topic.id).collect();
        let gone: Vec<Key> = node.replicas.keys().copied().filter(|(id, _)| !there.contains(id)).collect();
        for key in gone {
            let Some(mut replica) = node.replicas.remove(&key) else { continue };
            let high_watermark = replica.high_watermark;
            replica.log.retain(|entry| entry.end() <= high_watermark);
            let grave = self.graves.entry(key).or_default();
            if grave.len() < replica.log.len() {
                *grave = replica.log;
            }
        }
    }

    /// A broker's life has ended: somebody must notice.
    pub fn fence_later(&mut self, broker: i32) {
        let after = self.within(SESSION_TIMEOUT);
        self.events.add(after, Event::Fence { broker });
    }

    /// The controller gives a broker up, unless it is back: it leaves the in-sync sets where others remain, and leads no more.
    pub fn fence(&mut self, broker: i32) {
        if self.brokers.get(&broker).is_none_or(|node| node.is_up || !node.is_registered) {
            return;
        }
        self.unregister(broker);
    }

    /// See [`State::fence`].
    pub fn unregister(&mut self, broker: i32) {
        if let Some(node) = self.brokers.get_mut(&broker) {
            node.is_registered = false;
        }
        self.trace.note(|| format!("controller fences broker {broker}"));
        for key in self.keys() {
            let Some(assignment) = self.assignment(key) else { continue };
            if assignment.in_sync.len() > 1 {
                assignment.in_sync.retain(|id| *id != broker);
            }
            if assignment.leader == broker {
                self.elect(key, None);
            }
        }
        self.tell_all();
    }

    /// The controller counts on a broker again: partitions that only it can lead have a leader.
    pub fn register(&mut self, broker: i32) {
        if let Some(node) = self.brokers.get_mut(&broker) {
            node.is_registered = true;
        }
        for key in self.keys() {
            if self.assignment(key).is_some_and(|assignment| assignment.leader == NO_LEADER) {
                self.elect(key, None);
            }
        }
        self.tell_all();
    }

    /// Elects `preferred` or the first replica that is in sync and up; without one, where that is allowed, any that is up.
    pub fn elect(&mut self, key: Key, preferred: Option<i32>) {
        let (registered, may_be_unclean) = (self.registered(), self.settings.unclean);
        let Some(assignment) = self.assignment(key) else { return };
        let can_lead = |id: &&i32| registered.contains(id) && assignment.in_sync.contains(id);
        let clean = preferred.as_ref().filter(can_lead).or_else(|| assignment.replicas.iter().find(can_lead)).copied();
        let unclean = assignment.replicas.iter().find(|id| registered.contains(id)).copied();
        let leader = clean.or(unclean.filter(|_| may_be_unclean)).unwrap_or(NO_LEADER);
        if leader == assignment.leader && leader == NO_LEADER {
            return;
        }
        assignment.leader = leader;
        assignment.epoch += 1;
        let epoch = assignment.epoch;
        let is_unclean = clean.is_none() && leader != NO_LEADER;
        if is_unclean {
            assignment.in_sync = vec![leader];
            self.unclean.insert(key);
        }
        let how = if is_unclean { " uncleanly" } else { "" };
        self.trace.note(|| format!("controller elects {leader}{how} for {key:?}, epoch {epoch}"));
    }

    /// The controller's word on a partition.
    pub fn assignment(&mut self, key: Key) -> Option<&mut Assignment> {
        let topic = self.topics.values_mut().find(|topic| topic.id == key.0)?;
        topic.partitions.get_mut(usize::try_from(key.1).ok()?)
    }

    /// All partitions that are not deleted.
    pub fn keys(&self) -> Vec<Key> {
        let of = |topic: &Topic| (0..topic.partitions.len() as i32).map(|index| (topic.id, index)).collect::<Vec<_>>();
        self.topics.values().flat_map(of).collect()
    }

    /// Brokers that the controller counts on.
    pub fn registered(&self) -> Vec<i32> {
        self.brokers.iter().filter(|(_, node)| node.is_registered && node.is_up).map(|(id, _)| *id).collect()
    }

    /// All brokers hear of all topics.
    pub fn tell_all(&mut self) {
        for topic in self.topics.keys().cloned().collect::<Vec<_>>() {
            self.tell(&topic);
        }
    }
}
