//! Damaged bytes are copied aside before anything else happens to their segment.

use std::io::{self, ErrorKind};

use super::engine::Log;
use super::header::segment_name;
use super::scan::Gap;
use super::storage::{QUARANTINE, Storage, StorageFile};

/// Damaged places that are remembered, so that each is counted and copied once, and not located again.
const DAMAGED_MAX: usize = 1 << 16;
/// More files than this are not put into the quarantine; what is damaged then is counted only.
const FILES_MAX: usize = 1000;
/// Nor more bytes.
const QUARANTINE_BYTES_MAX: u64 = 256 << 20;
const COPY_BYTES: usize = 1 << 20;

impl<S: Storage> Log<S> {
    /// Counts a damaged place, unless it is known, and copies it into the quarantine. That may fail without harm: the bytes stay where they are until
    /// the segment is freed.
    pub(super) fn note_damage(&mut self, segment: u64, gap: Gap) {
        if self.damaged.len() >= DAMAGED_MAX {
            // The oldest is the likeliest to be settled. Whoever still comes to it finds it damaged once more.
            self.damaged.pop_first();
        }
        if !self.damaged.insert((segment, gap.from)) {
            return;
        }
        self.counters.damaged_places += 1;
        match self.copy_aside(segment, gap) {
            Ok(copied) => self.counters.quarantined_bytes += copied,
            Err(_) => self.counters.quarantine_failures += 1,
        }
    }

    /// How many bytes were copied.
    fn copy_aside(&mut self, segment: u64, gap: Gap) -> io::Result<u64> {
        let len = u64::from(gap.to - gap.from);
        let (files, bytes) = match self.quarantined {
            Some(known) => known,
            None => *self.quarantined.insert(self.look_into_quarantine()?),
        };
        if files >= FILES_MAX || bytes.saturating_add(len) > QUARANTINE_BYTES_MAX {
            return Ok(0);
        }
        let floor = self.options.free_space_floor_bytes;
        if floor > 0 && self.storage.available_bytes()? < floor.saturating_add(len) {
            return Err(ErrorKind::StorageFull.into());
        }
        let copied = copy(&self.storage, segment, gap)?;
        self.quarantined = Some((files + usize::from(copied > 0), bytes + copied));
        Ok(copied)
    }

    /// Files in the quarantine, and their bytes.
    fn look_into_quarantine(&self) -> io::Result<(usize, u64)> {
        match self.storage.list(QUARANTINE) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((0, 0)),
            listed => listed.map(|files| (files.len(), files.iter().map(|file| file.len).fold(0, u64::saturating_add))),
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

fn copy(storage: &impl Storage, segment: u64, gap: Gap) -> io::Result<u64> {
    let name = format!("{QUARANTINE}/{segment:020}-{}.damaged", gap.from);
    let from = storage.open(&segment_name(segment))?;
    storage.create_directory(QUARANTINE)?;
    storage.sync_directory("")?;
    let to = match storage.create(&name) {
        // Found before, and copied then.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(0),
        created => created?,
    };
    let copied = copy_bytes(&from, gap, &to);
    if !matches!(copied, Ok(1..)) {
        // A part of it would pass for all.
        storage.remove(&name)?;
    }
    storage.sync_directory(QUARANTINE)?;
    copied
}

fn copy_bytes<F: StorageFile>(from: &F, gap: Gap, to: &F) -> io::Result<u64> {
    let mut buffer = vec![0; COPY_BYTES.min((gap.to - gap.from) as usize)];
    let mut at = gap.from;
    while at < gap.to {
        let len = COPY_BYTES.min((gap.to - at) as usize);
        let read = from.read_at(buffer.get_mut(..len).unwrap_or_default(), at.into())?;
        if read == 0 {
            break;
        }
        to.write_at(buffer.get(..read).unwrap_or_default(), (at - gap.from).into())?;
        at += read as u32;
    }
    to.sync()?;
    Ok((at - gap.from).into())
}
