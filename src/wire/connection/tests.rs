use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::*;
use crate::wire::api::{init_producer_id, metadata, produce};

const LIMITS: Limits = Limits { max_response_bytes: 1 << 20 };

/// The broker's end of a connection.
struct Broker {
    stream: DuplexStream,
}

impl Broker {
    async fn read(&mut self) -> frame::RequestFrame {
        let length = self.stream.read_i32().await.unwrap();
        let mut bytes = vec![0; length as usize];
        self.stream.read_exact(&mut bytes).await.unwrap();
        frame::decode_request(bytes.into()).unwrap()
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }
}

fn offers(version: i16, correlation_id: i32) -> BytesMut {
    let versions = Versions { ranges: vec![(0, 0, 13), (3, 0, 13), (18, 0, 4), (22, 0, 5)] };
    let answer = api_versions::Answer { versions, ..Default::default() };
    api_versions::encode_response(version, correlation_id, &answer).unwrap()
}

async fn opened(buffer: usize) -> (Connection<DuplexStream>, Broker) {
    let (near, far) = tokio::io::duplex(buffer);
    let mut broker = Broker { stream: far };
    let serve = async {
        let request = broker.read().await;
        assert_eq!((request.api, request.version), (ApiKey::ApiVersions, 4));
        assert_eq!(request.client_id.as_deref(), Some("forebay-test"));
        broker.write(&offers(4, request.correlation_id)).await;
    };
    let (connection, ()) = tokio::join!(Connection::open(near, "forebay-test".into(), LIMITS), serve);
    (connection.unwrap(), broker)
}

fn id_request(connection: &mut Connection<DuplexStream>) -> i32 {
    let id = connection.next_correlation_id();
    connection.queue(init_producer_id::encode(4, id, "forebay-test").unwrap());
    id
}

fn id_response(correlation_id: i32) -> BytesMut {
    let answer = init_producer_id::Answer {
        throttle: Duration::ZERO,
        error_code: 0,
        producer_id: i64::from(correlation_id) * 100,
        epoch: 0,
    };
    init_producer_id::encode_response(4, correlation_id, &answer).unwrap()
}

#[tokio::test]
async fn it_opens_and_knows_what_the_broker_speaks() {
    let (connection, _broker) = opened(1 << 16).await;
    assert_eq!(connection.versions().pick(ApiKey::Produce, produce::VERSIONS), Some(13));
    assert_eq!(connection.versions().pick(ApiKey::Produce, 3..=9), Some(9));
    assert_eq!(connection.versions().pick(ApiKey::Produce, 14..=20), None);
    assert_eq!(connection.versions().pick(ApiKey::Fetch, 4..=12), None);
}

/// Opens against a broker that refuses version 4 with the bytes given, and tells the version that was asked for next.
async fn version_after(refusal: impl Fn(i32) -> BytesMut + Send + Sync) -> i16 {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut broker = Broker { stream: far };
    let serve = async {
        let request = broker.read().await;
        broker.write(&refusal(request.correlation_id)).await;
        let request = broker.read().await;
        broker.write(&offers(request.version, request.correlation_id)).await;
        request.version
    };
    let (connection, version) = tokio::join!(Connection::open(near, "c".into(), LIMITS), serve);
    assert_eq!(connection.unwrap().versions().pick(ApiKey::Metadata, metadata::VERSIONS), Some(13));
    version
}

#[tokio::test]
async fn a_refused_version_is_followed_by_the_newest_that_the_refusal_lists() {
    for max in 0..=3 {
        assert_eq!(version_after(|id| api_versions::unsupported(id, 0..=max).unwrap()).await, max);
    }
}

#[tokio::test]
async fn a_refusal_that_lists_nothing_is_followed_by_version_0() {
    let empty = |id| {
        let answer = api_versions::Answer { error_code: codes::UNSUPPORTED_VERSION, ..Default::default() };
        api_versions::encode_response(0, id, &answer).unwrap()
    };
    assert_eq!(version_after(empty).await, 0);
}

#[tokio::test]
async fn a_broker_that_refuses_every_version_is_given_up() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut broker = Broker { stream: far };
    let serve = async {
        for expected in [4, 3, 2, 1, 0] {
            let request = broker.read().await;
            assert_eq!(request.version, expected);
            broker.write(&api_versions::unsupported(request.correlation_id, 0..=9).unwrap()).await;
        }
    };
    let (connection, ()) = tokio::join!(Connection::open(near, "c".into(), LIMITS), serve);
    assert!(matches!(connection, Err(ConnectionError::Refused { code: codes::UNSUPPORTED_VERSION })));
}

