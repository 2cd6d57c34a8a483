//! The log's own thread: what was pushed is appended, and what only the log has is looked for when it is wanted.

use std::collections::{HashMap, HashSet, VecDeque, hash_map};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use tokio::time::Instant;

use super::Shared;
use super::durable::Waiter;
use super::outlook::Outlook;
use super::read::{Job, Reading};
use super::unspill::Spilled;
use crate::backlog::log::append::Ticket;
use crate::backlog::log::engine::Log;
use crate::backlog::log::entry::{Entry, NO_TAGS, Records};
use crate::backlog::log::error::LogError;
use crate::backlog::log::storage::{Storage, StorageFile};
use crate::backlog::name::PartitionName;
use crate::queue::item::{Item, Payload};
use crate::queue::partition::Partition;
use crate::queue::stored::Noting;

/// About so many bytes of one partition's records go into a frame.
const FRAME_BYTES: usize = 1 << 20;
/// Runs of several partitions share a frame of at most about so many bytes: whoever reads one of them reads all of it.
const SHARED_FRAME_BYTES: usize = 16 << 10;

/// What the log's thread knows beside the log. Called with the log in its hands, and again when the log was busy.
#[derive(Debug)]
pub(super) struct Appender<F: StorageFile> {
    pub(super) shared: Arc<Shared>,
    /// Partitions that the log has names for: topic, partition.
    numbers: HashMap<(String, i32), u32>,
    /// Partitions that have something to append, each once.
    pub(super) queue: VecDeque<Arc<Partition>>,
    queued: HashSet<usize>,
    /// What became of records, to be written in this order.
    pub(super) notes: VecDeque<Noting>,
    /// Partitions that are to be turned on.
    pub(super) unspilled: VecDeque<Arc<Partition>>,
    /// Partitions that were, by address.
    pub(super) spilled: HashMap<usize, Spilled>,
    buffer: Vec<u8>,
    pub(super) reading: Reading<F>,
    has_cluster: bool,
    /// Why its directory cannot be used, as the last proof found.
    unusable: Option<LogError>,
    /// What was durable when it was last looked.
    synced: Ticket,
    pub(super) outlook: Outlook,
}

/// A run to be appended.
#[derive(Debug)]
struct Planned {
    partition: Arc<Partition>,
    number: u32,
    first: u64,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    codec: u8,
    /// Where its records are in the buffer.
    data: Range<usize>,
    /// How many items it is made of.
    items: usize,
}

impl<F: StorageFile> Appender<F> {
    pub fn new<S: Storage<File = F>>(shared: Arc<Shared>, log: &Log<S>, jobs: SyncSender<Job<F>>) -> Self {
        let named = log.state().partitions.iter().filter_map(|(number, partition)| {
            let name = PartitionName::decode(&partition.name)?;
            let topic = std::str::from_utf8(name.topic).ok()?;
            Some(((topic.to_owned(), name.partition?), *number))
        });
        let numbers = named.collect();
        Appender {
            shared,
            numbers,
            queue: VecDeque::new(),
            queued: HashSet::new(),
            notes: VecDeque::new(),
            unspilled: VecDeque::new(),
            spilled: HashMap::new(),
            buffer: Vec::new(),
            reading: Reading::new(jobs),
            has_cluster: !log.state().cluster_id.is_empty(),
            unusable: None,
            synced: log.synced(),
            outlook: Outlook::default(),
        }
    }

    /// Does what there is to do. Returns what somebody waits for.
    ///
    /// # Errors
    /// Only if it is to be called again.
    pub fn work<S: Storage<File = F>>(&mut self, log: &mut Log<S>) -> Result<Ticket, LogError> {
        self.shared.inbox.attend();
        self.prove(log);
        let synced = log.synced();
        let has_synced = std::mem::replace(&mut self.synced, synced) < synced || synced == log.appended();
        match self.append(log) {
            Ok(()) if has_synced => self.shared.is_well(),
            Ok(()) => {}
            Err(LogError::Busy) => return Err(LogError::Busy),
            Err(error @ LogError::Full { .. }) => self.is_full(log, &error),
            Err(error) => self.fails(&error),
        }
        self.read_back(log)?;
        self.unspill(log);
        self.publish(log);
        self.say_what_is_left();
        let last = self.shared.waiting.lock().last();
        Ok(last.unwrap_or_else(|| log.synced()))
    }

    fn prove<S: Storage<File = F>>(&mut self, log: &Log<S>) {
        if self.shared.is_probe_due.swap(false, Ordering::Relaxed) || self.unusable.is_some() {
            self.unusable = log.prove(log.counters().syncs).err();
        }
    }

