use bytes::BytesMut;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, Record as CrateRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;

use super::*;
use crate::record::{Header, Record, Run};

mod compressed;

const STAMP: Stamp = Stamp { lane: Lane { producer_id: 4711, epoch: 3 }, base_sequence: 17 };

#[derive(Clone, Debug)]
struct Sample {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Lengths around every edge of a varint of one and two bytes, and now and then one of three.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![20 => 0..5_usize, 10 => 60..70_usize, 3 => 8_185..8_200_usize];
    (length, any::<u8>()).prop_map(|(length, fill)| vec![fill; length])
}

fn timestamp() -> impl Strategy<Value = i64> {
    let near = |delta: i64| (-3..=3_i64).prop_map(move |n| 1_700_000_000_000 + delta + n);
    prop_oneof![
        8 => near(0),
        2 => near(64),
        2 => near(-64),
        2 => near(8192),
        2 => near(-8192),
        1 => near(1 << 40),
        1 => any::<i64>(),
    ]
}

fn sample() -> impl Strategy<Value = Sample> {
    let header = (bytes(), prop::option::of(bytes()));
    let headers = prop_oneof![5 => prop::collection::vec(header, 0..4), 1 => Just(vec![(vec![b'h'], None); 70])];
    (timestamp(), prop::option::of(bytes()), prop::option::of(bytes()), headers)
        .prop_map(|(timestamp, key, value, headers)| Sample { timestamp, key, value, headers })
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    prop_oneof![9 => prop::collection::vec(sample(), 1..20), 1 => prop::collection::vec(sample(), 60..70)]
}

fn run(samples: &[Sample]) -> Run {
    let mut run = Run::default();
    for sample in samples {
        let headers: Vec<Header<'_>> =
            sample.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect();
        run.push(&Record {
            timestamp: sample.timestamp,
            stamped_here: false,
            key: sample.key.as_deref(),
            value: sample.value.as_deref(),
            headers: &headers,
        });
    }
    run
}

fn batch(builder: &mut BatchBuilder, samples: &[Sample], codec: Codec) -> SealedBatch {
    for record in run(samples).records_from(0) {
        let before = builder.len_bytes();
        let expected = builder.encoded_len(record.timestamp, record.suffix.len());
        builder.append(record.timestamp, record.suffix);
        assert_eq!(builder.len_bytes(), before + expected);
    }
    assert_eq!(builder.count() as usize, samples.len());
    let sealed = finish(builder, codec);
    assert_eq!((builder.count(), builder.len_bytes()), (0, HEADER_BYTES));
    sealed
}

fn finish(builder: &mut BatchBuilder, codec: Codec) -> SealedBatch {
    let (sealed, error) = builder.finish(codec, None);
    assert_eq!(error, None);
    sealed
}

fn read(batch: &Bytes) -> Vec<Sample> {
    let records = records(batch, 1 << 30).unwrap().map(|record| record.unwrap());
    let samples = records.enumerate().map(|(n, record)| {
        assert_eq!(record.offset_delta as usize, n);
        Sample {
            timestamp: record.timestamp,
            key: record.key.map(Vec::from),
            value: record.value.map(Vec::from),
            headers: record.headers.into_iter().map(|(name, value)| (name.into(), value.map(Vec::from))).collect(),
        }
    });
    samples.collect()
}

fn same(a: &[Sample], b: &[Sample]) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

/// Whether the crate can hold these records: header names in UTF-8, none of them twice.
fn distinct_names(samples: &[Sample]) -> Vec<Sample> {
    let mut samples = samples.to_vec();
    for sample in &mut samples {
        for (n, (name, _)) in sample.headers.iter_mut().enumerate() {
            *name = format!("{n}-{}", name.len()).into_bytes();
        }
    }
    samples
}

fn crate_record(n: usize, sample: &Sample) -> CrateRecord {
    let headers: IndexMap<StrBytes, Option<Bytes>> = sample
        .headers
        .iter()
        .map(|(name, value)| {
            let name = StrBytes::from_string(String::from_utf8(name.clone()).unwrap());
            (name, value.clone().map(Bytes::from))
        })
        .collect();
    CrateRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: STAMP.lane.producer_id,
        producer_epoch: STAMP.lane.epoch,
        timestamp_type: TimestampType::Creation,
        offset: n as i64,
        sequence: STAMP.base_sequence + n as i32,
        timestamp: sample.timestamp,
        key: sample.key.clone().map(Bytes::from),
        value: sample.value.clone().map(Bytes::from),
        headers,
    }
}

