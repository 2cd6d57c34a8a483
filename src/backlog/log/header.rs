//! The header of a segment, and the names of files. Pure.

use super::varint::Input;

/// Bytes of the header; the first frame begins behind it.
pub const HEADER_BYTES: usize = 64;
/// The version that is written, and the highest that is read.
pub const VERSION: u16 = 1;
const MAGIC: &[u8; 8] = b"forebay\n";
const CHECKED_BYTES: usize = HEADER_BYTES - 4;
const SEGMENT_SUFFIX: &str = ".segment";
const SPARE_SUFFIX: &str = ".spare";
const PROBE_SUFFIX: &str = ".probe";
const NUMBER_DIGITS: usize = 20;
/// No file of the log has a higher number: so that there always is a next one, whatever names lie in the directory.
const NUMBER_MAX: u64 = 1 << 62;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number.
    pub number: u64,
    /// 64 random bits.
    pub generation: u64,
    /// The size it was planned for, in bytes.
    pub capacity: u64,
}

/// What stands where a header should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundHeader {
    /// A header.
    Header(SegmentHeader),
    /// One of a version that this program does not know.
    Newer(u16),
    /// Something else, which may once have been one with either of these generations.
    Damaged([u64; 2]),
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&(HEADER_BYTES as u16).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.generation.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.generation.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// What these bytes, the first of a file, are.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> FoundHeader {
        let number_at = |at: usize| Input::new(&bytes[at..]).u64("number").expect("it lies within the header");
        let generations = [number_at(24), number_at(40)];
        let crc = Input::new(&bytes[CHECKED_BYTES..]).u32("checksum").expect("it lies within the header");
        if bytes[..8] != *MAGIC || crc32c::crc32c(&bytes[..CHECKED_BYTES]) != crc {
            return FoundHeader::Damaged(generations);
        }
        match u16::from_le_bytes([bytes[8], bytes[9]]) {
            VERSION if generations[0] == generations[1] => FoundHeader::Header(SegmentHeader {
                number: number_at(16),
                generation: generations[0],
                capacity: number_at(32),
            }),
            version if version > VERSION => FoundHeader::Newer(version),
            _ => FoundHeader::Damaged(generations),
        }
    }
}

/// What a file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileName {
    /// A segment with this number.
    Segment(u64),
    /// A file to become a segment.
    Spare(u64),
    /// What a probe left.
    Probe,
    /// None of the log's.
    Other,
}

impl FileName {
    /// What `name` says.
    pub fn parse(name: &str) -> FileName {
        let digits = |suffix| name.strip_suffix(suffix).filter(|stem| stem.bytes().all(|byte| byte.is_ascii_digit()));
        let parsed = |stem: &str| stem.parse().ok().filter(|number| *number <= NUMBER_MAX);
        let number = |suffix| digits(suffix).and_then(parsed);
        match digits(SEGMENT_SUFFIX) {
            Some(stem) if stem.len() == NUMBER_DIGITS => {
                return parsed(stem).map_or(FileName::Other, FileName::Segment);
            }
            _ => {}
        }
        match (number(SPARE_SUFFIX), number(PROBE_SUFFIX)) {
            (Some(number), _) => FileName::Spare(number),
            (_, Some(_)) => FileName::Probe,
            _ => FileName::Other,
        }
    }
}

/// The name of a segment.
pub fn segment_name(number: u64) -> String {
    format!("{number:020}{SEGMENT_SUFFIX}")
}

/// The name of a file to become a segment.
pub fn spare_name(number: u64) -> String {
    format!("{number}{SPARE_SUFFIX}")
}

/// The name of a file that a probe writes.
pub fn probe_name(number: u64) -> String {
    format!("{number}{PROBE_SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader { number: 7, generation: 0xfeed_beef, capacity: 1 << 26 };

    #[test]
    fn a_header_comes_back() {
        assert_eq!(SegmentHeader::decode(&HEADER.encode()), FoundHeader::Header(HEADER));
    }

    #[test]
    fn every_flipped_bit_is_seen_and_leaves_one_generation_right() {
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = HEADER.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let FoundHeader::Damaged(generations) = SegmentHeader::decode(&bytes) else { panic!("bit {bit}") };
            assert!(generations.contains(&HEADER.generation), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), FoundHeader::Newer(2));
    }

    #[test]
    fn names_come_back() {
        assert_eq!(FileName::parse(&segment_name(NUMBER_MAX)), FileName::Segment(NUMBER_MAX));
        assert_eq!(FileName::parse(&segment_name(3)), FileName::Segment(3));
        assert_eq!(FileName::parse(&spare_name(12)), FileName::Spare(12));
        assert_eq!(FileName::parse(&probe_name(12)), FileName::Probe);
        assert_eq!(FileName::parse(&segment_name(NUMBER_MAX + 1)), FileName::Other);
        for other in [
            "lock",
            "18446744073709551615.spare",
            "3.segment",
            "99999999999999999999.segment",
            "+1.spare",
            ".spare",
            "é.segment",
        ] {
            assert_eq!(FileName::parse(other), FileName::Other, "{other}");
        }
    }
}