#[tokio::test]
async fn pipelined_requests_are_written_at_once_and_answered_in_order() {
    let (mut connection, mut broker) = opened(1 << 16).await;
    let ids: Vec<i32> = (0..5).map(|_| id_request(&mut connection)).collect();
    assert_eq!(connection.outstanding(), 5);
    assert!(connection.unwritten() > 0);
    connection.flush().await.unwrap();
    assert_eq!(connection.unwritten(), 0);
    for _ in &ids {
        let request = broker.read().await;
        broker.write(&id_response(request.correlation_id)).await;
    }
    for id in ids {
        let response = connection.next().await.unwrap();
        assert_eq!(response.correlation_id, id);
        assert_eq!(init_producer_id::decode(4, response.body).unwrap().producer_id, i64::from(id) * 100);
    }
    assert_eq!(connection.outstanding(), 0);
}

#[tokio::test]
async fn a_batch_of_many_segments_arrives_whole_through_a_narrow_pipe() {
    let (mut connection, mut broker) = opened(100).await;
    let parts: Vec<produce::PartitionRecords> = (0..200_i32)
        .map(|n| produce::PartitionRecords {
            topic: Arc::from(format!("t{}", n / 10)),
            topic_id: uuid::Uuid::from_u128(n as u128 / 10),
            partition: n % 10,
            records: vec![n as u8; if n % 3 == 0 { 20 } else { 1500 }].into(),
        })
        .collect();
    let id = connection.next_correlation_id();
    connection.queue(produce::encode(13, id, "c", Duration::from_secs(30), &parts).unwrap());
    let serve = async {
        let request = broker.read().await;
        broker.write(&produce::encode_response(13, request.correlation_id, &Default::default()).unwrap()).await;
        produce::decode_request(13, request.body).unwrap()
    };
    let (response, request) = tokio::join!(connection.next(), serve);
    assert_eq!(response.unwrap().correlation_id, id);
    assert_eq!(request.partitions.len(), parts.len());
    for (got, sent) in request.partitions.iter().zip(&parts) {
        assert_eq!(got.records.as_ref(), Some(&sent.records));
        assert_eq!(got.topic, produce::TopicRef::Id(sent.topic_id));
    }
}

#[tokio::test]
async fn responses_split_at_every_byte_are_put_together() {
    let (mut connection, mut broker) = opened(1 << 16).await;
    let both = |first: i32| [id_response(first), id_response(first + 1)].concat();
    for cut in 0..both(0).len() {
        let first = id_request(&mut connection);
        id_request(&mut connection);
        let bytes = both(first);
        broker.write(&bytes[..cut]).await;
        // Half a response is not one, and looking for one loses nothing.
        let early = tokio::select! {
            biased;
            response = connection.next() => Some(response.unwrap()),
            () = std::future::ready(()) => None,
        };
        assert_eq!(early.is_some(), cut >= bytes.len() / 2);
        broker.write(&bytes[cut..]).await;
        for _ in early.iter().count()..2 {
            connection.next().await.unwrap();
        }
        broker.read().await;
        broker.read().await;
    }
}

#[tokio::test]
async fn a_dropped_future_writes_nothing_twice() {
    let (mut connection, mut broker) = opened(7).await;
    let id = id_request(&mut connection);
    // The pipe takes 7 bytes a time, so nearly every poll stops in the middle of the frame.
    let mut bytes = Vec::new();
    while connection.unwritten() > 0 {
        tokio::select! {
            biased;
            flushed = connection.flush() => flushed.unwrap(),
            () = std::future::ready(()) => {}
        }
        let mut piece = [0; 7];
        let read = broker.stream.read(&mut piece).await.unwrap();
        bytes.extend_from_slice(&piece[..read]);
    }
    assert_eq!(Bytes::from(bytes), init_producer_id::encode(4, id, "forebay-test").unwrap().to_bytes());
}