#[track_caller]
fn assert_crate_reads(batch: &Bytes, samples: &[Sample]) {
    let decoded = RecordBatchDecoder::decode(&mut batch.clone()).unwrap();
    assert_eq!(decoded.records.len(), samples.len());
    for (n, (got, sample)) in decoded.records.iter().zip(samples).enumerate() {
        let expected = crate_record(n, sample);
        assert_eq!((got.offset, got.timestamp, got.sequence), (expected.offset, expected.timestamp, expected.sequence));
        assert_eq!((&got.key, &got.value, &got.headers), (&expected.key, &expected.value, &expected.headers));
        assert_eq!((got.producer_id, got.producer_epoch), (expected.producer_id, expected.producer_epoch));
    }
}

proptest! {
    #[test]
    fn records_come_back_as_they_went_in_duplicate_headers_included(samples in samples(), codec in compressed::codec()) {
        let mut builder = BatchBuilder::new();
        // Twice, for what a builder keeps from one batch to the next.
        for _ in 0..2 {
            let sealed = batch(&mut builder, &samples, codec);
            prop_assert_eq!(sealed.count() as usize, samples.len());
            prop_assert_eq!(sealed.base_timestamp(), samples[0].timestamp);
            prop_assert_eq!(Some(sealed.max_timestamp()), samples.iter().map(|s| s.timestamp).max());
            let len = sealed.len_bytes();
            let bytes = sealed.stamp(STAMP);
            prop_assert_eq!(bytes.len(), len);
            let header = parse_header(&bytes).unwrap();
            prop_assert_eq!(header.size_bytes(), len);
            prop_assert_eq!(header.stamp(), Some(STAMP));
            prop_assert_eq!(header.last_offset_delta as usize, samples.len() - 1);
            prop_assert_eq!(header.count as usize, samples.len());
            prop_assert!(same(&read(&bytes), &samples));
        }
    }

    #[test]
    fn kafka_protocol_reads_the_same_records(samples in samples().prop_map(|s| distinct_names(&s))) {
        // The crate's decoder overflows on deltas that wrap around, ours wraps back.
        prop_assume!(samples.iter().all(|s| s.timestamp.checked_sub(samples[0].timestamp).is_some()));
        let bytes = batch(&mut BatchBuilder::new(), &samples, Codec::None).stamp(STAMP);
        assert_crate_reads(&bytes, &samples);
    }

    #[test]
    fn a_batch_is_byte_for_byte_what_kafka_protocol_writes(samples in samples().prop_map(|s| distinct_names(&s))) {
        // The crate takes the smallest timestamp for the base, Kafka and we take the first, so: make the first the smallest.
        let mut samples = samples;
        let least = samples.iter().map(|s| s.timestamp).min().unwrap();
        samples[0].timestamp = least;
        prop_assume!(samples.iter().all(|s| s.timestamp.checked_sub(least).is_some()));
        let ours = batch(&mut BatchBuilder::new(), &samples, Codec::None).stamp(STAMP);
        let mut theirs = BytesMut::new();
        let records: Vec<CrateRecord> = samples.iter().enumerate().map(|(n, s)| crate_record(n, s)).collect();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut theirs, &records, &options).unwrap();
        prop_assert_eq!(ours, theirs.freeze());
    }

    #[test]
    fn a_batch_read_and_built_again_is_the_same(samples in samples()) {
        let bytes = batch(&mut BatchBuilder::new(), &samples, Codec::None).stamp(STAMP);
        let mut builder = BatchBuilder::new();
        for record in records(&bytes, 1 << 30).unwrap() {
            let record = record.unwrap();
            builder.append(record.timestamp, &record.suffix);
        }
        prop_assert_eq!(finish(&mut builder, Codec::None).stamp(STAMP), bytes);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_header(&bytes);
        if let Ok(records) = records(&Bytes::from(bytes), 1000) {
            prop_assert!(records.count() < 1000);
        }
    }

    #[test]
    fn a_damaged_batch_is_refused(samples in prop::collection::vec(sample(), 1..4), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut bytes = batch(&mut BatchBuilder::new(), &samples, Codec::None).stamp(STAMP).to_vec();
        // The CRC does not cover base offset and leader epoch, which the broker sets.
        let at = at.index(bytes.len());
        prop_assume!(!(0..8).contains(&at) && !(12..16).contains(&at));
        bytes[at] ^= flip;
        prop_assert!(parse_header(&bytes).is_err());
    }

    #[test]
    fn records_that_lie_under_a_right_crc_are_read_or_refused(
        samples in prop::collection::vec(sample(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        count in prop_oneof![Just(None), Just(Some(i32::MAX)), any::<i32>().prop_map(Some)],
    ) {
        let mut bytes = batch(&mut BatchBuilder::new(), &samples, Codec::None).stamp(STAMP).to_vec();
        let section = bytes.len() - HEADER_BYTES;
        for (at, to) in changes {
            bytes[HEADER_BYTES + at.index(section)] = to;
        }
        if let Some(count) = count {
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
        }
        let bytes = SealedBatch::reopen(&bytes.into()).stamp(STAMP);
        if let Ok(records) = records(&bytes, 1 << 20) {
            let mut failed = false;
            for record in records {
                prop_assert!(!failed, "nothing comes after an error");
                failed = record.is_err();
            }
        }
    }

    #[test]
    fn another_stamp_changes_the_lane_and_nothing_else(samples in prop::collection::vec(sample(), 1..4), producer_id in 0..i64::MAX, epoch in 0..i16::MAX, base_sequence in 0..i32::MAX) {
        let stamp = Stamp { lane: Lane { producer_id, epoch }, base_sequence };
        let sealed = batch(&mut BatchBuilder::new(), &samples, Codec::None);
        let direct = sealed.clone().stamp(stamp);
        let again = SealedBatch::reopen(&sealed.clone().stamp(STAMP));
        prop_assert_eq!((again.count(), again.max_timestamp()), (sealed.count(), sealed.max_timestamp()));
        prop_assert_eq!(again.stamp(stamp), direct);
    }

    #[test]
    fn sequences_wrap_as_javas_do(base in prop_oneof![0..i32::MAX, i32::MAX - 3..=i32::MAX], count in 1..1000_u32) {
        let java = if base > i32::MAX - count as i32 { count as i32 - (i32::MAX - base) - 1 } else { base + count as i32 };
        prop_assert_eq!(next_sequence(base, count), java);
        prop_assert_eq!(next_sequence(last_sequence(base, count), 1), java);
    }
}

#[test]
fn an_unstamped_batch_belongs_to_nobody() {
    let sealed = from_opaque(Codec::Zstd, 3, 5, 7, b"opaque");
    assert_eq!((sealed.count(), sealed.base_timestamp(), sealed.max_timestamp()), (3, 5, 7));
    assert!(sealed.bytes[43..57].iter().all(|byte| *byte == 0xff));
    let header = parse_header(&sealed.stamp(STAMP)).unwrap();
    assert_eq!(header.codec(), Ok(Codec::Zstd));
    assert_eq!((header.base_offset, header.partition_leader_epoch, header.last_offset_delta), (0, -1, 2));
}

#[test]
fn a_small_batch_does_not_hold_a_large_buffer() {
    let mut builder = BatchBuilder::new();
    builder.append(1, &[0; 500_000]);
    finish(&mut builder, Codec::None);
    builder.append(1, &[0; 100]);
    let sealed = finish(&mut builder, Codec::None);
    assert!(sealed.bytes.capacity() <= 2 * sealed.len_bytes());
    builder.append(1, &[0; 5_000_000]);
    finish(&mut builder, Codec::Zstd);
    assert!(builder.capacity_bytes() <= BUFFER_KEPT_BYTES);
}

#[test]
fn offset_deltas_of_three_bytes_are_read_back() {
    let mut builder = BatchBuilder::new();
    let suffix = [1, 1, 0];
    for n in 0..9000 {
        builder.append(n, &suffix);
    }
    let bytes = finish(&mut builder, Codec::None).stamp(STAMP);
    for (n, record) in records(&bytes, 1 << 20).unwrap().enumerate() {
        let record = record.unwrap();
        assert_eq!((record.offset_delta as usize, record.timestamp as usize), (n, n));
        assert_eq!(&record.suffix[..], suffix);
    }
}

#[test]
fn an_empty_batch_is_a_header() {
    let sealed = finish(&mut BatchBuilder::new(), Codec::Zstd);
    assert!(sealed.is_empty());
    let bytes = sealed.stamp(STAMP);
    assert_eq!(bytes.len(), HEADER_BYTES);
    assert_eq!(records(&bytes, 0).unwrap().count(), 0);
}
