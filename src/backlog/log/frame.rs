//! Frames: what is in a segment wholly or not at all. Pure.
//!
//! A frame says of itself in which segment it stands (by generation) and where, so that neither what a recycled file held before nor a
//! copy inside a record passes for one.

use super::varint::Input;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 28;
/// Where the checksum ends and what it covers begins.
const CHECKED_FROM: usize = 4;

/// What a frame holds. Numbers that later versions add are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u8);

impl Kind {
    /// Entries.
    pub const ENTRIES: Kind = Kind(1);
    /// A checkpoint: entries, the first of which is Checkpoint.
    pub const CHECKPOINT: Kind = Kind(2);
    /// The index of the segment's runs.
    pub const FOOTER: Kind = Kind(3);
    /// Nothing but the synced mark.
    pub const MARK: Kind = Kind(4);
    /// Keeps the two copies of a checkpoint on different pages; its body means nothing.
    pub const FILLING: Kind = Kind(5);
}

/// A frame, borrowed from its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Where it stands in its segment.
    pub position: u32,
    /// So many bytes of the segment were known to be on disk when it was written.
    pub synced: u32,
    /// What it holds.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the frame in its segment.
    pub fn len_bytes(&self) -> usize {
        HEADER_BYTES + self.body.len()
    }

    /// Where the next frame stands.
    pub fn end(&self) -> u32 {
        self.position + self.len_bytes() as u32
    }
}

/// What stands at a place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A frame that counts.
    Frame(Frame<'a>),
    /// The beginning of what may be one; it counts or not when this many bytes are seen.
    Needs(usize),
    /// None.
    Nothing,
}

/// Begins a frame at the end of `out`; the body is appended next, then [`seal`] is called with what this returns.
pub fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.resize(at + HEADER_BYTES, 0);
    at
}

/// Completes the frame that begins at `at` of `out` and ends where `out` ends. `position` is where it will stand in its segment.
pub fn seal(out: &mut [u8], at: usize, kind: Kind, generation: u64, position: u32, synced: u32) {
    let frame = &mut out[at..];
    let body = (frame.len() - HEADER_BYTES) as u32;
    let (header, _) = frame.split_first_chunk_mut::<HEADER_BYTES>().expect("begin made room for the header");
    header[4..8].copy_from_slice(&body.to_le_bytes());
    header[8..16].copy_from_slice(&generation.to_le_bytes());
    header[16..20].copy_from_slice(&position.to_le_bytes());
    header[20..24].copy_from_slice(&synced.to_le_bytes());
    header[24..28].copy_from_slice(&[kind.0, 0, 0, 0]);
    let crc = crc32c::crc32c(&frame[CHECKED_FROM..]);
    frame[..CHECKED_FROM].copy_from_slice(&crc.to_le_bytes());
}

/// What stands at the beginning of `bytes`, which lies at `position` of a segment of this generation. `limit` bytes of the segment, from
/// there on, exist: a frame that says it is longer is none, so that nothing is read or allocated for it.
pub fn parse(bytes: &[u8], position: u32, generation: u64, limit: usize) -> Found<'_> {
    if limit < HEADER_BYTES {
        return Found::Nothing;
    }
    let Some(header) = bytes.get(..HEADER_BYTES) else {
        return Found::Needs(HEADER_BYTES);
    };
    let Some(head) = Head::read(header) else {
        return Found::Nothing;
    };
    let len = head.body as u64 + HEADER_BYTES as u64;
    if head.generation != generation || head.position != position || len > limit as u64 {
        return Found::Nothing;
    }
    let len = len as usize;
    let Some(frame) = bytes.get(..len) else {
        return Found::Needs(len);
    };
    if crc32c::crc32c(&frame[CHECKED_FROM..]) != head.crc {
        return Found::Nothing;
    }
    Found::Frame(Frame { kind: head.kind, position, synced: head.synced, body: &frame[HEADER_BYTES..] })
}

/// The first place at or behind `from` of `bytes` where the header of a frame of this generation may begin; `bytes` lies at `base` of the
/// segment. Only [`parse`] can say whether one does.
pub fn search(bytes: &[u8], base: u32, from: usize, generation: u64) -> Option<usize> {
    let is_header = |(at, header): &(usize, &[u8])| {
        let number = |field: std::ops::Range<usize>| header.get(field).unwrap_or_default();
        number(8..16) == generation.to_le_bytes()
            && u32::try_from(u64::from(base) + *at as u64).is_ok_and(|stands| number(16..20) == stands.to_le_bytes())
    };
    bytes.windows(HEADER_BYTES).enumerate().skip(from).find(is_header).map(|(at, _)| at)
}

