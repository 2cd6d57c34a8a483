//! How a segment begins: its header and its checkpoint.

use std::io;
use std::ops::ControlFlow;

use crate::backlog::log::checkpoint::{self, Checkpoint};
use crate::backlog::log::error::LogError;
use crate::backlog::log::frame::Kind;
use crate::backlog::log::header::{FoundHeader, HEADER_BYTES, SegmentHeader, segment_name};
use crate::backlog::log::scan::{Extent, SYNCED_TO_ITS_END, Seen, Unreadable, is_unreadable, scan};
use crate::backlog::log::storage::{Storage, StorageFile};

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
        Err(error) if is_unreadable(&error) && unreadable == Unreadable::IsDamage => 0,
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
        let found =
            first_checkpoint(&file, number, generation, unreadable).map_err(LogError::io("read", path.clone()))?;
        if let Some(checkpoint) = found {
            return Ok(Opening::Checkpoint { generation, checkpoint });
        }
    }
    Ok(if sure { Opening::NoCheckpoint { generation: candidates[0] } } else { Opening::Unreadable })
}

/// The first of the two copies that can be read. Nothing else stands before them.
fn first_checkpoint(
    file: &impl StorageFile,
    number: u64,
    generation: u64,
    unreadable: Unreadable,
) -> io::Result<Option<Checkpoint>> {
    let mut found = None;
    let from = HEADER_BYTES as u32;
    let extent = Extent { generation, from, limit: u32::MAX, known_synced: SYNCED_TO_ITS_END, unreadable };
    scan(file, extent, |seen| {
        let Seen::Frame(frame) = seen else { return ControlFlow::Continue(()) };
        if frame.kind != Kind::CHECKPOINT {
            return ControlFlow::Break(());
        }
        found = checkpoint::decode(frame.body).ok().filter(|checkpoint| checkpoint.number == number);
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
}
