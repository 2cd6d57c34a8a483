//! What Kafka will not take: the one record is given up with Kafka's own reason, its neighbours are delivered; and what only
//! a person can mend is shown and waited for.

use forebay::devbroker::At;

use crate::dev_kafka::DevKafka;
use crate::support::balance::{check, settled_ledger};
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::Daemon;
use crate::support::load::{self, Load};
use crate::support::scenario::SOON;
use crate::support::writer::{Way, Writer};

const MESSAGE_TOO_LARGE: i16 = 10;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

fn record(number: u8, bytes: usize) -> Outgoing {
    Outgoing { value: Some(vec![number; bytes]), ..Outgoing::default() }
}

#[test]
fn a_record_that_is_too_large_is_given_up_alone() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "large", 2);
    cluster.set_max_message_bytes(&topic, 2000).expect("the topic exists");
    // All in one batch: the large ones are found by halving it.
    let sizes = [10, 10, 5000, 10, 10, 10, 3000, 10, 700, 700, 700, 10];
    let records: Vec<_> = (0..).zip(sizes).map(|(number, bytes)| record(number, bytes)).collect();
    let mut client = daemon.connect();
    let answer = client.produce(&Produce { partition: 1, ..Produce::new(&topic, &records) });
    assert_eq!(answer.error_code, MESSAGE_TOO_LARGE, "{answer:?}");
    assert!(answer.error_message.is_some());
    let stored = cluster.read_partition(&topic, 1);
    let mut offset = 0;
    for ((number, bytes), answer) in (0_u8..).zip(sizes).zip(&answer.records) {
        if bytes > 2000 {
            assert_eq!((answer.error_code, answer.offset), (MESSAGE_TOO_LARGE, -1), "record {number}: {answer:?}");
            continue;
        }
        assert_eq!((answer.error_code, answer.partition, answer.offset), (0, 1, offset), "record {number}");
        assert_eq!(stored[offset as usize].value, record(number, bytes).value);
        offset += 1;
    }
    assert_eq!(stored.len() as i64, offset);
    let ledger = settled_ledger(&daemon, 12);
    let figures = ["accepted", "delivered", "dead_lettered", "possible_duplicates"].map(|name| ledger[name].as_u64());
    assert_eq!(figures, [Some(12), Some(10), Some(2), Some(0)], "{ledger}");
    // The partition goes on.
    let answer = client.produce(&Produce { partition: 1, ..Produce::new(&topic, &[record(99, 10)]) });
    assert_eq!((answer.error_code, answer.records[0].offset), (0, 10), "{answer:?}");
}

#[test]
fn many_records_too_large_among_many_clients() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "large", 3);
    cluster.set_max_message_bytes(&topic, 4000).expect("the topic exists");
    // Together they make batches that are too large, alone none of them is.
    let writers =
        (0..4).map(|id| Writer { burst: 10, value_bytes: 900, records: Some(300), ..Writer::new(id, &topic, 3) });
    check(&cluster, &daemon, &load::run(&daemon, writers.collect()));
    assert!(cluster.counters().refused.contains_key(&MESSAGE_TOO_LARGE));
}

#[test]
fn a_partition_without_permission_is_parked_and_comes_back_by_itself() {
    let cluster = DevKafka::start(2);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "parked", 2);
    // The pauses between attempts double from 100 ms, so this is a few seconds.
    cluster.return_error(&topic, 0, TOPIC_AUTHORIZATION_FAILED, 5, false);
    let parked = Writer { records: Some(30), ..Writer::new(0, &topic, 1) };
    let other = Writer { way: Way::All(2), ..Writer::new(1, &topic, 1) };
    let load = Load::start(&daemon, vec![parked]);
    let shown = daemon.wait_for_status("a parked partition", SOON, |status| {
        let topics = status["topics"].as_array()?;
        let parked = topics.iter().find(|found| found["name"] == topic)?["parked"].as_array()?;
        parked.first().cloned()
    });
    assert_eq!(shown["partition"], 0, "{shown}");
    assert_eq!(shown["code"], TOPIC_AUTHORIZATION_FAILED, "{shown}");
    assert_eq!(shown["name"], "TOPIC_AUTHORIZATION_FAILED", "{shown}");
    // Meanwhile another topic is not disturbed.
    let free = new_topic(&cluster, "free", 1);
    let others = Load::start(&daemon, vec![Writer { topic: free, ..other }]);
    others.wait_for_each(30);
    let mut accounts = load.join();
    accounts.extend(others.finish());
    check(&cluster, &daemon, &accounts);
    let status = daemon.status();
    let topics = status["topics"].as_array().expect("topics are a list");
    assert!(topics.iter().all(|topic| topic["parked"].as_array().is_some_and(Vec::is_empty)), "{status:#}");
}

#[test]
fn a_partition_that_does_not_exist_is_refused_with_error_3() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "narrow", 2);
    let mut client = daemon.connect();
    assert_eq!(client.produce(&Produce::new(&topic, &[record(1, 1)])).error_code, 0);
    let answer = client.produce(&Produce { partition: 7, ..Produce::new(&topic, &[record(2, 1)]) });
    assert_eq!(answer.error_code, 3, "{answer:?}");
    assert!(answer.error_message.is_some_and(|message| message.contains('7')));
    // Without an answer it is counted.
    client.send_produce(&Produce { acks: 0, partition: 7, ..Produce::new(&topic, &[record(3, 1)]) });
    let dropped = |status: &serde_json::Value| status["ledger"]["dropped"]["unknown_partition"].as_u64();
    assert_eq!(daemon.wait_for_status("a drop", SOON, dropped), 1);
    assert_eq!(cluster.read(&topic).len(), 1);
}

