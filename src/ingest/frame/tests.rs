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

#[test]
fn dorys_layout_is_kept_byte_for_byte() {
    let any = b"\0\0\0\x23\x01\0\0\0\0\0\0\x01t\0\0\0\0\0\0\0\x05\0\0\0\x02kk\0\0\0\x04vvvv";
    let Request::Dory(message) = frame(any) else { panic!("not a message of Dory's") };
    assert_eq!((message.topic.as_str(), message.partition_key), ("t", None));
    let record = Record { timestamp: 5, stamped_here: false, key: Some(b"kk"), value: Some(b"vvvv"), headers: &[] };
    assert_eq!(message.record(NOW), record);

    let keyed = b"\0\0\0\x21\x01\x01\0\0\0\0\xff\xff\xff\xfe\0\x01t\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0";
    let Request::Dory(message) = frame(keyed) else { panic!("not a message of Dory's") };
    assert_eq!(message.partition_key, Some(u32::MAX - 1));
    assert_eq!(message.record(NOW), Record { key: None, value: None, ..record });

    let mut written = vec![];
    encode_dory(&mut written, "t", None, 5, b"kk", b"vvvv").unwrap();
    encode_dory(&mut written, "t", Some(u32::MAX - 1), 5, b"", b"").unwrap();
    assert_eq!(written, [&any[..], keyed].concat());
}

#[test]
fn the_bytes_in_the_documentation_are_those_that_are_written() {
    assert_eq!(produce(&head("logs"), &[hi()]), documented("produce request"));
    let mut bytes = vec![];
    let result = RecordResult { error_code: codes::NONE, partition: 3, offset: 1000 };
    encode_produce_answer(&mut bytes, 1, None, &[result]).unwrap();
    assert_eq!(bytes, documented("produce answer"));
    bytes.clear();
    encode_dory(&mut bytes, "logs", Some(7), 1_700_000_000_000, b"", b"hi").unwrap();
    assert_eq!(bytes, documented("dory message"));
}

#[test]
fn a_versions_answer_says_what_is_served_and_the_limits() {
    let mut bytes = vec![];
    encode_versions_request(&mut bytes, 9);
    assert_eq!(frame(&bytes), Request::Versions(VersionsRequest { correlation_id: 9 }));
    bytes.clear();
    encode_versions_answer(&mut bytes, 9, &LIMITS);
    let keys = SERVED.to_vec();
    let body = AnswerBody::Versions { keys, max_frame_size: 1 << 20, max_records_per_request: 50 };
    let answer = answer(&bytes);
    assert_eq!((answer.correlation_id, answer.error_code, answer.body), (9, codes::NONE, body));
    for key in SERVED {
        let bytes = resized(&patched(&[0; 8], 4, &key.api_key.to_be_bytes()), 8);
        assert_eq!(malformed(&bytes).fault.error_code(), codes::INVALID_REQUEST, "{key:?} is not served");
    }
}

#[test]
fn a_malformed_request_says_what_and_where() {
    let good = documented("produce request");
    let dory = documented("dory message");
    for (bytes, code, message) in [
        (patched(&good, 0, &[0, 0, 0, 7]), 42, "Size is 7, but it counts the 8 bytes of the header too"),
        (patched(&good, 0, &[0xff; 4]), 42, "Size is -1, but it counts the 8 bytes of the header too"),
        (patched(&good, 4, &[2, 9]), 35, "ApiKey 521 is unknown: 256, 257, 512, 513 and 514 are served"),
        (patched(&good, 6, &[0, 3]), 35, "ApiKey 512 is served in version 0 alone, not in 3"),
        (patched(&good, 0x12, &[0xff, 0xfe]), 42, "the size of Source is -2"),
        (patched(&good, 0x1c, &[0xff, 0xff]), 42, "the size of Topic is -1"),
        (patched(&good, 0x26, &[0xff; 4]), 42, "the size of RecordCount is -1"),
        (patched(&good, 0x26, &[0x7f, 0, 0, 0]), 42, "record 1: the frame ends within Timestamp"),
        (patched(&good, 0x26, &[0; 4]), 42, "20 bytes follow the last field"),
        (patched(&good, 0x32, &[0xff, 0, 0, 0]), 42, "record 0: the size of Key is -16777216"),
        (patched(&good, 0x36, &[0, 1, 0, 0]), 42, "record 0: the frame ends within Value"),
        (patched(&good, 0x3c, &[0xff, 0xff]), 42, "record 0: the size of HeaderCount is -1"),
        (patched(&good, 0x3c, &[0, 1]), 42, "record 0: the frame ends within a header's Name"),
        (resized(&good, good.len() + 3), 42, "3 bytes follow the last field"),
        (resized(&good, 11), 42, "the frame ends within CorrelationId"),
        (patched(&dory, 6, &[0, 1]), 35, "ApiKey 257 is served in version 0 alone, not in 1"),
        (patched(&dory, 8, &[0, 1]), 42, "Flags is 1, and must be 0"),
        (patched(&dory, 0xe, &[0, 0]), 42, "the size of Topic is 0"),
        (patched(&dory, 0xe, &[0x80, 0]), 42, "the size of Topic is -32768"),
        (patched(&dory, 0x1c, &[0xff; 4]), 42, "the size of Key is -1"),
        (patched(&dory, 0x20, &[0xff; 4]), 42, "the size of Value is -1"),
        (patched(&dory, 0x20, &[0, 0, 0, 1]), 42, "1 bytes follow the last field"),
    ] {
        let malformed = malformed(&bytes);
        assert_eq!((malformed.fault.error_code(), malformed.to_string().as_str()), (code, message));
    }
}

