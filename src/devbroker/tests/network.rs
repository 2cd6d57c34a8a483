use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::batch;
use crate::devbroker::{At, DevCluster, Settings};
use crate::wire::api::metadata::{self, Metadata};
use crate::wire::api::produce::{self, PartitionAnswer, PartitionRecords};
use crate::wire::api::{ApiKey, init_producer_id};
use crate::wire::codes;
use crate::wire::connection::{Connection, ConnectionError, Limits};
use crate::wire::frame::Frame;
use crate::wire::record_batch::Lane;

const LANE: Lane = Lane { producer_id: 7, epoch: 0 };
/// 2023: old, but within what topics allow.
const STAMP: i64 = 1_700_000_000_000;

pub(super) struct Client(pub(super) Connection<TcpStream>);

impl Client {
    async fn connect(address: SocketAddr) -> Result<Client, ConnectionError> {
        let stream = TcpStream::connect(address).await?;
        let limits = Limits { max_response_bytes: 1 << 20 };
        Connection::open(stream, Arc::from("test"), limits).await.map(Client)
    }

    pub(super) async fn to(cluster: &DevCluster, broker: i32) -> Client {
        Client::connect(cluster.address(broker).unwrap()).await.unwrap()
    }

    fn produce_frame(&mut self, version: i16, topic_id: Uuid, records: Bytes) -> Frame {
        let part = PartitionRecords { topic: Arc::from("t"), topic_id, partition: 0, records };
        let id = self.0.next_correlation_id();
        produce::encode(version, id, "test", Duration::from_secs(30), &[part]).unwrap()
    }

    async fn produce(
        &mut self,
        version: i16,
        topic_id: Uuid,
        records: Bytes,
    ) -> Result<PartitionAnswer, ConnectionError> {
        let frame = self.produce_frame(version, topic_id, records);
        let body = self.0.call(frame).await?;
        let mut answer = produce::decode(version, body)?;
        Ok(answer.partitions.remove(0))
    }

    /// (error, base offset) of a batch of two.
    pub(super) async fn send(&mut self, base_sequence: i32) -> Result<(i16, i64), ConnectionError> {
        let records = batch(LANE, base_sequence, &[STAMP, STAMP + 1]);
        let answer = self.produce(9, Uuid::nil(), records).await?;
        Ok((answer.error_code, answer.base_offset))
    }

    async fn metadata(&mut self, version: i16, topic: &str) -> Metadata {
        let id = self.0.next_correlation_id();
        let frame = metadata::encode(version, id, "test", Some(&[topic]), true).unwrap();
        metadata::decode(version, self.0.call(frame).await.unwrap()).unwrap()
    }
}

async fn cluster(brokers: usize) -> DevCluster {
    let cluster = DevCluster::start(Settings { brokers, ..Settings::default() }).await.unwrap();
    cluster.create_topic("t", 1).unwrap();
    cluster
}

#[tokio::test]
async fn what_is_produced_in_any_version_is_read_back() {
    let cluster = cluster(2).await;
    let mut client = Client::to(&cluster, 1).await;
    for (sequence, version) in (0..).zip(3..=13) {
        let id = client.metadata(12, "t").await.topics[0].id;
        let answer = client.produce(version, id, batch(LANE, sequence, &[STAMP])).await.unwrap();
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(sequence)), "version {version}");
    }
    let records = cluster.records("t", 0).unwrap();
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
    let last = records.last().unwrap();
    assert_eq!((last.producer_id, last.epoch, last.sequence, last.timestamp), (7, 0, 10, STAMP));
    assert_eq!((last.key.as_deref(), last.value.as_deref()), (Some(&b"k"[..]), Some(&b"0"[..])));
    let (name, empty) = (Bytes::from_static(b"h"), Bytes::new());
    assert_eq!(last.headers, [(name.clone(), None), (name, Some(empty))]);
    assert_eq!(cluster.batches("t", 0).unwrap().len(), 11);
}

#[tokio::test]
async fn metadata_in_every_version_names_brokers_and_leaders() {
    let cluster = cluster(3).await;
    cluster.move_leader("t", 0, 3).unwrap();
    let mut client = Client::to(&cluster, 2).await;
    for version in metadata::VERSIONS {
        let metadata = client.metadata(version, "t").await;
        let ports: Vec<_> = metadata.brokers.iter().map(|broker| (broker.id, broker.port)).collect();
        let expected: Vec<_> = (1..=3).map(|id| (id, cluster.address(id).unwrap().port())).collect();
        assert_eq!(ports, expected);
        let partition = &metadata.topics[0].partitions[0];
        let epoch = if version >= 7 { 1 } else { -1 };
        assert_eq!((partition.leader, partition.leader_epoch), (3, epoch), "version {version}");
    }
}

