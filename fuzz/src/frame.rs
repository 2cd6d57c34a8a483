//! Target `frame`: what local clients send on a stream or in a datagram, and what they read.
//!
//! Input: a byte of options (bits 0–2: how many cuts, bit 3: small limits), the sizes of the pieces in which the bytes come,
//! and the bytes, which are read as a client's stream, as one datagram and as a daemon's stream.
//!
//! Beyond that nothing panics: what is found does not depend on where the bytes are cut; what is asked for is needed; a
//! request is decoded without a single allocation, and an answer within a multiple of its length; what was decoded is encoded
//! to the bytes that it came from; and every refusal can be read by the client that it is for.

use std::fmt::Debug;
use std::time::Duration;

use allocation_counter::measure;
use forebay::ingest::frame::answer::{self, Answer, AnswerBody, MetadataAnswer, next_answer};
use forebay::ingest::frame::dory::{DoryMessage, encode_dory};
use forebay::ingest::frame::error::Malformed;
use forebay::ingest::frame::produce::{ProduceEncoder, ProduceHead, ProduceRequest};
use forebay::ingest::frame::query::{encode_metadata_request, encode_versions_request};
use forebay::ingest::frame::{self, Decoded, Limits, METADATA, PRODUCE, Request, SERVED, next_request};
use forebay::queue::receipt::RecordResult;

/// Limits that a fuzzer's inputs never reach, and some that they do.
const LARGE: Limits = Limits { max_frame_size: 1 << 20, max_records_per_request: 1000 };
const SMALL: Limits = Limits { max_frame_size: 64, max_records_per_request: 2 };
/// What any record without a timestamp gets.
const NOW: i64 = 1_800_000_000_000;
/// Where a Produce request has its SourceSequence, when its Source is null: it is read over.
const SOURCE_SEQUENCE: std::ops::Range<usize> = 20..28;
/// A decoded answer takes at most so many times its bytes.
const ANSWER_BYTES_PER_BYTE: u64 = 16;

/// Panics if anything is wrong with how the input is read.
pub fn check(input: &[u8]) {
    let Some((options, rest)) = input.split_first() else { return };
    let Some((pieces, stream)) = rest.split_at_checked(usize::from(options & 7)) else { return };
    let limits = if options & 8 == 0 { LARGE } else { SMALL };

    let requests = decode_whole(stream, |bytes| {
        let mut decoded = None;
        let asked = measure(|| decoded = Some(next_request(bytes, &limits)));
        assert_eq!(asked.count_total, 0, "a request is decoded where it lies");
        decoded.expect("it was just put there")
    });
    decode_in_pieces(stream, pieces, &requests, |bytes| next_request(bytes, &limits));
    for (at, decoded) in &requests {
        let rest = &stream[*at..];
        match decoded {
            Decoded::Frame { frame, len } => check_request(frame, &rest[..*len]),
            Decoded::Malformed(malformed) => check_farewell(malformed),
            Decoded::NeedMore { bytes } => {
                assert!(*bytes <= limits.max_frame_size.max(12), "{bytes} bytes asked for");
                check_farewell(&frame::unfinished(rest, Duration::from_secs(1)));
            }
        }
    }

    check_datagram(stream, &limits, &requests);

    let answers = decode_whole(stream, |bytes| {
        let mut decoded = None;
        let asked = measure(|| decoded = Some(next_answer(bytes, limits.max_frame_size)));
        assert!(asked.bytes_max <= ANSWER_BYTES_PER_BYTE * bytes.len() as u64, "{asked:?} for {}", bytes.len());
        decoded.expect("it was just put there")
    });
    decode_in_pieces(stream, pieces, &answers, |bytes| next_answer(bytes, limits.max_frame_size));
    for (at, decoded) in &answers {
        if let Decoded::Frame { frame, len } = decoded {
            check_answer(frame, &stream[*at..][..*len]);
        }
    }
}

/// All frames of a stream that is there as a whole, each with its place; the last is what stands for the end.
fn decode_whole<'a, T>(stream: &'a [u8], decode: impl Fn(&'a [u8]) -> Decoded<T>) -> Vec<(usize, Decoded<T>)> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let decoded = decode(&stream[at..]);
        match decoded {
            Decoded::Frame { len, .. } => {
                assert!(len >= frame::HEADER_BYTES && len <= stream.len() - at);
                found.push((at, decoded));
                at += len;
            }
            Decoded::NeedMore { bytes } => {
                assert!(bytes > stream.len() - at, "{bytes} bytes are there");
                found.push((at, decoded));
                return found;
            }
            Decoded::Malformed(_) => {
                found.push((at, decoded));
                return found;
            }
        }
    }
}

