//! The indexes of older segments: read when they are needed, a few kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use nix::errno::Errno;

use super::active::runs_of;
use super::checkpoint::SegmentNote;
use super::engine::Log;
use super::error::LogError;
use super::footer::{self, RunRef, SegmentIndex};
use super::frame::{self, Found, Frame, Kind};
use super::header::{HEADER_BYTES, segment_name};
use super::scan::{Extent, Gap, Seen, Unreadable, is_unreadable, scan};
use super::storage::{Storage, StorageFile};

/// Each index keeps its file open.
const FILES_MAX: usize = 64;

/// An index, and the file that it is of.
type Indexed<F> = (Arc<SegmentIndex>, Arc<F>);

impl<S: Storage> Log<S> {
    /// Somebody has removed a segment. Unless the whole directory went, which may come back, it is not waited for: its records are found missing.
    fn lose_segment(&mut self, number: u64) {
        let name = segment_name(number);
        let is_listed = self.storage.list("").map(|files| files.iter().any(|file| file.name == name));
        let is_gone = matches!((self.storage.is_in_place(&self.lock), is_listed), (Ok(true), Ok(false)));
        if is_gone && self.segments.remove(&number).is_some() {
            self.counters.damaged_places += 1;
            self.indexes.forget(number);
            self.watch = None;
            self.count_older_bytes();
        }
    }

    /// The runs of an older segment and its file, from memory if they were used before.
    pub(super) fn index_of(&mut self, number: u64) -> Result<Indexed<S::File>, LogError> {
        if let Some(known) = self.indexes.get(number) {
            return Ok(known);
        }
        let Some(segment) = self.segments.get(&number) else {
            return Err(LogError::Refused("a segment that was freed"));
        };
        let (note, name) = (segment.note, segment_name(number));
        let path = self.storage.path(&name);
        let file = match self.storage.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.lose_segment(number);
                return Err(LogError::io("open", path)(error));
            }
            opened => opened.map_err(LogError::io("open", path.clone()))?,
        };
        let Loaded { index, gaps, is_whole } = load_index(&file, note).map_err(LogError::io("read", path))?;
        self.counters.indexes_read += 1;
        for gap in gaps {
            self.note_damage(number, gap);
        }
        if is_whole {
            self.indexes.remember(number, index.partitions());
        } else {
            self.indexes.partial.insert(number, self.counters.syncs);
        }
        let found = (Arc::new(index), Arc::new(file));
        self.indexes.put(number, &found);
        Ok(found)
    }

    /// What the disk said of a segment that it could not read all of.
    pub(super) fn unread(&self, number: u64) -> LogError {
        LogError::io("read", self.storage.path(&segment_name(number)))(Errno::EIO.into())
    }
}

/// Indexes of older segments, the least recently used given up first; and of more segments, which partitions are in them, so that a partition
/// that is in few of them does not make all others be looked at.
#[derive(Debug)]
pub(super) struct IndexCache<F> {
    bytes_max: usize,
    known: VecDeque<(u64, Arc<SegmentIndex>, Arc<F>)>,
    /// Of those: the files that the system was told are being read.
    told: BTreeSet<u64>,
    /// And those that lack what the disk could not read, with how many syncs there had been then.
    partial: BTreeMap<u64, u64>,
    /// In order.
    partitions: BTreeMap<u64, Box<[u32]>>,
    partitions_bytes: usize,
}

impl<F> IndexCache<F> {
    pub(super) fn new(bytes_max: usize) -> Self {
        IndexCache {
            bytes_max,
            known: VecDeque::new(),
            told: BTreeSet::new(),
            partial: BTreeMap::new(),
            partitions: BTreeMap::new(),
            partitions_bytes: 0,
        }
    }

    /// Whether a segment is known to hold nothing of a partition.
    pub(super) fn lacks(&self, number: u64, partition: u32) -> bool {
        self.partitions.get(&number).is_some_and(|partitions| partitions.binary_search(&partition).is_err())
    }

    /// Which partitions are in a segment, in order. Takes as much memory as the indexes may, at most; what does not fit is not remembered.
    pub(super) fn remember(&mut self, number: u64, partitions: impl Iterator<Item = u32>) {
        if self.partitions.contains_key(&number) {
            return;
        }
        let mut partitions: Vec<u32> = partitions.collect();
        partitions.dedup();
        let bytes = size_of_val(partitions.as_slice());
        if self.partitions_bytes + bytes <= self.bytes_max {
            self.partitions_bytes += bytes;
            self.partitions.insert(number, partitions.into_boxed_slice());
        }
    }

    pub(super) fn get(&mut self, number: u64) -> Option<Indexed<F>> {
        let at = self.known.iter().position(|(known, ..)| *known == number)?;
        let known = self.known.remove(at)?;
        let found = (Arc::clone(&known.1), Arc::clone(&known.2));
        self.known.push_back(known);
        Some(found)
    }