#[tokio::test]
async fn a_broker_that_closes_an_idle_connection_is_told_from_one_that_breaks_off() {
    let (mut connection, broker) = opened(1 << 16).await;
    drop(broker);
    assert!(matches!(connection.next().await, Err(ConnectionError::Closed)));
    assert!(matches!(connection.next().await, Err(ConnectionError::Failed)));

    let (mut connection, broker) = opened(1 << 16).await;
    id_request(&mut connection);
    drop(broker);
    assert!(matches!(connection.next().await, Err(ConnectionError::Interrupted { outstanding: 1 })));

    let (mut connection, mut broker) = opened(1 << 16).await;
    broker.write(&[0, 0]).await;
    drop(broker);
    assert!(matches!(connection.next().await, Err(ConnectionError::Interrupted { outstanding: 0 })));
}

#[tokio::test]
async fn what_was_answered_before_the_connection_broke_is_still_read() {
    let (mut connection, mut broker) = opened(1 << 16).await;
    let id = id_request(&mut connection);
    connection.flush().await.unwrap();
    broker.write(&id_response(id)).await;
    drop(broker);
    id_request(&mut connection);
    assert_eq!(connection.next().await.unwrap().correlation_id, id);
    assert!(matches!(connection.next().await, Err(ConnectionError::Interrupted { outstanding: 1 })));
}

#[tokio::test]
async fn impossible_lengths_end_the_connection_and_allocate_nothing() {
    for size in [i32::MIN, -1, 0, 3, (1 << 20) + 1, i32::MAX, 0x1503_0100] {
        let (mut connection, mut broker) = opened(1 << 16).await;
        id_request(&mut connection);
        broker.write(&size.to_be_bytes()).await;
        let error = connection.next().await.unwrap_err();
        assert!(matches!(error, ConnectionError::ResponseSize { size: got, .. } if got == size), "{error}");
        assert!(connection.input.capacity() <= 2 * READ_MIN_BYTES);
    }
}

#[tokio::test]
async fn a_large_length_is_not_believed_before_its_bytes_come() {
    let (mut connection, mut broker) = opened(1 << 16).await;
    id_request(&mut connection);
    broker.write(&(1_i32 << 20).to_be_bytes()).await;
    let half = tokio::select! {
        biased;
        response = connection.next() => Some(response),
        () = std::future::ready(()) => None,
    };
    assert!(half.is_none());
    assert!(connection.input.capacity() <= 2 * READ_MAX_BYTES);
}

#[tokio::test]
async fn an_idle_connection_keeps_no_buffer() {
    let (mut connection, mut broker) = opened(1 << 20).await;
    let topics: Vec<metadata::Topic> =
        (0..5000).map(|n| metadata::Topic { name: Some(format!("topic-{n}")), ..Default::default() }).collect();
    let id = connection.next_correlation_id();
    connection.queue(metadata::encode(12, id, "c", None, false).unwrap());
    let answer = metadata::Metadata { topics, ..Default::default() };
    broker.write(&metadata::encode_response(12, id, &answer).unwrap()).await;
    let response = connection.next().await.unwrap();
    assert_eq!(metadata::decode(12, response.body).unwrap(), answer);
    assert_eq!(connection.input.capacity(), 0);
}

#[tokio::test]
async fn a_response_to_another_request_ends_the_connection() {
    let (mut connection, mut broker) = opened(1 << 16).await;
    let first = id_request(&mut connection);
    let second = id_request(&mut connection);
    broker.write(&id_response(second)).await;
    let error = connection.next().await.unwrap_err();
    assert!(
        matches!(error, ConnectionError::OutOfOrder { got, expected } if got == second && expected == Some(first)),
        "{error}"
    );
    assert!(matches!(connection.flush().await, Err(ConnectionError::Failed)));

    let (mut connection, mut broker) = opened(1 << 16).await;
    broker.write(&id_response(5)).await;
    assert!(matches!(connection.next().await, Err(ConnectionError::OutOfOrder { got: 5, expected: None })));
}

#[tokio::test]
async fn call_asks_and_waits() {
    let (mut connection, mut broker) = opened(1 << 16).await;
    let id = connection.next_correlation_id();
    let request = init_producer_id::encode(4, id, "c").unwrap();
    let serve = async {
        let request = broker.read().await;
        broker.write(&id_response(request.correlation_id)).await;
    };
    let (body, ()) = tokio::join!(connection.call(request), serve);
    assert_eq!(init_producer_id::decode(4, body.unwrap()).unwrap().producer_id, i64::from(id) * 100);
}

proptest! {
    #[test]
    fn a_peer_that_speaks_something_else_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(1 << 16);
            far.write_all(&bytes).await.unwrap();
            far.shutdown().await.unwrap();
            assert!(Connection::open(near, "c".into(), LIMITS).await.is_err());
        });
    }
}
