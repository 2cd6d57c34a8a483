//! All topics by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Held, Partitions, Topic, TopicInfo};
use crate::backlog::catalog::Known;
use crate::config::{Config, Limits, StorePolicy};
use crate::queue::stored::LogInbox;

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
    log: Option<Arc<LogInbox>>,
    /// What was known of topics before this start; nothing any more when the cluster has been asked.
    remembered: Mutex<HashMap<String, Known>>,
    unplaced: AtomicUsize,
    changes: watch::Sender<u64>,
}

impl Topics {
    /// None yet. Rules and limits are the configuration's.
    pub fn new(config: Arc<Config>) -> Self {
        Self::with_log(config, None)
    }

    /// None yet. Those whose rules say so are stored in the log behind `log`.
    pub fn with_log(config: Arc<Config>, log: Option<Arc<LogInbox>>) -> Self {
        let (unplaced, changes) = (AtomicUsize::new(0), watch::Sender::new(0));
        Topics { by_name: DashMap::new(), config, log, remembered: Mutex::default(), unplaced, changes }
    }

    /// Until the cluster has been asked, topics that are stored have as many partitions as these had.
    pub fn remember(&self, topics: HashMap<String, Known>) {
        *self.remembered.lock() = topics;
    }

    /// The cluster has been asked: what was known before counts no more.
    pub fn forget_remembered(&self) {
        *self.remembered.lock() = HashMap::new();
    }

    /// The topic of that name, as the log knows it from before: with this id, and at least so many partitions. It is stored whatever its rules say,
    /// since what comes must come behind what the log holds. For the start, before any client is read.
    pub fn restore(&self, name: &str, id: Uuid, count: usize) -> Arc<Topic> {
        let info = TopicInfo::with_log(name, self.config.topic_rules(name), self.log.clone());
        info.set_id(id);
        let topic = Topic::new(info);
        topic.place(count, |_, _| {});
        self.by_name.insert(name.into(), topic.clone());
        self.changed();
        topic
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
                let rules = self.config.topic_rules(name);
                let log = self.log.clone().filter(|_| rules.store != StorePolicy::Never);
                let known = log.is_some().then(|| self.remembered.lock().remove(name)).flatten();
                let topic = Topic::new(TopicInfo::with_log(name, rules, log));
                match known {
                    Some(known) => {
                        topic.info.set_id(known.id);
                        topic.place(known.partitions as usize, |_, _| {});
                    }
                    None => _ = self.unplaced.fetch_add(1, Ordering::Relaxed),
                }
                vacant.insert(topic).clone()
            }
        };
        self.changed();
        Ok(topic)
    }

    /// Whether there is a log.
    pub fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// Whether the records of the topic of that name go to the log first, or may.
    pub fn stores(&self, name: &str) -> bool {
        match self.by_name.get(name) {
            Some(known) => known.info.log.is_some(),
            None => self.log.is_some() && self.config.topic_rules(name).store != StorePolicy::Never,
        }
    }

    /// The topic of that name, if any client has named it.
    pub fn find(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.get(name).map(|topic| topic.clone())
    }

    /// All of them, by name: what follows from a look at all topics is the same each time.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        let mut all: Vec<Arc<Topic>> = self.by_name.iter().map(|entry| entry.value().clone()).collect();
        all.sort_unstable_by(|a, b| a.info().name.cmp(&b.info().name));
        all
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

    /// As [`Topic::grow`]; tells those who follow [`Topics::follow`].
    pub fn grow(&self, topic: &Topic, now: Instant, distribute: impl FnOnce(Vec<Held>, &Partitions)) {
        if topic.grow(now, distribute) {
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