    pub(super) fn put(&mut self, number: u64, (index, file): &Indexed<F>) {
        self.known.push_back((number, Arc::clone(index), Arc::clone(file)));
        while self.known.len() > 1 && (self.memory_bytes() > self.bytes_max || self.known.len() > FILES_MAX) {
            if let Some((given_up, ..)) = self.known.pop_front() {
                self.told.remove(&given_up);
                self.partial.remove(&given_up);
            }
        }
    }

    /// Whether this is the first time, since its index was read, that something of a segment will be read.
    pub(super) fn begin_reading(&mut self, number: u64) -> bool {
        self.told.insert(number)
    }

    fn memory_bytes(&self) -> usize {
        self.known.iter().map(|(_, index, _)| index.memory_bytes() + size_of::<SegmentIndex>()).sum()
    }

    /// Whether the index of a segment, as far as it is in memory, lacks what the disk could not read.
    pub(super) fn is_partial(&self, number: u64) -> bool {
        self.partial.contains_key(&number)
    }

    /// Has an index that lacks something made anew the next time that it is asked for, unless no sync has succeeded since it was made.
    pub(super) fn look_again(&mut self, number: u64, syncs: u64) {
        if self.partial.get(&number).is_some_and(|before| *before < syncs) {
            self.forget_index(number);
        }
    }

    pub(super) fn forget_index(&mut self, number: u64) {
        self.known.retain(|(known, ..)| *known != number);
        self.told.remove(&number);
        self.partial.remove(&number);
    }

    pub(super) fn forget(&mut self, number: u64) {
        self.forget_index(number);
        if let Some(partitions) = self.partitions.remove(&number) {
            self.partitions_bytes -= size_of_val(&*partitions);
        }
    }
}

/// What was read of a segment's index.
pub(super) struct Loaded {
    pub(super) index: SegmentIndex,
    /// What was found damaged.
    pub(super) gaps: Vec<Gap>,
    /// Whether the disk could read all that the index is made from. If not, there may be more runs.
    pub(super) is_whole: bool,
}

/// The index that a segment's footer holds; where there is none that can be read, one made from its frames.
pub(super) fn load_index(file: &impl StorageFile, note: SegmentNote) -> io::Result<Loaded> {
    if let Some(index) = read_footer(file, note)? {
        return Ok(Loaded { index, gaps: Vec::new(), is_whole: true });
    }
    match scan_runs(file, note, Unreadable::Fail) {
        Err(error) if is_unreadable(&error) => {
            let (index, _) = scan_runs(file, note, Unreadable::IsDamage)?;
            Ok(Loaded { index, gaps: Vec::new(), is_whole: false })
        }
        scanned => scanned.map(|(index, gaps)| Loaded { index, gaps, is_whole: true }),
    }
}

fn read_footer(file: &impl StorageFile, note: SegmentNote) -> io::Result<Option<SegmentIndex>> {
    if note.footer == 0 || note.footer >= note.end {
        return Ok(None);
    }
    // A mark may follow it.
    let len = (note.end - note.footer) as usize;
    // So that nothing is allocated for what a checkpoint says of a file that is shorter.
    let len = len.min(usize::try_from(file.len()?).unwrap_or(usize::MAX));
    let mut bytes = vec![0; len];
    let read = match file.read_at(&mut bytes, note.footer.into()) {
        Err(error) if is_unreadable(&error) => 0,
        read => read?,
    };
    let found = bytes.get(..read).map(|bytes| frame::parse(bytes, note.footer, note.generation, len));
    let Some(Found::Frame(Frame { kind: Kind::FOOTER, body, .. })) = found else { return Ok(None) };
    let ends_within = |run: &RunRef| run.position.checked_add(run.len).is_some_and(|end| end <= note.end);
    Ok(footer::decode(body).ok().filter(|index| index.runs().iter().all(ends_within)))
}

fn scan_runs(
    file: &impl StorageFile,
    note: SegmentNote,
    unreadable: Unreadable,
) -> io::Result<(SegmentIndex, Vec<Gap>)> {
    let (mut runs, mut gaps) = (Vec::new(), Vec::new());
    let (from, limit) = (HEADER_BYTES as u32, note.end);
    let extent = Extent { generation: note.generation, from, limit, known_synced: note.end, unreadable };
    scan(file, extent, |seen| {
        match seen {
            Seen::Frame(frame) if frame.kind == Kind::ENTRIES => {
                runs.extend(runs_of(frame.body, frame.position, frame.len_bytes() as u32));
            }
            Seen::Frame(_) => {}
            Seen::Gap(gap) => gaps.push(gap),
        }
        ControlFlow::Continue(())
    })?;
    Ok((SegmentIndex::new(runs), gaps))
}
