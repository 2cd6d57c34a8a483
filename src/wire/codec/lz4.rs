//! LZ4 frames as Kafka's Java client writes and reads them (`Lz4BlockOutputStream`, `Lz4BlockInputStream`).
//!
//! ```text
//! magic u32 · flags u8 · block size u8 · [content size u64] · checksum of these without the magic u8
//! · blocks: length u32, its top bit set if raw · bytes · [checksum u32] · end: length 0 · [checksum of the content u32]
//! ```
//!
//! All little-endian. Written: blocks of 64 KiB that do not depend on each other, no checksum but the header's. Read: what
//! Kafka reads, which is no dependent blocks, no dictionaries, and one frame. Here all checksums are looked at, and nothing
//! may follow. Beside the output at most one block is held, which is 4 MiB. Contexts are lzzzz's own: one a thread, kept.

use twox_hash::XxHash32;

use super::{WireError, failed};

const CODEC: &str = "lz4";
const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const VERSION: u8 = 0b0100_0000;
const VERSION_MASK: u8 = 0b1100_0000;
const INDEPENDENT: u8 = 0b0010_0000;
const BLOCK_CHECKSUM: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
const CONTENT_CHECKSUM: u8 = 0b0000_0100;
/// Reserved, and the dictionary's.
const NEVER: u8 = 0b0000_0011;
/// What [`compress`] writes: flags, block size, and the second byte of XXH32 over these two. The first Kafka clients summed
/// the magic as well; in batches of magic 2 brokers refuse that.
const DESCRIPTOR: [u8; 3] = [VERSION | INDEPENDENT, 4 << 4, 0x82];
const BLOCK_BYTES: usize = 64 << 10;

/// In a block's length: it is not compressed.
const RAW: u32 = 1 << 31;
/// The most that a block can grow, in times.
const GROWTH_MAX: usize = 255;
/// The highest level that the library has; Kafka's go on to 17, which are the same.
const LEVEL_MAX: i32 = lzzzz::lz4_hc::CLEVEL_MAX;

/// Appends `raw` to `out`, compressed. No level is the fast compressor; one from 1 to 17 is that of the thorough one (LZ4 HC).
pub(super) fn compress(level: Option<i32>, raw: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&DESCRIPTOR);
    for block in raw.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let from = length_at + size_of::<u32>();
        out.resize(from, 0);
        let packed = match level {
            None => lzzzz::lz4::compress_to_vec(block, out, lzzzz::lz4::ACC_LEVEL_DEFAULT),
            Some(level) => lzzzz::lz4_hc::compress_to_vec(block, out, level.clamp(1, LEVEL_MAX)),
        };
        let mut length = packed.map_err(|error| failed(CODEC, error))? as u32;
        if length >= block.len() as u32 {
            out.truncate(from);
            out.extend_from_slice(block);
            length = block.len() as u32 | RAW;
        }
        out[length_at..from].copy_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(&[0; size_of::<u32>()]);
    Ok(())
}

pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    let mut frame = Frame::new(bytes)?;
    let (mut out, mut block) = (Vec::new(), Vec::new());
    loop {
        let length = u32::from_le_bytes(frame.take()?);
        if length == 0 {
            break;
        }
        let packed = frame.split((length & !RAW) as usize)?;
        if packed.len() > frame.block_bytes {
            return Err(failed(CODEC, "a block is longer than the frame allows"));
        }
        if frame.flags & BLOCK_CHECKSUM != 0 {
            frame.compare_sum(packed)?;
        }
        let content = if length & RAW != 0 {
            packed
        } else {
            block.resize(frame.block_bytes.min(packed.len().saturating_mul(GROWTH_MAX)), 0);
            let length = lzzzz::lz4::decompress(packed, &mut block).map_err(|error| failed(CODEC, error))?;
            block.get(..length).unwrap_or_default()
        };
        if content.len() > limit - out.len() {
            return Err(WireError::TooLarge { limit });
        }
        out.extend_from_slice(content);
    }
    if frame.flags & CONTENT_CHECKSUM != 0 {
        frame.compare_sum(&out)?;
    }
    if frame.content_size.is_some_and(|size| size != out.len() as u64) {
        return Err(failed(CODEC, "the content's size is not what the frame says"));
    }
    if frame.rest.is_empty() { Ok(out) } else { Err(failed(CODEC, "bytes after the frame")) }
}

