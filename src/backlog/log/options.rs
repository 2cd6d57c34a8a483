//! How large a log may be, and how it is cut into segments.

/// Segments that records never take: for notes, and for what the cleaner copies.
pub const RESERVED_SEGMENTS: u64 = 2;
/// At most so many files wait to become segments, the reserved ones among them.
pub const SPARES_MAX: usize = 4;

const SEGMENT_BYTES: u64 = 64 << 20;
/// A log has at least so many segments.
const SEGMENTS_MIN: u64 = 8;

/// Limits of a log. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of a segment. One is larger only when a checkpoint and what must stand behind it need more.
    pub segment_bytes: u64,
    /// All files of the directory together, [`RESERVED_SEGMENTS`] included; at least four segments. Records never go beyond it; notes may
    /// when crashes and failing disks have used the reserve up, and when more is held than a limit allows that was lowered.
    pub limit_bytes: u64,
    /// No file is begun for records when less than this would stay available on the file system.
    pub free_space_floor_bytes: u64,
    /// Frames are gathered until a write has this size.
    pub write_bytes: usize,
    /// At most so much is kept in memory because it is not synced.
    pub unsynced_bytes_max: usize,
    /// For indexes of older segments that are being read; one is kept whatever its size.
    pub index_bytes_max: usize,
    /// Runs in a segment: its index is in memory while it is the newest.
    pub runs_max: usize,
    /// Origins that are remembered.
    pub origins_max: usize,
}

impl Options {
    /// For a log of this size: 64 MiB a segment, less when the log would have fewer than eight.
    pub fn with_limit(limit_bytes: u64) -> Self {
        Options {
            segment_bytes: SEGMENT_BYTES.min(limit_bytes / SEGMENTS_MIN),
            limit_bytes,
            free_space_floor_bytes: 0,
            write_bytes: 1 << 20,
            unsynced_bytes_max: 16 << 20,
            index_bytes_max: 8 << 20,
            runs_max: 1 << 18,
            origins_max: 1 << 16,
        }
    }

    /// Whether a log can be made of this.
    pub fn are_possible(&self) -> bool {
        (4 << 10..1 << 30).contains(&self.segment_bytes) && self.limit_bytes / 4 >= self.segment_bytes
    }

    /// The largest frame, header included.
    pub fn frame_bytes_max(&self) -> usize {
        usize::try_from(self.segment_bytes / 2).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_logs_have_small_segments() {
        assert_eq!(Options::with_limit(8 << 30).segment_bytes, 64 << 20);
        assert_eq!(Options::with_limit(64 << 20).segment_bytes, 8 << 20);
        assert!(Options::with_limit(32 << 10).are_possible() && !Options::with_limit(31 << 10).are_possible());
    }
}