/// The same stream as it comes from a socket, in `pieces` over and over.
fn decode_in_pieces<'a, T: PartialEq + Debug>(
    stream: &'a [u8],
    pieces: &[u8],
    whole: &[(usize, Decoded<T>)],
    decode: impl Fn(&'a [u8]) -> Decoded<T>,
) {
    let mut expected = whole.iter();
    let (mut at, mut need, mut there) = (0, 0, 0);
    let mut sizes = pieces.iter().map(|size| usize::from(*size) + 1).cycle();
    while there < stream.len() {
        there = stream.len().min(there + sizes.next().unwrap_or(stream.len()));
        loop {
            let decoded = decode(&stream[at..there]);
            if there - at < need {
                assert_eq!(decoded, Decoded::NeedMore { bytes: need }, "less was enough");
                break;
            }
            match &decoded {
                Decoded::NeedMore { bytes } => {
                    assert!(*bytes > there - at);
                    need = *bytes;
                    break;
                }
                Decoded::Frame { len, .. } => {
                    assert_eq!(Some((at, &decoded)), expected.next().map(|(at, whole)| (*at, whole)));
                    at += len;
                    need = 0;
                }
                Decoded::Malformed(_) => {
                    assert_eq!(Some((at, &decoded)), expected.next().map(|(at, whole)| (*at, whole)));
                    return;
                }
            }
        }
    }
    assert!(matches!(expected.next(), Some((last, Decoded::NeedMore { .. })) if *last == at), "a frame was not found");
}

/// What came in is what would be written.
fn check_request(request: &Request<'_>, bytes: &[u8]) {
    match request {
        Request::Dory(message) => check_dory(message, bytes),
        Request::Produce(request) => check_produce(request, bytes),
        Request::Metadata(request) => {
            assert_eq!(request.names().count(), request.topic_count as usize);
            let Ok(names) = request.names().map(str::from_utf8).collect::<Result<Vec<_>, _>>() else { return };
            let mut out = Vec::new();
            encode_metadata_request(&mut out, request.correlation_id, &names).expect("it came in a frame");
            assert_eq!(out, bytes);
        }
        Request::Versions(request) => {
            let mut out = Vec::new();
            encode_versions_request(&mut out, request.correlation_id);
            assert_eq!(out, bytes);
        }
        Request::Refused(refused) => {
            let mut out = Vec::new();
            refused.encode_answer(&mut out);
            match refused.correlation_id {
                None => assert!(out.is_empty()),
                Some(id) => {
                    let told = read_back(&out);
                    assert_eq!((told.api_key, told.correlation_id), (refused.api_key, id));
                    assert_eq!(told.error_code, refused.refusal.error_code());
                }
            }
        }
    }
}

fn check_dory(message: &DoryMessage<'_>, bytes: &[u8]) {
    let record = message.record(NOW);
    let mut out = Vec::new();
    let timestamp = if record.stamped_here { -1 } else { record.timestamp };
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    encode_dory(&mut out, message.topic.as_str(), message.partition_key, timestamp, key, value)
        .expect("it came in a frame");
    if record.stamped_here {
        // A negative timestamp says that there is none, whichever it is.
        let again = whole(next_request(&out, &LARGE), out.len());
        assert!(matches!(again, Request::Dory(again) if again.record(NOW) == record));
        assert_eq!(out.len(), bytes.len());
    } else {
        assert_eq!(out, bytes);
    }
}

fn check_produce(request: &ProduceRequest<'_>, bytes: &[u8]) {
    let ProduceRequest { correlation_id, acks, timeout, partition, .. } = *request;
    let mut out = Vec::new();
    let head = ProduceHead { correlation_id, acks, timeout, topic: request.topic.as_str(), partition };
    let mut encoder = ProduceEncoder::begin(&mut out, &head).expect("it came in a frame");
    let (mut records, mut headers) = (request.records(NOW), Vec::new());
    while let Some(record) = records.next_record(&mut headers) {
        encoder.push(&record).expect("it came in a frame");
    }
    assert_eq!(encoder.count(), request.record_count);
    encoder.finish().expect("it came in a frame");
    out[SOURCE_SEQUENCE].copy_from_slice(&bytes[SOURCE_SEQUENCE]);
    assert_eq!(out, bytes);
}

/// The last words to a client whose stream cannot be read on.
fn check_farewell(malformed: &Malformed) {
    let mut out = Vec::new();
    malformed.encode_answer(&mut out);
    let told = read_back(&out);
    assert_eq!((told.api_key, told.api_version), (malformed.api_key, malformed.api_version));
    assert_eq!((told.correlation_id, told.error_code), (malformed.correlation_id, malformed.fault.error_code()));
    assert!(told.message.is_some_and(|words| !words.is_empty()));
}

