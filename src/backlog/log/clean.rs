//! The cleaner: when records find no room and less than half of the log lives, what lives in the oldest segment is copied to the
//! newest, so that one partition that stands still never keeps the room of what others have delivered.
//!
//! What the disk cannot read stays where it is, and is tried again now and then. The segments behind it are emptied instead: what lives in them is copied,
//! and the checkpoint of the next segment leaves them out.

use super::engine::Log;
use super::entry::{Entry, IndexRange};
use super::error::LogError;
use super::footer::{RUN_BYTES, RunRef};
use super::frame::HEADER_BYTES;
use super::header::segment_name;
use super::read::{ReadError, read_run};
use super::roll::For;
use super::scan::is_unreadable;
use super::storage::{Storage, StorageFile};

/// What a copied run takes beside its data.
const COPY_OVERHEAD_BYTES: usize = HEADER_BYTES + 256;
/// A pass that found too much alive is made again when this part of what is held has been settled.
const AGAIN_AFTER_SHARE: u64 = 64;
/// A segment that the disk could not read is tried again when so many others were begun.
const UNREAD_AGAIN_AFTER: u64 = 16;

impl<S: Storage> Log<S> {
    /// Empties and frees the oldest segment, or the oldest that can be read, if that is worth it. True if another attempt may find room. Takes as long as
    /// copying what lives of one segment.
    pub(super) fn clean(&mut self) -> Result<bool, LogError> {
        let begun = self.counters.segments_begun;
        self.unread.retain(|_, since| begun - *since < UNREAD_AGAIN_AFTER);
        let Some(number) = self.segments.keys().find(|number| !self.unread.contains_key(number)).copied() else {
            return Ok(false);
        };
        let is_oldest = self.segments.keys().next() == Some(&number);
        let cleaned = if is_oldest { self.clean_oldest(number) } else { self.empty(number) };
        let path = self.storage.path(&segment_name(number));
        match cleaned {
            Err(LogError::Disk(error))
                if error.action == "read" && error.path == path && is_unreadable(&error.source) =>
            {
                self.unread.insert(number, begun);
                Ok(true)
            }
            cleaned => cleaned,
        }
    }

    /// Has a segment behind one that cannot be read left out by the next checkpoint.
    fn empty(&mut self, number: u64) -> Result<bool, LogError> {
        let (index, _) = self.index_of(number)?;
        if index.runs().iter().any(|run| self.lives(run)) || self.indexes.is_partial(number) {
            if !self.room_for_segment(For::Copies, 0) || !self.is_worth_cleaning()? {
                return Ok(false);
            }
            self.copy_living(number)?;
            self.counters.segments_cleaned += 1;
        }
        self.segments.entry(number).and_modify(|segment| segment.note.runs = 0);
        self.counters.segments_left_out += 1;
        self.count_older_bytes();
        Ok(true)
    }

    fn clean_oldest(&mut self, oldest: u64) -> Result<bool, LogError> {
        if !self.room_for_segment(For::Copies, 0) || !self.is_worth_cleaning()? {
            return Ok(false);
        }
        let freed = self.counters.segments_freed;
        if self.cleaned.is_none_or(|(cleaned, _)| cleaned != oldest) {
            self.copy_living(oldest)?;
            self.cleaned = Some((oldest, self.appended));
            self.counters.segments_cleaned += 1;
        }
        self.sync()?;
        self.free();
        Ok(self.counters.segments_freed > freed)
    }

    fn copy_living(&mut self, segment: u64) -> Result<(), LogError> {
        let (index, file) = self.index_of(segment)?;
        if self.indexes.is_partial(segment) {
            return Err(self.unread(segment));
        }
        let generation = self.segments.get(&segment).map_or(0, |segment| segment.note.generation);
        let living: Vec<RunRef> = index.runs().iter().filter(|run| self.lives(run)).copied().collect();
        let mut frames: Vec<(u32, u32)> = living.iter().map(|run| (run.position, run.len)).collect();
        frames.sort_unstable();
        frames.dedup();
        // Before anything is copied: or what the disk cannot read would have the rest copied at each attempt.
        let path = || self.storage.path(&segment_name(segment));
        let mut frame_bytes = Vec::new();
        for (position, len) in &frames {
            frame_bytes.resize(*len as usize, 0);
            file.read_at(&mut frame_bytes, (*position).into()).map_err(LogError::io("read", path()))?;
        }
        let len = frames.iter().map(|frame| frame.1 as usize).sum::<usize>() + living.len() * COPY_OVERHEAD_BYTES;
        // All of it must fit, since there may be no room for yet another segment.
        let fits = |active: &super::active::Active<S::File>| active.fits(len, living.len(), self.options.runs_max);
        if !self.active.as_ref().is_some_and(fits) {
            self.roll(len + living.len() * RUN_BYTES, For::Copies)?;
        }
        let live_bound = self.live_bound;
        for run in &living {
            match read_run(&*file, generation, run) {
                Ok(stored) => {
                    self.put(&[Entry::Records(stored.records())], For::Copies)?;
                    self.counters.copied_bytes += u64::from(run.len);
                }
                // What it held is found missing when its partition comes to it.
                Err(ReadError::Damaged) => self.note_damage(segment, run.gap()),
                Err(ReadError::Io(source)) => {
                    let path = self.storage.path(&segment_name(segment));
                    return Err(LogError::io("read", path)(source));
                }
            }
        }
        self.live_bound = live_bound;
        Ok(())
    }

    /// Whether less than half of the log lives. Indexes are read only when what is known from the last time does not say so already.
    fn is_worth_cleaning(&mut self) -> Result<bool, LogError> {
        let active = self.active.as_ref().map_or(0, |active| u64::from(active.end));
        let total = self.segments.values().map(|segment| u64::from(segment.note.end)).sum::<u64>() + active;
        if self.live_bound.is_some_and(|bound| bound.saturating_mul(2) < total) {
            return Ok(true);
        }
        let ledger = &self.state.ledger;
        let settled = ledger.accepted.saturating_sub(ledger.held());
        if settled < self.clean_again_at {
            return Ok(false);
        }
        let runs = self.active.iter().flat_map(|active| active.runs.values());
        let mut living = runs.filter(|run| self.lives(run)).map(|run| u64::from(run.len)).sum::<u64>();
        for number in self.segments.keys().copied().collect::<Vec<_>>() {
            let (index, _) = self.index_of(number)?;
            living += index.runs().iter().filter(|run| self.lives(run)).map(|run| u64::from(run.len)).sum::<u64>();
        }
        self.live_bound = Some(living);
        let worth = living.saturating_mul(2) < total;
        if !worth {
            self.clean_later();
        }
        Ok(worth)
    }

    /// Not before more has been settled.
    pub(super) fn clean_later(&mut self) {
        let ledger = &self.state.ledger;
        let settled = ledger.accepted.saturating_sub(ledger.held());
        self.clean_again_at = settled.saturating_add((ledger.held() / AGAIN_AFTER_SHARE).max(1));
        self.live_bound = None;
    }

    pub(super) fn lives(&self, run: &RunRef) -> bool {
        let range = IndexRange::new(run.first, run.last());
        let partition = self.state.partitions.get(&run.partition);
        range.is_some_and(|range| partition.is_some_and(|partition| partition.needs(range)))
    }
}