#[test]
fn a_frame_over_the_limit_is_told_before_its_body_is_sent() {
    let over = patched(&documented("produce request"), 0, &(LIMITS.max_frame_size as i32 + 1).to_be_bytes());
    let at_limit = patched(&over, 0, &(LIMITS.max_frame_size as i32).to_be_bytes());
    assert_eq!(next_request(&at_limit, &LIMITS), Decoded::NeedMore { bytes: LIMITS.max_frame_size });
    assert_eq!(next_request(&over[..11], &LIMITS), Decoded::NeedMore { bytes: 12 });
    let malformed = malformed(&over[..12]);
    assert_eq!(malformed.fault.error_code(), codes::MESSAGE_TOO_LARGE);
    assert_eq!(malformed.correlation_id, 1);
}

#[test]
fn the_last_answer_carries_what_could_be_read_of_the_request() {
    let good = documented("produce request");
    let dory = documented("dory message");
    for (bytes, key, version, id) in [
        (patched(&good, 0x26, &[0; 4]), 512, 0, 1),
        (patched(&good, 6, &[0, 3]), 512, 3, 1),
        (patched(&good, 4, &[9, 9]), 0x0909, 0, 1),
        (patched(&good, 4, &[0, 3]), 3, 0, -1),
        (patched(&dory, 8, &[0, 1]), 257, 0, -1),
        (resized(&good, 11), 512, 0, -1),
        (vec![0, 0, 0, 1], -1, -1, -1),
        // The bytes at CorrelationId's place belong to the next frame.
        ([&resized(&good, 8)[..], &good].concat(), 512, 0, -1),
    ] {
        let malformed = malformed(&bytes);
        let mut out = vec![];
        malformed.encode_answer(&mut out);
        let answer = answer(&out);
        assert_eq!((answer.api_key, answer.api_version, answer.correlation_id), (key, version, id), "{malformed}");
        assert_eq!((answer.error_code, answer.body), (malformed.fault.error_code(), AnswerBody::Empty));
        assert_eq!(answer.message, Some(malformed.to_string().as_str()));
    }
}

