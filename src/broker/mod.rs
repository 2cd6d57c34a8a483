//! Delivers: one task per broker connection slot, and the supervisor that builds them and gives each its partitions.
//!
//! In come snapshots of the cluster and what waits in the partitions; out go acknowledged records. The pure parts are
//! [`verdict`] (what an answer means) and [`flight`] (how the batches of a partition fly); [`schedule`] says whose turn it is,
//! [`slot`] does the talking.
//!
//! Each broker has two slots: the second is for partitions that would hold up the others (`lateness`).
//!
//! Invariants: a partition is served by one slot at a time; it changes slots only when nothing of it is in flight on the old
//! connection, or that is closed; partitions whose leader did not change never pause. It never sees clients.

mod carry_out;
mod clocks;
pub mod flight;
mod giving_up;
pub mod identity;
mod inquiry;
pub mod lanes;
mod lateness;
mod letter;
mod notes;
pub mod sabotage;
mod scan;
pub mod schedule;
mod settle;
pub mod slot;
mod supervisor;
pub mod verdict;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::backoff::Backoff;
use crate::cluster::Cluster;
use crate::cluster::dial::Dialer;
use crate::config::Config;
use crate::queue::budget::Budget;
use crate::queue::ledger::Ledger;
use crate::queue::topic::{TopicInfo, Topics};
use crate::queue::window::ConnectionId;
use crate::record::TimestampMs;
use crate::store::dead_letters::DeadLetters;

pub use clocks::Clocks;
pub use supervisor::supervise;

use flight::Terms;

/// What all broker tasks share.
#[derive(Debug)]
pub struct Context {
    /// The configuration.
    pub config: Arc<Config>,
    /// All topics.
    pub topics: Arc<Topics>,
    /// The memory budget.
    pub budget: Arc<Budget>,
    /// The balance.
    pub ledger: Arc<Ledger>,
    /// The cluster as it is known.
    pub cluster: Cluster,
    /// Opens connections.
    pub dialer: Dialer,
    /// The wall clock.
    pub clock: fn() -> TimestampMs,
    /// Where what Kafka refuses for good is kept; without it, it is counted and thrown away.
    dead_letters: OnceLock<DeadLetters>,
    identity: identity::Identity,
    watch: clocks::Watch,
    connections: AtomicU64,
    draining: AtomicBool,
    said: carry_out::Said,
}

impl Context {
    /// Nothing connected yet, no producer ids taken.
    pub fn new(
        config: Arc<Config>,
        topics: Arc<Topics>,
        budget: Arc<Budget>,
        ledger: Arc<Ledger>,
        cluster: Cluster,
        dialer: Dialer,
        clocks: Clocks,
    ) -> Arc<Self> {
        Arc::new(Context {
            config,
            topics,
            budget,
            ledger,
            cluster,
            dialer,
            clock: clocks.wall,
            dead_letters: OnceLock::new(),
            identity: identity::Identity::default(),
            watch: clocks::Watch::new(clocks),
            connections: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            said: carry_out::Said::default(),
        })
    }

    /// One for a single part of a broker's task.
    #[cfg(test)]
    pub(crate) fn that_is_alone(
        config: Arc<Config>,
        topics: Arc<Topics>,
        cluster: Cluster,
        dialer: Dialer,
    ) -> Arc<Self> {
        let clocks = Clocks { wall: || 0, since_boot: || Duration::ZERO };
        let budget = Arc::new(Budget::new(config.memory.limit));
        Context::new(config, topics, budget, Arc::default(), cluster, dialer, clocks)
    }

    /// From now on what Kafka refuses for good is kept there. To be called once, before anything is sent.
    pub fn keep_dead_letters(&self, in_log: DeadLetters) {
        let first = self.dead_letters.set(in_log).is_ok();
        debug_assert!(first, "they are kept in one place");
    }

    /// From now on nothing lingers, and no `rate_limit` holds: the daemon is stopping.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.budget.wake_drainers();
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn is_hurried(&self) -> bool {
        self.is_draining() || self.budget.is_pressed()
    }

    /// After a jump there are to be other producer ids.
    fn look_at_clocks(&self) {
        if let Some(jump) = self.watch.look() {
            warn!(?jump, "the clocks have jumped: new producer ids are used as soon as what was sent is settled");
            self.identity.renew();
        }
    }

    /// Whether these producer ids are no longer to be used, by what the clocks say now.
    fn are_given_up(&self, ids: lanes::ProducerIds) -> bool {
        self.look_at_clocks();
        self.identity.is_past(ids)
    }

    fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// How long setbacks of a partition are waited for.
    fn retry_backoff(&self) -> Backoff {
        let kafka = &self.config.kafka;
        Backoff { first: kafka.retry_backoff, max: kafka.retry_backoff_max }
    }

    /// The age from which on a broker may have forgotten a producer, with as much again to spare.
    fn forgotten_after(&self) -> Duration {
        self.config.kafka.producer_id_expiration / 2
    }

    /// Batches with nothing newer than this are old, by our clock and by the broker's, which is `clock_ahead` ms ahead;
    /// `None` on a topic whose records brokers stamp.
    fn old_before(&self, topic: &TopicInfo, clock_ahead: i64) -> Option<TimestampMs> {
        let age = self.forgotten_after().as_millis() as i64;
        (!topic.has_log_append_time()).then(|| (self.clock)().saturating_add(clock_ahead) - age)
    }

    /// On a topic whose records brokers stamp: what was sent before this, and is in doubt, may be forgotten.
    fn forgotten_before(&self, topic: &TopicInfo) -> Option<TimestampMs> {
        let age = self.forgotten_after().as_millis() as i64;
        topic.has_log_append_time().then(|| (self.clock)() - age)
    }

    /// What holds now while an answer for a partition of `topic` is acted on.
    fn terms<'a>(&self, topic: &TopicInfo, now: Instant, clock_ahead: i64, random: &'a mut fastrand::Rng) -> Terms<'a> {
        Terms {
            now,
            wall: (self.clock)(),
            backoff: self.retry_backoff(),
            random,
            old_before: self.old_before(topic, clock_ahead),
            compression_level: topic.rules.compression_level,
            on_unproven: topic.rules.on_unproven,
            on_invalid_timestamp: topic.rules.on_invalid_timestamp,
        }
    }
}

/// Never, if there is no moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::Snapshot;

    #[tokio::test]
    async fn records_are_old_by_the_brokers_clock_where_that_is_ahead_and_never_where_brokers_stamp_them() {
        let config = Arc::new(Config::default());
        let topics = Arc::new(Topics::new(config.clone()));
        let topic = topics.find_or_create("t").unwrap();
        let dialer = Dialer::tcp("test", Duration::from_secs(1));
        let cluster = Cluster::that_stays(Snapshot::default());
        let context = Context::that_is_alone(config.clone(), topics, cluster, dialer);
        let half_expiry = config.kafka.producer_id_expiration.as_millis() as i64 / 2;
        assert_eq!(context.old_before(topic.info(), 0), Some(-half_expiry));
        assert_eq!(context.old_before(topic.info(), 60_000), Some(60_000 - half_expiry));
        topic.info().set_log_append_time(true);
        assert_eq!(context.old_before(topic.info(), 60_000), None);
    }
}
