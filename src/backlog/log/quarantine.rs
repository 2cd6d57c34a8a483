//! Damaged bytes are copied aside before anything else happens to their segment.

use std::io;

use super::engine::Log;
use super::header::segment_name;
use super::scan::Gap;
use super::storage::{QUARANTINE, Storage, StorageFile};

/// More places than this are counted only, for as long as the log is open.
const PLACES_MAX: u64 = 1000;
/// And more bytes.
const QUARANTINE_BYTES_MAX: u64 = 256 << 20;
const COPY_BYTES: usize = 1 << 20;

impl<S: Storage> Log<S> {
    /// Counts a damaged place and copies it into the quarantine. That may fail without harm: the bytes stay where they are until the
    /// segment is freed.
    pub(super) fn quarantine(&mut self, segment: u64, gap: Gap) {
        self.counters.damaged_places += 1;
        let bytes = self.counters.quarantined_bytes + u64::from(gap.to - gap.from);
        if self.counters.damaged_places > PLACES_MAX || bytes > QUARANTINE_BYTES_MAX {
            return;
        }
        match copy(&self.storage, segment, gap) {
            Ok(()) => self.counters.quarantined_bytes = bytes,
            Err(_) => self.counters.quarantine_failures += 1,
        }
    }

    /// Puts segments of which nothing can be read into the quarantine as they are. To be called when a later segment's checkpoint leaves what is held in
    /// doubt: without them nothing shows that notes were lost.
    pub(super) fn set_aside(&mut self) {
        for segment in std::mem::take(&mut self.set_aside) {
            let (from, to) = (segment_name(segment), format!("{QUARANTINE}/{}", segment_name(segment)));
            let moved = self.housekeeping(|log| {
                log.storage.create_directory(QUARANTINE)?;
                log.storage.rename(&from, &to)
            });
            if !moved {
                self.set_aside.push(segment);
            }
        }
    }
}

fn copy(storage: &impl Storage, segment: u64, gap: Gap) -> io::Result<()> {
    let name = format!("{QUARANTINE}/{segment:020}-{}.damaged", gap.from);
    let from = storage.open(&segment_name(segment))?;
    let mut buffer = vec![0; COPY_BYTES.min((gap.to - gap.from) as usize)];
    let mut read = from.read_at(&mut buffer, gap.from.into())?;
    if read == 0 {
        return Ok(());
    }
    storage.create_directory(QUARANTINE)?;
    storage.sync_directory("")?;
    let to = match storage.create(&name) {
        // Found before, and copied then.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        created => created?,
    };
    let mut at = 0_u32;
    while read > 0 {
        to.write_at(buffer.get(..read).unwrap_or_default(), at.into())?;
        at += read as u32;
        let left = (gap.to - gap.from).saturating_sub(at) as usize;
        let len = left.min(COPY_BYTES);
        read = from.read_at(buffer.get_mut(..len).unwrap_or_default(), (gap.from + at).into())?;
    }
    to.sync()?;
    storage.sync_directory(QUARANTINE)
}
