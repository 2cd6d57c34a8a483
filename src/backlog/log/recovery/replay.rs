//! What the frames behind a checkpoint add to it.

use std::ops::ControlFlow;

use super::{Recovered, SegmentFile};
use crate::backlog::log::checkpoint::SegmentNote;
use crate::backlog::log::entry::{Entry, entries};
use crate::backlog::log::error::LogError;
use crate::backlog::log::frame::{Frame, HEADER_BYTES as FRAME_HEADER_BYTES, Kind};
use crate::backlog::log::header::{HEADER_BYTES, segment_name};
use crate::backlog::log::scan::{Extent, Gap, SYNCED_TO_ITS_END, Seen, Unreadable, scan};
use crate::backlog::log::storage::Storage;

/// Reads a segment into `recovered`. `closed`: a newer one has begun, so all of it was on disk.
pub(super) fn replay(
    storage: &impl Storage,
    recovered: &mut Recovered,
    (number, generation): (u64, u64),
    file_bytes: u64,
    closed: bool,
    unreadable: Unreadable,
) -> Result<(), LogError> {
    let name = segment_name(number);
    let path = storage.path(&name);
    let file = storage.open(&name).map_err(LogError::io("open", path.clone()))?;
    let mut note = SegmentNote { number, generation, end: 0, footer: 0, runs: 0 };
    let known_synced = if closed { SYNCED_TO_ITS_END } else { 0 };
    let extent = Extent { generation, from: HEADER_BYTES as u32, limit: u32::MAX, known_synced, unreadable };
    let mut checkpoint_bytes = None;
    let scanned = scan(&file, extent, |seen| {
        match seen {
            Seen::Frame(frame) => {
                if frame.kind == Kind::CHECKPOINT {
                    checkpoint_bytes = Some(frame.len_bytes());
                }
                take_frame(recovered, frame, &mut note);
            }
            Seen::Gap(gap) => take_gap(recovered, number, gap, checkpoint_bytes),
        }
        ControlFlow::Continue(())
    });
    let scanned = scanned.map_err(LogError::io("read", path))?;
    note.end = scanned.end;
    recovered.newest_synced = scanned.synced;
    recovered.damage.torn |= scanned.torn;
    recovered.segments.insert(number, SegmentFile { note, file_bytes });
    Ok(())
}

fn take_frame(recovered: &mut Recovered, frame: Frame<'_>, note: &mut SegmentNote) {
    match frame.kind {
        Kind::FOOTER => note.footer = frame.position,
        Kind::ENTRIES => {
            for entry in entries(frame.body) {
                match entry {
                    Ok(entry) => {
                        note.runs += u32::from(matches!(entry, Entry::Records(_)));
                        recovered.state.apply(&entry, note.number);
                    }
                    // The frame is as it was written, so whoever wrote it was wrong; what it said is lost all the same.
                    Err(_) => {
                        let gap = Gap { from: frame.position, to: frame.end() };
                        take_gap(recovered, note.number, gap, None);
                    }
                }
            }
        }
        _ => {}
    }
}

/// Damage, and what follows from it: unless what was damaged cannot have been a note, notes are lost.
fn take_gap(recovered: &mut Recovered, number: u64, gap: Gap, checkpoint_bytes: Option<usize>) {
    recovered.damage.gaps.push((number, gap));
    let len = (gap.to - gap.from) as usize;
    // The first copy of the checkpoint, seen from the second; the second, seen from the first; a mark.
    let was_first_copy = checkpoint_bytes.is_none() && gap.from == HEADER_BYTES as u32;
    let was_second_copy = checkpoint_bytes == Some(len) && gap.from as usize == HEADER_BYTES + len;
    if !was_first_copy && !was_second_copy && len != FRAME_HEADER_BYTES {
        recovered.damage.notes_lost = true;
        recovered.state.doubt_what_is_held();
    }
}