    fn append<S: Storage<File = F>>(&mut self, log: &mut Log<S>) -> Result<(), LogError> {
        while let Some(partition) = self.shared.inbox.next_pushed() {
            self.enqueue(partition);
        }
        self.unspilled.extend(std::iter::from_fn(|| self.shared.inbox.next_to_spill()));
        if let Some(error) = self.unusable.take() {
            // Looked at anew before the next try.
            self.shared.probe_again();
            return Err(error);
        }
        self.note_cluster(log)?;
        self.append_notes(log)?;
        // It was full, and nothing has been freed since: it is still.
        if self.shared.full_at.load(Ordering::Relaxed) == log.counters().segments_freed {
            self.look_into_all();
            return Ok(());
        }
        let is_full = match self.spill(log) {
            Err(full @ LogError::Full { .. }) => Some(full),
            spilled => {
                spilled?;
                None
            }
        };
        self.take_out_paused();
        while !self.queue.is_empty() {
            let plan = self.plan(log)?;
            if plan.is_empty() {
                continue;
            }
            let entries: Vec<Entry<'_>> = plan.iter().map(|run| self.entry(run)).collect();
            let ticket = log.append(&entries)?;
            if is_full.is_none() {
                self.was_full();
            }
            for run in plan {
                self.appended(run, ticket);
            }
        }
        // What has no room as one frame is no reason to keep others waiting.
        if let Some(full) = is_full {
            return Err(full);
        }
        self.was_full();
        Ok(())
    }

    /// There is something to append of it.
    pub(super) fn enqueue(&mut self, partition: Arc<Partition>) {
        if self.queued.insert(Arc::as_ptr(&partition).addr()) {
            self.queue.push_back(partition);
        }
    }

    /// What is not appended for now leaves the queue, unless somebody wants it to be.
    fn take_out_paused(&mut self) {
        if self.shared.is_stopping.load(Ordering::SeqCst) {
            self.end_pauses();
        }
        if !self.spilled.values().any(Spilled::is_paused) {
            return;
        }
        let (spilled, queued) = (&self.spilled, &mut self.queued);
        self.queue.retain(|partition| {
            let address = Arc::as_ptr(partition).addr();
            let stays = !spilled.get(&address).is_some_and(Spilled::is_paused);
            if !stays {
                // Later pushes ring again.
                partition.stored().into_iter().for_each(|stored| drop(stored.pushed()));
                queued.remove(&address);
            }
            stays
        });
    }

    /// Has the keeper come back for what could not be done now.
    fn say_what_is_left(&self) {
        self.shared.has_unspilled.store(!self.unspilled.is_empty(), Ordering::Relaxed);
        self.shared.has_spilled.store(!self.spilled.is_empty(), Ordering::Relaxed);
        if self.shared.wants_retry() || !self.spilled.is_empty() {
            self.shared.inbox.wake();
        }
    }

    fn note_cluster<S: Storage<File = F>>(&mut self, log: &mut Log<S>) -> Result<(), LogError> {
        if self.has_cluster {
            return Ok(());
        }
        let id = self.shared.cluster_id.lock().clone();
        let Some(id) = id else { return Ok(()) };
        log.append(&[Entry::Cluster { id: id.as_bytes() }])?;
        self.has_cluster = true;
        Ok(())
    }

    /// Runs for one frame, a run for each partition. Partitions without anything leave the queue.
    fn plan<S: Storage<File = F>>(&mut self, log: &mut Log<S>) -> Result<Vec<Planned>, LogError> {
        self.buffer.clear();
        let mut plan = Vec::new();
        let stored_at = self.queue.len();
        for _ in 0..stored_at {
            if self.buffer.len() >= SHARED_FRAME_BYTES {
                break;
            }
            let Some(partition) = self.queue.pop_front() else { break };
            let number = match self.number(log, &partition) {
                Ok(number) => number,
                Err(error) => {
                    self.queue.push_front(partition);
                    // What was planned is planned again: nothing of it has been taken.
                    plan.into_iter().rev().for_each(|run: Planned| self.queue.push_front(run.partition));
                    return Err(error);
                }
            };
            let first = log.partition(number).map_or(0, |known| known.next);
            match self.run(&partition, number, first) {
                Some(run) if run.items == 0 => {
                    self.queue.push_front(partition);
                    break;
                }
                Some(run) => plan.push(run),
                None => _ = self.queued.remove(&Arc::as_ptr(&partition).addr()),
            }
        }
        // All of them are looked at again: there may be more of them, or appending may fail.
        plan.iter().rev().for_each(|run| self.queue.push_front(run.partition.clone()));
        Ok(plan)
    }