#[test]
fn an_answer_that_is_late_for_its_client_says_so_and_the_record_stays_accepted() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "late", 1);
    cluster.hold_requests(At::Anywhere);
    let mut client = daemon.connect();
    let answer = client.produce(&Produce { timeout_ms: 50, ..Produce::new(&topic, &[record(1, 1), record(2, 1)]) });
    let codes: Vec<i16> = answer.records.iter().map(|record| record.error_code).collect();
    assert_eq!((answer.error_code, &codes[..]), (7, &[7, 7][..]), "{answer:?}");
    cluster.release_requests();
    assert_eq!(settled_ledger(&daemon, 2)["delivered"], 2);
    assert_eq!(cluster.read(&topic).len(), 2);
}

/// A partition with records whose times are `times`, of which those of last year are refused.
fn with_times(cluster: &DevKafka, daemon: &Daemon, times: &[Option<i64>]) -> (String, Vec<i16>) {
    let topic = new_topic(cluster, "times", 1);
    let hour = std::time::Duration::from_secs(3600);
    cluster.set_timestamp_range(&topic, hour, hour).expect("the topic exists");
    let records: Vec<_> = (0..).zip(times).map(|(n, time)| Outgoing { timestamp: *time, ..record(n, 10) }).collect();
    let answer = daemon.connect().produce(&Produce::new(&topic, &records));
    (topic, answer.records.iter().map(|record| record.error_code).collect())
}

const LONG_AGO: i64 = 1_600_000_000_000;

#[test]
fn a_time_that_kafka_refuses_is_replaced_and_stands_in_a_header() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let (topic, codes) = with_times(&cluster, &daemon, &[None, Some(LONG_AGO), None, Some(i64::MAX), Some(0)]);
    assert_eq!(codes, [0; 5]);
    let stored = cluster.read_partition(&topic, 0);
    let own = |record: &crate::support::kcat::ReadRecord| {
        let (name, value) = record.headers.first()?;
        assert_eq!(name, b"forebay.original.timestamp");
        Some(String::from_utf8(value.clone()?).expect("a number"))
    };
    let originals: Vec<_> = stored.iter().map(own).collect();
    let number = |time: i64| Some(time.to_string());
    assert_eq!(originals, [None, number(LONG_AGO), None, number(i64::MAX), number(0)]);
    assert!(stored.iter().all(|record| record.timestamp > LONG_AGO && record.timestamp < i64::MAX));
    let ledger = settled_ledger(&daemon, 5);
    assert_eq!((&ledger["delivered"], &ledger["restamped"]), (&5.into(), &3.into()), "{ledger}");
}

#[test]
fn the_records_at_fault_are_given_up_and_all_others_delivered() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "[producer]\non_invalid_timestamp = \"dead_letter\"");
    let old = Some(LONG_AGO);
    let (topic, codes) = with_times(&cluster, &daemon, &[None, old, old, None, None, old, None]);
    assert_eq!(codes, [0, 32, 32, 0, 0, 32, 0]);
    let values: Vec<u8> =
        cluster.read_partition(&topic, 0).iter().map(|r| r.value.as_ref().expect("a value")[0]).collect();
    assert_eq!(values, [0, 3, 4, 6]);
    let ledger = settled_ledger(&daemon, 7);
    assert_eq!(ledger["dead_lettered_by_error"], serde_json::json!({"INVALID_TIMESTAMP": 3}), "{ledger}");
    assert_eq!(ledger["possible_duplicates"], 0, "{ledger}");
}

#[test]
fn a_time_that_is_refused_is_held_where_the_topic_says_so() {
    let cluster = DevKafka::start(1);
    let kafka = "retry_backoff = \"10ms\"\nretry_backoff_max = \"50ms\"";
    let rest = "[producer]\non_invalid_timestamp = \"hold\"";
    let daemon =
        Daemon::start(&cluster.bootstrap(), crate::support::daemon::Extra { kafka, rest, ..Default::default() });
    let topic = new_topic(&cluster, "times", 1);
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    cluster.set_timestamp_range(&topic, year / 365, year).expect("the topic exists");
    let mut client = daemon.connect();
    client.send_produce(&Produce::new(&topic, &[Outgoing { timestamp: Some(LONG_AGO), ..record(1, 10) }]));
    daemon.wait_for_status("a parked partition", SOON, |status| {
        let topics = status["topics"].as_array()?;
        let parked = topics.iter().find(|found| found["name"] == topic)?["parked"].as_array()?;
        parked.first().filter(|parked| parked["code"] == 32).map(|_| ())
    });
    cluster.set_timestamp_range(&topic, year * 100, year).expect("the topic exists");
    assert_eq!(client.read_produce_answer().error_code, 0);
    assert_eq!(cluster.read_partition(&topic, 0)[0].timestamp, LONG_AGO);
}
