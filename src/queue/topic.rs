//! A topic, and what waits while a topic's partitions are not known.
//!
//! A [`Topic`] is *unplaced* until the cluster says how many partitions it has: its bursts are held in order behind a
//! lock. Placing distributes them over the partitions under that same lock, so that nothing that comes later overtakes
//! them. From then on pushes go to the partitions without a lock. A topic that the cluster does not want is *closed*.
//!
//! More partitions give most keys another one, see `growth`; fewer (the topic was deleted and made again) take records from
//! none that is there: what waits in the surplus waits on.

mod growth;
mod pace;
mod registry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::atomic::AtomicCell;
use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::time::Instant;
use uuid::Uuid;

use super::partition::Partition;
use super::receipt::Mark;
use super::stored::LogInbox;
use crate::config::{GrowthPolicy, StorePolicy, TopicRules};
use crate::record::Run;

use growth::Growing;
pub use pace::Pace;
pub use registry::{TooManyTopics, Topics};

/// Batches are not made smaller than this for being refused as too large: a single record is larger, then.
const LARGEST_BATCH_MIN_BYTES: usize = 1 << 7;

/// How long a limit on batches is taken to hold before a larger one is tried.
const LARGEST_BATCH_HOLDS: Duration = Duration::from_secs(60);

/// What a topic's partitions need to know of it.
#[derive(Debug)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// How its records are sent.
    pub rules: TopicRules,
    /// Where its records are stored before they are sent, if they are, or may be.
    pub log: Option<Arc<LogInbox>>,
    /// What of it went to the log because memory could not keep it.
    pub spilled: Spilled,
    id: AtomicCell<u128>,
    partition_count: AtomicUsize,
    log_append_time: AtomicBool,
    largest_batch: AtomicUsize,
    limited_at: AtomicCell<Option<Instant>>,
    refuses_codec: AtomicBool,
    /// Of its `rate_limit`, if it has one.
    pub pace: Option<Pace>,
}

/// Records that went to the log because memory could not keep them, since the start.
#[derive(Debug, Default)]
pub struct Spilled {
    /// How many.
    pub records: AtomicU64,
    /// And their bytes.
    pub bytes: AtomicU64,
}

impl TopicInfo {
    /// A topic of which nothing is known but its name.
    pub fn new(name: &str, rules: TopicRules) -> Arc<Self> {
        Self::with_log(name, rules, None)
    }

    /// The same, and its records go to this log first.
    pub fn with_log(name: &str, rules: TopicRules, log: Option<Arc<LogInbox>>) -> Arc<Self> {
        Arc::new(TopicInfo {
            name: name.into(),
            rules,
            log,
            spilled: Spilled::default(),
            partition_count: AtomicUsize::new(0),
            id: AtomicCell::new(0),
            log_append_time: AtomicBool::new(false),
            largest_batch: AtomicUsize::new(usize::MAX),
            limited_at: AtomicCell::new(None),
            refuses_codec: AtomicBool::new(false),
            pace: rules.rate_limit.map(Pace::new),
        })
    }

    /// Whether its records are held in memory, and go to the log only when memory cannot keep them.
    pub fn overflows(&self) -> bool {
        self.log.is_some() && self.rules.store == StorePolicy::Overflow
    }

    /// The id that the cluster gave it; nil before that is known.
    pub fn id(&self) -> Uuid {
        Uuid::from_u128(self.id.load())
    }

    /// How many partitions it is known to have had at most; 0 before that is known.
    pub fn partition_count(&self) -> usize {
        self.partition_count.load(Ordering::Relaxed)
    }

    /// The cluster says what id it has.
    pub fn set_id(&self, id: Uuid) {
        self.id.store(id.as_u128());
    }

    /// Whether brokers stamp its records when they append them (`message.timestamp.type=LogAppendTime`).
    pub fn has_log_append_time(&self) -> bool {
        self.log_append_time.load(Ordering::Relaxed)
    }

    /// Bytes before compression that a batch may have, as far as brokers have said. Now and then twice as many are tried: the
    /// limit may have been raised.
    pub fn largest_batch(&self, now: Instant) -> usize {
        let limit = self.largest_batch.load(Ordering::Relaxed);
        if limit == usize::MAX {
            return limit;
        }
        let is_over = |at: Instant| now.saturating_duration_since(at) >= LARGEST_BATCH_HOLDS;
        if self.limited_at.load().is_some_and(is_over) {
            self.limited_at.store(Some(now));
            self.largest_batch.store(limit.saturating_mul(2), Ordering::Relaxed);
        }
        limit
    }

    /// Bytes before compression that a batch may have because all that is in flight of a partition may have to go to the log at once.
    pub fn largest_spilled_batch(&self) -> usize {
        self.log.as_ref().filter(|_| self.overflows()).map_or(usize::MAX, |log| log.batch_bytes_max())
    }

    /// A broker has refused a batch of so many bytes as too large; half of it may do.
    pub fn refuses_bytes(&self, bytes: usize, now: Instant) {
        self.limited_at.store(Some(now));
        self.largest_batch.fetch_min((bytes / 2).max(LARGEST_BATCH_MIN_BYTES), Ordering::Relaxed);
    }

