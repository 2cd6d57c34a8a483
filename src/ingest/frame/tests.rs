use std::time::Duration;

use proptest::prelude::*;

use super::answer::*;
use super::dory::encode_dory;
use super::error::Refusal;
use super::produce::{Acks, ProduceEncoder, ProduceHead};
use super::query::{encode_metadata_request, encode_versions_request};
use super::*;
use crate::queue::receipt::RecordResult;
use crate::record::{Header, Record};
use crate::wire::codes;

mod examples;

const LIMITS: Limits = Limits { max_frame_size: 1 << 20, max_records_per_request: 50 };
const NOW: i64 = 1_800_000_000_000;
const PROTOCOL: &str = include_str!("../../../docs/protocol.md");

/// The bytes of one of the annotated dumps in docs/protocol.md.
fn documented(name: &str) -> Vec<u8> {
    let (_, rest) = PROTOCOL.split_once(&format!("<!-- bytes: {name} -->\n```text\n")).unwrap();
    let (dump, _) = rest.split_once("```").unwrap();
    let mut bytes = vec![];
    for line in dump.lines() {
        let (at, rest) = line.split_once("  ").unwrap();
        assert_eq!(usize::from_str_radix(at, 16).unwrap(), bytes.len(), "{line}");
        let (hex, _) = rest.split_once("  ").unwrap();
        bytes.extend(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    bytes
}

fn frame<'a>(bytes: &'a [u8]) -> Request<'a> {
    match next_request(bytes, &LIMITS) {
        Decoded::Frame { frame, len } if len == bytes.len() => frame,
        other => panic!("not one whole frame: {other:?}"),
    }
}

fn malformed(bytes: &[u8]) -> Malformed {
    match next_request(bytes, &LIMITS) {
        Decoded::Malformed(malformed) => malformed,
        other => panic!("not malformed: {other:?}"),
    }
}

fn refused(bytes: &[u8]) -> Refused {
    match frame(bytes) {
        Request::Refused(refused) => refused,
        other => panic!("not refused: {other:?}"),
    }
}

fn answer(bytes: &[u8]) -> Answer<'_> {
    match next_answer(bytes, usize::MAX) {
        Decoded::Frame { frame, len } if len == bytes.len() => frame,
        other => panic!("not one whole answer: {other:?}"),
    }
}

/// Overwrites what stands at `at`.
fn patched(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// Cuts or pads the frame and says so in its Size.
fn resized(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(len, 0);
    patched(&bytes, 0, &(len as i32).to_be_bytes())
}

#[derive(Clone, Debug)]
struct Owned {
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect()
    }

    fn record<'a>(&'a self, headers: &'a [Header<'a>]) -> Record<'a> {
        Record {
            timestamp: self.timestamp.unwrap_or(NOW),
            stamped_here: self.timestamp.is_none(),
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        }
    }
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..20)
}

fn owned() -> impl Strategy<Value = Owned> {
    let headers = prop::collection::vec((blob(), prop::option::of(blob())), 0..4);
    (prop::option::of(0..i64::MAX), prop::option::of(blob()), prop::option::of(blob()), headers)
        .prop_map(|(timestamp, key, value, headers)| Owned { timestamp, key, value, headers })
}

fn head(topic: &str) -> ProduceHead<'_> {
    ProduceHead { correlation_id: 1, acks: Acks::All, timeout: None, topic, partition: None }
}

fn produce(head: &ProduceHead<'_>, records: &[Owned]) -> Vec<u8> {
    let mut out = vec![];
    let mut encoder = ProduceEncoder::begin(&mut out, head).unwrap();
    for record in records {
        encoder.push(&record.record(&record.headers())).unwrap();
    }
    encoder.finish().unwrap();
    out
}

fn hi() -> Owned {
    Owned { timestamp: None, key: None, value: Some(b"hi".to_vec()), headers: vec![] }
}

/// Every kind of request, as bytes.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let topic = "[a-zA-Z0-9_-]{1,20}";
    prop_oneof![
        (topic, any::<Option<u32>>(), any::<i64>(), blob(), blob()).prop_map(
            |(topic, partition_key, time, key, value)| {
                let mut out = vec![];
                encode_dory(&mut out, &topic, partition_key, time, &key, &value).unwrap();
                out
            }
        ),
        (topic, prop::collection::vec(owned(), 0..5)).prop_map(|(topic, records)| produce(&head(&topic), &records)),
        (any::<i32>(), prop::collection::vec(".{0,10}", 0..5)).prop_map(|(id, names)| {
            let mut out = vec![];
            encode_metadata_request(&mut out, id, &names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            out
        }),
        any::<i32>().prop_map(|id| {
            let mut out = vec![];
            encode_versions_request(&mut out, id);
            out
        }),
    ]
}

