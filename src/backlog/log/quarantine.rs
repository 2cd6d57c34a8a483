//! Damaged bytes are copied aside before anything else happens to their segment.

use std::io;

use super::engine::Log;
use super::header::segment_name;
use super::scan::Gap;
use super::storage::{QUARANTINE, Storage, StorageFile};

/// More places than this are counted only, for as long as the log is open.
const PLACES_MAX: u64 = 1000;
const COPY_BYTES: usize = 1 << 20;

impl<S: Storage> Log<S> {
    /// Counts a damaged place and copies it into the quarantine. That may fail without harm: the bytes stay where they are until the
    /// segment is freed.
    pub(super) fn quarantine(&mut self, segment: u64, gap: Gap) {
        self.counters.damaged_places += 1;
        if self.counters.damaged_places <= PLACES_MAX && copy(&self.storage, segment, gap).is_err() {
            self.counters.quarantine_failures += 1;
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
