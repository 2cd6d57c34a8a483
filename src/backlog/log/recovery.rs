//! A directory's files to a state. Reads only, so it may look at a directory that a daemon owns.
//!
//! The newest segment's checkpoint says all that older segments say, but for records. So one segment is read: from its checkpoint to its
//! end. Only when both copies of the checkpoint are damaged, older segments are read, too.

mod opening;
mod replay;

use std::collections::BTreeMap;

use super::checkpoint::{Checkpoint, SegmentNote};
use super::error::LogError;
use super::header::{FileName, segment_name};
use super::scan::{Gap, Unreadable};
use super::state::State;
use super::storage::Storage;
use opening::Opening;

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What its notes mean.
    pub state: State,
    /// The segments that count, by number.
    pub segments: BTreeMap<u64, SegmentFile>,
    /// What the newest segment says of how much of it is on disk; what lies behind may be in the system's memory only.
    pub newest_synced: u32,
    /// Files that were prepared to become segments: number and length.
    pub spares: Vec<(u64, u64)>,
    /// Names of files that mean nothing any more.
    pub leftovers: Vec<String>,
    /// The highest number of any file.
    pub number_max: u64,
    /// What was lost.
    pub damage: Damage,
}

/// A segment that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// What is known of it.
    pub note: SegmentNote,
    /// Length of the file, in bytes.
    pub file_bytes: u64,
}

/// What was found damaged, and what the last power loss cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Damaged bytes, by segment.
    pub gaps: Vec<(u64, Gap)>,
    /// Segments that are not there although older ones are.
    pub missing_segments: Vec<u64>,
    /// Names of segments of which nothing can be read.
    pub unreadable_segments: Vec<u64>,
    /// Whether frames were written behind the end that do not count, because what stood before them never came to the disk.
    pub torn: bool,
    /// Whether notes may be lost, so that what was held may have been sent.
    pub notes_lost: bool,
}

/// Reads a directory.
pub fn recover(storage: &impl Storage, unreadable: Unreadable) -> Result<Recovered, LogError> {
    let mut recovered = Recovered::default();
    let mut files = BTreeMap::new();
    for listed in storage.list("").map_err(LogError::io("list", storage.path("")))? {
        match FileName::parse(&listed.name) {
            FileName::Segment(number) => {
                files.insert(number, listed.len);
                recovered.number_max = recovered.number_max.max(number);
            }
            FileName::Spare(number) => {
                recovered.spares.push((number, listed.len));
                recovered.number_max = recovered.number_max.max(number);
            }
            FileName::Probe => recovered.leftovers.push(listed.name),
            FileName::Other => {}
        }
    }
    recovered.spares.sort_unstable();
    let (checkpoint, newer) = newest_checkpoint(storage, unreadable, &mut files, &mut recovered)?;
    let known = checkpoint.is_some();
    let mut replayed = newer;
    if let Some((generation, checkpoint)) = checkpoint {
        let number = checkpoint.number;
        recovered.take_segments(&checkpoint, &mut files);
        recovered.state = checkpoint.state;
        replayed.insert(0, (number, generation));
    }
    let newest = replayed.last().map(|(number, _)| *number);
    for (at, (number, generation)) in replayed.into_iter().enumerate() {
        if at >= usize::from(known) {
            // Its checkpoint told of notes in segments that may not be there any more.
            recovered.damage.notes_lost = true;
            recovered.state.doubt_what_is_held();
        }
        let file_bytes = files.remove(&number).unwrap_or(0);
        replay::replay(storage, &mut recovered, (number, generation), file_bytes, Some(number) != newest, unreadable)?;
    }
    if !recovered.damage.unreadable_segments.is_empty() {
        recovered.state.doubt_what_is_held();
    }
    // What is left is older than the checkpoint and not named in it.
    recovered.leftovers.extend(files.into_keys().map(segment_name));
    Ok(recovered)
}

/// The newest checkpoint with its segment's generation, and the segments behind it, oldest first.
type Newest = (Option<(u64, Checkpoint)>, Vec<(u64, u64)>);

/// Files that never became segments, and those of which nothing can be read, are taken from `files`.
fn newest_checkpoint(
    storage: &impl Storage,
    unreadable: Unreadable,
    files: &mut BTreeMap<u64, u64>,
    recovered: &mut Recovered,
) -> Result<Newest, LogError> {
    let mut newer = Vec::new();
    let numbers: Vec<u64> = files.keys().rev().copied().collect();
    for number in numbers {
        match opening::read(storage, number, unreadable)? {
            Opening::Checkpoint { generation, checkpoint } => {
                newer.reverse();
                return Ok((Some((generation, checkpoint)), newer));
            }
            Opening::NoCheckpoint { generation } => newer.push((number, generation)),
            Opening::Never => {
                files.remove(&number);
                recovered.leftovers.push(segment_name(number));
            }
            Opening::Unreadable => {
                files.remove(&number);
                recovered.damage.unreadable_segments.push(number);
                recovered.damage.notes_lost = true;
            }
        }
    }
    newer.reverse();
    Ok((None, newer))
}

impl Recovered {
    /// The older segments that a checkpoint names, as far as they are there.
    fn take_segments(&mut self, checkpoint: &Checkpoint, files: &mut BTreeMap<u64, u64>) {
        for note in checkpoint.segments.iter().filter(|note| note.number < checkpoint.number) {
            match files.remove(&note.number) {
                Some(file_bytes) => _ = self.segments.insert(note.number, SegmentFile { note: *note, file_bytes }),
                // Segments are freed oldest first: one that is gone from among the others was not freed.
                None if !self.segments.is_empty() => self.damage.missing_segments.push(note.number),
                None => {}
            }
        }
    }
}
