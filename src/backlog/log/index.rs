//! The indexes of older segments: read when they are needed, a few kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::active::runs_of;
use super::checkpoint::SegmentNote;
use super::engine::Log;
use super::error::LogError;
use super::footer::{self, SegmentIndex};
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
        let (index, gaps) = load_index(&file, note).map_err(LogError::io("read", path))?;
        self.counters.indexes_read += 1;
        for gap in gaps {
            self.quarantine(number, gap);
        }
        self.indexes.remember(number, index.partitions());
        let found = (Arc::new(index), Arc::new(file));
        self.indexes.put(number, &found);
        Ok(found)
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

    pub(super) fn forget(&mut self, number: u64) {
        self.known.retain(|(known, ..)| *known != number);
        self.told.remove(&number);
        if let Some(partitions) = self.partitions.remove(&number) {
            self.partitions_bytes -= size_of_val(&*partitions);
        }
    }
}

/// The index that a segment's footer holds; where there is none that can be read, one made from its frames, with what was found damaged.
pub(super) fn load_index(file: &impl StorageFile, note: SegmentNote) -> io::Result<(SegmentIndex, Vec<Gap>)> {
    if note.footer > 0 && note.footer < note.end {
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
        if let Some(Found::Frame(Frame { kind: Kind::FOOTER, body, .. })) = found
            && let Ok(index) = footer::decode(body)
            && index.runs().iter().all(|run| run.position.checked_add(run.len).is_some_and(|end| end <= note.end))
        {
            return Ok((index, Vec::new()));
        }
    }
    let (mut runs, mut gaps) = (Vec::new(), Vec::new());
    let extent = Extent {
        generation: note.generation,
        from: HEADER_BYTES as u32,
        limit: note.end,
        known_synced: note.end,
        unreadable: Unreadable::IsDamage,
    };
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
