//! One connection's way into the queues.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::murmur2::key_number;
use super::{Router, drop_code, sticky};
use crate::config::FullPolicy;
use crate::queue::item::Item;
use crate::queue::ledger::DropReason;
use crate::queue::receipt::{Mark, Outcome, Request};
use crate::queue::topic::{Choice, Held, Partitions, Place, Topic};
use crate::record::{Record, Run};

/// Topics that a connection keeps handles to. A connection that names more begins anew.
const HANDLES_MAX: usize = 4096;

/// What a held burst is charged for each record, and in all, beside its bytes.
const HELD_OVERHEAD_BYTES: usize = 192;

/// How a record chooses its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It names it.
    Partition(i32),
    /// By its key; without one, any.
    Key,
    /// This number modulo the number of partitions, as Dory's PartitionKey.
    Modulo(u32),
}

/// See the module `route`.
#[derive(Debug)]
pub struct Outlet {
    router: Arc<Router>,
    random: fastrand::Rng,
    by_name: HashMap<Box<[u8]>, usize>,
    handles: Vec<Handle>,
    /// The handle used last: most records name the same topic as the one before.
    last: usize,
    /// Bursts begun since the last flush: topic, partition.
    begun: Vec<(usize, Target)>,
    accepted: u64,
    /// Of those, records of topics whose rule is to wait when memory is full.
    accepted_blocking: u64,
    /// What a burst is made room for: the read's bytes, shared among as many bursts as the read before had.
    burst_bytes: usize,
    /// How many bursts the read before had; at least 1.
    last_bursts: usize,
    refused_since_flush: Option<(DropReason, u64)>,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Partition(usize),
    Held,
}

/// What is known of one topic.
#[derive(Debug)]
struct Handle {
    topic: Arc<Topic>,
    name: Arc<str>,
    /// Whether its rule is to wait when memory is full.
    blocks: bool,
    version: u32,
    place: Place,
    /// By partition.
    bursts: Vec<Option<Burst>>,
    held: Option<(Burst, Vec<Choice>)>,
    /// Chosen at the first record without a key of a read.
    sticky: Option<usize>,
}

#[derive(Debug, Default)]
struct Burst {
    run: Run,
    marks: VecDeque<Mark>,
}

impl Burst {
    fn add(&mut self, record: &Record<'_>, receipt: Option<(&Arc<Request>, u32)>) {
        if let Some((request, index)) = receipt
            && !self.marks.back_mut().is_some_and(|mark| {
                mark.at + mark.receipt.count() == self.run.count() && mark.receipt.extend(request, index)
            })
        {
            self.marks.push_back(Mark { at: self.run.count(), receipt: request.receipt(index, 1) });
        }
        self.run.push(record);
    }
}

impl Outlet {
    pub(super) fn new(router: Arc<Router>, random: fastrand::Rng) -> Self {
        Outlet {
            router,
            random,
            by_name: HashMap::new(),
            handles: Vec::new(),
            last: 0,
            begun: Vec::new(),
            accepted: 0,
            accepted_blocking: 0,
            burst_bytes: 0,
            last_bursts: 1,
            refused_since_flush: None,
        }
    }

    /// The next read holds about so many bytes. What its bursts are made room for follows from that.
    pub fn expect(&mut self, bytes: usize) {
        let share = bytes / self.last_bursts;
        // Several differ a little, and growing is a copy and twice the room.
        self.burst_bytes = if self.last_bursts > 1 { share + share / 8 } else { share };
    }

    /// Whether a topic's records go to the log on disk before they are sent.
    pub fn stores(&self, topic: &[u8]) -> bool {
        match self.handles.get(self.last) {
            Some(last) if last.name.as_bytes() == topic => last.topic.info().log.is_some(),
            _ => self.router.topics.stores(&String::from_utf8_lossy(topic)),
        }
    }

