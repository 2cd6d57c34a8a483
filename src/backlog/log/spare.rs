//! Files that wait to become segments: some kept for notes and the cleaner, others that were segments before.

use super::engine::Log;
use super::error::{FullCause, LogError, is_out_of_space};
use super::header::spare_name;
use super::options::{RESERVED_SEGMENTS, SPARES_MAX};
use super::recovery::SegmentFile;
use super::roll::For;
use super::storage::{Storage, StorageFile};

/// A file that can become a segment.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    pub(super) name: String,
    /// It was written to before.
    pub(super) recycled: bool,
    /// Up to where, as far as that is known.
    pub(super) worn: u32,
}

impl<S: Storage> Log<S> {
    /// Prepares files for notes and the cleaner, so that they are there when the disk is full.
    pub(super) fn keep_reserve(&mut self) {
        let segment_bytes = self.options.segment_bytes;
        while (self.spares.len() as u64) < RESERVED_SEGMENTS {
            let files = self.used_bytes() + (self.spares.len() as u64 + 1) * segment_bytes;
            if files > self.options.limit_bytes {
                return;
            }
            match self.create_spare(true) {
                Ok((spare, _)) => self.spares.push(spare),
                Err(error) => {
                    self.counters.housekeeping_failures += u64::from(!error.is_out_of_space());
                    return;
                }
            }
        }
    }

    /// Gives a file that is not a segment any more away: to be recycled, or to the file system.
    pub(super) fn give_back(&mut self, name: &str, SegmentFile { note, file_bytes }: SegmentFile) -> bool {
        if file_bytes != self.options.segment_bytes || self.spares.len() >= SPARES_MAX {
            return self.housekeeping(|log| log.storage.remove(name));
        }
        let spare = Spare { name: spare_name(self.next_file), recycled: true, worn: note.end };
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
        let spare = Spare { name: spare_name(self.next_file), recycled: false, worn: 0 };
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
