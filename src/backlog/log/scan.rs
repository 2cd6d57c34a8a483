//! Finds the frames of a segment, and tells damage from the end.
//!
//! A place where no frame counts is the end when none follows. When one follows, it is damage if what stood there was known to be on
//! disk, else the end: what follows was written without it. Reads the file through a window, so that memory does not grow with it.

use std::io;
use std::ops::ControlFlow;

use nix::errno::Errno;

use super::frame::{self, Found, Frame};
use super::storage::StorageFile;

/// Everything that a frame follows was on disk, how far the segment goes is not known: it was closed, or is only looked into.
pub const SYNCED_TO_ITS_END: u32 = u32::MAX;
/// The window, unless a frame is larger.
const WINDOW_BYTES: usize = 1 << 20;
/// Disks fail by sectors, the system reads by pages.
const PAGE_BYTES: usize = 4096;
/// A page is read so often before it is given up.
const PAGE_TRIES: usize = 4;
/// When so much cannot be read, and nothing else of the window, it is not a place of the disk that fails.
const HOPELESS_BYTES: usize = 64 << 10;

/// What to do about a page that the disk cannot read, however often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Report it. For what decides about a segment: another try may read it.
    Fail,
    /// Take it for damage. For what only looks, and for old records, which must not keep others.
    IsDamage,
}

/// What of a file is to be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The segment's generation.
    pub generation: u64,
    /// Where the first frame stands.
    pub from: u32,
    /// Nothing at or behind this place counts.
    pub limit: u32,
    /// Everything before this place was on disk, say others than the segment itself.
    pub known_synced: u32,
    /// What to do about pages that cannot be read.
    pub unreadable: Unreadable,
}

/// What a scan meets, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// Damaged bytes.
    Gap(Gap),
}

/// Damaged bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where they begin.
    pub from: u32,
    /// Where they end.
    pub to: u32,
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Where the segment ends: behind its last frame, or its last damaged byte.
    pub end: u32,
    /// So much of it was on disk, say the frames before the end. A frame ends there.
    pub synced: u32,
    /// Frames stand behind the end that were written without what stood there.
    pub torn: bool,
}

/// Shows every frame and every gap of an extent to `visit`, in order, as long as it wants to go on.
pub fn scan(
    file: &impl StorageFile,
    extent: Extent,
    mut visit: impl FnMut(Seen<'_>) -> ControlFlow<()>,
) -> io::Result<Scanned> {
    let len = u32::try_from(file.len()?).unwrap_or(u32::MAX);
    let mut window = Window { file, buffer: Vec::new(), base: 0, limit: extent.limit.min(len), extent };
    let mut scanned = Scanned { end: extent.from, ..Scanned::default() };
    let mut largest_mark = None;
    loop {
        match window.frame_at(scanned.end)? {
            Some(frame) => {
                scanned.synced = scanned.synced.max(known_by(frame));
                scanned.end = frame.end();
                if visit(Seen::Frame(frame)).is_break() {
                    return Ok(scanned);
                }
            }
            None => {
                let Some(next) = window.next_frame(scanned.end.saturating_add(1))? else { break };
                let mark = match largest_mark {
                    Some(mark) => mark,
                    None => *largest_mark.insert(window.largest_mark(next)?),
                };
                if mark.max(extent.known_synced) <= scanned.end {
                    scanned.torn = true;
                    return Ok(scanned);
                }
                if visit(Seen::Gap(Gap { from: scanned.end, to: next })).is_break() {
                    return Ok(scanned);
                }
                scanned.end = next;
            }
        }
    }
    if extent.known_synced != SYNCED_TO_ITS_END && scanned.end < extent.known_synced {
        let _ = visit(Seen::Gap(Gap { from: scanned.end, to: extent.known_synced }));
        scanned.end = extent.known_synced;
    }
    Ok(scanned)
}

/// What a frame says of how much was on disk. One without a mark was on disk itself before the segment had its name.
fn known_by(frame: Frame<'_>) -> u32 {
    if frame.synced == 0 { frame.end() } else { frame.synced }
}

/// Whether the disk says that it cannot read what it holds.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EIO as i32)
}