    /// Takes a record of a topic, whose name must be one that Kafka allows. `receipt` is the request that wants an answer and the record's
    /// place in it. A record that cannot be taken is counted and its receipt settled; the others are not affected.
    #[inline]
    pub fn put(&mut self, topic: &[u8], by: By, record: &Record<'_>, receipt: Option<(&Arc<Request>, u32)>) {
        let at = match self.handle(topic) {
            Ok(at) => at,
            Err((reason, words)) => return self.refuse(reason, -1, &words, receipt),
        };
        let handle = &mut self.handles[at];
        let blocks = handle.blocks;
        if !blocks && !self.router.budget.has_room() {
            return self.refuse(DropReason::MemoryFull, -1, "memory.limit is reached", receipt);
        }
        self.accepted += 1;
        self.accepted_blocking += u64::from(blocks);
        match handle.choose(by, record, &mut self.random) {
            Ok(Target::Partition(partition)) => {
                let slot = &mut handle.bursts[partition];
                if slot.is_none() {
                    let room = self.burst_bytes.max(Run::room_for(record));
                    *slot = Some(Burst { run: Run::with_capacity(room), marks: VecDeque::new() });
                    self.begun.push((at, Target::Partition(partition)));
                }
                if let Some(burst) = slot {
                    burst.add(record, receipt);
                }
            }
            Ok(Target::Held) => {
                if handle.held.is_none() {
                    self.begun.push((at, Target::Held));
                }
                let (burst, choices) = handle.held.get_or_insert_default();
                burst.add(record, receipt);
                choices.push(choice(by, record));
            }
            Err(partition) => {
                self.accepted -= 1;
                self.accepted_blocking -= u64::from(blocks);
                let words = format!("topic {} has no partition {partition}", handle.topic.info().name);
                self.refuse(DropReason::UnknownPartition, partition, &words, receipt);
            }
        }
    }

    /// Pushes everything that was put since the last flush. Returns how many of those records are of topics whose rule is to wait
    /// when memory is full (`full = "block"`). Bytes are charged to the
    /// budget here.
    pub fn flush(&mut self, arrived: Instant) -> u64 {
        if let Some((reason, records)) = self.refused_since_flush.take() {
            warn!(records, reason = reason.name(), "records dropped");
        }
        // Before they can be delivered, so that no more is ever delivered than accepted.
        self.router.ledger.accept(std::mem::take(&mut self.accepted));
        let mut begun = std::mem::take(&mut self.begun);
        self.last_bursts = begun.len().max(1);
        let mut items = Vec::with_capacity(begun.len());
        for (at, target) in begun.drain(..) {
            match target {
                Target::Partition(partition) => items.extend(self.item(at, partition, arrived)),
                Target::Held => self.hold(at, arrived),
            }
            self.handles[at].sticky = None;
        }
        // In one sum, for the budget is everybody's; and before the pushes, since whoever takes an item releases its charge.
        self.router.budget.charge(items.iter().map(|(_, _, item)| item.charged_bytes()).sum());
        for (at, partition, item) in items {
            if let Place::Placed(partitions) = &self.handles[at].place {
                partitions[partition].push(item);
            }
        }
        self.begun = begun;
        self.burst_bytes = 0;
        std::mem::take(&mut self.accepted_blocking)
    }

    /// The burst of a partition, as it is queued.
    fn item(&mut self, at: usize, partition: usize, arrived: Instant) -> Option<(usize, usize, Box<Item>)> {
        let handle = &mut self.handles[at];
        let burst = handle.bursts.get_mut(partition)?.take()?;
        if handle.sticky == Some(partition) {
            sticky::count(&handle.topic, burst.run.len_bytes());
        }
        Some((at, partition, Item::records(burst.run, burst.marks, arrived)))
    }

    fn hold(&mut self, at: usize, arrived: Instant) {
        let handle = &mut self.handles[at];
        let Some((Burst { run, marks }, choices)) = handle.held.take() else { return };
        let charged = run.capacity_bytes() + choices.len() * size_of::<Choice>() + HELD_OVERHEAD_BYTES;
        self.router.budget.charge(charged);
        let held = Held { run, choices, marks, arrived, charged };
        // Placed or closed since the handle was looked up: now it is known where they go.
        if let Err(held) = handle.topic.hold(held) {
            match handle.topic.place_now() {
                Place::Placed(partitions) => {
                    let topic = handle.topic.clone();
                    self.router.distribute(&topic, vec![held], &partitions, &mut self.random);
                }
                Place::Closed | Place::Unplaced => self.router.drop_held(&handle.topic.clone(), vec![held]),
            }
        }
    }

    /// The handle of a topic, up to date.
    #[inline]
    fn handle(&mut self, topic: &[u8]) -> Result<usize, (DropReason, String)> {
        match self.handles.get(self.last) {
            Some(last) if last.name.as_bytes() == topic && last.topic.version() == last.version => Ok(self.last),
            _ => self.other_handle(topic),
        }
    }

