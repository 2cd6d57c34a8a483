//! Reading back: where the next runs of a partition are, and what they hold.
//!
//! Finding is the engine's and quick; reading is anybody's, on any thread, and checks everything it reads: what was freed and overwritten
//! meanwhile is never taken for a record.

use std::io;
use std::sync::Arc;

use super::engine::Log;
use super::entry::{Entry, IndexRange, Placed, Records, entries};
use super::error::LogError;
use super::footer::RunRef;
use super::frame::{self, Found, Frame, Kind};
use super::storage::{Storage, StorageFile};

/// How far a reader of a partition is. Holds nothing of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The partition's number.
    pub partition: u32,
    /// Index of the next record.
    pub next: u64,
    /// Where the last one was found.
    segment: u64,
}

/// What comes next in a partition.
#[derive(Debug)]
pub enum Next<F> {
    /// These runs, in order and without a gap. The first may begin before the cursor's next record, and records that are gone may be among
    /// them.
    Runs(Vec<RunHandle<F>>),
    /// These records were placed here out of a partition that was not chosen, and are to be read there.
    Placed {
        /// Which records.
        range: IndexRange,
        /// The number of that partition.
        from: u32,
        /// What was placed.
        placed: Placed,
    },
    /// These records were lost to damage: they are to be dropped with [`super::entry::REASON_DAMAGED`].
    Missing(IndexRange),
    /// There is nothing more yet.
    End,
}

/// Where a run is.
#[derive(Debug)]
pub struct RunHandle<F> {
    file: Arc<F>,
    segment: u64,
    generation: u64,
    run: RunRef,
}

/// A run that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    frame: Vec<u8>,
    partition: u32,
    first: u64,
}

/// Why a run could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk failed. That is no damage: the run stays held, and is to be read again.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something else stands there: it is damaged, or was freed meanwhile. [`Log::note_unreadable`] knows.
    #[error("the run is damaged")]
    Damaged,
}

/// What a search for a record met instead of it.
#[derive(Debug, Default)]
struct Seen {
    /// The nearest record behind it.
    behind: Option<u64>,
    /// A segment that may hold it, and that the disk could not read all of.
    unread: Option<u64>,
}

impl Cursor {
    /// From record `next` of a partition on, or from its first that is not settled.
    pub fn new(partition: u32, next: u64) -> Self {
        Cursor { partition, next, segment: 0 }
    }
}

impl<F: StorageFile> RunHandle<F> {
    pub(super) fn new(file: Arc<F>, segment: u64, generation: u64, run: RunRef) -> Self {
        RunHandle { file, segment, generation, run }
    }

    /// Which records.
    pub fn range(&self) -> IndexRange {
        IndexRange { first: self.run.first, last: self.run.last() }
    }

    /// Bytes that reading takes.
    pub fn len_bytes(&self) -> usize {
        self.run.len as usize
    }

    /// Reads it. Blocks.
    pub fn read(&self) -> Result<StoredRun, ReadError> {
        read_run(&*self.file, self.generation, &self.run)
    }
}

impl StoredRun {
    /// The run.
    pub fn records(&self) -> Records<'_> {
        self.find().expect("it was found when it was read")
    }

    fn find(&self) -> Option<Records<'_>> {
        let body = self.frame.get(frame::HEADER_BYTES..)?;
        entries(body).flatten().find_map(|entry| match entry {
            Entry::Records(records) if records.partition == self.partition && records.first == self.first => {
                Some(records)
            }
            _ => None,
        })
    }
}