/// A frame whose header has been read.
struct Frame<'a> {
    flags: u8,
    /// Contents of the largest block.
    block_bytes: usize,
    content_size: Option<u64>,
    rest: &'a [u8],
}

impl<'a> Frame<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, WireError> {
        let descriptor = bytes.strip_prefix(&MAGIC).ok_or_else(|| failed(CODEC, "this is no LZ4 frame"))?;
        let mut frame = Frame { flags: 0, block_bytes: 0, content_size: None, rest: descriptor };
        let [flags, block_size] = frame.take()?;
        if flags & VERSION_MASK != VERSION || flags & NEVER != 0 || flags & INDEPENDENT == 0 {
            return Err(failed(CODEC, "the frame is of a kind that Kafka does not read"));
        }
        if block_size & !0x70 != 0 || block_size < 4 << 4 {
            return Err(failed(CODEC, "the frame's block size is none that there is"));
        }
        frame.flags = flags;
        frame.block_bytes = 1 << (2 * (block_size >> 4) + 8);
        if flags & CONTENT_SIZE != 0 {
            frame.content_size = Some(u64::from_le_bytes(frame.take()?));
        }
        let summed = descriptor.len() - frame.rest.len();
        let [checksum] = frame.take()?;
        if checksum != header_checksum(&descriptor[..summed]) {
            return Err(failed(CODEC, "the frame's header does not fit its checksum"));
        }
        Ok(frame)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn split(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a checksum, which must be that of `bytes`.
    fn compare_sum(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let checksum = u32::from_le_bytes(self.take()?);
        if checksum == XxHash32::oneshot(0, bytes) { Ok(()) } else { Err(failed(CODEC, "a checksum does not fit")) }
    }
}

fn header_checksum(descriptor: &[u8]) -> u8 {
    (XxHash32::oneshot(0, descriptor) >> 8) as u8
}

fn cut_short() -> WireError {
    failed(CODEC, "the frame is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_that_is_written_has_its_checksum() {
        let [flags, block_size, checksum] = DESCRIPTOR;
        assert_eq!(header_checksum(&[flags, block_size]), checksum);
        let frame = Frame::new(&[MAGIC.as_slice(), &DESCRIPTOR].concat()).map(|frame| frame.block_bytes);
        assert_eq!(frame, Ok(BLOCK_BYTES));
    }

    /// A frame of one raw block with all that a header can say.
    fn full_frame(flags: u8, block_size: u8, sums: [u32; 2], content_size: u64) -> Vec<u8> {
        let mut descriptor = vec![flags, block_size];
        descriptor.extend(content_size.to_le_bytes());
        let checksum = header_checksum(&descriptor);
        let [block_sum, content_sum] = sums.map(u32::to_le_bytes);
        let block = (3 | RAW).to_le_bytes();
        [&MAGIC, &*descriptor, &[checksum], &block, b"abc", &block_sum, &[0; 4], &content_sum].concat()
    }

    #[test]
    fn every_checksum_and_size_of_a_frame_is_held_against_its_content() {
        let flags = DESCRIPTOR[0] | BLOCK_CHECKSUM | CONTENT_SIZE | CONTENT_CHECKSUM;
        let sum = XxHash32::oneshot(0, b"abc");
        assert_eq!(decompress(&full_frame(flags, 7 << 4, [sum; 2], 3), 3), Ok(b"abc".to_vec()));
        for wrong in [
            full_frame(flags, 7 << 4, [sum ^ 1, sum], 3),
            full_frame(flags, 7 << 4, [sum, sum ^ 1], 3),
            full_frame(flags, 7 << 4, [sum; 2], 4),
            full_frame(flags, 3 << 4, [sum; 2], 3),
            full_frame(flags, 8 << 4, [sum; 2], 3),
            full_frame(flags & !INDEPENDENT, 7 << 4, [sum; 2], 3),
            full_frame(flags | NEVER, 7 << 4, [sum; 2], 3),
            full_frame(flags ^ VERSION_MASK, 7 << 4, [sum; 2], 3),
            [full_frame(flags, 7 << 4, [sum; 2], 3), vec![0]].concat(),
        ] {
            assert!(matches!(decompress(&wrong, 3), Err(WireError::Codec { codec: CODEC, .. })), "{wrong:x?}");
        }
    }
}