/// Walks all that was decoded, as a connection would.
fn consume(decoded: &Decoded<Request<'_>>) {
    match decoded {
        Decoded::Frame { frame: Request::Produce(produce), .. } => {
            let mut headers = vec![];
            let mut records = produce.records(NOW);
            let mut count = 0;
            while records.next_record(&mut headers).is_some() {
                count += 1;
            }
            assert_eq!(count, produce.record_count);
        }
        Decoded::Frame { frame: Request::Metadata(metadata), .. } => {
            assert_eq!(metadata.names().count(), metadata.topic_count as usize);
        }
        Decoded::Frame { frame: Request::Dory(message), .. } => {
            message.record(NOW);
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn a_dory_message_comes_out_as_it_went_in(
        topic in "[a-zA-Z0-9_-]{1,249}", partition_key in any::<Option<u32>>(), time in any::<i64>(), key in blob(), value in blob(),
    ) {
        let mut bytes = vec![];
        encode_dory(&mut bytes, &topic, partition_key, time, &key, &value).unwrap();
        let Request::Dory(message) = frame(&bytes) else { panic!("not a message of Dory's") };
        prop_assert_eq!(message.topic.as_str(), topic);
        prop_assert_eq!(message.partition_key, partition_key);
        let record = message.record(NOW);
        prop_assert_eq!(record.timestamp, if time < 0 { NOW } else { time });
        prop_assert_eq!(record.stamped_here, time < 0);
        prop_assert_eq!(record.key, Some(&key[..]).filter(|key| !key.is_empty()));
        prop_assert_eq!(record.value, Some(&value[..]).filter(|value| !value.is_empty()));
        prop_assert_eq!(datagram(&bytes, &LIMITS), Ok(Request::Dory(message)));
    }

    #[test]
    fn a_produce_request_comes_out_as_it_went_in(
        topic in "[a-zA-Z0-9_-]{1,249}", correlation_id in any::<i32>(), all in any::<bool>(),
        timeout in prop::option::of(0..i32::MAX), partition in prop::option::of(0..i32::MAX),
        sent in prop::collection::vec(owned(), 1..50),
    ) {
        let timeout = timeout.map(|ms| Duration::from_millis(ms as u64));
        let acks = if all { Acks::All } else { Acks::None };
        let bytes = produce(&ProduceHead { correlation_id, acks, timeout, topic: &topic, partition }, &sent);
        let Request::Produce(request) = frame(&bytes) else { panic!("not a produce request") };
        prop_assert_eq!(request.topic.as_str(), topic);
        prop_assert_eq!((request.correlation_id, request.acks, request.timeout, request.partition), (correlation_id, acks, timeout, partition));
        prop_assert_eq!(request.record_count as usize, sent.len());
        let mut records = request.records(NOW);
        let mut headers = vec![];
        for sent in &sent {
            let expected = sent.headers();
            prop_assert_eq!(records.next_record(&mut headers), Some(sent.record(&expected)));
        }
        prop_assert_eq!(records.next_record(&mut headers), None);
    }

    #[test]
    fn a_metadata_request_comes_out_as_it_went_in(id in any::<i32>(), names in prop::collection::vec(".{0,10}", 0..50)) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut bytes = vec![];
        encode_metadata_request(&mut bytes, id, &names).unwrap();
        let Request::Metadata(request) = frame(&bytes) else { panic!("not a metadata request") };
        prop_assert_eq!(request.correlation_id, id);
        prop_assert!(request.names().eq(names.iter().map(|name| name.as_bytes())));
    }

    #[test]
    fn a_produce_answer_comes_out_as_it_went_in(
        id in any::<i32>(), failure in any::<Option<(i16, String)>>(), sent in prop::collection::vec(any::<(i16, i32, i64)>(), 0..20),
    ) {
        let sent: Vec<_> = sent.into_iter().map(|(error_code, partition, offset)| RecordResult { error_code, partition, offset }).collect();
        let mut bytes = vec![];
        let failure = failure.as_ref().map(|(error_code, reason)| (*error_code, reason.as_str()));
        encode_produce_answer(&mut bytes, id, failure, &sent).unwrap();
        let answer = answer(&bytes);
        prop_assert_eq!((answer.api_key, answer.api_version, answer.correlation_id), (PRODUCE, 0, id));
        prop_assert_eq!((answer.error_code, answer.message), failure.map_or((codes::NONE, None), |(code, reason)| (code, Some(reason))));
        let AnswerBody::Produce(results) = answer.body else { panic!("not a produce answer") };
        prop_assert!(results.iter().eq(sent));
    }

    #[test]
    fn a_metadata_answer_comes_out_as_it_went_in(
        id in any::<i32>(), topics in prop::collection::vec((any::<i16>(), blob(), prop::collection::vec(any::<(i16, i32)>(), 0..5)), 0..5),
    ) {
        let topics: Vec<_> = topics.iter().map(|(error, name, partitions)| TopicMetadata {
            error_code: *error,
            name,
            partitions: partitions.iter().map(|(error, id)| PartitionMetadata { error_code: *error, id: *id }).collect(),
        }).collect();
        let mut bytes = vec![];
        let mut encoder = MetadataAnswer::begin(&mut bytes, id);
        for topic in &topics {
            encoder.topic(topic.error_code, topic.name, topic.partitions.iter().copied()).unwrap();
        }
        encoder.finish().unwrap();
        let answer = answer(&bytes);
        prop_assert_eq!((answer.api_key, answer.correlation_id, answer.error_code), (METADATA, id, codes::NONE));
        prop_assert_eq!(answer.body, AnswerBody::Metadata(topics));
    }

    #[test]
    fn an_error_answer_comes_out_as_it_went_in(key in any::<i16>(), version in any::<i16>(), id in any::<i32>(), error in 1..i16::MAX, text in any::<String>()) {
        let mut bytes = vec![];
        encode_error(&mut bytes, key, version, id, error, &text);
        prop_assert_eq!(answer(&bytes), Answer {
            api_key: key, api_version: version, correlation_id: id, error_code: error, message: Some(&text), body: AnswerBody::Empty,
        });
    }

    #[test]
    fn frames_behind_one_another_come_out_one_by_one(requests in prop::collection::vec(request(), 0..5), cut in any::<prop::sample::Index>()) {
        let all = requests.concat();
        let mut rest = &all[..cut.index(all.len() + 1)];
        let mut lens = vec![];
        loop {
            match next_request(rest, &LIMITS) {
                Decoded::Frame { len, .. } => {
                    lens.push(len);
                    rest = &rest[len..];
                }
                Decoded::NeedMore { bytes } => {
                    prop_assert!(bytes > rest.len() && bytes <= requests.get(lens.len()).map_or(4, Vec::len));
                    break;
                }
                Decoded::Malformed(malformed) => panic!("{malformed}"),
            }
        }
        prop_assert!(lens.iter().copied().eq(requests.iter().map(Vec::len).take(lens.len())));
    }

    #[test]
    fn a_frame_that_says_it_is_shorter_or_longer_is_malformed(bytes in request(), len in 8..200usize) {
        prop_assume!(len != bytes.len());
        prop_assert!(matches!(next_request(&resized(&bytes, len), &LIMITS), Decoded::Malformed(_)));
    }

    #[test]
    fn a_request_with_wrong_bytes_never_panics(bytes in request(), at in any::<prop::sample::Index>(), with in prop::collection::vec(any::<u8>(), 1..9)) {
        let at = at.index(bytes.len());
        let with = &with[..with.len().min(bytes.len() - at)];
        let bytes = patched(&bytes, at, with);
        consume(&next_request(&bytes, &LIMITS));
        let _ = datagram(&bytes, &LIMITS);
    }

    #[test]
    fn random_bytes_never_panic(key in 256..260i16, own in any::<bool>(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        consume(&next_request(&body, &LIMITS));
        let _ = next_answer(&body, 1 << 20);
        let mut bytes = vec![0; 8];
        bytes.extend(&body);
        let bytes = resized(&patched(&bytes, 4, &(if own { key + 256 } else { key }).to_be_bytes()), body.len() + 8);
        consume(&next_request(&bytes, &LIMITS));
        let _ = datagram(&bytes, &LIMITS);
        let _ = next_answer(&bytes, 1 << 20);
    }

    #[test]
    fn an_answer_with_wrong_bytes_never_panics(at in any::<prop::sample::Index>(), with in prop::collection::vec(any::<u8>(), 1..9), kind in 0..3) {
        let mut bytes = vec![];
        match kind {
            0 => encode_versions_answer(&mut bytes, 1, &LIMITS),
            1 => encode_produce_answer(&mut bytes, 1, None, &[RecordResult { error_code: codes::NONE, partition: 1, offset: 2 }; 3]).unwrap(),
            _ => {
                let mut topics = MetadataAnswer::begin(&mut bytes, 1);
                topics.topic(codes::NONE, b"t", [PartitionMetadata { error_code: codes::NONE, id: 0 }; 3].into_iter()).unwrap();
                topics.finish().unwrap();
            }
        }
        for len in 0..bytes.len() {
            assert!(matches!(next_answer(&bytes[..len], 1000), Decoded::NeedMore { bytes: more } if more > len));
            if len >= HEADER_BYTES {
                assert!(matches!(next_answer(&resized(&bytes, len), 1000), Decoded::Malformed(_)));
            }
        }
        let at = at.index(bytes.len());
        let with = &with[..with.len().min(bytes.len() - at)];
        let _ = next_answer(&patched(&bytes, at, with), 1 << 20);
    }
}
