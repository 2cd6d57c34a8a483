//! Files that wait to become segments: some kept for notes and the cleaner, others that were segments before.

use std::cmp::Reverse;

use super::beginning::Beginning;
use super::engine::Log;
use super::error::{FullCause, LogError, is_out_of_space};
use super::header::spare_name;
use super::options::{RESERVED_SEGMENTS, SPARES_MAX};
use super::recovery::SegmentFile;
use super::roll::For;
use super::storage::{Storage, StorageFile};

/// After notes of this part of a segment the reserve is looked at again: what the next segment begins with may have grown.
const NOTES_SHARE: u64 = 16;

/// A file that can become a segment.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    pub(super) name: String,
    /// It was written to before.
    pub(super) recycled: bool,
    /// Up to where, as far as that is known.
    pub(super) worn: u32,
    /// Length of the file: that of a segment, or more.
    pub(super) file_bytes: u64,
}

impl<S: Storage> Log<S> {
    /// Prepares files for notes and the cleaner, so that they are there when the disk is full.
    pub(super) fn keep_reserve(&mut self) {
        let segment_bytes = self.options.segment_bytes;
        while (self.spares.len() as u64) < RESERVED_SEGMENTS {
            let files = self.used_bytes() + (self.spares.len() as u64 + 1) * segment_bytes;
            if files > self.options.limit_bytes {
                break;
            }
            match self.create_spare(true) {
                Ok((spare, _)) => self.spares.push(spare),
                Err(error) => {
                    self.counters.housekeeping_failures += u64::from(!error.is_out_of_space());
                    break;
                }
            }
        }
        self.enlarge_reserve();
    }

    /// To be called after a sync: notes may have made what the next segment begins with larger than the reserve.
    pub(super) fn look_after_reserve(&mut self) {
        if self.noted_bytes > self.options.segment_bytes / NOTES_SHARE {
            self.enlarge_reserve();
        }
    }

    /// Has the files in reserve take what the next segment would need if it began now: when the disk is full, it is too late.
    fn enlarge_reserve(&mut self) {
        self.noted_bytes = 0;
        self.reserve_bytes = self.capacity_of_next(0);
        // The largest are kept; with those of one length, the first.
        self.spares.sort_by_key(|spare| Reverse(spare.file_bytes));
        let (needed, floor) = (self.reserve_bytes, self.options.free_space_floor_bytes);
        for spare in self.spares.iter_mut().take(RESERVED_SEGMENTS as usize).filter(|spare| spare.file_bytes < needed) {
            let left = floor.saturating_add(needed - spare.file_bytes);
            let enlarged = match self.storage.available_bytes() {
                Ok(available) if floor > 0 && available < left => return,
                Ok(_) => self.storage.open_for_writing(&spare.name).and_then(|file| file.allocate(needed)),
                Err(error) => Err(error),
            };
            match enlarged {
                Ok(()) => spare.file_bytes = needed,
                Err(error) => {
                    self.counters.housekeeping_failures += u64::from(!is_out_of_space(&error));
                    return;
                }
            }
        }
    }

    /// Whether a file of this length may become a segment: longer ones only while a segment begins with much.
    pub(super) fn can_be_spare(&self, file_bytes: u64) -> bool {
        let segment_bytes = self.options.segment_bytes;
        let largest = if self.reserve_bytes > segment_bytes { 2 * self.reserve_bytes } else { segment_bytes };
        (segment_bytes..=largest).contains(&file_bytes)
    }

    /// Gives a file that is not a segment any more away: to be recycled, or to the file system.
    pub(super) fn give_back(&mut self, name: &str, SegmentFile { note, file_bytes }: SegmentFile) -> bool {
        if !self.can_be_spare(file_bytes) || self.spares.len() >= SPARES_MAX {
            return self.housekeeping(|log| log.storage.remove(name));
        }
        let spare = Spare { name: spare_name(self.next_file), recycled: true, worn: note.end, file_bytes };
        self.next_file += 1;
        let renamed = self.housekeeping(|log| log.storage.rename(name, &spare.name));
        if renamed {
            self.spares.push(spare);
        }
        renamed
    }

