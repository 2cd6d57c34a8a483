//! Snappy in xerial's framing, which is what Kafka's Java client writes (`SnappyOutputStream`).
//!
//! ```text
//! magic, 8 bytes · version i32 · compatible since i32 · blocks: length i32 · raw snappy of at most 32 KiB
//! ```
//!
//! Who finds no magic reads the whole as one raw block, as `SnappyInputStream` and librdkafka do.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{WireError, failed};

const CODEC: &str = "snappy";
const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// Ours, and the oldest that there is.
const VERSION: u32 = 1;
/// What `SnappyOutputStream` takes.
const BLOCK_BYTES: usize = 32 << 10;
/// The most that a block can grow: its largest copy is 64 bytes, and takes three.
const GROWTH_MAX: (usize, usize) = (64, 3);

/// The hash table.
#[derive(Default)]
pub(super) struct Context(Option<Box<Encoder>>);

impl Context {
    /// Appends `raw` to `out`, compressed.
    pub(super) fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let encoder = self.0.get_or_insert_with(|| Box::new(Encoder::new()));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        for block in raw.chunks(BLOCK_BYTES) {
            let length_at = out.len();
            let from = length_at + size_of::<u32>();
            out.resize(from + max_compress_len(block.len()), 0);
            let length = encoder.compress(block, &mut out[from..]).map_err(|error| failed(CODEC, error))?;
            out.truncate(from + length);
            out[length_at..from].copy_from_slice(&(length as u32).to_be_bytes());
        }
        Ok(())
    }
}

pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    let Some(mut rest) = bytes.strip_prefix(&MAGIC).filter(|rest| rest.len() >= 2 * size_of::<u32>()) else {
        block(bytes, &mut out, limit)?;
        return Ok(out);
    };
    if u32_of(&mut rest).is_none_or(|version| version < VERSION) {
        return Err(failed(CODEC, "the framing is of an unknown version"));
    }
    let _compatible_since = u32_of(&mut rest);
    while !rest.is_empty() {
        let length = u32_of(&mut rest).ok_or_else(|| failed(CODEC, "a block's length is cut short"))? as usize;
        let (packed, after) =
            rest.split_at_checked(length).ok_or_else(|| failed(CODEC, "a block is shorter than its length"))?;
        block(packed, &mut out, limit)?;
        rest = after;
    }
    Ok(out)
}

/// Appends a raw block's contents to `out`, which stays within `limit`.
fn block(packed: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), WireError> {
    let length = decompress_len(packed).map_err(|error| failed(CODEC, error))?;
    // A length that lies allocates nothing.
    if length.saturating_mul(GROWTH_MAX.1) > packed.len().saturating_mul(GROWTH_MAX.0) {
        return Err(failed(CODEC, "a block is too short for what it claims to hold"));
    }
    let from = out.len();
    if length > limit.saturating_sub(from) {
        return Err(WireError::TooLarge { limit });
    }
    out.resize(from + length, 0);
    Decoder::new().decompress(packed, &mut out[from..]).map(drop).map_err(|error| failed(CODEC, error))
}

fn u32_of(bytes: &mut &[u8]) -> Option<u32> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_block_without_the_framing_is_read() {
        for raw in [&b""[..], b"a", &[b'a'; 100_000]] {
            let packed = Encoder::new().compress_vec(raw).unwrap();
            assert_eq!(decompress(&packed, raw.len()), Ok(raw.to_vec()));
        }
    }

    #[test]
    fn a_length_that_lies_is_refused_before_anything_is_allocated_for_it() {
        // A varint that says 4 GiB − 1, and next to nothing behind it.
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'a'];
        let framed = [&MAGIC[..], &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7], &lie].concat();
        for bytes in [&lie[..], &framed] {
            let error = decompress(bytes, usize::MAX).unwrap_err();
            assert_eq!(error.to_string(), "snappy failed: a block is too short for what it claims to hold");
        }
    }

    #[test]
    fn the_best_block_there_is_is_not_taken_for_a_lie() {
        let raw = vec![b'a'; 10 << 20];
        let packed = Encoder::new().compress_vec(&raw).unwrap();
        assert_eq!(decompress(&packed, raw.len()), Ok(raw));
    }
}
