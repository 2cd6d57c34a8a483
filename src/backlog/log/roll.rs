//! From one segment to the next: the old one is closed and synced, the new one is prepared as a whole, synced, and only then named.

use super::active::Active;
use super::beginning::Beginning;
use super::engine::Log;
use super::error::LogError;
use super::header::segment_name;
use super::options::{Options, RESERVED_SEGMENTS};
use super::recovery::SegmentFile;
use super::spare::Spare;
use super::storage::{Storage, StorageFile};

/// A closed segment keeps an unused end of at most this part of a segment, so that it can be recycled as it is.
const UNUSED_SHARE: u64 = 8;

/// What room is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Records, which leave the reserve alone.
    Records,
    /// Notes, which always have room: without them nothing would ever be freed.
    Notes,
    /// What the cleaner copies.
    Copies,
}

impl<S: Storage> Log<S> {
    /// Whether the limit allows one more segment, which has room for `len` bytes of frames.
    pub(super) fn room_for_segment(&self, room_for: For, len: usize) -> bool {
        // Segments without runs are left behind by the next one.
        let active = self.active.as_ref().filter(|active| active.runs.is_empty()).map_or(0, |active| active.file_bytes);
        let kept = self.used_bytes().saturating_sub(self.older_bytes_without_runs + active);
        let used = kept.saturating_add(self.options.segment_bytes);
        let reserved = RESERVED_SEGMENTS * self.options.segment_bytes;
        match room_for {
            For::Records => {
                let fits = |used: u64| used.saturating_add(reserved) <= self.options.limit_bytes;
                // One that must be larger than others may be too large. Only then is it worth a look how large.
                fits(used) && fits(kept.saturating_add(self.capacity_of_next(len)))
            }
            // Crashes and failing disks may have used the reserve up, and the limit may be lower than it was when all this was stored. Notes
            // take no more than one segment in the end, since each leaves those without runs behind.
            For::Notes => true,
            For::Copies => used <= self.options.limit_bytes.saturating_add(reserved),
        }
    }

    /// Whether the newest segment is not one of the reserved ones, or they are for this.
    pub(super) fn may_grow(&self, room_for: For) -> bool {
        let reserved = RESERVED_SEGMENTS * self.options.segment_bytes;
        let kept = self.used_bytes().saturating_sub(self.older_bytes_without_runs);
        room_for != For::Records || kept.saturating_add(reserved) <= self.options.limit_bytes
    }

    /// Begins a segment with room for `len` bytes of frames. What the old one has not synced is written anew into it. After an error the old one
    /// may be closed; the next append tries again.
    pub(super) fn roll(&mut self, len: usize, room_for: For) -> Result<(), LogError> {
        if self.syncing {
            return Err(LogError::Busy);
        }
        let taken = self.take_spare(room_for)?;
        self.close_active();
        let number = self.next_file;
        self.next_file += 1;
        let mut beginning = self.beginning(number, len)?;
        let (spare, file) = self.fit(&mut beginning, taken, len, room_for)?;
        if let Err(error) = self.name_segment(&beginning, &spare, &file) {
            // Under whichever name: a file whose sync failed is never used again.
            self.housekeeping(|log| {
                log.storage.remove(&spare.name).or_else(|_| log.storage.remove(&segment_name(number)))
            });
            return Err(error);
        }
        self.counters.segments_begun += 1;
        self.counters.segments_recycled += u64::from(spare.recycled);
        self.counters.written_bytes += beginning.bytes.len() as u64;
        self.take_segment(beginning, file, spare.worn);
        self.set_aside();
        self.keep_reserve();
        self.free();
        Ok(())
    }

    /// Gives back what a segment does not use, unless that is little, or the disk is nearly full.
    pub(super) fn shorten(&mut self, number: u64) {
        let Some(segment) = self.segments.get(&number).copied() else { return };
        let end = u64::from(segment.note.end);
        let unused = segment.file_bytes.saturating_sub(end);
        if unused <= self.options.segment_bytes / UNUSED_SHARE || segment.note.runs == 0 {
            return;
        }
        if !has_room_to_give(&self.storage, &self.options) {
            return;
        }
        if self.housekeeping(|log| log.storage.open_for_writing(&segment_name(number))?.set_len(end)) {
            self.segments.entry(number).and_modify(|segment| segment.file_bytes = end);
            self.count_older_bytes();
        }
    }

    /// Writes the footer and syncs. What cannot be synced here is written anew into the next segment.
    fn close_active(&mut self) {
        let Some(active) = self.active.as_mut().filter(|active| !active.poisoned && active.footer == 0) else { return };
        active.close();
        let closed = active.write().and_then(|written| {
            self.counters.written_bytes += written as u64;
            active.file.sync()
        });
        match closed {
            Ok(()) => {
                active.set_synced(active.end);
                self.synced = self.appended;
                self.counters.syncs += 1;
            }
            Err(_) => {
                active.poisoned = true;
                self.counters.poisoned_segments += 1;
            }
        }
    }

    /// Makes the beginning durable in a spare file, then gives that the segment's name.
    fn name_segment(&self, beginning: &Beginning, spare: &Spare, file: &S::File) -> Result<(), LogError> {
        let storage = &self.storage;
        let path = || storage.path(&spare.name);
        file.write_at(&beginning.bytes, 0).map_err(LogError::io("write", path()))?;
        file.sync().map_err(LogError::io("sync", path()))?;
        storage.rename(&spare.name, &segment_name(beginning.number)).map_err(LogError::io("rename", path()))?;
        storage.sync_directory("").map_err(LogError::io("sync", storage.path("")))
    }

    /// The new segment takes the place of the old one; those without records are left behind.
    fn take_segment(&mut self, beginning: Beginning, file: S::File, worn: u32) {
        let Beginning { number, generation, bytes, capacity, runs } = beginning;
        let mut active = Active::new(number, generation, file, capacity, capacity.into(), bytes.len() as u32);
        active.worn = active.worn.max(worn);
        active.runs.extend(runs.into_iter().map(|run| ((run.partition, run.first), run)));
        if let Some(old) = self.active.replace(active) {
            self.indexes.remember(old.number, old.runs.keys().map(|(partition, _)| *partition));
            self.segments.insert(old.number, SegmentFile { note: old.note(), file_bytes: old.file_bytes });
            self.shorten(old.number);
        }
        if let Some(carry) = &self.carry {
            let number = carry.segment;
            let without = self.segments.get(&number).map(|segment| self.without_carried(segment.note));
            self.segments.entry(number).and_modify(|segment| segment.note = without.unwrap_or(segment.note));
            self.indexes.forget(number);
            self.shorten(number);
        }
        self.carry = None;
        self.watch = None;
        self.synced = self.appended;
        let is_empty = |(_, segment): &(&u64, &SegmentFile)| segment.note.runs == 0;
        let left_behind: Vec<_> =
            self.segments.iter().filter(is_empty).map(|(number, file)| (*number, *file)).collect();
        for (number, file) in left_behind {
            self.segments.remove(&number);
            self.indexes.forget(number);
            self.give_back(&segment_name(number), file);
        }
        self.count_older_bytes();
    }
}

/// Whether others may have what a segment does not use. On a disk that is nearly full they would, and when this segment is freed there were no room to
/// make its file a whole one again: restart by restart the files for notes would become fewer, until nothing is ever settled.
pub(super) fn has_room_to_give(storage: &impl Storage, options: &Options) -> bool {
    let needed = options.free_space_floor_bytes.saturating_add(options.segment_bytes);
    storage.available_bytes().is_ok_and(|available| available >= needed)
}
