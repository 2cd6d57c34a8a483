//! Inquiries against a broker that answers slowly, under paused time: what is asked, in which order, over which connections.

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

use super::*;
use crate::broker::flight::Finding::{Absent, LastSequence, Shrunk};
use crate::cluster::Cluster;
use crate::cluster::dial::{Dialer, Stream};
use crate::cluster::snapshot::Snapshot;
use crate::config::Config;
use crate::queue::topic::Topics;
use crate::queue::window::{Attempt, Flight};
use crate::record::{Record, Run};
use crate::wire::api::{api_versions, fetch, metadata, offset_for_leader_epoch};
use crate::wire::codec::Codec;
use crate::wire::frame::{RequestFrame, decode_request};
use crate::wire::record_batch::{BatchBuilder, Stamp};

const EPOCH: i32 = 5;
const LANE: Lane = Lane { producer_id: 7, epoch: 0 };

/// A request: on which connection, what, of which partition, and for Fetch from which offset.
type Asked = (usize, ApiKey, i32, i64);

/// A broker that leads all partitions; each log has so many batches of one record of somebody else's.
struct Broker {
    batches: i64,
    /// For how long it thinks about a Fetch.
    pause: Duration,
    offers: Vec<ApiKey>,
    connections: usize,
    open: usize,
    asked: Vec<Asked>,
    /// Counts the times that it has closed all connections.
    closed: tokio::sync::watch::Sender<u32>,
}

impl Broker {
    fn new(batches: i64, pause: Duration) -> Arc<Mutex<Self>> {
        let offers = vec![ApiKey::ApiVersions, ApiKey::OffsetForLeaderEpoch, ApiKey::Fetch, ApiKey::DescribeProducers];
        let closed = tokio::sync::watch::Sender::new(0);
        Arc::new(Mutex::new(Broker { batches, pause, offers, connections: 0, open: 0, asked: vec![], closed }))
    }

    fn answer(&mut self, connection: usize, request: RequestFrame) -> (BytesMut, Duration) {
        let RequestFrame { api, version, correlation_id, body, .. } = request;
        let mut note = |partition, at| self.asked.push((connection, api, partition, at));
        let (topic, error_code) = ("t".into(), codes::NONE);
        let answer = match api {
            ApiKey::ApiVersions => {
                let ranges = self.offers.iter().map(|api| match api {
                    ApiKey::Fetch => (api.id(), fetch::LEADER_EPOCHS_SINCE, *fetch::VERSIONS.end()),
                    ApiKey::DescribeProducers => (api.id(), 0, 0),
                    ApiKey::OffsetForLeaderEpoch => (api.id(), 2, *offset_for_leader_epoch::VERSIONS.end()),
                    _ => (api.id(), 0, *api_versions::VERSIONS.end()),
                });
                let versions = api_versions::Versions { ranges: ranges.collect() };
                let answer = api_versions::Answer { versions, ..api_versions::Answer::default() };
                api_versions::encode_response(version, correlation_id, &answer)
            }
            ApiKey::OffsetForLeaderEpoch => {
                let partition = offset_for_leader_epoch::decode_request(version, body).unwrap()[0].partition;
                note(partition, -1);
                let (leader_epoch, end_offset) = (EPOCH, self.batches);
                let answer =
                    offset_for_leader_epoch::PartitionAnswer { topic, partition, error_code, leader_epoch, end_offset };
                offset_for_leader_epoch::encode_response(version, correlation_id, &[answer])
            }
            ApiKey::Fetch => {
                let asked = fetch::decode_request(version, body).unwrap().partitions[0].clone();
                note(asked.partition, asked.offset);
                let answer = fetch::PartitionAnswer {
                    topic,
                    partition: asked.partition,
                    error_code,
                    high_watermark: self.batches,
                    log_start_offset: 0,
                    records: batch(asked.offset),
                };
                let frame = fetch::encode_response(version, correlation_id, Duration::ZERO, &[answer]).unwrap();
                return (frame, self.pause);
            }
            ApiKey::DescribeProducers => {
                let partition = describe_producers::decode_request(version, body).unwrap()[0].1;
                note(partition, -1);
                let producers = vec![describe_producers::Producer { lane: LANE, last_sequence: 3, last_timestamp: 0 }];
                let answer = describe_producers::PartitionAnswer { topic, partition, error_code, producers };
                describe_producers::encode_response(version, correlation_id, &[answer])
            }
            _ => panic!("nobody asks for {api:?} here"),
        };
        (answer.unwrap(), Duration::ZERO)
    }
}