#[test]
fn what_is_refused_is_answered_and_the_connection_goes_on() {
    let good = documented("produce request");
    let none = produce(&head("logs"), &[]);
    let with_source = resized(&[&patched(&good, 0x12, &[0, 0])[..0x14], &good[0x14..]].concat(), good.len());
    for (bytes, code, records) in [
        (produce(&head("lo gs"), &[hi()]), 17, 1),
        (produce(&head(""), &[hi(), hi()]), 17, 2),
        (produce(&head(&"x".repeat(250)), &[hi()]), 17, 1),
        (patched(&good, 0xc, &[0, 1]), 21, 1),
        (patched(&good, 0xc, &[0, 2]), 21, 1),
        (with_source, 42, 1),
        (none, 42, 0),
        (patched(&good, 0xe, &[0xff, 0xff, 0xff, 0xfe]), 42, 1),
        (patched(&good, 0x22, &[0xff, 0xff, 0xff, 0xfe]), 42, 1),
        (patched(&good, 0x2a, &(-2i64).to_be_bytes()), 32, 1),
        (produce(&head("logs"), &vec![hi(); 51]), 18, 51),
    ] {
        let refused = refused(&bytes);
        assert_eq!((refused.refusal.error_code(), refused.records), (code, records), "{}", refused.refusal);
        let mut out = vec![];
        refused.encode_answer(&mut out);
        let answer = answer(&out);
        assert_eq!((answer.api_key, answer.api_version, answer.correlation_id), (PRODUCE, 0, 1));
        assert_eq!((answer.error_code, answer.body), (code, AnswerBody::Empty));
        assert_eq!(answer.message, Some(refused.refusal.to_string().as_str()));
    }
    let mut bytes = vec![];
    encode_metadata_request(&mut bytes, 7, &["t"; 51]).unwrap();
    assert_eq!(refused(&bytes).refusal, Refusal::TooMany { count: 51, limit: 50 });
}

#[test]
fn acks_1_is_refused_with_words_about_the_missing_backlog() {
    let refused = refused(&patched(&documented("produce request"), 0xc, &[0, 1]));
    assert_eq!(refused.refusal.error_code(), codes::INVALID_REQUIRED_ACKS);
    assert!(refused.refusal.to_string().contains("no backlog yet"), "{}", refused.refusal);
}

#[test]
fn who_expects_no_answer_gets_none_when_refused() {
    let acks_none = ProduceHead { acks: Acks::None, ..head("..") };
    let mut dory = vec![];
    encode_dory(&mut dory, "lo gs", None, 0, b"", b"").unwrap();
    for bytes in [produce(&acks_none, &[hi()]), dory] {
        let refused = refused(&bytes);
        assert_eq!((refused.refusal, refused.records), (Refusal::InvalidTopic, 1));
        let mut out = vec![];
        refused.encode_answer(&mut out);
        assert!(out.is_empty());
    }
}

#[test]
fn a_datagram_is_exactly_one_message_of_dorys() {
    let dory = documented("dory message");
    assert!(matches!(datagram(&dory, &LIMITS), Ok(Request::Dory(_))));
    let fault = |bytes: &[u8]| datagram(bytes, &LIMITS).unwrap_err().fault;
    assert_eq!(fault(&[]), Fault::Truncated { field: "the header" });
    assert_eq!(fault(&dory[..37]), Fault::DatagramSize { size: 38, len: 37 });
    assert_eq!(fault(&[&dory[..], &dory].concat()), Fault::DatagramSize { size: 38, len: 76 });
    assert_eq!(fault(&patched(&dory, 8, &[0, 1])), Fault::Flags(1));
    assert_eq!(fault(&documented("produce request")), Fault::NotForDatagrams(512));
    let small = Limits { max_frame_size: 37, ..LIMITS };
    assert_eq!(datagram(&dory, &small).unwrap_err().fault, Fault::FrameTooLarge { size: 38, limit: 37 });
}

#[test]
fn what_does_not_fit_leaves_nothing_behind() {
    let mut out = b"before".to_vec();
    let long = "x".repeat(i16::MAX as usize + 1);
    assert!(encode_dory(&mut out, &long, None, 0, b"", b"").is_err());
    assert!(encode_metadata_request(&mut out, 1, &[&long]).is_err());
    assert!(ProduceEncoder::begin(&mut out, &head(&long)).is_err());
    drop(ProduceEncoder::begin(&mut out, &head("t")).unwrap());
    assert_eq!(out, b"before");

    let mut encoder = ProduceEncoder::begin(&mut out, &head("logs")).unwrap();
    let headers = [Header { name: long.as_bytes(), value: None }];
    assert!(encoder.push(&hi().record(&headers)).is_err());
    encoder.push(&hi().record(&[])).unwrap();
    encoder.finish().unwrap();
    assert_eq!(out, [b"before", &documented("produce request")[..]].concat());
}

#[test]
fn the_end_of_a_long_error_message_is_cut_between_characters() {
    let mut out = vec![];
    encode_error(&mut out, 512, 0, 1, codes::INVALID_REQUEST, &"é".repeat(20_000));
    assert_eq!(answer(&out).message, Some("é".repeat(16_383).as_str()));
}
