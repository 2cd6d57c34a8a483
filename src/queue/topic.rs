//! Topics by name, and what waits while a topic's partitions are not known.
//!
//! A [`Topic`] is *unplaced* until the cluster says how many partitions it has: its bursts are held in order behind a
//! lock. Placing distributes them over the partitions under that same lock, so that nothing that comes later overtakes
//! them. From then on pushes go to the partitions without a lock. A topic that the cluster does not want is *closed*.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crossbeam::atomic::AtomicCell;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::partition::Partition;
use super::receipt::Mark;
use crate::config::{Config, Limits, TopicRules};
use crate::record::Run;

/// What a topic's partitions need to know of it.
#[derive(Debug)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// How its records are sent.
    pub rules: TopicRules,
    id: AtomicCell<u128>,
    log_append_time: AtomicBool,
}

impl TopicInfo {
    /// A topic of which nothing is known but its name.
    pub fn new(name: &str, rules: TopicRules) -> Arc<Self> {
        Arc::new(TopicInfo {
            name: name.into(),
            rules,
            id: AtomicCell::new(0),
            log_append_time: AtomicBool::new(false),
        })
    }

    /// The id that the cluster gave it; nil before that is known.
    pub fn id(&self) -> Uuid {
        Uuid::from_u128(self.id.load())
    }

    /// The cluster says what id it has.
    pub fn set_id(&self, id: Uuid) {
        self.id.store(id.as_u128());
    }

    /// Whether brokers stamp its records when they append them (`message.timestamp.type=LogAppendTime`).
    pub fn has_log_append_time(&self) -> bool {
        self.log_append_time.load(Ordering::Relaxed)
    }

    /// A broker's answer said whether they do.
    pub fn set_log_append_time(&self, on: bool) {
        self.log_append_time.store(on, Ordering::Relaxed);
    }
}

/// What decides a record's partition once their number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The client named it.
    Explicit(i32),
    /// This number modulo the number of partitions.
    Modulo(u32),
    /// Any: the topic's sticky one.
    Sticky,
}

/// A burst of a topic whose partitions are not known.
#[derive(Debug)]
pub struct Held {
    /// The records.
    pub run: Run,
    /// For each record.
    pub choices: Vec<Choice>,
    /// Receipts of the records.
    pub marks: VecDeque<Mark>,
    /// When it was read.
    pub arrived: Instant,
    /// What it is charged in the memory budget.
    pub charged: usize,
}

/// The partitions of a topic, by number.
pub type Partitions = Arc<[Arc<Partition>]>;

#[derive(Debug)]
enum State {
    Unplaced { since: Instant, held: Vec<Held> },
    Placed(Partitions),
    Closed,
}

/// Where a topic's records go now.
#[derive(Clone, Debug)]
pub enum Place {
    /// Nobody knows: [`Topic::hold`] them.
    Unplaced,
    /// Into these.
    Placed(Partitions),
    /// Nowhere: ask the registry again.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub struct Topic {
    info: Arc<TopicInfo>,
    state: Mutex<State>,
    version: AtomicU32,
    /// The partition that records without a key go to now.
    pub sticky: AtomicUsize,
    /// Bytes that went there since it was chosen.
    pub sticky_bytes: AtomicUsize,
}

impl Topic {
    fn new(info: Arc<TopicInfo>) -> Arc<Self> {
        Arc::new(Topic {
            info,
            state: Mutex::new(State::Unplaced { since: Instant::now(), held: Vec::new() }),
            version: AtomicU32::new(0),
            sticky: AtomicUsize::new(usize::MAX),
            sticky_bytes: AtomicUsize::new(0),
        })
    }

    /// Name, rules, id.
    pub fn info(&self) -> &Arc<TopicInfo> {
        &self.info
    }

    /// Changes whenever [`Topic::place_now`] would say something else.
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// Where its records go now.
    pub fn place_now(&self) -> Place {
        match &*self.state.lock() {
            State::Unplaced { .. } => Place::Unplaced,
            State::Placed(partitions) => Place::Placed(partitions.clone()),
            State::Closed => Place::Closed,
        }
    }

    /// Its partitions; none while they are not known.
    pub fn partitions(&self) -> Option<Partitions> {
        match &*self.state.lock() {
            State::Placed(partitions) => Some(partitions.clone()),
            State::Unplaced { .. } | State::Closed => None,
        }
    }

    /// Since when its partitions are not known, if they are not.
    pub fn unplaced_since(&self) -> Option<Instant> {
        match &*self.state.lock() {
            State::Unplaced { since, .. } => Some(*since),
            State::Placed(_) | State::Closed => None,
        }
    }