#[tokio::test]
async fn a_topic_that_is_created_by_asking_is_there_at_the_second_time() {
    let settings = Settings { auto_create_topics: true, default_partitions: 3, ..Settings::default() };
    let cluster = DevCluster::start(settings).await.unwrap();
    let mut client = Client::to(&cluster, 1).await;
    assert_eq!(client.metadata(9, "new").await.topics[0].error_code, codes::UNKNOWN_TOPIC_OR_PARTITION);
    let topic = client.metadata(9, "new").await.topics.remove(0);
    assert_eq!((topic.error_code, topic.partitions.len()), (0, 3));
    assert_eq!(client.metadata(9, "no/name").await.topics[0].error_code, codes::INVALID_TOPIC_EXCEPTION);
    cluster.add_partitions("new", 5).unwrap();
    assert_eq!(client.metadata(9, "new").await.topics[0].partitions.len(), 5);
}

#[tokio::test]
async fn a_lost_answer_is_of_a_batch_that_is_there_and_a_lost_request_of_one_that_is_not() {
    let cluster = cluster(1).await;
    cluster.lose_answers(At::partition("t", 0), 1);
    let lost = Client::to(&cluster, 1).await.send(0).await;
    assert!(matches!(lost, Err(ConnectionError::Interrupted { outstanding: 1 })), "{lost:?}");
    cluster.lose_requests(At::Broker(1), 1);
    assert!(Client::to(&cluster, 1).await.send(2).await.is_err());
    let mut client = Client::to(&cluster, 1).await;
    assert_eq!(client.send(0).await.unwrap(), (0, 0));
    assert_eq!(client.send(2).await.unwrap(), (0, 2));
    let counters = cluster.counters();
    assert_eq!((counters.batches, counters.duplicates, counters.lost), (2, 1, 2));
}

#[tokio::test]
async fn a_held_answer_comes_when_it_is_released_and_holds_what_follows() {
    let cluster = cluster(1).await;
    cluster.hold_answers(At::Anywhere);
    let mut client = Client::to(&cluster, 1).await;
    for sequence in [0, 2] {
        let frame = client.produce_frame(9, Uuid::nil(), batch(LANE, sequence, &[STAMP, STAMP]));
        client.0.queue(frame);
    }
    client.0.flush().await.unwrap();
    cluster.wait_until(|counters| counters.held_answers == 1).await;
    assert_eq!(cluster.counters().batches, 1);
    cluster.release_answers();
    for _ in 0..2 {
        client.0.next().await.unwrap();
    }
    assert_eq!((cluster.counters().batches, cluster.counters().held_answers), (2, 0));
}

#[tokio::test]
async fn a_held_request_is_carried_out_although_its_client_is_gone() {
    let cluster = cluster(1).await;
    cluster.hold_requests(At::Anywhere);
    let mut client = Client::to(&cluster, 1).await;
    let frame = client.produce_frame(9, Uuid::nil(), batch(LANE, 0, &[STAMP]));
    client.0.queue(frame);
    client.0.flush().await.unwrap();
    cluster.wait_until(|counters| counters.held_requests == 1).await;
    drop(client);
    assert_eq!(cluster.counters().batches, 0);
    cluster.release_requests();
    cluster.wait_until(|counters| counters.batches == 1).await;
}

