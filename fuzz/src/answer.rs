//! Target `answer`: what a broker sends.
//!
//! Input: a byte that chooses. Below 128 it is one of all pairs of API and version (modulo their number), and the rest is the
//! body of such a response. From 128 on the rest is a connection: bits 0–2 count the sizes that follow, of the pieces in which
//! the broker's bytes come; with bit 3 a sound answer to ApiVersions goes before them.
//!
//! Beyond that nothing panics: a body costs memory within a multiple of its length, and what was decoded is the same after it
//! was encoded and decoded again; what a connection gives out does not depend on where the bytes are cut, nor on how often the
//! futures are dropped; it gives out the answers to what was asked, in order; and it never has much more memory than bytes came.

use std::fmt::Debug;
use std::io;
use std::ops::RangeInclusive;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use forebay::wire::WireError;
use forebay::wire::api::{ApiKey, api_versions, describe_configs, init_producer_id, metadata, produce};
use forebay::wire::connection::{Connection, Limits, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A decoded response takes at most so many times its bytes, and a little.
const BYTES_PER_BYTE: usize = 40;
const LITTLE: usize = 80 << 10;
/// The largest response that the connection takes; a fuzzer's inputs are shorter, what they announce is not.
const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// A connection makes room for so much at once.
const READ_BYTES: usize = 64 << 10;
const CORRELATION_ID: i32 = 7;

/// Panics if anything is wrong with how the input is read.
pub fn check(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    if choice & 0x80 == 0 {
        let pairs = pairs();
        let (api, version) = pairs[usize::from(*choice) % pairs.len()];
        return check_body(api, version, &Bytes::copy_from_slice(rest));
    }
    let Some((pieces, stream)) = rest.split_at_checked(usize::from(choice & 7)) else { return };
    let stream = if choice & 8 == 0 { stream.to_vec() } else { [&handshake(), stream].concat() };
    check_connection(&stream, pieces);
}

/// Every response that is read, in every version that can be agreed upon.
fn pairs() -> Vec<(ApiKey, i16)> {
    let of = |api, versions: RangeInclusive<i16>| versions.map(move |version| (api, version));
    of(ApiKey::ApiVersions, api_versions::VERSIONS)
        .chain(of(ApiKey::Metadata, metadata::VERSIONS))
        .chain(of(ApiKey::Produce, produce::VERSIONS))
        .chain(of(ApiKey::InitProducerId, init_producer_id::VERSIONS))
        .chain(of(ApiKey::DescribeConfigs, describe_configs::VERSIONS))
        .collect()
}

fn check_body(api: ApiKey, version: i16, body: &Bytes) {
    match api {
        ApiKey::ApiVersions => check_response(version, body, api_versions::decode, |version, id, answer| {
            // A refusal is in the form of version 0, whatever was asked.
            api_versions::encode_response(if answer.error_code == 35 { 0 } else { version }, id, answer)
        }),
        ApiKey::Metadata => check_response(version, body, decode_metadata, metadata::encode_response),
        ApiKey::Produce => check_response(version, body, produce::decode, produce::encode_response),
        ApiKey::DescribeConfigs => {
            check_response(version, body, describe_configs::decode, describe_configs::encode_response);
        }
        _ => check_response(version, body, init_producer_id::decode, init_producer_id::encode_response),
    }
}

/// A topic has no name only since version 12; before, what stands for none and what stands for an empty one are written alike.
fn decode_metadata(version: i16, body: Bytes) -> Result<metadata::Metadata, WireError> {
    let mut metadata = metadata::decode(version, body)?;
    for topic in metadata.topics.iter_mut().filter(|_| version < 12) {
        topic.name.get_or_insert_default();
    }
    Ok(metadata)
}

fn check_response<T: PartialEq + Debug>(
    version: i16,
    body: &Bytes,
    decode: impl Fn(i16, Bytes) -> Result<T, WireError>,
    encode: impl Fn(i16, i32, &T) -> Result<BytesMut, WireError>,
) {
    let mut decoded = None;
    let asked = measure(|| decoded = Some(decode(version, body.clone())));
    let bound = BYTES_PER_BYTE * body.len() + LITTLE;
    assert!(asked.bytes_max <= bound as u64, "{asked:?} for {} bytes", body.len());
    if let Some(Ok(answer)) = decoded {
        let frame = encode(version, CORRELATION_ID, &answer).expect("what was decoded has its place");
        // Length, correlation id, and in flexible versions an empty list of tagged fields; ApiVersions never has one.
        let again = (8..=9).filter_map(|header| decode(version, Bytes::copy_from_slice(frame.get(header..)?)).ok());
        assert!(again.into_iter().any(|again| again == answer), "{answer:?}\nis not what {frame:?} says");
    }
}

fn check_connection(stream: &[u8], pieces: &[u8]) {
    let mut whole = Vec::new();
    let asked = measure(|| whole = talk(stream, &[]));
    let bound = 8 * stream.len() + 4 * READ_BYTES;
    assert!(asked.bytes_max <= bound as u64, "{asked:?} for {} bytes", stream.len());
    let in_pieces = talk(stream, pieces);
    assert_eq!(whole, in_pieces);
    let answers = whole.iter().filter_map(|end| end.as_ref().ok());
    assert!(answers.map(|response| response.correlation_id).is_sorted_by(|a, b| a < b), "{whole:?}");
    let given: usize = whole.iter().flatten().map(|response| response.body.len()).sum();
    assert!(given <= stream.len(), "more than came");
}

/// All that a connection gives out, until it fails. A future that waits is dropped and asked for again.
fn talk(stream: &[u8], pieces: &[u8]) -> Vec<Result<Response, String>> {
    let broker = Broker { bytes: stream, pieces, turn: 0, is_ready: false };
    let mut context = Context::from_waker(Waker::noop());
    let limits = Limits { max_response_bytes: MAX_RESPONSE_BYTES };
    let mut opening = pin!(Connection::open(broker, "fuzz".into(), limits));
    let opened = loop {
        if let Poll::Ready(opened) = opening.as_mut().poll(&mut context) {
            break opened;
        }
    };
    let mut connection = match opened {
        Ok(connection) => connection,
        Err(error) => return vec![Err(error.to_string())],
    };
    // The newest and the oldest form of each header.
    for (api, version) in pairs().into_iter().filter(|(api, _)| *api != ApiKey::ApiVersions).step_by(3) {
        let id = connection.next_correlation_id();
        let frame = match api {
            ApiKey::Metadata => metadata::encode(version, id, "fuzz", None, true),
            ApiKey::Produce => produce::encode(version, id, "fuzz", Duration::ZERO, &[]),
            ApiKey::DescribeConfigs => describe_configs::encode(version, id, "fuzz", &["t"], &[]),
            _ => init_producer_id::encode(version, id, "fuzz"),
        };
        connection.queue(frame.expect("every pair can be encoded"));
    }
    let mut given = Vec::new();
    loop {
        match pin!(connection.next()).poll(&mut context) {
            Poll::Pending => {}
            Poll::Ready(Ok(response)) => given.push(Ok(response)),
            Poll::Ready(Err(error)) => {
                given.push(Err(error.to_string()));
                return given;
            }
        }
    }
}

/// The other end: takes everything, gives its bytes in pieces and is not ready before each, and then closes.
struct Broker<'a> {
    bytes: &'a [u8],
    /// Sizes less one; none: all at once.
    pieces: &'a [u8],
    turn: usize,
    is_ready: bool,
}