/// Reads page by page where a read of all has failed. What cannot be read is zero, so that it is found damaged and the rest is not; when that is
/// everything, and much, the disk is gone, not a part of it.
pub(super) fn read_around(file: &impl StorageFile, buffer: &mut [u8], position: u32) -> io::Result<usize> {
    let (mut at, mut filled, mut readable) = (0, 0, false);
    let mut failure = None;
    while at < buffer.len() {
        let place = u64::from(position) + at as u64;
        let len = PAGE_BYTES - (place % PAGE_BYTES as u64) as usize;
        let end = buffer.len().min(at + len);
        let page = buffer.get_mut(at..end).unwrap_or_default();
        let mut tries = (0..PAGE_TRIES).map(|_| file.read_at(page, place));
        match tries.find(|read| read.is_ok()).unwrap_or_else(|| file.read_at(page, place)) {
            Ok(0) => break,
            Ok(read) => (filled, readable) = (at + read, true),
            Err(error) if is_unreadable(&error) => {
                page.fill(0);
                filled = end;
                failure = Some(error);
            }
            Err(error) => return Err(error),
        }
        at = end;
    }
    match failure {
        Some(error) if !readable && filled >= HOPELESS_BYTES => Err(error),
        _ => Ok(filled),
    }
}

/// A part of a file in memory.
struct Window<'f, F> {
    file: &'f F,
    buffer: Vec<u8>,
    /// Where the buffer lies in the file.
    base: u32,
    limit: u32,
    extent: Extent,
}