    /// Keeps a burst until the partitions are known. Gives it back if they are known by now, or will never be.
    pub fn hold(&self, burst: Held) -> Result<(), Held> {
        match &mut *self.state.lock() {
            State::Unplaced { held, .. } => {
                held.push(burst);
                Ok(())
            }
            State::Placed(_) | State::Closed => Err(burst),
        }
    }

    /// The cluster says that the topic has `count` partitions. More than before: they are added. Fewer: the surplus stays, what
    /// waits there waits on. `distribute` is given what was held, in order, and must push it before it returns.
    /// True if something changed.
    pub fn place(&self, count: usize, distribute: impl FnOnce(Vec<Held>, &Partitions)) -> bool {
        let mut state = self.state.lock();
        let new = |ids: std::ops::Range<usize>| ids.map(|id| Partition::new(self.info.clone(), id as i32));
        match &mut *state {
            State::Unplaced { held, .. } if count > 0 => {
                let held = std::mem::take(held);
                let partitions: Partitions = new(0..count).collect();
                distribute(held, &partitions);
                *state = State::Placed(partitions);
            }
            State::Placed(partitions) if partitions.len() < count => {
                let grown = partitions.iter().cloned().chain(new(partitions.len()..count)).collect();
                *partitions = grown;
            }
            _ => return false,
        }
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    /// Records that are held because the partitions are not known.
    pub fn held_records(&self) -> u64 {
        match &*self.state.lock() {
            State::Unplaced { held, .. } => held.iter().map(|burst| u64::from(burst.run.count())).sum(),
            State::Placed(_) | State::Closed => 0,
        }
    }

    fn close(&self) -> Option<Vec<Held>> {
        let mut state = self.state.lock();
        let State::Unplaced { held, .. } = &mut *state else { return None };
        let held = std::mem::take(held);
        *state = State::Closed;
        self.version.fetch_add(1, Ordering::Release);
        Some(held)
    }
}

/// More topics than the configuration allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooManyTopics {
    /// In all.
    #[error("more than {0} topics; raise limits.max_topics")]
    Known(usize),
    /// That the cluster does not know, or has not been asked about.
    #[error("more than {0} topics that the cluster does not know yet; raise limits.max_unknown_topics")]
    Unknown(usize),
}

/// All topics that any client has named.
#[derive(Debug)]
pub struct Topics {
    by_name: DashMap<Arc<str>, Arc<Topic>>,
    config: Arc<Config>,
    unplaced: AtomicUsize,
    changes: watch::Sender<u64>,
}

impl Topics {
    /// None yet. Rules and limits are the configuration's.
    pub fn new(config: Arc<Config>) -> Self {
        Topics { by_name: DashMap::new(), config, unplaced: AtomicUsize::new(0), changes: watch::Sender::new(0) }
    }

    /// The topic of that name, which must be a valid one; at first sight it is made, and the metadata task told.
    pub fn find_or_create(&self, name: &str) -> Result<Arc<Topic>, TooManyTopics> {
        if let Some(topic) = self.by_name.get(name) {
            return Ok(topic.clone());
        }
        let Limits { max_topics, max_unknown_topics } = self.config.limits;
        // Two tasks at once may pass each limit by one; what matters is that there is a limit.
        if self.by_name.len() >= max_topics {
            return Err(TooManyTopics::Known(max_topics));
        }
        if self.unplaced.load(Ordering::Relaxed) >= max_unknown_topics {
            return Err(TooManyTopics::Unknown(max_unknown_topics));
        }
        let topic = match self.by_name.entry(name.into()) {
            Entry::Occupied(known) => return Ok(known.get().clone()),
            Entry::Vacant(vacant) => {
                let topic = Topic::new(TopicInfo::new(name, self.config.topic_rules(name)));
                self.unplaced.fetch_add(1, Ordering::Relaxed);
                vacant.insert(topic).clone()
            }
        };
        self.changed();
        Ok(topic)
    }

    /// The topic of that name, if any client has named it.
    pub fn find(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).map(|topic| topic.clone())
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.iter().map(|entry| entry.value().clone()).collect()
    }

    /// As [`Topic::place`]; tells those who follow [`Topics::follow`].
    pub fn place(&self, topic: &Topic, count: usize, distribute: impl FnOnce(Vec<Held>, &Partitions)) {
        let was_unplaced = topic.unplaced_since().is_some();
        if topic.place(count, distribute) {
            if was_unplaced {
                self.unplaced.fetch_sub(1, Ordering::Relaxed);
            }
            self.changed();
        }
    }

    /// Forgets a topic that is not placed; gives back what it held. A topic with partitions stays.
    pub fn close(&self, topic: &Topic) -> Vec<Held> {
        let Some(held) = topic.close() else { return Vec::new() };
        self.by_name.remove(&topic.info.name);
        self.unplaced.fetch_sub(1, Ordering::Relaxed);
        held
    }

    /// Changes when a topic is new or has new partitions.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }
}
