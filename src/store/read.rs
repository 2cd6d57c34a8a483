//! Reading back: what only the log has, as soon as its partition may send and has room on its ready side.
//!
//! The log's thread says where the next runs are, one read a partition at a time; a thread of its own reads them. What cannot be read because
//! the disk fails stays where it is, and is tried again; what is damaged is given up, counted and said.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::error;

use super::Shared;
use super::append::Appender;
use crate::backlog::log::engine::Log;
use crate::backlog::log::entry::{Entry, IndexRange, REASON_DAMAGED, Records};
use crate::backlog::log::error::LogError;
use crate::backlog::log::read::{Cursor, Next, ReadError, RunHandle, StoredRun};
use crate::backlog::log::state::Gone;
use crate::backlog::log::storage::{Storage, StorageFile};
use crate::config::MissingPartitionPolicy;
use crate::queue::item::Item;
use crate::queue::ledger::DropReason;
use crate::queue::partition::Partition;
use crate::queue::receipt::{Mark, Outcome};
use crate::queue::stored::{LogOnly, READY_BYTES};
use crate::record::{Run, TimestampMs, raw_records};
use crate::wire::codec::Codec;
use crate::wire::codes;
use crate::wire::record_batch::{Lane, Stamp, from_opaque, in_run_form};

/// So many bytes of runs are read at a time.
const READ_BYTES: usize = 1 << 20;
/// So many bytes may be read back however short memory is: what was read leaves only by being sent.
const READ_AHEAD_MIN: usize = 4 << 20;
/// Reads that wait for the reader.
const JOBS_MAX: usize = 64;
/// Small runs are put together to items of this size.
const ITEM_BYTES: usize = 256 << 10;
/// The most that a compressed run may unpack to: more than any that is stored.
const UNPACKED_MAX_BYTES: usize = 2 << 30;

/// Runs to be read.
#[derive(Debug)]
pub(super) struct Job<F: StorageFile> {
    partition: Arc<Partition>,
    /// The first index that is wanted.
    from: u64,
    runs: Vec<RunHandle<F>>,
    /// Ranges that were given up.
    gone: BTreeMap<u64, Gone>,
    bytes: usize,
    damaged: Damaged<F>,
}

/// Runs that were found damaged, for the log's thread.
type Damaged<F> = Arc<Mutex<Vec<RunHandle<F>>>>;

/// What the log's thread knows of reading.
#[derive(Debug)]
pub(super) struct Reading<F: StorageFile> {
    jobs: SyncSender<Job<F>>,
    /// Partitions that want to be read, each once.
    hungry: VecDeque<Arc<Partition>>,
    /// Where those stand that are being read.
    cursors: HashMap<u32, Cursor>,
    damaged: Damaged<F>,
}

impl<F: StorageFile> Reading<F> {
    pub fn new(jobs: SyncSender<Job<F>>) -> Self {
        Reading { jobs, hungry: VecDeque::new(), cursors: HashMap::new(), damaged: Damaged::default() }
    }
}

/// What came of looking for a partition's next runs.
enum Looked {
    /// They are being read, or there is nothing to be read now.
    Done,
    /// It must be looked for again.
    Again,
    /// The reader has enough to do.
    Busy,
}

/// Starts the reader's thread, which ends when its queue is dropped.
pub(super) fn start<F: StorageFile>(shared: Arc<Shared>) -> io::Result<(SyncSender<Job<F>>, JoinHandle<()>)> {
    let (jobs, queue) = sync_channel(JOBS_MAX);
    let read = move || read_jobs(&shared, &queue);
    Ok((jobs, std::thread::Builder::new().name("log-read".to_owned()).spawn(read)?))
}

fn read_jobs<F: StorageFile>(shared: &Shared, queue: &Receiver<Job<F>>) {
    while let Ok(job) = queue.recv() {
        job.run(shared);
    }
}

