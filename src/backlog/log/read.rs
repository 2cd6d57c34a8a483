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
use super::scan::Gap;
use super::storage::{Storage, StorageFile};

/// Damaged places that are remembered, so that they are not read again and again.
const DAMAGED_MAX: usize = 1 << 16;

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
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something else stands there: it is damaged, or was freed meanwhile. [`Log::note_unreadable`] knows.
    #[error("the run is damaged")]
    Damaged,
}

/// Runs that were found; where none were, the nearest index behind that was.
type Looked<F> = (Vec<RunHandle<F>>, Option<u64>);

impl Cursor {
    /// From record `next` of a partition on, or from its first that is not settled.
    pub fn new(partition: u32, next: u64) -> Self {
        Cursor { partition, next, segment: 0 }
    }
}

impl<F: StorageFile> RunHandle<F> {
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
    /// Runs may not be durable yet: what depends on that waits for a sync.
    pub fn locate(&mut self, cursor: &mut Cursor, bytes_max: usize) -> Result<Next<S::File>, LogError> {
        if self.active.as_ref().is_some_and(|active| active.poisoned && active.unsynced_bytes() > 0) {
            // What a failed sync left in the file is not to be trusted; this writes it anew.
            self.sync()?;
        }
        let Some(partition) = self.state.partitions.get(&cursor.partition) else { return Ok(Next::End) };
        cursor.next = cursor.next.max(partition.settled);
        cursor.next = partition.after_gone(cursor.next);
        let next = partition.next;
        if cursor.next >= next {
            return Ok(Next::End);
        }
        let start = cursor.segment.max(partition.segment);
        let (runs, behind) = self.find_runs(cursor, start, bytes_max)?;
        if let Some(last) = runs.last() {
            cursor.next = last.run.last() + 1;
            cursor.segment = last.segment;
            return Ok(Next::Runs(runs));
        }
        let last = behind.map_or(next, |behind| behind.min(next)) - 1;
        let mut missing = IndexRange { first: cursor.next, last };
        if let Some((from, placed, range)) = self.placed_at(cursor.partition, &mut missing) {
            cursor.next = range.last + 1;
            return Ok(Next::Placed { range, from, placed });
        }
        cursor.next = missing.last + 1;
        Ok(Next::Missing(missing))
    }

    /// A run that was located could not be read. What is damaged is put into quarantine, and will not be located again; what was freed needs
    /// nothing.
    pub fn note_unreadable(&mut self, handle: &RunHandle<S::File>) {
        let older = self.segments.get(&handle.segment).map(|segment| (segment.note.generation, segment.note.end));
        let active = self.active.as_ref().filter(|active| active.number == handle.segment);
        let in_place = older.or(active.map(|active| (active.generation, active.end)));
        // What was behind the end has moved to a newer segment.
        if in_place.is_some_and(|(generation, end)| generation == handle.generation && handle.run.position < end) {
            self.note_damage(handle.segment, &handle.run);
        }
    }

    pub(super) fn note_damage(&mut self, segment: u64, run: &RunRef) {
        if self.damaged.len() < DAMAGED_MAX && self.damaged.insert((segment, run.position)) {
            self.quarantine(segment, Gap { from: run.position, to: run.position.saturating_add(run.len) });
        }
    }

    /// The runs from the cursor's next record on, in the segment that has it; else the next index behind it that any has.
    fn find_runs(&mut self, cursor: &Cursor, start: u64, bytes_max: usize) -> Result<Looked<S::File>, LogError> {
        let may_hold = |number: &u64| !self.indexes.lacks(*number, cursor.partition);
        let newer: Vec<u64> = self.segments.range(start..).map(|(number, _)| *number).filter(may_hold).collect();
        let older: Vec<u64> = self.segments.range(..start).map(|(number, _)| *number).filter(may_hold).collect();
        let mut behind: Option<u64> = None;
        for number in newer {
            let runs = self.runs_in_older(number, cursor, bytes_max, &mut behind)?;
            if !runs.is_empty() {
                return Ok((runs, behind));
            }
        }
        let runs = self.runs_in_active(cursor, bytes_max, &mut behind)?;
        if !runs.is_empty() {
            return Ok((runs, behind));
        }
        // The cleaner copies runs out of their order.
        for number in older {
            let runs = self.runs_in_older(number, cursor, bytes_max, &mut behind)?;
            if !runs.is_empty() {
                return Ok((runs, behind));
            }
        }
        Ok((Vec::new(), behind))
    }

    fn runs_in_older(
        &mut self,
        number: u64,
        cursor: &Cursor,
        bytes_max: usize,
        behind: &mut Option<u64>,
    ) -> Result<Vec<RunHandle<S::File>>, LogError> {
        let (index, file) = self.index_of(number)?;
        let (generation, end) =
            self.segments.get(&number).map_or((0, 0), |segment| (segment.note.generation, segment.note.end));
        let usable = |run: &&RunRef| !self.damaged.contains(&(number, run.position));
        let runs = index.runs_from(cursor.partition, cursor.next).iter().filter(usable).copied();
        let runs = without_gaps(runs, cursor.next, bytes_max, behind);
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
        behind: &mut Option<u64>,
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
        let runs = without_gaps(runs, next, bytes_max, behind);
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        if runs.iter().any(|run| run.position >= active.written) {
            self.write()?;
        }
        let Some(active) = &self.active else { return Ok(Vec::new()) };
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