impl AsyncRead for Broker<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.is_ready = !self.is_ready;
        if self.is_ready && !self.pieces.is_empty() {
            return Poll::Pending;
        }
        let piece = self.pieces.get(self.turn % self.pieces.len().max(1)).map_or(usize::MAX, |n| usize::from(*n) + 1);
        self.turn += 1;
        let (now, later) = self.bytes.split_at(piece.min(self.bytes.len()).min(to.remaining()));
        to.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Broker<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A whole answer to the first request of a connection.
fn handshake() -> Vec<u8> {
    let versions = api_versions::Versions { ranges: vec![(0, 3, 13), (3, 0, 13), (18, 0, 4), (22, 0, 6)] };
    let answer = api_versions::Answer { versions, ..api_versions::Answer::default() };
    sealed(api_versions::encode_response(*api_versions::VERSIONS.end(), 1, &answer))
}

/// Inputs to begin with: a full answer of every kind in every version, and connections on which such come.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for (number, (api, version)) in (0_u8..).zip(pairs()) {
        let frame = response(api, version, 1);
        let header = if api != ApiKey::ApiVersions && is_flexible(api, version) { 9 } else { 8 };
        seeds.push([&[number], &frame[header..]].concat());
    }
    let asked = pairs().into_iter().filter(|(api, _)| *api != ApiKey::ApiVersions).step_by(3);
    let answers: Vec<u8> = (2..).zip(asked).flat_map(|(id, (api, version))| response(api, version, id)).collect();
    seeds.push([&[0x80 | 8], answers.as_slice()].concat());
    seeds.push([&[0x80 | 8 | 2, 0, 60], answers.as_slice()].concat());
    seeds.push([&[0x80], handshake().as_slice(), &answers[..40]].concat());
    // A refusal of the version, then an answer in the one that it lists.
    let refusal = sealed(api_versions::unsupported(1, 0..=3));
    let answer = sealed(api_versions::encode_response(3, 2, &api_versions::Answer::default()));
    seeds.push([&[0x80 | 1, 6], refusal.as_slice(), &answer].concat());
    seeds
}

