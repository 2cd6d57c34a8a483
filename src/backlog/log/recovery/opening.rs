//! How a segment begins: its header and its checkpoint.

use std::io;
use std::ops::ControlFlow;

use crate::backlog::log::checkpoint::{self, Checkpoint};
use crate::backlog::log::error::LogError;
use crate::backlog::log::frame::{self, HEADER_BYTES as FRAME_HEADER_BYTES, Kind};
use crate::backlog::log::header::{FoundHeader, HEADER_BYTES, SegmentHeader, segment_name};
use crate::backlog::log::scan::{Extent, SYNCED_TO_ITS_END, Seen, Unreadable, is_unreadable, read_around, scan};
use crate::backlog::log::storage::{Storage, StorageFile};

/// So much is searched at a time for a checkpoint whose header is lost.
const SEARCH_BYTES: usize = 1 << 20;

/// What a file with a segment's name begins with.
#[derive(Debug)]
pub(super) enum Opening {
    /// A checkpoint that can be read.
    Checkpoint { generation: u64, checkpoint: Checkpoint },
    /// It is this segment, but both copies of its checkpoint are damaged.
    NoCheckpoint { generation: u64 },
    /// The bytes of a later segment: it was renamed, and the power went before that was on disk.
    Never,
    /// Nothing that can be read.
    Unreadable,
}

pub(super) fn read(storage: &impl Storage, number: u64, unreadable: Unreadable) -> Result<Opening, LogError> {
    let name = segment_name(number);
    let path = storage.path(&name);
    let file = storage.open(&name).map_err(LogError::io("open", path.clone()))?;
    let mut header = [0; HEADER_BYTES];
    let read = match file.read_at(&mut header, 0) {
        // It is looked for by its checkpoint.
        Err(error) if is_unreadable(&error) && unreadable == Unreadable::IsDamage => HEADER_BYTES,
        read => read.map_err(LogError::io("read", path.clone()))?,
    };
    if read < HEADER_BYTES {
        return Ok(Opening::Unreadable);
    }
    let (candidates, sure) = match SegmentHeader::decode(&header) {
        FoundHeader::Newer(version) => return Err(LogError::Newer { path, version }),
        // A file gets higher numbers as it is recycled. One with a lower number was copied here, and is not ours to remove.
        FoundHeader::Header(header) if header.number < number => return Ok(Opening::Unreadable),
        FoundHeader::Header(header) if header.number > number => return Ok(Opening::Never),
        FoundHeader::Header(header) => ([header.generation, header.generation], true),
        FoundHeader::Damaged(generations) => (generations, false),
    };
    for generation in candidates {
        let from = HEADER_BYTES as u32;
        let extent = Extent { generation, from, limit: u32::MAX, known_synced: SYNCED_TO_ITS_END, unreadable };
        let found = first_checkpoint(&file, number, extent).map_err(LogError::io("read", path.clone()))?;
        if let Some(checkpoint) = found {
            return Ok(Opening::Checkpoint { generation, checkpoint });
        }
    }
    if sure {
        return Ok(Opening::NoCheckpoint { generation: candidates[0] });
    }
    let found = any_checkpoint(&file, number, unreadable).map_err(LogError::io("read", path))?;
    Ok(found.map_or(Opening::Unreadable, |(generation, checkpoint)| Opening::Checkpoint { generation, checkpoint }))
}

/// A checkpoint of this segment, and the generation that its frame names: for when the header says neither.
fn any_checkpoint(
    file: &impl StorageFile,
    number: u64,
    unreadable: Unreadable,
) -> io::Result<Option<(u64, Checkpoint)>> {
    let mut window = vec![0; SEARCH_BYTES];
    let mut base = 0_u32;
    loop {
        let read = match file.read_at(&mut window, base.into()) {
            Err(error) if is_unreadable(&error) && unreadable == Unreadable::IsDamage => {
                read_around(file, &mut window, base)?
            }
            read => read?,
        };
        let bytes = window.get(..read).unwrap_or_default();
        for candidate in frame::checkpoint_candidates(bytes, base) {
            let from = base.saturating_add(candidate.at as u32);
            let limit = u32::try_from(u64::from(from) + candidate.len).unwrap_or(u32::MAX);
            let generation = candidate.generation;
            let extent = Extent { generation, from, limit, known_synced: SYNCED_TO_ITS_END, unreadable };
            if let Some(checkpoint) = first_checkpoint(file, number, extent)? {
                return Ok(Some((generation, checkpoint)));
            }
        }
        // A header may begin in the last bytes of the window.
        match read.checked_sub(FRAME_HEADER_BYTES).and_then(|step| base.checked_add(step as u32 + 1)) {
            Some(next) if read == SEARCH_BYTES => base = next,
            _ => return Ok(None),
        }
    }
}

/// The first of the two copies that can be read. Nothing else stands before them.
fn first_checkpoint(file: &impl StorageFile, number: u64, extent: Extent) -> io::Result<Option<Checkpoint>> {
    let mut found = None;
    scan(file, extent, |seen| {
        let Seen::Frame(frame) = seen else { return ControlFlow::Continue(()) };
        match frame.kind {
            Kind::CHECKPOINT => {}
            Kind::FILLING => return ControlFlow::Continue(()),
            _ => return ControlFlow::Break(()),
        }
        found = checkpoint::decode(frame.body).ok().filter(|checkpoint| checkpoint.number == number);
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}
