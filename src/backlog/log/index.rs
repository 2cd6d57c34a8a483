//! The indexes of older segments: read when they are needed, a few kept.

use std::collections::VecDeque;
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

/// An index, and the file that it is of.
type Indexed<F> = (Arc<SegmentIndex>, Arc<F>);

impl<S: Storage> Log<S> {
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
        let file = self.storage.open(&name).map_err(LogError::io("open", path.clone()))?;
        let (index, gaps) = load_index(&file, note).map_err(LogError::io("read", path))?;
        self.counters.indexes_read += 1;
        for gap in gaps {
            self.quarantine(number, gap);
        }
        file.will_need(0, note.end.into());
        let found = (Arc::new(index), Arc::new(file));
        self.indexes.put(number, &found);
        Ok(found)
    }
}

/// Indexes of older segments, the least recently used given up first.
#[derive(Debug)]
pub(super) struct IndexCache<F> {
    bytes_max: usize,
    known: VecDeque<(u64, Arc<SegmentIndex>, Arc<F>)>,
}

impl<F> IndexCache<F> {
    pub(super) fn new(bytes_max: usize) -> Self {
        IndexCache { bytes_max, known: VecDeque::new() }
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
        while self.known.len() > 1 && self.memory_bytes() > self.bytes_max {
            self.known.pop_front();
        }
    }

    fn memory_bytes(&self) -> usize {
        self.known.iter().map(|(_, index, _)| index.memory_bytes() + size_of::<SegmentIndex>()).sum()
    }

    pub(super) fn forget(&mut self, number: u64) {
        self.known.retain(|(known, ..)| *known != number);
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
