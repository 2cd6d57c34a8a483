//! What will happen, by the moment when it does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Key, State};
use crate::clock;

/// Something that happens inside the cluster.
#[derive(Clone, Debug)]
pub enum Event {
    /// A follower fetches from whom it believes to be the leader.
    Fetch { follower: i32, key: Key },
    /// A broker learns what the controller says of a topic.
    Learn { broker: i32, topic: Arc<str> },
    /// The controller notices that a life of a broker has ended.
    Fence { broker: i32 },
    /// A leader looks whether its followers have come as far as `offset`.
    Lag { leader: i32, key: Key, offset: i64 },
    /// A broker forgets producers.
    Sweep { broker: i32 },
}

/// See the module.
#[derive(Default)]
pub struct Events {
    by_moment: BTreeMap<(Instant, u64), Event>,
    count: u64,
    bell: Arc<Notify>,
}

impl Events {
    /// Something happens after a while.
    pub fn add(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.by_moment.insert((Instant::now() + after, self.count), event);
        self.bell.notify_one();
    }

    /// The first that is due.
    pub fn take_due(&mut self) -> Option<Event> {
        let first = self.by_moment.first_entry().filter(|first| first.key().0 <= Instant::now())?;
        Some(first.remove())
    }

    /// When the next is due.
    pub fn next(&self) -> Option<Instant> {
        self.by_moment.keys().next().map(|(moment, _)| *moment)
    }

    /// Rings when one was added.
    pub fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }

    /// Whether such a fetch is to come.
    pub fn will_fetch(&self, who: i32, what: Key) -> bool {
        let mut events = self.by_moment.values();
        events.any(|event| matches!(event, Event::Fetch { follower, key } if (*follower, *key) == (who, what)))
    }
}

impl State {
    /// One event.
    pub fn carry_out(&mut self, event: Event) {
        match event {
            Event::Fetch { follower, key } => self.fetch(follower, key),
            Event::Learn { broker, topic } => self.learn(broker, &topic),
            Event::Fence { broker } => self.fence(broker),
            Event::Lag { leader, key, offset } => self.drop_laggards(leader, key, offset),
            Event::Sweep { broker } => {
                let (now, expiry) = (clock::now_ms(), self.settings.expiry);
                if let Some(node) = self.brokers.get_mut(&broker) {
                    let forgotten: usize = node.replicas.values_mut().map(|r| r.producers.sweep(now, expiry)).sum();
                    if forgotten > 0 {
                        self.trace.note(|| format!("broker {broker} forgets {forgotten} producers"));
                    }
                }
                self.sweep_later(broker);
            }
        }
    }
}