impl<F: StorageFile> Appender<F> {
    /// Has read what is wanted, as far as memory has room.
    ///
    /// # Errors
    /// Only if it is to be called again.
    pub(super) fn read_back<S: Storage<File = F>>(&mut self, log: &mut Log<S>) -> Result<(), LogError> {
        for handle in std::mem::take(&mut *self.reading.damaged.lock()) {
            log.note_unreadable(&handle);
        }
        while let Some(partition) = self.shared.inbox.next_to_read() {
            self.reading.hungry.push_back(partition);
        }
        while let Some(partition) = self.reading.hungry.pop_front() {
            if !self.may_read() {
                self.reading.hungry.push_front(partition);
                break;
            }
            match self.look(log, &partition) {
                Ok(Looked::Done) => {}
                Ok(Looked::Again) => self.reading.hungry.push_front(partition),
                Ok(Looked::Busy) => {
                    self.reading.hungry.push_front(partition);
                    break;
                }
                Err(LogError::Busy) => {
                    self.reading.hungry.push_front(partition);
                    return Err(LogError::Busy);
                }
                Err(error) => {
                    self.shared.cannot_read(&partition, &error);
                }
            }
        }
        self.shared.is_hungry.store(!self.reading.hungry.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    fn may_read(&self) -> bool {
        let Shared { budget, inbox, reading_bytes, .. } = &*self.shared;
        let reading = reading_bytes.load(Ordering::Relaxed);
        budget.used() + reading + READ_BYTES <= budget.limit() / 4 * 3
            || inbox.read_ahead_bytes() + reading < READ_AHEAD_MIN
    }

    fn look<S: Storage<File = F>>(&mut self, log: &mut Log<S>, partition: &Arc<Partition>) -> Result<Looked, LogError> {
        let Some((stored, number)) = partition.stored().and_then(|stored| Some((stored, *stored.number().get()?)))
        else {
            return Ok(Looked::Done);
        };
        stored.lower_want();
        let mut log_only = stored.log_only();
        let is_enough =
            partition.waiting_bytes() >= READY_BYTES || !partition.has_leader() && !may_be_given_up(partition);
        if log_only.is_empty() || log_only.is_reading || is_enough {
            return Ok(Looked::Done);
        }
        let known = self.reading.cursors.remove(&number).filter(|cursor| cursor.next == log_only.first);
        let mut cursor = known.unwrap_or_else(|| Cursor::new(number, log_only.first));
        match log.locate(&mut cursor, READ_BYTES)? {
            Next::Runs(runs) => {
                let gone = log.partition(number).map(|known| known.gone.clone()).unwrap_or_default();
                let bytes = runs.iter().map(RunHandle::len_bytes).sum();
                let damaged = self.reading.damaged.clone();
                let job = Job { partition: partition.clone(), from: log_only.first, runs, gone, bytes, damaged };
                match self.reading.jobs.try_send(job) {
                    Ok(()) => {
                        self.shared.reading_bytes.fetch_add(bytes, Ordering::Relaxed);
                        log_only.is_reading = true;
                        self.reading.cursors.insert(number, cursor);
                        Ok(Looked::Done)
                    }
                    Err(TrySendError::Full(_)) => Ok(Looked::Busy),
                    // Its thread has panicked. What it would read stays in the log.
                    Err(TrySendError::Disconnected(_)) => Err(LogError::Refused("the thread that reads has ended")),
                }
            }
            Next::Missing(range) => {
                log.append(&[Entry::Dropped { partition: number, range, reason: REASON_DAMAGED }])?;
                self.shared.is_lost(partition, &mut log_only, range);
                Ok(Looked::Again)
            }
            // Everything behind was given up.
            Next::End => {
                log_only.first = log_only.end;
                log_only.records = 0;
                Ok(Looked::Done)
            }
            Next::Placed { .. } => Err(LogError::Refused("its records are placed, which this version does not read")),
        }
    }
}

impl<F: StorageFile> Job<F> {
    fn run(self, shared: &Shared) {
        let Job { partition, from, runs, gone, bytes, damaged } = self;
        let mut next = from;
        let mut failed = None;
        let mut burst = Burst::default();
        for handle in runs {
            let read = handle.read().and_then(|run| burst.add(&run, &mut next, &gone, shared, &partition));
            match read {
                Ok(()) => {}
                Err(ReadError::Damaged) => {
                    damaged.lock().push(handle);
                    break;
                }
                Err(ReadError::Io(error)) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        burst.deliver(shared, &partition);
        shared.reading_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let Some(stored) = partition.stored() else { return };
        stored.log_only().is_reading = false;
        match failed {
            Some(error) => shared.cannot_read(&partition, &error),
            None if partition.waiting_bytes() < READY_BYTES => stored.want_more(),
            None => {}
        }
    }
}

/// Whether its records may leave without being sent.
fn may_be_given_up(partition: &Partition) -> bool {
    let rules = &partition.topic().rules;
    rules.delivery_timeout.is_some() || rules.on_missing_partition == MissingPartitionPolicy::DeadLetter
}

/// Records that were read and are not on the ready side yet: without a gap.
#[derive(Default)]
struct Burst {
    run: Run,
    first: u64,
    /// When the newest of them was stored.
    stored_at: TimestampMs,
}

impl Burst {
    /// Adds the records of a run from `next` on that were not given up; `next` is behind the run then.
    fn add(
        &mut self,
        stored: &StoredRun,
        next: &mut u64,
        gone: &BTreeMap<u64, Gone>,
        shared: &Shared,
        partition: &Arc<Partition>,
    ) -> Result<(), ReadError> {
        let records = stored.records();
        let run = unpacked(&records)?;
        for (index, record) in (records.first..).zip(run.records_from(0)) {
            let is_gone = gone.range(..=index).next_back().is_some_and(|(_, gone)| gone.range.last >= index);
            if index < *next || is_gone {
                continue;
            }
            let follows = self.first + u64::from(self.run.count()) == index;
            if !self.run.is_empty() && (!follows || self.run.len_bytes() >= ITEM_BYTES) {
                std::mem::take(self).deliver(shared, partition);
            }
            if self.run.is_empty() {
                self.first = index;
            }
            self.run.push_raw(&record);
            self.stored_at = records.stored_at;
        }
        *next = records.first + u64::from(records.count);
        Ok(())
    }

    /// Puts them on the ready side, with the receipts of those who wait for them.
    fn deliver(self, shared: &Shared, partition: &Arc<Partition>) {
        let Some(stored) = partition.stored().filter(|_| !self.run.is_empty()) else { return };
        let end = self.first + u64::from(self.run.count());
        let mut log_only = stored.log_only();
        let marks = take_receipts(&mut log_only, self.first, end);
        log_only.records = log_only.records.saturating_sub(end - self.first);
        let mut item = Item::records(self.run, marks, shared.moment_of(self.stored_at));
        item.set_first_index(self.first);
        shared.budget.charge(item.charged_bytes());
        stored.read(item.left_bytes());
        // Under the lock: what is appended after the last of them was read must not overtake it.
        partition.make_ready(item);
        log_only.first = end;
    }
}

/// The receipts of the records from `first` to before `end`, their places counted from `first`.
fn take_receipts(log_only: &mut LogOnly, first: u64, end: u64) -> VecDeque<Mark> {
    let mut marks = VecDeque::new();
    while let Some((index, mut receipt)) = log_only.receipts.pop_front() {
        if index >= end {
            log_only.receipts.push_front((index, receipt));
            break;
        }
        if let Some(rest) = u32::try_from(end - index).ok().and_then(|count| receipt.split_off(count)) {
            log_only.receipts.push_front((end, rest));
        }
        let at = u32::try_from(index.saturating_sub(first)).unwrap_or(u32::MAX);
        marks.push_back(Mark { at, receipt });
    }
    marks
}

/// The records of a run in run form.
pub(super) fn unpacked(stored: &Records<'_>) -> Result<Run, ReadError> {
    let run = match Codec::from_attributes(i16::from(stored.codec)).map_err(|_| ReadError::Damaged)? {
        Codec::None => {
            let mut run = Run::default();
            raw_records(stored.data).for_each(|record| run.push_raw(&record));
            run
        }
        codec => {
            let data = Bytes::copy_from_slice(stored.data);
            let sealed = from_opaque(codec, stored.count, stored.base_timestamp, stored.max_timestamp, &data);
            let stamp = Stamp { lane: Lane { producer_id: 0, epoch: 0 }, base_sequence: 0 };
            in_run_form(&sealed.stamp(stamp), UNPACKED_MAX_BYTES).map_err(|_| ReadError::Damaged)?
        }
    };
    if run.count() == stored.count { Ok(run) } else { Err(ReadError::Damaged) }
}

impl Shared {
    /// When that was, if the wall clock has not been set since: how long records wait counts from when they were stored, also after a restart.
    fn moment_of(&self, stored_at: TimestampMs) -> Instant {
        let (now, ago) = (Instant::now(), (self.clock)().saturating_sub(stored_at));
        let ago = Duration::from_millis(u64::try_from(ago).unwrap_or(0));
        now.checked_sub(ago).unwrap_or(now)
    }

    /// The disk fails: it is tried again later, and nothing is taken for damaged.
    fn cannot_read(&self, partition: &Arc<Partition>, cause: &dyn std::fmt::Display) {
        if let Some(events) = self.said.admit() {
            let (topic, id) = (&partition.topic().name, partition.id());
            error!(%topic, partition = id, events, %cause, "stored records cannot be read; they stay in the backlog and are tried again");
        }
        self.resting.lock().push(partition.clone());
        self.inbox.wake();
    }

    /// The log has lost records to damage.
    fn is_lost(&self, partition: &Partition, log_only: &mut LogOnly, range: IndexRange) {
        let (topic, id) = (&partition.topic().name, partition.id());
        let lost = range.count().min(log_only.records);
        error!(%topic, partition = id, records = lost, first = range.first, "stored records are damaged and dropped; see quarantine/ in the backlog's directory");
        self.ledger.drop_records(DropReason::Damaged, lost);
        log_only.records -= lost;
        for mark in take_receipts(log_only, range.first, range.last + 1) {
            let reason = "the backlog's disk has damaged it".into();
            mark.receipt.settle(Outcome::Failed { partition: id, error_code: codes::KAFKA_STORAGE_ERROR, reason });
        }
        log_only.first = log_only.first.max(range.last + 1);
    }
}