/// A batch of one record at `offset`, of another producer.
fn batch(offset: i64) -> Bytes {
    let mut run = Run::default();
    run.push(&Record { timestamp: 1, stamped_here: false, key: None, value: Some(b"x"), headers: &[] });
    let mut builder = BatchBuilder::new();
    run.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
    let stamp = Stamp { lane: Lane { producer_id: 99, epoch: 0 }, base_sequence: offset as i32 };
    let mut bytes = BytesMut::from(&builder.finish(Codec::None, None).0.stamp(stamp)[..]);
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes.freeze()
}

async fn serve(broker: Arc<Mutex<Broker>>, mut stream: DuplexStream) {
    let (connection, mut closed) = {
        let mut broker = broker.lock();
        broker.connections += 1;
        broker.open += 1;
        (broker.connections, broker.closed.subscribe())
    };
    let talk = async {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(size) = buffer.first_chunk().map(|size| u32::from_be_bytes(*size) as usize)
                && buffer.len() >= 4 + size
            {
                buffer.advance(4);
                let request = decode_request(buffer.split_to(size).freeze()).unwrap();
                let (answer, pause) = broker.lock().answer(connection, request);
                sleep(pause).await;
                stream.write_all(&answer).await.unwrap();
            }
            if stream.read_buf(&mut buffer).await.unwrap() == 0 {
                return;
            }
        }
    };
    tokio::select! {
        () = talk => {}
        _ = closed.changed() => {}
    }
    broker.lock().open -= 1;
}

/// The inquiries of one slot, and the broker that is asked.
struct Asking {
    context: Arc<Context>,
    address: HostPort,
    broker: Arc<Mutex<Broker>>,
    partitions: Vec<Arc<Partition>>,
    inquiries: Inquiries,
}

impl Asking {
    fn of(broker: &Arc<Mutex<Broker>>) -> Self {
        let config = Arc::new(Config::default());
        let topics = Arc::new(Topics::new(config.clone()));
        let topic = topics.find_or_create("t").unwrap();
        topics.place(&topic, 3, |_, _| {});
        let led = |id| metadata::Partition { id, leader: 1, leader_epoch: EPOCH, ..metadata::Partition::default() };
        let partitions = (0..3).map(led).collect();
        let known = metadata::Topic { name: Some("t".into()), partitions, ..metadata::Topic::default() };
        let answer = metadata::Metadata { topics: vec![known], ..metadata::Metadata::default() };
        let cluster = Cluster::that_stays(Snapshot::default().after(&answer, Instant::now()));
        let served = broker.clone();
        let dialer = Dialer::new("test", Duration::from_secs(1), move |_| {
            let (ours, theirs) = duplex(1 << 16);
            tokio::spawn(serve(served.clone(), theirs));
            Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
        });
        Asking {
            context: Context::that_is_alone(config, topics.clone(), cluster, dialer),
            address: HostPort { host: "broker".into(), port: 1 },
            broker: broker.clone(),
            partitions: topic.partitions().unwrap().to_vec(),
            inquiries: Inquiries::default(),
        }
    }

    /// What its window wants to know, as it would be asked for.
    fn ask(&mut self, partition: usize, number: u32, question: Question) {
        let partition = self.partitions[partition].clone();
        let mut flight = Flight::new(crate::queue::window::ConnectionId(1), Instant::now());
        flight.inquiry = Some(number);
        partition.window().flight = Some(flight);
        let inquiry = Inquiry { partition, number, question, random: fastrand::Rng::with_seed(1), progress: None };
        self.inquiries.ask(&self.context, &self.address, inquiry);
    }

    async fn found(&mut self) -> (i32, Finding) {
        let found = timeout(Duration::from_secs(600), self.inquiries.next(&self.context, &self.address)).await;
        let found = found.expect("it comes to an end");
        (found.partition.id(), found.finding)
    }

    /// How many were opened, and how many are open.
    fn connections(&self) -> (usize, usize) {
        let broker = self.broker.lock();
        (broker.connections, broker.open)
    }

    fn asked(&self) -> Vec<Asked> {
        self.broker.lock().asked.clone()
    }
}

/// Looks for something that is not there, from the log's beginning.
fn scan() -> Question {
    let stamp = Stamp { lane: LANE, base_sequence: 0 };
    Question::Scan { from: Some(0), sent: vec![Attempt { stamp, count: 1 }] }
}