#[tokio::test]
async fn a_stopped_broker_refuses_and_hands_over_and_comes_back_at_its_port() {
    let cluster = cluster(2).await;
    let address = cluster.address(1).unwrap();
    let mut client = Client::to(&cluster, 1).await;
    client.send(0).await.unwrap();
    client.send(2).await.unwrap();
    cluster.stop_broker(1).await.unwrap();
    assert!(client.send(4).await.is_err());
    assert!(TcpStream::connect(address).await.is_err());
    assert_eq!(cluster.leader("t", 0).unwrap(), Some((2, 1)));
    let mut client = Client::to(&cluster, 2).await;
    assert_eq!(client.metadata(9, "t").await.brokers.len(), 1);
    assert_eq!(client.send(0).await.unwrap(), (0, 0));

    cluster.start_broker(1).await.unwrap();
    cluster.start_broker(1).await.unwrap();
    cluster.move_leader("t", 0, 1).unwrap();
    assert_eq!(client.send(4).await.unwrap().0, codes::NOT_LEADER_OR_FOLLOWER);
    let mut client = Client::connect(address).await.unwrap();
    assert_eq!(client.send(0).await.unwrap().0, codes::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(client.send(2).await.unwrap(), (0, 2));
    assert_eq!(cluster.records("t", 0).unwrap().len(), 4);
}

#[tokio::test]
async fn a_broker_may_come_back_at_another_port() {
    let cluster = cluster(1).await;
    let before = cluster.address(1).unwrap();
    cluster.stop_broker(1).await.unwrap();
    assert_eq!(cluster.leader("t", 0).unwrap(), None);
    let after = cluster.start_broker_elsewhere(1).await.unwrap();
    assert_ne!(before, after);
    let mut client = Client::connect(after).await.unwrap();
    assert_eq!(client.metadata(9, "t").await.brokers[0].port, after.port());
    assert_eq!(cluster.leader("t", 0).unwrap(), Some((1, 2)));
}

#[tokio::test]
async fn dropped_connections_are_closed_and_the_broker_stays() {
    let cluster = cluster(1).await;
    let mut client = Client::to(&cluster, 1).await;
    client.send(0).await.unwrap();
    cluster.drop_connections(1).await.unwrap();
    assert!(client.send(2).await.is_err());
    assert_eq!(Client::to(&cluster, 1).await.send(2).await.unwrap(), (0, 2));
    assert!(cluster.drop_connections(9).await.is_err());
}

#[tokio::test]
async fn after_shutdown_nobody_is_served_and_what_was_stored_can_be_read() {
    let cluster = cluster(2).await;
    Client::to(&cluster, 1).await.send(0).await.unwrap();
    cluster.shutdown().await;
    assert!(Client::connect(cluster.address(2).unwrap()).await.is_err());
    assert_eq!(cluster.records("t", 0).unwrap().len(), 2);
}

#[tokio::test]
async fn the_answer_asks_for_the_throttle_that_was_set() {
    let cluster = cluster(1).await;
    cluster.throttle(At::Anywhere, Duration::from_millis(20));
    let mut client = Client::to(&cluster, 1).await;
    let frame = client.produce_frame(9, Uuid::nil(), batch(LANE, 0, &[STAMP]));
    let body = client.0.call(frame).await.unwrap();
    assert_eq!(produce::decode(9, body).unwrap().throttle, Duration::from_millis(20));
}

#[tokio::test]
async fn versions_that_are_not_offered_close_the_connection() {
    let cluster = cluster(1).await;
    cluster.limit_versions(ApiKey::Produce, 3..=8);
    let mut client = Client::to(&cluster, 1).await;
    assert_eq!(client.0.versions().pick(ApiKey::Produce, 3..=13), Some(8));
    let records = batch(LANE, 0, &[STAMP]);
    assert!(client.produce(9, Uuid::nil(), records.clone()).await.is_err());
    let mut client = Client::to(&cluster, 1).await;
    assert_eq!(client.produce(8, Uuid::nil(), records).await.unwrap().error_code, 0);
}

#[tokio::test]
async fn producer_ids_are_given_after_the_first_refusal() {
    let cluster = cluster(1).await;
    let mut client = Client::to(&cluster, 1).await;
    let mut answers = vec![];
    for version in init_producer_id::VERSIONS {
        let id = client.0.next_correlation_id();
        let frame = init_producer_id::encode(version, id, "test").unwrap();
        let answer = init_producer_id::decode(version, client.0.call(frame).await.unwrap()).unwrap();
        answers.push((answer.error_code, answer.producer_id, answer.epoch));
    }
    assert_eq!(answers, [(14, -1, -1), (0, 0, 0), (0, 1, 0), (0, 2, 0), (0, 3, 0), (0, 4, 0)]);
}

/// A request without a client id, in versions whose header is not flexible.
fn request(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_i32(10 + body.len() as i32);
    out.put_i16(api.id());
    out.put_i16(version);
    out.put_i32(1);
    out.put_i16(-1);
    out.put_slice(body);
    out.to_vec()
}

async fn read_response(stream: &mut TcpStream) -> Vec<u8> {
    let length = stream.read_i32().await.unwrap();
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// Fetch version 4 of partition 0 from `offset`.
fn fetch(offset: i64, max_wait_ms: i32, min_bytes: i32) -> Vec<u8> {
    let mut body = BytesMut::new();
    for number in [-1, max_wait_ms, min_bytes, 1 << 20] {
        body.put_i32(number);
    }
    body.put_i8(0);
    body.put_i32(1);
    body.put_i16(1);
    body.put_slice(b"t");
    body.put_i32(1);
    body.put_i32(0);
    body.put_i64(offset);
    body.put_i32(1 << 20);
    request(ApiKey::Fetch, 4, &body)
}

#[tokio::test]
async fn a_fetch_waits_for_what_is_produced() {
    let cluster = cluster(1).await;
    let mut consumer = TcpStream::connect(cluster.address(1).unwrap()).await.unwrap();
    consumer.write_all(&fetch(0, 60_000, 1)).await.unwrap();
    cluster.wait_until(|counters| counters.requests.get(&ApiKey::Fetch.id()) == Some(&1)).await;
    let records = batch(LANE, 0, &[STAMP]);
    let mut client = Client::to(&cluster, 1).await;
    client.produce(9, Uuid::nil(), records.clone()).await.unwrap();
    let response = read_response(&mut consumer).await;
    assert!(response.ends_with(&cluster.batches("t", 0).unwrap()[0].bytes));
    assert!(response.ends_with(&records[16..]), "all but offset and leader epoch is as it was sent");

    // Nothing more is there: an empty answer after the time, and an error beyond the end.
    consumer.write_all(&fetch(1, 1, 1)).await.unwrap();
    let response = read_response(&mut consumer).await;
    assert!(response.ends_with(&[0; 4]), "{response:?}");
    consumer.write_all(&fetch(2, 60_000, 1)).await.unwrap();
    let response = read_response(&mut consumer).await;
    assert_eq!(response[23..25], codes::OFFSET_OUT_OF_RANGE.to_be_bytes());
}

#[tokio::test]
async fn without_acks_there_is_no_answer_and_an_error_closes_the_connection() {
    let cluster = cluster(1).await;
    let mut client = Client::to(&cluster, 1).await;
    let without_acks = |frame: Frame| {
        let mut bytes = frame.to_bytes().to_vec();
        // Length, header with the client id "test", null transactional id; then the acks.
        bytes[20..22].copy_from_slice(&0_i16.to_be_bytes());
        bytes
    };
    let good = without_acks(client.produce_frame(3, Uuid::nil(), batch(LANE, 0, &[STAMP])));
    let bad = without_acks(client.produce_frame(3, Uuid::nil(), batch(LANE, 5, &[STAMP])));
    let mut stream = TcpStream::connect(cluster.address(1).unwrap()).await.unwrap();
    stream.write_all(&good).await.unwrap();
    stream.write_all(&bad).await.unwrap();
    let mut rest = vec![];
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert_eq!(cluster.records("t", 0).unwrap().len(), 1);
}

#[tokio::test]
async fn bytes_that_are_no_request_close_their_connection_alone() {
    let cluster = cluster(1).await;
    let huge_array = [&[0xff; 2][..], &[0, 0], &[0; 4], &[0x7f, 0xff, 0xff, 0xff]].concat();
    let hostile: Vec<Vec<u8>> = vec![
        (-1_i32).to_be_bytes().to_vec(),
        i32::MAX.to_be_bytes().to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\0\0\0\x04\0\0\0\0".to_vec(),
        request(ApiKey::Produce, 2, &[]),
        request(ApiKey::Produce, 3, &huge_array),
        request(ApiKey::Fetch, 4, &[0xff; 40]),
        request(ApiKey::Metadata, 4, &[0x7f, 0xff, 0xff, 0xff]),
        request(ApiKey::ListOffsets, 1, &[0x7f; 12]),
        request(ApiKey::FindCoordinator, 0, &[0x7f, 0xff]),
    ];
    for bytes in hostile {
        let mut stream = TcpStream::connect(cluster.address(1).unwrap()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = vec![];
        // The broker may close before it has read all, which resets the connection.
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{bytes:?}");
    }
    assert_eq!(Client::to(&cluster, 1).await.send(0).await.unwrap(), (0, 0));
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_with_35() {
    let cluster = cluster(1).await;
    let mut stream = TcpStream::connect(cluster.address(1).unwrap()).await.unwrap();
    // Flexible header: an empty list of tagged fields follows.
    stream.write_all(&request(ApiKey::ApiVersions, 99, &[0])).await.unwrap();
    let response = read_response(&mut stream).await;
    assert_eq!(response[4..6], codes::UNSUPPORTED_VERSION.to_be_bytes());
}
