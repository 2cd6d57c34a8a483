//! What of the bytes of a batch is taken and what is refused.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::devbroker::check::CheckedBatch;
use crate::wire::codec::Codec;
use crate::wire::record_batch;

#[test]
fn malformed_batches_are_refused_as_kafka_refuses_them() {
    let mut bench = Bench::new();
    let good = batch(LANE, 0, &[NOW; 3]);
    let with = |at: usize, byte: u8| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] = byte;
        bytes.freeze()
    };
    assert_eq!(bench.send_bytes(Bytes::new()), Err(87));
    assert_eq!(bench.send_bytes([&good[..], &good[..]].concat().into()), Err(87));
    assert_eq!(bench.send_bytes(good.slice(..good.len() - 1)), Err(87));
    assert_eq!(bench.send_bytes(with(16, 1)), Err(87));
    assert_eq!(bench.send_bytes(with(7, 1)), Err(87));
    assert_eq!(bench.send_bytes(with(good.len() - 1, 9)), Err(2));
    assert_eq!(bench.send_bytes(good), Ok(0));
}

#[test]
fn zstd_needs_version_7() {
    let mut bytes = BytesMut::from(&batch(LANE, 0, &[NOW])[..]);
    bytes[22] = 4;
    let bytes = bytes.freeze();
    assert_eq!(CheckedBatch::check(Some(&bytes), 6).unwrap_err().code, 76);
    assert!(CheckedBatch::check(Some(&bytes), 7).is_ok());
}

#[test]
fn batches_of_every_codec_are_taken_and_read_back_and_other_numbers_refused() {
    let mut bench = Bench::new();
    let timestamps = [NOW; 100];
    for (n, codec) in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd].into_iter().enumerate() {
        let bytes = compressed_batch(LANE, n as i32 * 100, &timestamps, codec);
        assert_eq!(record_batch::parse_header(&bytes).unwrap().codec(), Ok(codec));
        assert_eq!(bench.send_bytes(bytes), Ok(n as i64 * 100));
        let log = bench.cluster.partition(TOPIC, 0).unwrap().log().to_vec();
        let values = log[n].records().map(|record| record.value.unwrap());
        assert!(values.eq((0..100).map(|value| Bytes::from(value.to_string()))));
    }
    for id in 5..=7 {
        let mut bytes = BytesMut::from(&batch(LANE, 400, &[NOW])[..]);
        bytes[22] = id;
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(bench.send_bytes(bytes.freeze()), Err(76));
    }
}

proptest! {
    #[test]
    fn no_bytes_in_place_of_a_batch_do_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        fix_crc in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        prop_assert!(bench.send_bytes(bytes.into()).is_err());
        let mut changed = BytesMut::from(&batch(LANE, 0, &[NOW, 5, NOW])[..]);
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        if fix_crc {
            let crc = crc32c::crc32c(&changed[21..]);
            changed[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let before = bench.end();
        if bench.send_bytes(changed.freeze()).is_ok() {
            let log = bench.cluster.partition(TOPIC, 0).unwrap().log().to_vec();
            let stored = log.last().unwrap();
            prop_assert_eq!(stored.records().count(), stored.count as usize);
            prop_assert_eq!(bench.end(), before + i64::from(stored.count));
        }
    }
}
