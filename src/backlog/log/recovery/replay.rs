//! What the frames behind a checkpoint add to it.

use std::ops::ControlFlow;

use super::{Recovered, SegmentFile};
use crate::backlog::log::beginning::on_next_page;
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
    let mut beginning = BeginningSeen::default();
    let scanned = scan(&file, extent, |seen| {
        match seen {
            Seen::Frame(frame) => {
                let lost = beginning.frame(frame);
                lose_notes_if(recovered, lost);
                take_frame(recovered, frame, &mut note);
            }
            Seen::Gap(gap) => {
                recovered.damage.gaps.push((number, gap));
                let lost = beginning.gap(gap);
                lose_notes_if(recovered, lost);
            }
        }
        ControlFlow::Continue(())
    });
    let scanned = scanned.map_err(LogError::io("read", path))?;
    lose_notes_if(recovered, beginning.end());
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
                        recovered.damage.gaps.push((note.number, gap));
                        lose_notes_if(recovered, true);
                    }
                }
            }
        }
        _ => {}
    }
}

/// Unless what was damaged cannot have been a note, notes are lost, and what was held before them is in doubt.
fn lose_notes_if(recovered: &mut Recovered, lost: bool) {
    if lost {
        recovered.damage.notes_lost = true;
        recovered.state.doubt_what_is_held();
    }
}

/// Tells damage to one copy of the checkpoint, or to what keeps the two apart, from damage that may have taken notes.
#[derive(Debug, Default)]
struct BeginningSeen {
    /// Where the first checkpoint that was seen ends, and how long it is.
    checkpoint: Option<(u32, u32)>,
    /// Damage at the beginning: harmless if a checkpoint or a filling follows, since no notes stand before those.
    open: bool,
    /// Something else than a checkpoint or a filling was seen.
    over: bool,
}

impl BeginningSeen {
    /// Whether the damage before this frame took notes.
    fn frame(&mut self, frame: Frame<'_>) -> bool {
        let lost = self.open && frame.kind != Kind::CHECKPOINT && frame.kind != Kind::FILLING;
        self.open = false;
        match frame.kind {
            Kind::CHECKPOINT => _ = self.checkpoint.get_or_insert((frame.end(), frame.len_bytes() as u32)),
            Kind::FILLING => {}
            _ => self.over = true,
        }
        lost
    }

    /// Whether this damage took notes, as far as is known yet.
    fn gap(&mut self, gap: Gap) -> bool {
        let len = gap.to - gap.from;
        let is_second_copy = self.checkpoint.is_some_and(|(end, copy)| {
            let apart = u32::try_from(on_next_page(end as usize)).unwrap_or(u32::MAX);
            let alone = gap.from == end && len == copy;
            let filled = (gap.from == end || gap.from == apart) && gap.to == apart.saturating_add(copy);
            alone || filled
        });
        if self.over || is_second_copy {
            self.over = true;
            // A mark says nothing that matters here.
            return !is_second_copy && len as usize != FRAME_HEADER_BYTES;
        }
        self.open = true;
        false
    }

    /// Whether damage that nothing followed took notes.
    fn end(&mut self) -> bool {
        std::mem::take(&mut self.open)
    }
}