    /// Whether a broker has refused the codec of its batches.
    pub fn has_codec_refused(&self) -> bool {
        self.refuses_codec.load(Ordering::Relaxed)
    }

    /// A broker has refused the codec of its batches: they go uncompressed.
    pub fn refuses_codec(&self) {
        self.refuses_codec.store(true, Ordering::Relaxed);
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
    Placed { open: Partitions, all: Partitions },
    Growing(Growing),
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
    /// Growing was given up, and is not tried again before.
    grow_from: Mutex<Option<Instant>>,
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
            grow_from: Mutex::new(None),
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
            State::Unplaced { .. } | State::Growing(_) => Place::Unplaced,
            State::Placed { open, .. } => Place::Placed(open.clone()),
            State::Closed => Place::Closed,
        }
    }

    /// Its partitions, those included that the cluster no longer has; none while they are not known.
    pub fn partitions(&self) -> Option<Partitions> {
        match &*self.state.lock() {
            State::Placed { all, .. } => Some(all.clone()),
            State::Growing(growing) => Some(growing.all.clone()),
            State::Unplaced { .. } | State::Closed => None,
        }
    }

    /// Since when its partitions are not known, if they are not.
    pub fn unplaced_since(&self) -> Option<Instant> {
        match &*self.state.lock() {
            State::Unplaced { since, .. } => Some(*since),
            State::Placed { .. } | State::Growing(_) | State::Closed => None,
        }
    }

    /// Keeps a burst until the partitions are known. Gives it back if they are known by now, or will never be.
    pub fn hold(&self, burst: Held) -> Result<(), Held> {
        match &mut *self.state.lock() {
            State::Unplaced { held, .. } | State::Growing(Growing { held, .. }) => {
                held.push(burst);
                Ok(())
            }
            State::Placed { .. } | State::Closed => Err(burst),
        }
    }

    /// The cluster says that the topic has `count` partitions, not 0. `distribute` is given what was held, in order, and must push
    /// it before it returns. True if something changed.
    pub fn place(&self, count: usize, distribute: impl FnOnce(Vec<Held>, &Partitions)) -> bool {
        let mut state = self.state.lock();
        match &mut *state {
            State::Unplaced { held, .. } => {
                let all = self.with_more(&Partitions::default(), count);
                distribute(std::mem::take(held), &all);
                *state = State::Placed { open: all.clone(), all };
            }
            State::Placed { open, all } if open.len() > count => *open = all.iter().take(count).cloned().collect(),
            State::Placed { open, all } if open.len() < count => {
                let all = self.with_more(all, count);
                *state = match self.info.rules.on_partition_growth {
                    GrowthPolicy::AtOnce => State::Placed { open: all.iter().take(count).cloned().collect(), all },
                    GrowthPolicy::DrainFirst if self.may_grow(open) => {
                        State::Growing(Growing::new(open.clone(), all, count))
                    }
                    GrowthPolicy::DrainFirst => return false,
                };
            }
            _ => return false,
        }
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    fn with_more(&self, known: &Partitions, count: usize) -> Partitions {
        self.info.partition_count.fetch_max(count, Ordering::Relaxed);
        let more = (known.len()..count).map(|id| Partition::new(self.info.clone(), id as i32));
        known.iter().cloned().chain(more).collect()
    }

    /// Records that are held because the partitions are not known.
    pub fn held_records(&self) -> u64 {
        match &*self.state.lock() {
            State::Unplaced { held, .. } | State::Growing(Growing { held, .. }) => {
                held.iter().map(|burst| u64::from(burst.run.count())).sum()
            }
            State::Placed { .. } | State::Closed => 0,
        }
    }

    /// Takes out what is held because the partitions are not known, oldest first, for as long as `wants` says yes to the next burst;
    /// also when the first one that stays was read.
    pub fn take_held(&self, wants: impl Fn(&Held) -> bool) -> (Vec<Held>, Option<Instant>) {
        match &mut *self.state.lock() {
            State::Unplaced { held, .. } | State::Growing(Growing { held, .. }) => {
                let stays = held.iter().position(|burst| !wants(burst)).unwrap_or(held.len());
                let taken = held.drain(..stays).collect();
                (taken, held.first().map(|burst| burst.arrived))
            }
            State::Placed { .. } | State::Closed => (Vec::new(), None),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_limit_on_batches_is_halved_by_each_refusal_and_now_and_then_a_larger_one_is_tried() {
        let topic = TopicInfo::new("t", Config::default().producer);
        let start = Instant::now();
        assert_eq!(topic.largest_batch(start), usize::MAX);
        topic.refuses_bytes(100_000, start);
        topic.refuses_bytes(80_000, start);
        topic.refuses_bytes(90_000, start);
        assert_eq!(topic.largest_batch(start), 40_000);
        let later = start + LARGEST_BATCH_HOLDS;
        topic.largest_batch(later);
        assert_eq!([topic.largest_batch(later), topic.largest_batch(later)], [80_000; 2]);
        topic.refuses_bytes(1, later);
        assert_eq!(topic.largest_batch(later), LARGEST_BATCH_MIN_BYTES);
        let mut now = later;
        while topic.largest_batch(now) < usize::MAX {
            now += LARGEST_BATCH_HOLDS;
        }
    }
}