impl<S: Storage> Log<S> {
    /// What comes next, runs up to about `bytes_max` at a time and at least one. The cursor moves behind what is returned.
    ///
    /// Runs may not be durable yet: what depends on that waits for a sync. After an error the cursor is where it was: what comes next is held, but
    /// cannot be had now.
    pub fn locate(&mut self, cursor: &mut Cursor, bytes_max: usize) -> Result<Next<S::File>, LogError> {
        // What a failed write or sync left in the file is not to be trusted; this writes it anew. Where it cannot, the rest can be read all the same.
        let lacks_synced = self.active.as_ref().is_some_and(|active| active.poisoned && active.unsynced_bytes() > 0);
        let failure = if lacks_synced { self.sync().err() } else { None };
        let Some(partition) = self.state.partitions.get(&cursor.partition) else { return Ok(Next::End) };
        cursor.next = cursor.next.max(partition.settled);
        cursor.next = partition.after_gone(cursor.next);
        let next = partition.next;
        if cursor.next >= next {
            return Ok(Next::End);
        }
        let start = cursor.segment.max(partition.segment);
        let mut seen = Seen::default();
        let runs = self.find_runs(cursor, start, bytes_max, &mut seen)?;
        if let Some(last) = runs.last() {
            cursor.next = last.run.last() + 1;
            cursor.segment = last.segment;
            return Ok(Next::Runs(runs));
        }
        let last = seen.behind.map_or(next, |behind| behind.min(next)) - 1;
        let mut missing = IndexRange { first: cursor.next, last };
        if let Some((from, placed, range)) = self.placed_at(cursor.partition, &mut missing) {
            cursor.next = range.last + 1;
            return Ok(Next::Placed { range, from, placed });
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if let Some(segment) = seen.unread {
            // The next try may read it.
            self.indexes.forget_index(segment);
            return Err(self.unread(segment));
        }
        cursor.next = missing.last + 1;
        Ok(Next::Missing(missing))
    }

    /// A run that was located could not be read. What is damaged, on a second look as well, is put into quarantine and will not be located again.
    /// What was freed needs nothing, and what the disk could not read stays as it is.
    pub fn note_unreadable(&mut self, handle: &RunHandle<S::File>) {
        let older = self.segments.get(&handle.segment).map(|segment| (segment.note.generation, segment.note.end));
        let active = self.active.as_ref().filter(|active| active.number == handle.segment);
        let in_place = older.or(active.map(|active| (active.generation, active.synced)));
        // What was behind the end has moved to a newer segment, or will be written anew there.
        let is_in_place =
            in_place.is_some_and(|(generation, end)| generation == handle.generation && handle.run.position < end);
        if is_in_place && matches!(handle.read(), Err(ReadError::Damaged)) {
            self.note_damage(handle.segment, handle.run.gap());
        }
    }

    /// The runs from the cursor's next record on, in the segment that has it.
    fn find_runs(
        &mut self,
        cursor: &Cursor,
        start: u64,
        bytes_max: usize,
        seen: &mut Seen,
    ) -> Result<Vec<RunHandle<S::File>>, LogError> {
        let may_hold = |number: &u64| !self.indexes.lacks(*number, cursor.partition);
        let newer: Vec<u64> = self.segments.range(start..).map(|(number, _)| *number).filter(may_hold).collect();
        let older: Vec<u64> = self.segments.range(..start).map(|(number, _)| *number).filter(may_hold).collect();
        for number in newer {
            let runs = self.runs_in_older(number, cursor, bytes_max, seen)?;
            if !runs.is_empty() {
                return Ok(runs);
            }
        }
        let runs = self.runs_in_active(cursor, bytes_max, seen)?;
        if !runs.is_empty() {
            return Ok(runs);
        }
        // The cleaner copies runs out of their order.
        for number in older {
            let runs = self.runs_in_older(number, cursor, bytes_max, seen)?;
            if !runs.is_empty() {
                return Ok(runs);
            }
        }
        Ok(Vec::new())
    }

    fn runs_in_older(
        &mut self,
        number: u64,
        cursor: &Cursor,
        bytes_max: usize,
        seen: &mut Seen,
    ) -> Result<Vec<RunHandle<S::File>>, LogError> {
        let (index, file) = self.index_of(number)?;
        if self.indexes.is_partial(number) {
            seen.unread = Some(number);
        }
        let (generation, end) =
            self.segments.get(&number).map_or((0, 0), |segment| (segment.note.generation, segment.note.end));
        let usable = |run: &&RunRef| !self.damaged.contains(&(number, run.position));
        let runs = index.runs_from(cursor.partition, cursor.next).iter().filter(usable).copied();
        let runs = without_gaps(runs, cursor.next, bytes_max, &mut seen.behind);
        if !runs.is_empty() && self.indexes.begin_reading(number) {
            // Other partitions' runs are read next, in the order of their cursors and not of the file.
            file.will_need(0, end.into());
        }
        let handle = |run| RunHandle { file: Arc::clone(&file), segment: number, generation, run };
        Ok(runs.into_iter().map(handle).collect())
    }

    fn runs_in_active(
        &mut self,
        cursor: &Cursor,
        bytes_max: usize,
        seen: &mut Seen,
    ) -> Result<Vec<RunHandle<S::File>>, LogError> {
        let Some(active) = &self.active else { return Ok(Vec::new()) };
        let (partition, next) = (cursor.partition, cursor.next);
        // The last run that begins at or before the next record may hold it.
        let before =
            active.runs.range((partition, 0)..=(partition, next)).next_back().filter(|(_, run)| run.last() >= next);
        let from = before.map_or(next, |(key, _)| key.1);
        let usable = |run: &&RunRef| !self.damaged.contains(&(active.number, run.position));
        let runs =
            active.runs.range((partition, from)..=(partition, u64::MAX)).map(|(_, run)| run).filter(usable).copied();
        let mut runs = without_gaps(runs, next, bytes_max, &mut seen.behind);
        let is_gathered = runs.iter().any(|run| run.position >= active.written);
        let written = if is_gathered { self.write() } else { Ok(()) };
        let Some(active) = &self.active else { return Ok(Vec::new()) };
        let readable_to = if active.poisoned { active.synced } else { active.written };
        runs.retain(|run| run.position < readable_to);
        if runs.is_empty() {
            return written.map(|()| Vec::new());
        }
        let handle = |run| RunHandle {
            file: Arc::clone(&active.file),
            segment: active.number,
            generation: active.generation,
            run,
        };
        Ok(runs.into_iter().map(handle).collect())
    }

    /// What was placed into `partition` at the first of these records; else cuts them before the first that was.
    fn placed_at(&self, partition: u32, missing: &mut IndexRange) -> Option<(u32, Placed, IndexRange)> {
        let all = self.state.partitions.iter().flat_map(|(from, state)| state.placed.iter().map(move |p| (*from, p)));
        for (from, placed) in all {
            for range in placed.parts.iter().filter(|part| part.partition == partition).filter_map(|part| part.range())
            {
                if (range.first..=range.last).contains(&missing.first) {
                    return Some((from, placed.clone(), IndexRange { first: missing.first, last: range.last }));
                }
                if range.first > missing.first {
                    missing.last = missing.last.min(range.first - 1);
                }
            }
        }
        None
    }
}

/// Reads a run and checks that it is the one that was meant.
pub(super) fn read_run(file: &impl StorageFile, generation: u64, run: &RunRef) -> Result<StoredRun, ReadError> {
    let mut frame = vec![0; run.len as usize];
    let read = file.read_at(&mut frame, run.position.into())?;
    let found = frame.get(..read).map(|bytes| frame::parse(bytes, run.position, generation, run.len as usize));
    let Some(Found::Frame(Frame { kind: Kind::ENTRIES, .. })) = found else { return Err(ReadError::Damaged) };
    let stored = StoredRun { frame, partition: run.partition, first: run.first };
    match stored.find() {
        Some(records) if records.count == run.count => Ok(stored),
        _ => Err(ReadError::Damaged),
    }
}

/// Runs that follow each other without a gap, the first of which holds record `next`. Where they begin behind it, the nearest such place goes to
/// `behind`.
fn without_gaps(
    runs: impl Iterator<Item = RunRef>,
    mut next: u64,
    bytes_max: usize,
    behind: &mut Option<u64>,
) -> Vec<RunRef> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for run in runs {
        if run.first > next {
            if taken.is_empty() {
                *behind = Some(behind.map_or(run.first, |other| other.min(run.first)));
            }
            break;
        }
        bytes += run.len as usize;
        if run.last() < next {
            continue;
        }
        if !taken.is_empty() && bytes > bytes_max {
            break;
        }
        next = run.last() + 1;
        taken.push(run);
    }
    taken
}
