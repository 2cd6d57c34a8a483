//! What the ladder asks of real Kafka: each request is understood, and each answer says what it is taken to say.

use std::time::Duration;

use forebay::cluster::dial::{BrokerConnection, Dialer};
use forebay::config::HostPort;
use forebay::wire::api::{ApiKey, describe_producers, fetch, offset_for_leader_epoch};
use forebay::wire::record_batch::{Seen, walk};

use crate::cluster;
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::new_topic;
use crate::support::daemon::Daemon;

const TIMEOUT: Duration = Duration::from_secs(20);

/// What a leader has answered.
#[derive(Debug)]
struct Findings {
    producers: Vec<describe_producers::Producer>,
    /// The log's end: leader epoch and offset.
    end: (i32, i64),
    /// The code for an epoch in which nobody leads yet.
    unknown_epoch: i16,
    seen: Vec<Seen>,
    high_watermark: i64,
}

async fn ask(port: u16, topic: &str, epoch: i32) -> Findings {
    let address = HostPort { host: "127.0.0.1".to_owned(), port };
    let mut connection = Dialer::tcp("forebay-test", TIMEOUT).dial(&address).await.expect("the leader is up");
    let version = |connection: &BrokerConnection, api, versions| {
        connection.versions().pick(api, versions).expect("it is offered")
    };

    let v = version(&connection, ApiKey::DescribeProducers, describe_producers::VERSIONS);
    let id = connection.next_correlation_id();
    let frame = describe_producers::encode(v, id, "forebay-test", topic, 0).expect("it can be encoded");
    let body = connection.call(frame).await.expect("it is answered");
    let producers = describe_producers::decode(v, body).expect("it can be decoded").remove(0);
    assert_eq!(producers.error_code, 0);

    let v = version(&connection, ApiKey::OffsetForLeaderEpoch, offset_for_leader_epoch::VERSIONS);
    let mut ends = vec![];
    for epoch in [epoch, epoch + 1] {
        let asked = offset_for_leader_epoch::RequestPartition {
            topic: topic.into(),
            partition: 0,
            current_leader_epoch: epoch,
            leader_epoch: epoch,
        };
        let id = connection.next_correlation_id();
        let frame = offset_for_leader_epoch::encode(v, id, "forebay-test", &asked).expect("it can be encoded");
        let body = connection.call(frame).await.expect("it is answered");
        ends.push(offset_for_leader_epoch::decode(v, body).expect("it can be decoded").remove(0));
    }

    let v = version(&connection, ApiKey::Fetch, fetch::LEADER_EPOCHS_SINCE..=*fetch::VERSIONS.end());
    let asked = fetch::RequestPartition {
        topic: topic.into(),
        partition: 0,
        current_leader_epoch: epoch,
        offset: 0,
        max_bytes: 1 << 20,
    };
    let id = connection.next_correlation_id();
    let frame = fetch::encode(v, id, "forebay-test", Duration::from_millis(500), &asked).expect("it can be encoded");
    let body = connection.call(frame).await.expect("it is answered");
    let fetched = fetch::decode(v, body).expect("it can be decoded").remove(0);
    assert_eq!(fetched.error_code, 0);
    Findings {
        producers: producers.producers,
        end: (ends[0].leader_epoch, ends[0].end_offset),
        unknown_epoch: ends[1].error_code,
        seen: walk(&fetched.records).map(|seen| seen.expect("Kafka's log is sound")).collect(),
        high_watermark: fetched.high_watermark,
    }
}

#[test]
fn a_leader_tells_its_producers_its_logs_end_and_what_is_in_it() {
    let Some(cluster) = cluster::shared() else { return };
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&*cluster, "asked", 1);
    let mut client = daemon.connect();
    for records in [1, 2, 4] {
        let records = vec![Outgoing { value: Some(b"v".to_vec()), ..Outgoing::default() }; records];
        assert_eq!(client.produce(&Produce::new(&topic, &records)).error_code, 0);
    }
    let (port, epoch) = cluster.leader_port(&topic, 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let found = runtime.block_on(ask(port, &topic, epoch));
    assert_eq!((found.end, found.high_watermark), ((epoch, 7), 7), "{found:?}");
    assert_eq!(found.unknown_epoch, 75, "UNKNOWN_LEADER_EPOCH: {found:?}");
    let [producer] = found.producers[..] else { panic!("one producer has written: {found:?}") };
    assert_eq!(producer.last_sequence, 6, "{found:?}");
    let ends: Vec<i64> = found.seen.iter().map(Seen::end).collect();
    assert_eq!(ends, [1, 3, 7], "{found:?}");
    let stamps = found.seen.iter().map(|seen| seen.stamp.expect("all are idempotent"));
    let stamps: Vec<_> = stamps.map(|stamp| (stamp.lane, stamp.base_sequence)).collect();
    assert_eq!(stamps, [(producer.lane, 0), (producer.lane, 1), (producer.lane, 3)], "{found:?}");
}
