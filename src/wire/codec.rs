//! How the records of a batch are compressed (attributes, bits 0 to 2): gzip, Snappy, LZ4 and zstd, a file each.
//!
//! Raw record bytes come in, compressed ones leave, and back. Contexts and the output buffer are kept by a `Compressor`
//! and used again. Bytes to decompress may come from anybody: the output has a limit, a length that lies allocates nothing
//! beyond it, and what is malformed is an error.
//!
//! Deliberately absent: whether it is worth trying, which is learned a partition at a time (`queue::compressibility`).

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::fmt::Display;
use std::io::Read;

use super::WireError;
use crate::config::CompressionType;

/// A batch is sent compressed only if that leaves less than this share of its records' bytes, in percent. What is saved is
/// saved on the wire, on the brokers' disks and in every consumer's fetch, but each of them pays for unpacking it.
const PAYS_BELOW_PERCENT: usize = 90;
/// An output buffer larger than this is given back after use.
const OUTPUT_KEPT_BYTES: usize = 1 << 20;

/// A compression codec of Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    None,
    /// RFC 1952.
    Gzip,
    /// xerial's framing of raw snappy blocks.
    Snappy,
    /// LZ4 frame.
    Lz4,
    /// Zstandard frame (KIP-110); needs Produce 7.
    Zstd,
}

impl From<CompressionType> for Codec {
    fn from(compression_type: CompressionType) -> Codec {
        match compression_type {
            CompressionType::None => Codec::None,
            CompressionType::Gzip => Codec::Gzip,
            CompressionType::Snappy => Codec::Snappy,
            CompressionType::Lz4 => Codec::Lz4,
            CompressionType::Zstd => Codec::Zstd,
        }
    }
}

impl Codec {
    /// The number in a batch's attributes.
    pub fn id(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The codec of a batch's attributes; the numbers 5 to 7 mean none.
    pub fn from_attributes(attributes: i16) -> Result<Codec, WireError> {
        match attributes & 0x07 {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            _ => Err(WireError::UnsupportedCodec("5 to 7")),
        }
    }

    /// The name in Kafka's `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// Compression contexts and an output buffer, kept from batch to batch. Each context is made at its first use.
#[derive(Default)]
pub(super) struct Compressor {
    gzip: gzip::Contexts,
    snappy: snappy::Context,
    zstd: zstd::Context,
    output: Vec<u8>,
}

impl Compressor {
    /// Compresses `raw`; `None` if that does not pay and the batch is better sent as it is. `level` is in the codec's range
    /// (gzip 1 to 9, lz4 1 to 17, zstd −131072 to 22), else the nearest is taken; without one it is the codec's own default.
    pub(super) fn compress(
        &mut self,
        codec: Codec,
        level: Option<i32>,
        raw: &[u8],
    ) -> Result<Option<&[u8]>, WireError> {
        self.output.clear();
        match codec {
            Codec::None => return Ok(None),
            Codec::Gzip => self.gzip.compress(level, raw, &mut self.output)?,
            Codec::Snappy => self.snappy.compress(raw, &mut self.output)?,
            Codec::Lz4 => lz4::compress(level, raw, &mut self.output)?,
            Codec::Zstd => self.zstd.compress(level, raw, &mut self.output)?,
        }
        let pays = self.output.len() * 100 < raw.len() * PAYS_BELOW_PERCENT;
        Ok(pays.then_some(self.output.as_slice()))
    }

    /// Gives a large output buffer back.
    pub(super) fn trim(&mut self) {
        if self.output.capacity() > OUTPUT_KEPT_BYTES {
            self.output = Vec::new();
        }
    }
}

/// Decompresses to at most `limit` bytes, else [`WireError::TooLarge`].
pub(super) fn decompress(codec: Codec, bytes: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    match codec {
        Codec::None if bytes.len() > limit => Err(WireError::TooLarge { limit }),
        Codec::None => Ok(bytes.to_vec()),
        Codec::Gzip => gzip::decompress(bytes, limit),
        Codec::Snappy => snappy::decompress(bytes, limit),
        Codec::Lz4 => lz4::decompress(bytes, limit),
        Codec::Zstd => zstd::decompress(bytes, limit),
    }
}

/// All that a decoder gives, if it is within the limit.
fn read_within(limit: usize, decoder: impl Read, codec: &'static str) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    // One byte more than allowed tells "exactly the limit" from "more".
    let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(cap).read_to_end(&mut out).map_err(|error| failed(codec, error))?;
    if out.len() > limit { Err(WireError::TooLarge { limit }) } else { Ok(out) }
}

fn failed(codec: &'static str, why: impl Display) -> WireError {
    WireError::Codec { codec, why: why.to_string() }
}

#[cfg(test)]
mod tests;