impl<F: StorageFile> Window<'_, F> {
    /// What lies at `position`: `want` bytes or more, unless the limit comes first.
    fn bytes(&mut self, position: u32, want: usize) -> io::Result<&[u8]> {
        let left = self.limit.saturating_sub(position) as usize;
        let want = want.min(left);
        let held = position.checked_sub(self.base).map_or(0, |skip| self.buffer.len().saturating_sub(skip as usize));
        if held < want {
            self.buffer.resize(want.max(WINDOW_BYTES).min(left), 0);
            self.base = position;
            let read = match self.file.read_at(&mut self.buffer, position.into()) {
                Err(error) if is_unreadable(&error) && self.extent.unreadable == Unreadable::IsDamage => {
                    read_around(self.file, &mut self.buffer, position)
                }
                read => read,
            };
            // After an error nothing of it may be taken for the file's.
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        let skip = position.saturating_sub(self.base) as usize;
        Ok(self.buffer.get(skip..).unwrap_or_default())
    }

    fn frame_at(&mut self, position: u32) -> io::Result<Option<Frame<'_>>> {
        let (generation, limit) = (self.extent.generation, self.limit.saturating_sub(position) as usize);
        let header = self.bytes(position, frame::HEADER_BYTES)?;
        let header = header.get(..frame::HEADER_BYTES).unwrap_or(header);
        let len = match frame::parse(header, position, generation, limit) {
            Found::Frame(frame) => frame.len_bytes(),
            Found::Needs(len) => len,
            Found::Nothing => return Ok(None),
        };
        match frame::parse(self.bytes(position, len)?, position, generation, limit) {
            Found::Frame(frame) => Ok(Some(frame)),
            _ => Ok(None),
        }
    }

    /// Where the first frame at or behind `from` stands.
    fn next_frame(&mut self, mut from: u32) -> io::Result<Option<u32>> {
        loop {
            let generation = self.extent.generation;
            let bytes = self.bytes(from, frame::HEADER_BYTES)?;
            if bytes.len() < frame::HEADER_BYTES {
                return Ok(None);
            }
            match frame::search(bytes, from, 0, generation) {
                Some(at) => {
                    let position = from + at as u32;
                    if self.frame_at(position)?.is_some() {
                        return Ok(Some(position));
                    }
                    from = position + 1;
                }
                // A header may begin in the last bytes of the window.
                None => from += (bytes.len() - frame::HEADER_BYTES + 1) as u32,
            }
        }
    }

    /// The largest synced mark of the frames from `position` on.
    fn largest_mark(&mut self, mut position: u32) -> io::Result<u32> {
        let mut largest = 0;
        loop {
            position = match self.frame_at(position)? {
                Some(frame) => {
                    largest = largest.max(known_by(frame));
                    frame.end()
                }
                None => match self.next_frame(position.saturating_add(1))? {
                    Some(next) => next,
                    None => return Ok(largest),
                },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Kind;
    use super::super::storage::Storage;
    use super::super::storage::simulated::SimulatedStorage;
    use super::*;

    const GENERATION: u64 = 42;

    /// Frames with these synced marks, one of ten bytes behind the other.
    fn segment(marks: &[u32]) -> Vec<u8> {
        let mut bytes = vec![];
        for mark in marks {
            let at = frame::begin(&mut bytes);
            bytes.extend_from_slice(&[7; 10]);
            frame::seal(&mut bytes, at, Kind::ENTRIES, GENERATION, at as u32, *mark);
        }
        bytes
    }

    /// Positions of the frames, the gaps, and the end.
    fn scan_bytes(bytes: &[u8], known_synced: u32) -> (Vec<u32>, Vec<(u32, u32)>, Scanned) {
        let storage = SimulatedStorage::with_files(0, &[("s".to_owned(), bytes.to_vec())].into());
        let (mut frames, mut gaps) = (vec![], vec![]);
        let extent =
            Extent { generation: GENERATION, from: 0, limit: u32::MAX, known_synced, unreadable: Unreadable::Fail };
        let scanned = scan(&storage.open("s").unwrap(), extent, |seen| match seen {
            Seen::Frame(frame) => {
                frames.push(frame.position);
                ControlFlow::Continue(())
            }
            Seen::Gap(gap) => {
                gaps.push((gap.from, gap.to));
                ControlFlow::Continue(())
            }
        });
        (frames, gaps, scanned.unwrap())
    }

    #[test]
    fn a_whole_segment_ends_behind_its_last_frame() {
        let mut bytes = segment(&[0, 38, 38]);
        bytes.extend_from_slice(&[0; 5000]);
        let end = Scanned { end: 114, synced: 38, torn: false };
        assert_eq!(scan_bytes(&bytes, 0), (vec![0, 38, 76], vec![], end));
    }

    #[test]
    fn a_damaged_frame_below_a_mark_is_passed_over() {
        let mut bytes = segment(&[0, 0, 0, 76]);
        bytes[50] ^= 1;
        assert_eq!(scan_bytes(&bytes, 0).0, [0, 76, 114]);
        assert_eq!(scan_bytes(&bytes, 0).1, [(38, 76)]);
    }

    #[test]
    fn a_damaged_frame_above_every_mark_is_the_end() {
        let mut bytes = segment(&[0, 0, 38, 38]);
        bytes[50] ^= 1;
        assert_eq!(scan_bytes(&bytes, 0), (vec![0], vec![], Scanned { end: 38, synced: 38, torn: true }));
        assert_eq!(scan_bytes(&bytes, 39).1, [(38, 76)], "unless others say that it was on disk");
    }

    #[test]
    fn what_is_missing_at_the_end_is_damage_when_it_was_known_to_be_there() {
        let bytes = segment(&[0, 0, 0]);
        let (frames, gaps, scanned) = scan_bytes(&bytes[..100], 114);
        assert_eq!((frames, gaps, scanned.end), (vec![0, 38], vec![(76, 114)], 114));
    }

    #[test]
    fn a_page_that_cannot_be_read_is_damage_and_the_rest_is_not() {
        let marks: Vec<u32> = (0..1000).map(|n| n * 38).collect();
        let bytes = segment(&marks);
        let storage = SimulatedStorage::with_files(0, &[("s".to_owned(), bytes.clone())].into());
        storage.spoil("s", 8192..8300);
        let (mut frames, mut gaps) = (0, vec![]);
        let extent = Extent {
            generation: GENERATION,
            from: 0,
            limit: u32::MAX,
            known_synced: 0,
            unreadable: Unreadable::IsDamage,
        };
        let scanned = scan(&storage.open("s").unwrap(), extent, |seen| {
            match seen {
                Seen::Frame(_) => frames += 1,
                Seen::Gap(gap) => gaps.push((gap.from, gap.to)),
            }
            ControlFlow::Continue(())
        });
        let (from, to) = (8192 / 38 * 38, 12288_u32.div_ceil(38) * 38);
        assert_eq!((scanned.unwrap().end as usize, gaps), (bytes.len(), vec![(from, to)]));
        assert_eq!(frames, 1000 - (to - from) / 38);
        let strict = Extent { unreadable: Unreadable::Fail, ..extent };
        assert!(is_unreadable(&scan(&storage.open("s").unwrap(), strict, |_| ControlFlow::Continue(())).unwrap_err()));
    }

    #[test]
    fn a_file_of_which_much_and_nothing_else_can_be_read_is_an_error() {
        let storage = SimulatedStorage::with_files(0, &[("s".to_owned(), vec![0; 1 << 20])].into());
        storage.spoil("s", 0..1 << 20);
        let extent = Extent {
            generation: GENERATION,
            from: 0,
            limit: u32::MAX,
            known_synced: 0,
            unreadable: Unreadable::IsDamage,
        };
        let failed = scan(&storage.open("s").unwrap(), extent, |_| ControlFlow::Continue(())).unwrap_err();
        assert!(is_unreadable(&failed));
    }

    #[test]
    fn frames_are_found_across_windows() {
        let mut bytes = vec![1; WINDOW_BYTES - 5];
        let at = frame::begin(&mut bytes);
        bytes.extend_from_slice(&vec![7; 3 * WINDOW_BYTES]);
        frame::seal(&mut bytes, at, Kind::ENTRIES, GENERATION, at as u32, at as u32);
        let (frames, gaps, _) = scan_bytes(&bytes, 0);
        assert_eq!((frames, gaps), (vec![at as u32], vec![(0, at as u32)]));
    }
}