    #[inline(never)]
    fn other_handle(&mut self, topic: &[u8]) -> Result<usize, (DropReason, String)> {
        let known = self.by_name.get(topic).copied();
        if let Some(at) = known {
            self.last = at;
            let handle = &mut self.handles[at];
            if handle.topic.version() == handle.version {
                return Ok(at);
            }
            // A burst that was begun keeps the place it was begun for until it is flushed.
            if handle.has_begun() {
                return Ok(at);
            }
            handle.renew();
            if !matches!(handle.place, Place::Closed) {
                return Ok(at);
            }
        }
        self.first_sight(topic, known)
    }

    fn first_sight(&mut self, topic: &[u8], known: Option<usize>) -> Result<usize, (DropReason, String)> {
        // Never another than the name itself, for every byte that a name may have is ASCII.
        let name = &*String::from_utf8_lossy(topic);
        let topic = loop {
            let topic = self
                .router
                .topics
                .find_or_create(name)
                .map_err(|refusal| (DropReason::TooManyTopics, refusal.to_string()))?;
            // Closed a moment ago and about to be forgotten by another task.
            if !matches!(topic.place_now(), Place::Closed) {
                break topic;
            }
            std::thread::yield_now();
        };
        let handle = Handle::new(topic);
        let at = match known {
            Some(at) => {
                self.handles[at] = handle;
                at
            }
            None => {
                if self.handles.len() >= HANDLES_MAX && self.begun.is_empty() {
                    self.handles.clear();
                    self.by_name.clear();
                }
                self.handles.push(handle);
                self.by_name.insert(name.as_bytes().into(), self.handles.len() - 1);
                self.handles.len() - 1
            }
        };
        self.last = at;
        Ok(at)
    }

    fn refuse(&mut self, reason: DropReason, partition: i32, words: &str, receipt: Option<(&Arc<Request>, u32)>) {
        if let Some((request, index)) = receipt {
            // Not accepted: the client is told, and still has it.
            let outcome = Outcome::Failed { partition, error_code: drop_code(reason), reason: words.into() };
            return request.receipt(index, 1).settle(outcome);
        }
        self.router.ledger.accept(1);
        self.router.ledger.drop_records(reason, 1);
        let (last, records) = self.refused_since_flush.get_or_insert((reason, 0));
        *last = reason;
        *records += 1;
    }
}

impl Handle {
    fn new(topic: Arc<Topic>) -> Self {
        let name = topic.info().name.clone();
        let blocks = topic.info().rules.full == FullPolicy::Block;
        let mut handle = Handle {
            topic,
            name,
            blocks,
            version: 0,
            place: Place::Unplaced,
            bursts: Vec::new(),
            held: None,
            sticky: None,
        };
        handle.renew();
        handle
    }

    fn renew(&mut self) {
        // The version first: a change in between is seen at the next record.
        self.version = self.topic.version();
        self.place = self.topic.place_now();
        let count = if let Place::Placed(partitions) = &self.place { partitions.len() } else { 0 };
        self.bursts.resize_with(count, || None);
        self.sticky = None;
    }

    fn has_begun(&self) -> bool {
        self.held.is_some() || self.bursts.iter().any(Option::is_some)
    }

    /// Where a record goes; `Err`: the partition that it names and that does not exist.
    fn choose(&mut self, by: By, record: &Record<'_>, random: &mut fastrand::Rng) -> Result<Target, i32> {
        let Place::Placed(partitions) = &self.place else { return Ok(Target::Held) };
        let sticky = match choice(by, record) {
            Choice::Sticky => *self.sticky.get_or_insert_with(|| sticky::sticky(&self.topic, partitions, random)),
            Choice::Explicit(id) => explicit(id, partitions)?,
            Choice::Modulo(number) => number as usize % partitions.len(),
        };
        Ok(Target::Partition(sticky))
    }
}

fn explicit(id: i32, partitions: &Partitions) -> Result<usize, i32> {
    usize::try_from(id).ok().filter(|at| *at < partitions.len()).ok_or(id)
}

fn choice(by: By, record: &Record<'_>) -> Choice {
    match (by, record.key) {
        (By::Partition(id), _) => Choice::Explicit(id),
        (By::Modulo(number), _) => Choice::Modulo(number),
        (By::Key, Some(key)) => Choice::Modulo(key_number(key)),
        (By::Key, None) => Choice::Sticky,
    }
}