    /// A run of what waits first in a partition, of no items if that is for another frame; `None` if nothing waits.
    fn run(&mut self, partition: &Arc<Partition>, number: u32, first: u64) -> Option<Planned> {
        let waiting = partition.stored()?.pushed();
        let start = self.buffer.len();
        let is_shared = start > 0;
        let room = if is_shared { SHARED_FRAME_BYTES } else { FRAME_BYTES };
        let mut run = Planned {
            partition: partition.clone(),
            number,
            first,
            count: 0,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
            codec: 0,
            data: start..start,
            items: 0,
        };
        for item in waiting.iter() {
            if (is_shared || run.items > 0) && self.buffer.len() + item.left_bytes() > room {
                break;
            }
            match item.payload() {
                Payload::Records(records) => {
                    for record in records.records_from(0) {
                        if run.max_timestamp == i64::MIN {
                            run.base_timestamp = record.timestamp;
                        }
                        run.max_timestamp = run.max_timestamp.max(record.timestamp);
                    }
                    self.buffer.extend_from_slice(records.as_bytes());
                }
                // Stored as it is, alone in its run.
                Payload::Batch(_) if run.items > 0 => break,
                Payload::Batch(batch) => {
                    (run.base_timestamp, run.max_timestamp) = (batch.base_timestamp, batch.max_timestamp);
                    run.codec = batch.codec as u8;
                    self.buffer.extend_from_slice(&batch.records);
                }
            }
            run.items += 1;
            run.count += item.left();
            if run.codec != 0 {
                break;
            }
        }
        run.data.end = self.buffer.len();
        (!waiting.is_empty()).then_some(run)
    }

    fn entry(&self, run: &Planned) -> Entry<'_> {
        Entry::Records(Records {
            partition: run.number,
            first: run.first,
            count: run.count,
            base_timestamp: run.base_timestamp,
            max_timestamp: run.max_timestamp,
            stored_at: (self.shared.clock)(),
            codec: run.codec,
            tags: NO_TAGS,
            data: self.buffer.get(run.data.clone()).unwrap_or_default(),
        })
    }

    /// The log's number of a partition. All partitions that its topic has get theirs with it, so that after a start it is known how many there
    /// are, and keys go where they went.
    pub(super) fn number<S: Storage<File = F>>(
        &mut self,
        log: &mut Log<S>,
        partition: &Partition,
    ) -> Result<u32, LogError> {
        let Some(stored) = partition.stored() else { return Err(LogError::Refused("a partition that is not stored")) };
        if let Some(number) = stored.number().get() {
            return Ok(*number);
        }
        let topic = partition.topic();
        let count = i32::try_from(topic.partition_count()).unwrap_or(i32::MAX).max(partition.id().saturating_add(1));
        for id in 0..count {
            if let hash_map::Entry::Vacant(unnamed) = self.numbers.entry((topic.name.to_string(), id)) {
                let topic_id = topic.id().into_bytes();
                let name = PartitionName { topic_id, partition: Some(id), topic: topic.name.as_bytes() };
                unnamed.insert(log.define(&name.encode())?);
            }
        }
        let number = self.numbers.get(&(topic.name.to_string(), partition.id())).copied();
        let number = number.ok_or(LogError::Refused("a partition without a number"))?;
        Ok(*stored.number().get_or_init(|| number))
    }

    /// The items of a run are in the log: they become ready, or leave memory.
    fn appended(&mut self, run: Planned, ticket: Ticket) {
        let Some(stored) = run.partition.stored() else { return };
        let mut waiting = stored.pushed();
        let items: Vec<Box<Item>> = (0..run.items).map_while(|_| waiting.pop_front()).collect();
        drop(waiting);
        if run.partition.topic().overflows() {
            let spilled = &run.partition.topic().spilled;
            spilled.records.fetch_add(run.count.into(), Ordering::Relaxed);
            spilled.bytes.fetch_add(run.data.len() as u64, Ordering::Relaxed);
        }
        let mut first = run.first;
        for mut item in items {
            let (count, bytes) = (item.left(), item.left_bytes());
            item.set_first_index(first);
            let receipts = item.take_stored_receipts();
            if !receipts.is_empty() {
                self.shared.waiting.lock().push(ticket, Waiter::Stored(run.partition.id(), receipts));
                if let Some(spilled) = self.spilled.get_mut(&Arc::as_ptr(&run.partition).addr()) {
                    spilled.is_wanted(Instant::now());
                }
            }
            if self.leaves_memory(&run.partition) {
                self.leave(&run.partition, *item, first);
            } else {
                run.partition.make_ready(item);
            }
            first += u64::from(count);
            stored.appended(count, bytes);
        }
    }

    /// Whether what is appended to a partition now is kept in the log only: because older records of it are, or memory is short.
    fn leaves_memory(&self, partition: &Partition) -> bool {
        let is_behind = partition.stored().is_some_and(|stored| !stored.log_only().is_empty());
        let (used, limit) = (self.shared.budget.used(), self.shared.budget.limit());
        let can_wait = partition.is_full() || !partition.has_leader();
        is_behind || used > limit / 4 * 3 || used > limit / 2 && can_wait
    }

    fn leave(&self, partition: &Partition, item: Item, first: u64) {
        let Some(stored) = partition.stored() else { return };
        let mut log_only = stored.log_only();
        if log_only.is_empty() {
            log_only.first = first;
        }
        log_only.end = first + u64::from(item.left());
        log_only.records += u64::from(item.left());
        self.shared.budget.release(item.charged_bytes());
        log_only.receipts.extend(item.into_receipts());
        drop(log_only);
        if partition.has_leader() {
            stored.want_more();
        }
    }
}
