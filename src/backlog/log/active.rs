//! The segment that is being appended to: what of it is where (gathered in memory, written, synced), and where its runs are.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::checkpoint::SegmentNote;
use super::entry::{Entry, entries};
use super::footer::{self, RUN_BYTES, RunRef};
use super::frame::{self, Kind};
use super::header::segment_name;
use super::storage::StorageFile;

/// At most so many blocks are kept to be used again.
const BLOCKS_KEPT: usize = 16;
/// What is written ahead of small syncs.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];
/// And at most this part of a segment.
const AHEAD_SHARE: usize = 64;
/// A sync is small that covers at most this part of what would be written ahead of it.
const SMALL_SHARE: usize = 4;

/// The newest segment.
#[derive(Debug)]
pub(super) struct Active<F> {
    pub(super) number: u64,
    pub(super) generation: u64,
    pub(super) file: Arc<F>,
    /// It is closed before it would become larger.
    pub(super) capacity: u32,
    /// Length of the file.
    pub(super) file_bytes: u64,
    /// Where the next frame will stand.
    pub(super) end: u32,
    /// Everything before this place is in the file.
    pub(super) written: u32,
    /// Everything before this place is on disk.
    pub(super) synced: u32,
    /// Where the footer stands; 0 until it is closed.
    pub(super) footer: u32,
    /// A write or a sync failed: nothing more may be written here, and what is not synced must be written anew.
    pub(super) poisoned: bool,
    /// Up to here, at least, the file's blocks have been written to since the file system gave them.
    pub(super) worn: u32,
    /// By partition and first index.
    pub(super) runs: BTreeMap<(u32, u64), RunRef>,
    /// Frames from `written` to `end`.
    pending: Vec<u8>,
    /// Frames from `synced` to `written`, as they were written.
    unsynced: VecDeque<Vec<u8>>,
    /// Blocks that can be used again.
    spare_blocks: Vec<Vec<u8>>,
    /// The synced mark of the last frame.
    marked: u32,
}

/// A frame to be written anew, or for the first time.
pub(super) struct Carried<'a> {
    pub(super) kind: Kind,
    pub(super) body: &'a [u8],
}

impl<F: StorageFile> Active<F> {
    /// A segment of which everything up to `end` is on disk.
    pub(super) fn new(number: u64, generation: u64, file: F, capacity: u32, file_bytes: u64, end: u32) -> Self {
        Active {
            number,
            generation,
            file: Arc::new(file),
            capacity,
            file_bytes,
            end,
            written: end,
            synced: end,
            footer: 0,
            poisoned: false,
            worn: end,
            runs: BTreeMap::new(),
            pending: Vec::new(),
            unsynced: VecDeque::new(),
            spare_blocks: Vec::new(),
            marked: 0,
        }
    }

    /// Whether frames of `len` bytes with `runs` more runs can be appended, and the segment closed after that.
    pub(super) fn fits(&self, len: usize, runs: usize, runs_max: usize) -> bool {
        let runs = self.runs.len() + runs;
        let footer = frame::HEADER_BYTES + footer::COUNT_BYTES + runs * RUN_BYTES;
        let usable = !self.poisoned && self.footer == 0 && runs <= runs_max;
        // Marks are only written while one more frame fits.
        usable && self.end as usize + len + frame::HEADER_BYTES + footer <= self.capacity as usize
    }

    /// Appends a frame to what is gathered. Where it stands, and its size.
    pub(super) fn put_frame(&mut self, kind: Kind, put_body: impl FnOnce(&mut Vec<u8>)) -> (u32, u32) {
        let at = frame::begin(&mut self.pending);
        put_body(&mut self.pending);
        let position = self.end;
        frame::seal(&mut self.pending, at, kind, self.generation, position, self.synced);
        let len = (self.pending.len() - at) as u32;
        self.end += len;
        self.marked = self.synced;
        (position, len)
    }