/// A datagram is taken if and only if it is one message of Dory's, as on a stream.
fn check_datagram(bytes: &[u8], limits: &Limits, as_stream: &[(usize, Decoded<Request<'_>>)]) {
    let mut taken = None;
    let asked = measure(|| taken = Some(frame::datagram(bytes, limits)));
    assert_eq!(asked.count_total, 0, "a datagram is decoded where it lies");
    let alone = match as_stream {
        [(0, Decoded::Frame { frame, len }), ..] if *len == bytes.len() => match frame {
            Request::Dory(_) => Some(frame),
            Request::Refused(refused) if refused.api_key < PRODUCE => Some(frame),
            _ => None,
        },
        _ => None,
    };
    assert_eq!(taken.expect("it was just put there").ok().as_ref(), alone);
}

fn check_answer(answer: &Answer<'_>, bytes: &[u8]) {
    let Answer { api_key, api_version, correlation_id, error_code, message, ref body } = *answer;
    let mut out = Vec::new();
    match body {
        AnswerBody::Empty => {
            // Errors are written with a message always.
            let Some(message) = message else { return };
            answer::encode_error(&mut out, api_key, api_version, correlation_id, error_code, message);
        }
        AnswerBody::Produce(results) => {
            // Words and an error come together or not at all.
            if message.is_some() != (error_code != 0) {
                return;
            }
            let results: Vec<RecordResult> = results.iter().collect();
            let failure = message.map(|message| (error_code, message));
            answer::encode_produce_answer(&mut out, correlation_id, failure, &results).expect("it came in a frame");
        }
        AnswerBody::Metadata(topics) => {
            if (error_code, message) != (0, None) {
                return;
            }
            let mut encoder = MetadataAnswer::begin(&mut out, correlation_id);
            for topic in topics {
                let partitions = topic.partitions.iter().copied();
                encoder.topic(topic.error_code, topic.name, partitions).expect("it came in a frame");
            }
            encoder.finish().expect("it came in a frame");
        }
        AnswerBody::Versions { keys, max_frame_size, max_records_per_request } => {
            let limits = (usize::try_from(*max_frame_size), usize::try_from(*max_records_per_request));
            let (Ok(max_frame_size), Ok(max_records_per_request)) = limits else { return };
            if (error_code, message) != (0, None) || **keys != SERVED {
                return;
            }
            let limits = Limits { max_frame_size, max_records_per_request };
            answer::encode_versions_answer(&mut out, correlation_id, &limits);
        }
    }
    assert_eq!(out, bytes);
}

fn read_back(bytes: &[u8]) -> Answer<'_> {
    whole(next_answer(bytes, bytes.len()), bytes.len())
}

#[track_caller]
fn whole<T: Debug>(decoded: Decoded<T>, bytes: usize) -> T {
    match decoded {
        Decoded::Frame { frame, len } if len == bytes => frame,
        other => panic!("not one whole frame: {other:?}"),
    }
}

/// Inputs to begin with: every kind of frame, sound ones, in one piece and in several.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = vec![Vec::new(); 9];
    let [any, keyed, produce, metadata, versions, told, listed, known, failed] = &mut frames[..] else {
        unreachable!("there are nine")
    };
    let fits = "a seed is small";
    encode_dory(any, "logs", None, 5, b"key", b"value").expect(fits);
    encode_dory(keyed, "logs", Some(7), -1, b"", b"value").expect(fits);
    produce_seed(produce);
    encode_metadata_request(metadata, 2, &["logs", "audit"]).expect(fits);
    encode_versions_request(versions, 3);
    let result = RecordResult { error_code: 0, partition: 1, offset: 1000 };
    answer::encode_produce_answer(told, 1, None, &[result; 2]).expect(fits);
    let mut list = MetadataAnswer::begin(listed, 2);
    let partitions = [answer::PartitionMetadata { error_code: 5, id: 0 }; 2];
    list.topic(0, b"logs", partitions.into_iter()).expect(fits);
    list.finish().expect(fits);
    answer::encode_versions_answer(known, 3, &LARGE);
    answer::encode_error(failed, METADATA, 0, 4, 42, "what is wrong");
    let requests = [any.as_slice(), keyed, produce, metadata, versions].concat();
    let answers = [told.as_slice(), listed, known, failed].concat();
    let alone = frames.into_iter().map(|frame| [&[0], frame.as_slice()].concat());
    let cut = [[&[2, 0, 40], requests.as_slice()].concat(), [&[3 | 8, 4, 0, 9], answers.as_slice()].concat()];
    alone.chain(cut).collect()
}

fn produce_seed(out: &mut Vec<u8>) {
    use forebay::record::{Header, Record};
    let acks = frame::produce::Acks::All;
    let timeout = Some(Duration::from_secs(1));
    let head = ProduceHead { correlation_id: 1, acks, timeout, topic: "logs", partition: Some(2) };
    let mut encoder = ProduceEncoder::begin(out, &head).expect("a seed is small");
    let headers = [Header { name: b"h", value: None }, Header { name: b"h", value: Some(b"v") }];
    for (timestamp, headers) in [(5, &headers[..]), (6, &[])] {
        let record = Record { timestamp, stamped_here: false, key: None, value: Some(b"value"), headers };
        encoder.push(&record).expect("a seed is small");
    }
    encoder.finish().expect("a seed is small");
}