fn last_sequence(acknowledged_end: Option<i64>) -> Question {
    Question::LastSequence { lane: LANE, acknowledged_end }
}

#[tokio::test(start_paused = true)]
async fn a_scan_that_takes_long_lets_others_have_their_turn_and_goes_on_where_it_was() {
    let mut asking = Asking::of(&Broker::new(6, TIME_SLICE.mul_f64(0.6)));
    for partition in 0..3 {
        asking.ask(partition, 1, scan());
    }
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(asking.found().await);
    }
    found.sort_by_key(|(partition, _)| *partition);
    assert_eq!(found, [(0, Absent), (1, Absent), (2, Absent)]);
    let asked = asking.asked();
    let of = |partition: i32| asked.iter().filter(move |asked| asked.2 == partition);
    for partition in 0..3 {
        let offsets: Vec<i64> = of(partition).map(|asked| asked.3).collect();
        assert_eq!(offsets, [-1, 0, 1, 2, 3, 4, 5], "of {partition}: the log's end once, and each batch once");
    }
    let place = |partition, offset| asked.iter().position(|asked| (asked.2, asked.3) == (partition, offset));
    assert!(place(0, 1) < place(2, -1) && place(2, -1) < place(0, 2), "a turn of the first, then the third: {asked:?}");
    assert!(place(2, 1) < place(1, 2) && place(1, 2) < place(2, 2), "whose turn ends, too: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_scan_that_nobody_waits_for_any_more_does_not_go_on() {
    let mut asking = Asking::of(&Broker::new(6, TIME_SLICE));
    asking.ask(0, 1, scan());
    asking.partitions[0].window().flight = None;
    asking.ask(1, 1, scan());
    assert_eq!(asking.found().await, (1, Absent));
    assert!(asking.asked().iter().filter(|asked| asked.2 == 0).count() <= 3, "one turn: {:?}", asking.asked());
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_the_next_inquiry_and_closed_when_there_is_none_for_a_while() {
    let mut asking = Asking::of(&Broker::new(1, Duration::ZERO));
    for number in 1..4 {
        asking.ask(0, number, scan());
        assert_eq!(asking.found().await, (0, Absent));
    }
    assert_eq!(asking.connections(), (1, 1));
    assert!(timeout(2 * KEPT_FOR, asking.found()).await.is_err(), "nothing was asked");
    assert_eq!(asking.connections(), (1, 0));
    asking.ask(0, 4, scan());
    assert_eq!(asking.found().await, (0, Absent));
    assert_eq!(asking.connections().0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_was_closed_meanwhile_is_replaced() {
    let broker = Broker::new(1, Duration::ZERO);
    let mut asking = Asking::of(&broker);
    asking.ask(0, 1, scan());
    assert_eq!(asking.found().await, (0, Absent));
    broker.lock().closed.send_modify(|times| *times += 1);
    asking.ask(0, 2, scan());
    assert_eq!(asking.found().await, (0, Absent));
    assert_eq!(asking.connections().0, 2);
}

#[tokio::test(start_paused = true)]
async fn the_logs_end_is_asked_for_before_the_last_number_and_one_before_what_was_acknowledged_ends_the_inquiry() {
    let mut asking = Asking::of(&Broker::new(4, Duration::ZERO));
    asking.ask(0, 1, last_sequence(Some(5)));
    assert_eq!(asking.found().await, (0, Shrunk));
    asking.ask(0, 2, last_sequence(Some(4)));
    assert_eq!(asking.found().await, (0, LastSequence(Some(3))));
    asking.ask(0, 3, last_sequence(None));
    assert_eq!(asking.found().await, (0, LastSequence(Some(3))));
    let asked: Vec<ApiKey> = asking.asked().iter().map(|asked| asked.1).collect();
    use ApiKey::{DescribeProducers, OffsetForLeaderEpoch};
    assert_eq!(asked, [OffsetForLeaderEpoch, OffsetForLeaderEpoch, DescribeProducers, DescribeProducers]);
}

#[tokio::test(start_paused = true)]
async fn where_a_broker_does_not_say_where_its_log_ends_the_last_number_is_asked_for_all_the_same() {
    let broker = Broker::new(4, Duration::ZERO);
    broker.lock().offers.retain(|api| *api != ApiKey::OffsetForLeaderEpoch);
    let mut asking = Asking::of(&broker);
    asking.ask(0, 1, last_sequence(Some(5)));
    assert_eq!(asking.found().await, (0, LastSequence(Some(3))));
}
