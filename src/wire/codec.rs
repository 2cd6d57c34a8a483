//! How the records of a batch are compressed (attributes, bits 0 to 2).
//!
//! Raw record bytes come in, compressed ones leave, and back. Contexts and output buffers are kept by a `Compressor` and
//! used again. Decompression is bounded in output and in window memory. None and zstd are done here; for the other codecs
//! the number is known and the work refused.

use std::io::Read;

use super::WireError;

/// Compression worth less than this share of the raw bytes, in percent, is not worth the broker's and consumers' time.
const PAYS_BELOW_PERCENT: usize = 97;
/// The level with the best ratio of size to time on log lines.
const ZSTD_LEVEL_DEFAULT: i32 = 1;
/// Window that zstd's levels up to 19 use: 8 MiB. A frame that asks for more than this and for more than the output limit
/// is refused, since the decoder allocates the window before it sees the data.
const ZSTD_WINDOW_LOG: u32 = 23;
/// libzstd's own default limit for streaming decoders.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
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

/// Compression contexts and an output buffer, kept from batch to batch.
#[derive(Default)]
pub(super) struct Compressor {
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
    output: Vec<u8>,
}

impl Compressor {
    /// Compresses `raw`; `None` if that does not pay and the batch is better sent as it is.
    pub(super) fn compress(
        &mut self,
        codec: Codec,
        level: Option<i32>,
        raw: &[u8],
    ) -> Result<Option<&[u8]>, WireError> {
        match codec {
            Codec::None => return Ok(None),
            Codec::Zstd => self.zstd(level.unwrap_or(ZSTD_LEVEL_DEFAULT), raw).map_err(|e| zstd_error(&e))?,
            other => return Err(WireError::UnsupportedCodec(other.name())),
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

    fn zstd(&mut self, level: i32, raw: &[u8]) -> std::io::Result<()> {
        let context = match &mut self.zstd {
            Some((at, context)) if *at == level => context,
            slot => &mut slot.insert((level, zstd::bulk::Compressor::new(level)?)).1,
        };
        self.output.clear();
        self.output.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        context.compress_to_buffer(raw, &mut self.output)?;
        Ok(())
    }
}

/// Decompresses to at most `limit` bytes, else [`WireError::TooLarge`].
pub(super) fn decompress(codec: Codec, bytes: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    match codec {
        Codec::None if bytes.len() > limit => Err(WireError::TooLarge { limit }),
        Codec::None => Ok(bytes.to_vec()),
        Codec::Zstd => unzstd(bytes, limit),
        other => Err(WireError::UnsupportedCodec(other.name())),
    }
}

fn unzstd(bytes: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    let limit_log = usize::BITS - limit.leading_zeros();
    let window_log = limit_log.clamp(ZSTD_WINDOW_LOG, ZSTD_WINDOW_LOG_MAX);
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| zstd_error(&e))?;
    decoder.window_log_max(window_log).map_err(|e| zstd_error(&e))?;
    let mut out = Vec::new();
    // One byte more than allowed tells "exactly the limit" from "more".
    let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(cap).read_to_end(&mut out).map_err(|e| zstd_error(&e))?;
    if out.len() > limit { Err(WireError::TooLarge { limit }) } else { Ok(out) }
}

fn zstd_error(error: &std::io::Error) -> WireError {
    WireError::Codec { codec: "zstd", why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: usize) -> Vec<u8> {
        b"level=info path=/api/items status=200 ".iter().copied().cycle().take(bytes).collect()
    }

    #[test]
    fn zstd_gives_back_what_went_in_at_every_kept_level() {
        let mut compressor = Compressor::default();
        for level in [None, Some(1), Some(3), Some(-5), Some(19), Some(1)] {
            let raw = text(100_000);
            let packed = compressor.compress(Codec::Zstd, level, &raw).unwrap().unwrap().to_vec();
            assert!(packed.len() < raw.len() / 10);
            assert_eq!(decompress(Codec::Zstd, &packed, raw.len()).unwrap(), raw);
        }
    }

    #[test]
    fn random_bytes_are_left_as_they_are() {
        let mut random = fastrand::Rng::with_seed(7);
        let raw: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(50_000).collect();
        assert_eq!(Compressor::default().compress(Codec::Zstd, None, &raw).unwrap(), None);
    }

    #[test]
    fn more_than_the_limit_is_refused_and_exactly_the_limit_is_not() {
        let raw = text(10_000);
        let packed = Compressor::default().compress(Codec::Zstd, None, &raw).unwrap().unwrap().to_vec();
        assert_eq!(decompress(Codec::Zstd, &packed, 9_999), Err(WireError::TooLarge { limit: 9_999 }));
        assert_eq!(decompress(Codec::Zstd, &packed, 10_000), Ok(raw.clone()));
        assert_eq!(decompress(Codec::None, &raw, 9_999), Err(WireError::TooLarge { limit: 9_999 }));
    }

    #[test]
    fn a_frame_that_asks_for_a_huge_window_is_refused() {
        // Magic, then a header that declares a window of 128 MiB and no content size.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
        let error = decompress(Codec::Zstd, &frame, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "zstd failed: Frame requires too much memory for decoding");
    }

    #[test]
    fn a_large_output_buffer_is_not_kept() {
        let mut compressor = Compressor::default();
        compressor.compress(Codec::Zstd, None, &text(3 << 20)).unwrap();
        compressor.trim();
        assert_eq!(compressor.output.capacity(), 0);
    }

    proptest! {
        #[test]
        fn decompressing_any_bytes_ends_within_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..300), flip in any::<usize>(), to in any::<u8>()) {
            let _ = decompress(Codec::Zstd, &bytes, 1000);
            let mut packed = Compressor::default().compress(Codec::Zstd, None, &text(5_000)).unwrap().unwrap().to_vec();
            let at = flip % packed.len();
            packed[at] = to;
            if let Ok(out) = decompress(Codec::Zstd, &packed, 1000) {
                prop_assert!(out.len() <= 1000);
            }
        }
    }
}
