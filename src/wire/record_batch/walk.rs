//! Walks over what a Fetch returns by the batches' headers alone: records are neither decompressed nor checked.

use bytes::Buf;

use super::read::malformed;
use super::{HEADER_BYTES, LENGTH_FROM, Lane, MAGIC, Stamp};
use crate::wire::WireError;

const MAGIC_AT: usize = 16;

/// Where a batch stands in a log, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offsets that it takes; records that compaction has removed count, too.
    pub count: i64,
    /// What its producer stamped on it; `None`: not idempotent, or of a magic before 2.
    pub stamp: Option<Stamp>,
}

impl Seen {
    /// The offset behind it.
    pub fn end(&self) -> i64 {
        self.base_offset.saturating_add(self.count)
    }
}

/// The batches that `log` holds, the last of which may be cut short, as brokers cut it.
///
/// Errors: a length that cannot be; nothing comes after it.
pub fn walk(log: &[u8]) -> impl Iterator<Item = Result<Seen, WireError>> + '_ {
    let mut rest = log;
    std::iter::from_fn(move || {
        let at = log.len() - rest.len();
        let seen = seen(rest, at).transpose()?;
        rest = match &seen {
            Ok((_, bytes)) => rest.get(*bytes..).unwrap_or_default(),
            Err(_) => &[],
        };
        Some(seen.map(|(seen, _)| seen))
    })
}

/// The first batch and how many bytes it has; `None` when too few are left to say.
fn seen(bytes: &[u8], at: usize) -> Result<Option<(Seen, usize)>, WireError> {
    let Some(magic) = bytes.get(MAGIC_AT) else { return Ok(None) };
    let mut header = bytes;
    let (base_offset, length) = (header.get_i64(), header.get_i32());
    let length = usize::try_from(length).map_err(|_| malformed(at + 8, "negative length"))?;
    if base_offset < 0 || length <= MAGIC_AT - LENGTH_FROM {
        return Err(malformed(at, "neither a batch nor a message"));
    }
    if *magic != MAGIC as u8 {
        return Ok(Some((Seen { base_offset, count: 1, stamp: None }, LENGTH_FROM + length)));
    }
    if LENGTH_FROM + length < HEADER_BYTES {
        return Err(malformed(at + 8, "length is shorter than the header"));
    }
    let Some(mut fields) = bytes.get(23..HEADER_BYTES) else { return Ok(None) };
    let last_offset_delta = fields.get_i32();
    fields.advance(16);
    let (producer_id, epoch, base_sequence) = (fields.get_i64(), fields.get_i16(), fields.get_i32());
    if last_offset_delta < 0 {
        return Err(malformed(at + 23, "negative offset delta"));
    }
    let stamp = Stamp { lane: Lane { producer_id, epoch }, base_sequence };
    let seen =
        Seen { base_offset, count: i64::from(last_offset_delta) + 1, stamp: (producer_id >= 0).then_some(stamp) };
    Ok(Some((seen, LENGTH_FROM + length)))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::codec::Codec;
    use crate::wire::record_batch::BatchBuilder;

    fn batch(records: u32, base_sequence: i32) -> BytesMut {
        let mut builder = BatchBuilder::new();
        (0..records).for_each(|n| builder.append(n.into(), b"\x01\x01\x00"));
        let lane = Lane { producer_id: 7, epoch: 1 };
        let bytes = builder.finish(Codec::None, None).0.stamp(Stamp { lane, base_sequence });
        BytesMut::from(&bytes[..])
    }

    #[test]
    fn each_batch_is_seen_the_last_one_even_if_only_its_header_is_there() {
        let mut log = batch(3, 0);
        let mut old = vec![0; 30];
        old[..8].copy_from_slice(&3_i64.to_be_bytes());
        old[11] = 18;
        log.extend_from_slice(&old);
        let mut last = batch(9, 3);
        last[..8].copy_from_slice(&4_i64.to_be_bytes());
        log.extend_from_slice(&last[..HEADER_BYTES]);
        let seen: Vec<_> = walk(&log).map(Result::unwrap).collect();
        let places: Vec<_> = seen.iter().map(|seen| (seen.base_offset, seen.end())).collect();
        assert_eq!(places, [(0, 3), (3, 4), (4, 13)]);
        let sequences: Vec<_> = seen.iter().map(|seen| seen.stamp.map(|stamp| stamp.base_sequence)).collect();
        assert_eq!(sequences, [Some(0), None, Some(3)]);
        assert!(walk(&log[..80 + 30 + HEADER_BYTES]).count() <= 3);
    }

    proptest! {
        #[test]
        fn walking_over_any_bytes_ends(bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(2), any::<u8>()], 0..300)) {
            prop_assert!(walk(&bytes).count() <= bytes.len() / MAGIC_AT + 1);
        }

        #[test]
        fn a_damaged_log_is_walked_over_or_refused(at in 0..150_usize, bit in 0..8_u32) {
            let mut log = batch(3, 0);
            log.extend_from_slice(&batch(2, 3));
            let at = at % log.len();
            log[at] ^= 1 << bit;
            let _ = walk(&log).count();
        }
    }
}
