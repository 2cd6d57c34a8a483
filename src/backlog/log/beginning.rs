//! How a segment begins: its header, its checkpoint twice, and what must be written anew.

use super::active::runs_of;
use super::checkpoint::{self, SegmentNote};
use super::engine::Log;
use super::error::LogError;
use super::footer::{RUN_BYTES, RunRef};
use super::frame::{self, Kind};
use super::header::{HEADER_BYTES, SegmentHeader};
use super::storage::Storage;

/// Room that a new segment has beyond what it is made for.
const MARGIN_BYTES: usize = 1024;
/// Behind its checkpoints a segment has room for this part of what others hold: so that large checkpoints do not come after every few frames.
const ROOM_SHARE: u64 = 2;
/// No checkpoint is larger. Positions in a segment are 32 bits wide.
const CHECKPOINT_BYTES_MAX: usize = 1 << 30;

/// Where segments are smaller than this, a page is too much to keep the copies of a checkpoint apart.
const FILLED_SEGMENT_BYTES: u64 = 16 << 10;
const PAGE_BYTES: usize = 4096;

/// A segment as it will be, up to its first new frame.
pub(super) struct Beginning {
    pub(super) number: u64,
    pub(super) generation: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) capacity: u32,
    pub(super) runs: Vec<RunRef>,
}

impl Beginning {
    /// Lets the segment have as many bytes as its file.
    pub(super) fn set_capacity(&mut self, capacity: u64) {
        let header = SegmentHeader { number: self.number, generation: self.generation, capacity }.encode();
        self.bytes[..HEADER_BYTES].copy_from_slice(&header);
        self.capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
    }

    /// How long its file must be at least, with room for `len` bytes of frames.
    pub(super) fn least_bytes(&self, len: usize) -> u64 {
        (self.bytes.len() + self.runs.len() * RUN_BYTES + len + MARGIN_BYTES) as u64
    }
}

impl<S: Storage> Log<S> {
    /// The beginning of segment `number`, which has room for `len` bytes of frames.
    pub(super) fn beginning(&mut self, number: u64, len: usize) -> Result<Beginning, LogError> {
        let generation = self.random.u64(1..);
        let mut bytes = vec![0; HEADER_BYTES];
        put_frame(&mut bytes, Kind::CHECKPOINT, generation, |out| self.put_checkpoint(out, number));
        if bytes.len() > CHECKPOINT_BYTES_MAX {
            return Err(LogError::Refused("what is known of the partitions takes more than a segment can begin with"));
        }
        let filling = self.second_copy_at(bytes.len()) - bytes.len();
        if let Some(filling) = filling.checked_sub(frame::HEADER_BYTES) {
            put_frame(&mut bytes, Kind::FILLING, generation, |out| out.resize(out.len() + filling, 0));
        }
        put_frame(&mut bytes, Kind::CHECKPOINT, generation, |out| self.put_checkpoint(out, number));
        let checkpoints = bytes.len();
        let mut runs = Vec::new();
        let not_synced = self.active.iter().flat_map(|active| active.not_synced()).map(|carried| carried.body);
        let carried = self.carry.iter().flat_map(|carry| &carry.bodies).map(Vec::as_slice);
        for body in carried.chain(not_synced) {
            let (position, len) = put_frame(&mut bytes, Kind::ENTRIES, generation, |out| out.extend_from_slice(body));
            runs.extend(runs_of(body, position, len));
        }
        let carried = bytes.len() - checkpoints + runs.len() * RUN_BYTES;
        let capacity = self.capacity(checkpoints, carried + len);
        let mut beginning = Beginning { number, generation, bytes, capacity: 0, runs };
        beginning.set_capacity(capacity);
        Ok(beginning)
    }

    /// How large a segment would be that began now with room for `len` bytes of frames.
    pub(super) fn capacity_of_next(&self, len: usize) -> u64 {
        let mut checkpoint = Vec::new();
        self.put_checkpoint(&mut checkpoint, self.next_file);
        let copy = frame::HEADER_BYTES + checkpoint.len();
        let checkpoints = self.second_copy_at(HEADER_BYTES + copy) + copy;
        let carried = self.carry.iter().flat_map(|carry| &carry.bodies);
        let carried: usize = carried.map(|body| frame::HEADER_BYTES + body.len()).sum();
        let lacking = self.active.as_ref().filter(|active| active.poisoned).map_or(0, |active| active.unsynced_bytes());
        self.capacity(checkpoints, carried + lacking + len)
    }

    /// Where the second copy of a checkpoint stands whose first ends at `end`.
    fn second_copy_at(&self, end: usize) -> usize {
        if self.options.segment_bytes < FILLED_SEGMENT_BYTES { end } else { on_next_page(end) }
    }

    fn capacity(&self, checkpoints: usize, frames: usize) -> u64 {
        let segment_bytes = self.options.segment_bytes;
        let room = (frames as u64).max(segment_bytes / ROOM_SHARE) + MARGIN_BYTES as u64;
        (checkpoints as u64 + room).max(segment_bytes)
    }

    fn put_checkpoint(&self, out: &mut Vec<u8>, number: u64) {
        let active_note = self.active.as_ref().map(|active| active.note());
        let notes = self.segments.values().map(|segment| self.without_carried(segment.note)).chain(active_note);
        checkpoint::encode(out, number, notes.filter(|note| note.runs > 0), &self.state);
    }

    /// A segment as it counts when what must be carried over stands in the next one.
    pub(super) fn without_carried(&self, note: SegmentNote) -> SegmentNote {
        match &self.carry {
            Some(carry) if carry.segment == note.number => {
                let runs = if carry.from as usize > HEADER_BYTES { note.runs } else { 0 };
                SegmentNote { end: carry.from, footer: 0, runs, ..note }
            }
            _ => note,
        }
    }
}

/// The first page that begins at or behind `end`, with room for a frame before it.
pub(super) fn on_next_page(end: usize) -> usize {
    if end.is_multiple_of(PAGE_BYTES) { end } else { (end + frame::HEADER_BYTES).next_multiple_of(PAGE_BYTES) }
}

/// Appends a frame that knows of nothing synced. Where it stands, and its size.
fn put_frame(bytes: &mut Vec<u8>, kind: Kind, generation: u64, put_body: impl FnOnce(&mut Vec<u8>)) -> (u32, u32) {
    let at = frame::begin(bytes);
    put_body(bytes);
    frame::seal(bytes, at, kind, generation, at as u32, 0);
    (at as u32, (bytes.len() - at) as u32)
}
