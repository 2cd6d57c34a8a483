//! All topics by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Held, Partitions, Topic, TopicInfo};
use crate::config::{Config, Limits};

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
