//! Zstandard frames (RFC 8878, KIP-110).

use zstd::bulk;
use zstd::stream::read::Decoder;

use super::{WireError, failed, read_within};

const CODEC: &str = "zstd";
/// On log lines faster than zstd's own default of 3, and no larger.
const LEVEL_DEFAULT: i32 = 1;
/// Window that zstd's levels up to 19 use: 8 MiB. A frame that asks for more than this and for more than the output limit
/// is refused, since the decoder allocates the window before it sees the data.
const WINDOW_LOG: u32 = 23;
/// libzstd's own default limit for streaming decoders.
const WINDOW_LOG_MAX: u32 = 27;

/// The context, set to the level that was last asked for.
#[derive(Default)]
pub(super) struct Context(Option<(i32, bulk::Compressor<'static>)>);

impl Context {
    /// Appends `raw` to `out`, compressed at a level from −131072 to 22; one outside counts as the nearest.
    pub(super) fn compress(&mut self, level: Option<i32>, raw: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        self.try_compress(level.unwrap_or(LEVEL_DEFAULT), raw, out).map_err(|error| failed(CODEC, error))
    }

    fn try_compress(&mut self, level: i32, raw: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        let context = match &mut self.0 {
            Some((at, context)) => {
                if *at != level {
                    context.set_compression_level(level)?;
                    *at = level;
                }
                context
            }
            none => &mut none.insert((level, bulk::Compressor::new(level)?)).1,
        };
        out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        context.compress_to_buffer(raw, out).map(drop)
    }
}

pub(super) fn decompress(bytes: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    let limit_log = usize::BITS - limit.leading_zeros();
    let window_log = limit_log.clamp(WINDOW_LOG, WINDOW_LOG_MAX);
    let mut decoder = Decoder::with_buffer(bytes).map_err(|error| failed(CODEC, error))?;
    decoder.window_log_max(window_log).map_err(|error| failed(CODEC, error))?;
    read_within(limit, decoder, CODEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_asks_for_a_huge_window_is_refused() {
        // Magic, then a header that declares a window of 128 MiB and no content size.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
        let error = decompress(&frame, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "zstd failed: Frame requires too much memory for decoding");
    }
}