/// A place where the header of a checkpoint's frame may begin, of whatever generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where in the bytes.
    pub at: usize,
    /// The generation that it names.
    pub generation: u64,
    /// Bytes of the frame, as it says.
    pub len: u64,
}

/// All such places of `bytes`, which lies at `base` of the segment.
pub fn checkpoint_candidates(bytes: &[u8], base: u32) -> impl Iterator<Item = Candidate> {
    bytes.windows(HEADER_BYTES).enumerate().filter_map(move |(at, header)| {
        if header.get(20..)? != [0, 0, 0, 0, Kind::CHECKPOINT.0, 0, 0, 0] {
            return None;
        }
        let head = Head::read(header)?;
        let stands = u64::from(head.position) == u64::from(base) + at as u64;
        let len = u64::from(head.body) + HEADER_BYTES as u64;
        stands.then_some(Candidate { at, generation: head.generation, len })
    })
}

struct Head {
    crc: u32,
    body: u32,
    generation: u64,
    position: u32,
    synced: u32,
    kind: Kind,
}

impl Head {
    fn read(header: &[u8]) -> Option<Head> {
        let mut input = Input::new(header);
        let mut read = || {
            Ok::<_, super::varint::DecodeError>(Head {
                crc: input.u32("checksum")?,
                body: input.u32("size")?,
                generation: input.u64("generation")?,
                position: input.u32("position")?,
                synced: input.u32("synced mark")?,
                kind: Kind(input.u8("kind")?),
            })
        };
        read().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GENERATION: u64 = 0x0123_4567_89ab_cdef;

    fn framed(body: &[u8], position: u32, synced: u32) -> Vec<u8> {
        let mut out = vec![];
        let at = begin(&mut out);
        out.extend_from_slice(body);
        seal(&mut out, at, Kind::ENTRIES, GENERATION, position, synced);
        out
    }

    proptest! {
        #[test]
        fn a_frame_comes_back(body in prop::collection::vec(any::<u8>(), 0..300), position in any::<u32>(), synced in any::<u32>()) {
            let bytes = framed(&body, position, synced);
            prop_assert_eq!(
                parse(&bytes, position, GENERATION, bytes.len()),
                Found::Frame(Frame { kind: Kind::ENTRIES, position, synced, body: &body })
            );
        }

        #[test]
        fn any_bytes_are_a_frame_or_none(bytes in prop::collection::vec(any::<u8>(), 0..100), limit in 0_usize..200) {
            match parse(&bytes, 0, GENERATION, limit) {
                Found::Frame(_) => prop_assert!(false),
                Found::Needs(more) => prop_assert!(more > bytes.len() && more <= limit),
                Found::Nothing => {}
            }
        }

        #[test]
        fn a_frame_is_found_behind_anything(before in prop::collection::vec(any::<u8>(), 0..200), base in 0_u32..1000) {
            let mut bytes = before.clone();
            // A copy that stands elsewhere than it says is passed over.
            bytes.extend(framed(b"copy", 5_000, 0));
            let at = bytes.len();
            bytes.extend(framed(b"here", base + at as u32, 0));
            prop_assert_eq!(search(&bytes, base, 0, GENERATION), Some(at));
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let bytes = framed(b"some records", 64, 64);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(&flipped, 64, GENERATION, flipped.len()), Found::Frame(_)), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_seen() {
        let bytes = framed(b"some records", 64, 64);
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len], 64, GENERATION, len), Found::Nothing, "{len}");
            assert!(matches!(parse(&bytes[..len], 64, GENERATION, bytes.len()), Found::Needs(n) if n > len), "{len}");
        }
    }

    #[test]
    fn another_generation_and_another_place_do_not_count() {
        let bytes = framed(b"x", 64, 0);
        assert_eq!(parse(&bytes, 64, GENERATION + 1, bytes.len()), Found::Nothing);
        assert_eq!(parse(&bytes, 65, GENERATION, bytes.len()), Found::Nothing);
    }

    #[test]
    fn a_size_beyond_the_segment_asks_for_nothing() {
        let mut bytes = framed(b"x", 64, 0);
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(parse(&bytes, 64, GENERATION, 1 << 20), Found::Nothing);
    }
}