    /// Records leave as many spares as are reserved; notes take them when nothing else can be had.
    pub(super) fn take_spare(&mut self, room_for: For) -> Result<(Spare, S::File), LogError> {
        while self.spares.len() as u64 > RESERVED_SEGMENTS {
            if let Some(taken) = self.open_spare() {
                return Ok(taken);
            }
        }
        let error = match self.create_spare(room_for == For::Records) {
            Ok(created) => return Ok(created),
            Err(error) => error,
        };
        while room_for != For::Records && !self.spares.is_empty() {
            if let Some(taken) = self.open_spare() {
                return Ok(taken);
            }
        }
        Err(error)
    }

    /// Makes a file as long as its segment is to be. Where the disk has no room for that, notes and copies take what they need of one that was kept for
    /// this.
    pub(super) fn fit(
        &mut self,
        beginning: &mut Beginning,
        (mut spare, mut file): (Spare, S::File),
        len: usize,
        room_for: For,
    ) -> Result<(Spare, S::File), LogError> {
        let (wanted, needed) = (u64::from(beginning.capacity), beginning.least_bytes(len));
        while spare.file_bytes < wanted {
            match file.allocate(wanted) {
                Ok(()) => spare.file_bytes = wanted,
                Err(source) if !is_out_of_space(&source) => {
                    self.housekeeping(|log| log.storage.remove(&spare.name));
                    return Err(LogError::io("allocate", self.storage.path(&spare.name))(source));
                }
                Err(_) if room_for != For::Records && spare.file_bytes >= needed => break,
                Err(_) => {
                    let larger = self.spares.iter().position(|other| other.file_bytes >= needed);
                    let larger = larger.filter(|_| room_for != For::Records).map(|at| self.spares.remove(at));
                    self.spares.push(spare);
                    spare = larger.ok_or_else(|| self.full(FullCause::Disk))?;
                    file = self
                        .storage
                        .open_for_writing(&spare.name)
                        .map_err(LogError::io("open", self.storage.path(&spare.name)))?;
                }
            }
        }
        beginning.set_capacity(spare.file_bytes);
        Ok((spare, file))
    }

    fn open_spare(&mut self) -> Option<(Spare, S::File)> {
        let spare = self.spares.pop()?;
        let opened = self.storage.open_for_writing(&spare.name);
        self.counters.housekeeping_failures += u64::from(opened.is_err());
        Some((spare, opened.ok()?))
    }

    /// Makes a file with room for a segment. Without `keep_floor` it may take the disk's last bytes.
    fn create_spare(&mut self, keep_floor: bool) -> Result<(Spare, S::File), LogError> {
        let segment_bytes = self.options.segment_bytes;
        let floor = self.options.free_space_floor_bytes;
        if keep_floor && floor > 0 {
            let available = self.storage.available_bytes().map_err(LogError::io("look at", self.storage.path("")))?;
            if available < floor.saturating_add(segment_bytes) {
                return Err(self.full(FullCause::Floor(floor)));
            }
        }
        let spare = Spare { name: spare_name(self.next_file), recycled: false, worn: 0, file_bytes: segment_bytes };
        self.next_file += 1;
        let path = self.storage.path(&spare.name);
        let file = match self.storage.create(&spare.name) {
            Err(error) if is_out_of_space(&error) => return Err(self.full(FullCause::Disk)),
            created => created.map_err(LogError::io("create", path.clone()))?,
        };
        match file.allocate(segment_bytes) {
            Ok(()) => Ok((spare, file)),
            Err(error) => {
                self.housekeeping(|log| log.storage.remove(&spare.name));
                if is_out_of_space(&error) {
                    return Err(self.full(FullCause::Disk));
                }
                Err(LogError::io("allocate", path)(error))
            }
        }
    }
}
