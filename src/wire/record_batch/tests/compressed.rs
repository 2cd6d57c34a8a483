//! Batches of every codec, ours read by `kafka_protocol` and its read by us.

use bytes::BytesMut;

use super::*;

const CODECS: [(Codec, Compression); 4] = [
    (Codec::Gzip, Compression::Gzip),
    (Codec::Snappy, Compression::Snappy),
    (Codec::Lz4, Compression::Lz4),
    (Codec::Zstd, Compression::Zstd),
];

pub(super) fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(vec![Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd])
}

/// Records that are worth compressing, whatever else there is: several blocks of every codec.
fn compressible() -> impl Strategy<Value = Vec<Sample>> {
    (samples(), any::<u8>()).prop_map(|(samples, fill)| {
        let samples = samples.into_iter().map(|sample| Sample { timestamp: 5, ..sample });
        let bulk = Sample { timestamp: 5, key: None, value: Some(vec![fill; 200_000]), headers: vec![] };
        distinct_names(&samples.chain([bulk]).collect::<Vec<_>>())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn kafka_protocol_reads_what_is_compressed_here(samples in compressible()) {
        let mut builder = BatchBuilder::new();
        for (codec, _) in CODECS {
            let bytes = batch(&mut builder, &samples, codec).stamp(STAMP);
            prop_assert_eq!(parse_header(&bytes).unwrap().codec(), Ok(codec));
            assert_crate_reads(&bytes, &samples);
        }
    }

    #[test]
    fn what_kafka_protocol_compresses_is_read_here(samples in compressible()) {
        let records: Vec<CrateRecord> = samples.iter().enumerate().map(|(n, s)| crate_record(n, s)).collect();
        for (codec, compression) in CODECS {
            let mut bytes = BytesMut::new();
            RecordBatchEncoder::encode(&mut bytes, &records, &RecordEncodeOptions { version: 2, compression }).unwrap();
            let bytes = bytes.freeze();
            prop_assert_eq!(parse_header(&bytes).unwrap().codec(), Ok(codec));
            prop_assert!(same(&read(&bytes), &samples));
        }
    }

    #[test]
    fn compressed_records_that_lie_under_a_right_crc_are_read_or_refused(
        samples in samples(),
        codec in codec(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = batch(&mut BatchBuilder::new(), &samples, codec).stamp(STAMP).to_vec();
        let section = bytes.len() - HEADER_BYTES;
        for (at, to) in changes {
            bytes[HEADER_BYTES + at.index(section)] = to;
        }
        let bytes = SealedBatch::reopen(&bytes.into()).stamp(STAMP);
        if let Ok(records) = records(&bytes, 1 << 20) {
            prop_assert!(records.count() <= samples.len() + 1);
        }
    }
}

#[test]
fn compression_that_does_not_pay_is_left_out() {
    let mut random = fastrand::Rng::with_seed(11);
    let mut builder = BatchBuilder::new();
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(20_000).collect();
    for (codec, _) in CODECS {
        builder.append(1, &noise);
        let raw = finish(&mut builder, codec).stamp(STAMP);
        assert_eq!(parse_header(&raw).unwrap().codec(), Ok(Codec::None));

        builder.append(1, &[b'a'; 20_000]);
        let packed = finish(&mut builder, codec).stamp(STAMP);
        assert_eq!(parse_header(&packed).unwrap().codec(), Ok(codec));
        assert!(packed.len() < 2000);
    }
}

#[test]
fn decompression_stops_at_the_limit() {
    for (codec, _) in CODECS {
        let mut builder = BatchBuilder::new();
        builder.append(1, &[0; 100_000]);
        let packed = finish(&mut builder, codec).stamp(STAMP);
        assert_eq!(records(&packed, 50_000).unwrap_err(), WireError::TooLarge { limit: 50_000 });
    }
}

#[test]
fn the_numbers_that_no_codec_has_are_refused() {
    for id in 5..=7 {
        let mut bytes = batch(&mut BatchBuilder::new(), &[], Codec::None).stamp(STAMP).to_vec();
        bytes[CRC_FROM + 1] = id;
        let bytes = SealedBatch::reopen(&bytes.into()).stamp(STAMP);
        assert_eq!(records(&bytes, 100).unwrap_err(), WireError::UnsupportedCodec("5 to 7"));
    }
}