fn is_flexible(api: ApiKey, version: i16) -> bool {
    match api {
        ApiKey::InitProducerId => version >= 2,
        ApiKey::DescribeConfigs => version >= 4,
        _ => version >= 9,
    }
}

fn response(api: ApiKey, version: i16, id: i32) -> Vec<u8> {
    let throttle = Duration::from_millis(1);
    let broker = metadata::Broker { id: 1, host: "b".to_owned(), port: 9092, rack: Some("r".to_owned()) };
    let topic_id = uuid::Uuid::from_u128(if version >= 10 { 7 } else { 0 });
    sealed(match api {
        ApiKey::ApiVersions => {
            let versions = api_versions::Versions { ranges: vec![(0, 3, 13), (18, 0, 4)] };
            let answer = api_versions::Answer { throttle, error_code: 0, versions };
            api_versions::encode_response(version, id, &answer)
        }
        ApiKey::Metadata => {
            let partition = metadata::Partition { replicas: vec![1, 2], in_sync: vec![1], ..Default::default() };
            let partitions = vec![partition; 2];
            let name = Some("t".to_owned());
            let topic = metadata::Topic { name, id: topic_id, partitions, ..Default::default() };
            let cluster_id = Some("c".to_owned());
            let answer = metadata::Metadata {
                throttle,
                cluster_id,
                brokers: vec![broker],
                topics: vec![topic],
                ..Default::default()
            };
            metadata::encode_response(version, id, &answer)
        }
        ApiKey::Produce => {
            let topic =
                if version >= 13 { produce::TopicRef::Id(topic_id) } else { produce::TopicRef::Name("t".into()) };
            let partition = produce::PartitionAnswer {
                topic,
                partition: 3,
                error_code: 6,
                base_offset: -1,
                log_append_time: -1,
                record_errors: vec![(0, Some("why".to_owned())), (1, None)],
                error_message: Some("why".to_owned()),
                current_leader: Some((1, 2)),
            };
            let answer = produce::Answer { throttle, partitions: vec![partition; 2], endpoints: vec![broker] };
            produce::encode_response(version, id, &answer)
        }
        ApiKey::DescribeConfigs => {
            let settings = vec![("s".to_owned(), Some("v".to_owned())), ("secret".to_owned(), None)];
            let topic = describe_configs::Topic { name: "t".to_owned(), error_code: 0, error_message: None, settings };
            describe_configs::encode_response(version, id, &describe_configs::Answer { throttle, topics: vec![topic] })
        }
        _ => {
            let answer = init_producer_id::Answer { throttle, error_code: 0, producer_id: 9, epoch: 0 };
            init_producer_id::encode_response(version, id, &answer)
        }
    })
}

fn sealed(frame: Result<BytesMut, WireError>) -> Vec<u8> {
    frame.expect("a seed has its place").to_vec()
}