    /// Notes where the runs of a frame are.
    pub(super) fn note_runs(&mut self, entries: &[Entry<'_>], position: u32, len: u32) {
        for entry in entries {
            if let Entry::Records(records) = entry {
                let run =
                    RunRef { partition: records.partition, count: records.count, first: records.first, position, len };
                self.runs.insert((run.partition, run.first), run);
            }
        }
    }

    /// Whether what is known to be on disk is not yet said by any frame, and nothing else will soon say it.
    pub(super) fn wants_mark(&self) -> bool {
        let idle = self.synced == self.end && self.marked < self.synced;
        idle && !self.poisoned && self.footer == 0 && self.fits(frame::HEADER_BYTES, 0, usize::MAX)
    }

    /// Appends the footer. Nothing is appended behind it.
    pub(super) fn close(&mut self) {
        if self.footer == 0 {
            let runs: Vec<RunRef> = self.runs.values().copied().collect();
            self.footer = self.put_frame(Kind::FOOTER, |out| footer::encode(out, runs.iter())).0;
        }
    }

    /// Bytes that are not known to be on disk.
    pub(super) fn unsynced_bytes(&self) -> usize {
        (self.end - self.synced) as usize
    }

    /// Bytes that are not in the file yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Writes what is gathered. After an error it is still gathered; unless the disk was full, the segment is poisoned.
    pub(super) fn write(&mut self) -> io::Result<usize> {
        if self.pending.is_empty() {
            return Ok(0);
        }
        if let Err(error) = self.file.write_at(&self.pending, self.written.into()) {
            self.poisoned |= !super::error::is_out_of_space(&error);
            return Err(error);
        }
        let block = std::mem::replace(&mut self.pending, self.spare_blocks.pop().unwrap_or_default());
        let len = block.len();
        self.unsynced.push_back(block);
        self.written = self.end;
        Ok(len)
    }

    /// Has the blocks that small syncs will need next written to beforehand, so that not each of them must have the file system note, in its journal,
    /// which blocks are in use now: that takes another write and another flush. How many bytes it wrote.
    pub(super) fn write_ahead(&mut self) -> usize {
        let (covered, ahead) =
            ((self.written - self.synced) as usize, ZEROS.len().min(self.capacity as usize / AHEAD_SHARE));
        let left = (self.capacity - self.written) as usize;
        if self.written <= self.worn || covered > ahead / SMALL_SHARE {
            return 0;
        }
        let zeros = &ZEROS[..ahead.min(left)];
        // What comes will be written over it, and without it that is slower, not wrong.
        if self.file.write_at(zeros, self.written.into()).is_err() {
            return 0;
        }
        self.worn = self.written + zeros.len() as u32;
        zeros.len()
    }

    /// Everything up to `to`, where a block ends, is on disk.
    pub(super) fn set_synced(&mut self, to: u32) {
        while self.synced < to {
            let Some(mut block) = self.unsynced.pop_front() else { break };
            self.synced += block.len() as u32;
            if self.spare_blocks.len() < BLOCKS_KEPT {
                block.clear();
                self.spare_blocks.push(block);
            }
        }
    }

    /// The frames that are not synced, in order, footers and marks left out.
    pub(super) fn not_synced(&self) -> impl Iterator<Item = Carried<'_>> {
        let mut position = self.synced;
        let generation = self.generation;
        self.unsynced
            .iter()
            .chain([&self.pending])
            .flat_map(move |block| {
                let mut at = 0;
                let start = position;
                position += block.len() as u32;
                std::iter::from_fn(move || {
                    let rest = block.get(at..)?;
                    let frame::Found::Frame(found) = frame::parse(rest, start + at as u32, generation, rest.len())
                    else {
                        return None;
                    };
                    at += found.len_bytes();
                    Some(Carried { kind: found.kind, body: found.body })
                })
            })
            .filter(|carried| carried.kind == Kind::ENTRIES)
    }

    /// What a later checkpoint says of this segment: what is not synced does not count.
    pub(super) fn note(&self) -> SegmentNote {
        let counts = |run: &&RunRef| run.position < self.synced;
        let footer = if self.footer < self.synced { self.footer } else { 0 };
        SegmentNote {
            number: self.number,
            generation: self.generation,
            end: self.synced,
            footer,
            runs: self.runs.values().filter(counts).count() as u32,
        }
    }

    /// The file's name.
    pub(super) fn name(&self) -> String {
        segment_name(self.number)
    }
}

/// The runs in the body of a frame that stands at `position` and is `len` bytes long.
pub(super) fn runs_of(body: &[u8], position: u32, len: u32) -> impl Iterator<Item = RunRef> {
    entries(body).flatten().filter_map(move |entry| match entry {
        Entry::Records(records) => {
            Some(RunRef { partition: records.partition, count: records.count, first: records.first, position, len })
        }
        _ => None,
    })
}
