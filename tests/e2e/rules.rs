//! What a topic's own rules make of records that cannot be delivered.

use forebay::devbroker::At;
use serde_json::Value;

use crate::dev_kafka::DevKafka;
use crate::support::balance::settled_ledger;
use crate::support::client::{Client, Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, Extra};
use crate::support::scenario::{SOON, held_records};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const REQUEST_TIMED_OUT: i16 = 7;

/// A daemon whose topics have these rules, and that finds out soon what has become of them.
fn daemon_with(cluster: &DevKafka, rules: &str) -> Daemon {
    let kafka = "allow_auto_create_topics = false\nretry_backoff = \"10ms\"\nretry_backoff_max = \"50ms\"";
    let rest = format!("[producer]\n{rules}");
    Daemon::start(&cluster.bootstrap(), Extra { kafka, rest: &rest, ..Extra::default() })
}

fn record(number: u8) -> [Outgoing; 1] {
    [Outgoing { value: Some(vec![number]), ..Outgoing::default() }]
}

/// What a client is told of a record for a partition: the error, the words and the offset.
fn produce(client: &mut Client, topic: &str, partition: i32, number: u8) -> (i16, Option<String>, i64) {
    let answer = client.produce(&Produce { partition, ..Produce::new(topic, &record(number)) });
    (answer.error_code, answer.error_message, answer.records[0].offset)
}

/// What the status says of a topic under a name.
fn of_topic(status: &Value, topic: &str, name: &str) -> Option<Value> {
    Some(status["topics"].as_array()?.iter().find(|found| found["name"] == topic)?[name].clone())
}

#[test]
fn records_of_a_topic_that_is_gone_are_dead_lettered_where_its_rule_says_so() {
    let cluster = DevKafka::start(2);
    let daemon = daemon_with(&cluster, "max_block = \"300ms\"\non_missing_partition = \"dead_letter\"");
    let topic = new_topic(&cluster, "gone", 2);
    let mut client = daemon.connect();
    assert_eq!(produce(&mut client, &topic, 1, 0).0, 0);
    cluster.delete_topic(&topic).expect("it exists");
    for number in 1..=2 {
        let (code, words, _) = produce(&mut client, &topic, 1, number);
        assert_eq!(code, UNKNOWN_TOPIC_OR_PARTITION, "{words:?}");
        assert!(words.is_some_and(|words| words.contains("no partition 1 any more")));
    }
    let ledger = settled_ledger(&daemon, 3);
    let figures = ["delivered", "dead_lettered"].map(|name| ledger[name].as_u64());
    assert_eq!(figures, [Some(1), Some(2)], "{ledger}");
    assert_eq!(ledger["dead_lettered_by_error"]["UNKNOWN_TOPIC_OR_PARTITION"], 2, "{ledger}");
    // What was sent and answered by 3 might have been appended.
    let counted = ledger["possible_duplicates_by_cause"]["given_up"].as_u64().unwrap_or_default();
    assert_eq!(ledger["possible_duplicates"], counted, "{ledger}");
    // It comes back, and is written to as if nothing had been.
    cluster.create_topic(&topic, 2);
    daemon.wait_for_status("nothing missing", SOON, |status| {
        let (code, words, offset) = produce(&mut daemon.connect(), &topic, 1, 3);
        assert!([0, UNKNOWN_TOPIC_OR_PARTITION].contains(&code), "{words:?}");
        (code == 0 && offset == 0 && of_topic(status, &topic, "missing")? == Value::Array(vec![])).then_some(())
    });
}

#[test]
fn records_of_partitions_that_a_new_topic_has_no_more_are_dead_lettered_and_the_others_delivered() {
    let cluster = DevKafka::start(2);
    let daemon = daemon_with(&cluster, "max_block = \"300ms\"\non_missing_partition = \"dead_letter\"");
    let topic = new_topic(&cluster, "narrower", 3);
    let mut client = daemon.connect();
    for partition in 0..3 {
        assert_eq!(produce(&mut client, &topic, partition, 0).0, 0);
    }
    cluster.delete_topic(&topic).expect("it exists");
    for partition in 0..3 {
        client.send_produce(&Produce { partition, ..Produce::new(&topic, &record(1)) });
    }
    daemon.wait_for_status("three held", SOON, |status| held_records(status, &topic).filter(|held| *held == 3));
    cluster.create_topic(&topic, 1);
    let mut answers: Vec<_> = (0..3).map(|_| client.read_produce_answer()).collect();
    answers.sort_by_key(|answer| answer.correlation_id);
    let codes: Vec<_> = answers.iter().map(|answer| answer.error_code).collect();
    assert_eq!(codes, [0, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_OR_PARTITION]);
    assert_eq!(settled_ledger(&daemon, 6)["dead_lettered"], 2);
    let values: Vec<_> = cluster.read(&topic).into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, [[1]]);
}

#[test]
fn records_of_partitions_that_are_gone_are_shown_and_wait_by_default() {
    let cluster = DevKafka::start(1);
    let daemon = daemon_with(&cluster, "max_block = \"0ms\"");
    let topic = new_topic(&cluster, "waits", 2);
    let mut client = daemon.connect();
    assert_eq!(produce(&mut client, &topic, 1, 0).0, 0);
    cluster.delete_topic(&topic).expect("it exists");
    client.send_produce(&Produce { partition: 1, ..Produce::new(&topic, &record(1)) });
    cluster.wait_for("refusals", |counters| counters.refused.values().sum::<u64>() > 3);
    daemon.wait_for_status("a missing partition", SOON, |status| {
        (of_topic(status, &topic, "missing")? == serde_json::json!([1])).then_some(())
    });
    cluster.create_topic(&topic, 2);
    let answer = client.read_produce_answer();
    assert_eq!((answer.error_code, answer.records[0].offset), (0, 0), "{answer:?}");
    daemon.wait_for_status("nothing missing", SOON, |status| {
        (of_topic(status, &topic, "missing")? == Value::Array(vec![])).then_some(())
    });
}

#[test]
fn records_that_wait_for_longer_than_their_topic_allows_are_given_up_and_later_ones_delivered() {
    let mut cluster = DevKafka::start(1);
    let daemon = daemon_with(&cluster, "delivery_timeout = \"300ms\"");
    let topic = new_topic(&cluster, "timely", 1);
    let mut client = daemon.connect();
    assert_eq!(produce(&mut client, &topic, 0, 0).0, 0);
    cluster.kill_broker(1);
    let (code, words, _) = produce(&mut client, &topic, 0, 1);
    assert_eq!(code, REQUEST_TIMED_OUT, "{words:?}");
    assert!(words.is_some_and(|words| words.contains("delivery_timeout")));
    cluster.start_broker(1);
    let mut late = 1;
    while produce(&mut client, &topic, 0, 2).0 != 0 {
        late += 1;
    }
    let ledger = settled_ledger(&daemon, 2 + late);
    assert_eq!(ledger["dropped"]["delivery_timeout"], late, "{ledger}");
    let values: Vec<_> = cluster.read(&topic).into_iter().filter_map(|record| record.value).collect();
    assert!(!values.contains(&vec![1]), "it was never sent: {values:?}");
}

#[test]
fn records_wait_no_longer_for_a_cluster_that_was_never_there() {
    let daemon = Daemon::start("127.0.0.1:1", "[producer]\ndelivery_timeout = \"200ms\"");
    let (code, words, _) = produce(&mut daemon.connect(), "nowhere", -1, 0);
    assert_eq!(code, REQUEST_TIMED_OUT, "{words:?}");
    assert_eq!(settled_ledger(&daemon, 1)["dropped"]["delivery_timeout"], 1);
}

#[test]
fn what_is_given_up_in_doubt_is_counted_and_what_follows_is_delivered() {
    let cluster = DevKafka::start(1);
    let kafka = "request_timeout = \"100ms\"\nretry_backoff = \"10ms\"\nretry_backoff_max = \"50ms\"";
    let rest = "[producer]\ndelivery_timeout = \"300ms\"";
    let daemon = Daemon::start(&cluster.bootstrap(), Extra { kafka, rest, ..Extra::default() });
    let topic = new_topic(&cluster, "doubted", 1);
    let mut client = daemon.connect();
    assert_eq!(produce(&mut client, &topic, 0, 0).0, 0);
    cluster.hold_answers(At::Anywhere);
    let (code, words, _) = produce(&mut client, &topic, 0, 1);
    assert_eq!(code, REQUEST_TIMED_OUT, "{words:?}");
    cluster.release_answers();
    let mut late = 1;
    while produce(&mut client, &topic, 0, 2).0 != 0 {
        late += 1;
    }
    let ledger = settled_ledger(&daemon, 2 + late);
    assert_eq!(ledger["dropped"]["delivery_timeout"], late, "{ledger}");
    let counted = ledger["possible_duplicates_by_cause"]["given_up"].as_u64();
    assert!(counted.is_some_and(|counted| (1..=late).contains(&counted)), "{ledger}");
    let values: Vec<_> = cluster.read(&topic).into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values[..2], [[0], [1]], "it was appended, and its answer lost");
    assert_eq!(values.last(), Some(&vec![2]));
}

#[test]
fn a_topic_over_its_rate_limit_waits_alone_and_is_delivered_at_a_stop() {
    let cluster = DevKafka::start(1);
    let rest = "[topics.\"paced-*\"]\nrate_limit = \"1KiB/s\"";
    let daemon = Daemon::start(&cluster.bootstrap(), rest);
    let (paced, free) = (new_topic(&cluster, "paced", 2), new_topic(&cluster, "free", 1));
    let mut client = daemon.connect();
    // One batch goes at once, however large; the next one then has minutes to wait.
    let large = [Outgoing { value: Some(vec![7; 300_000]), ..Outgoing::default() }];
    assert_eq!(client.produce(&Produce { partition: 0, ..Produce::new(&paced, &large) }).error_code, 0);
    for partition in 0..2 {
        client.send_produce(&Produce { acks: 0, partition, ..Produce::new(&paced, &record(1)) });
    }
    daemon.wait_for_status("both partitions held back", SOON, |status| {
        (of_topic(status, &paced, "held_back")? == serde_json::json!([0, 1])).then_some(())
    });
    for number in 0..20 {
        assert_eq!(produce(&mut client, &free, 0, number).0, 0);
    }
    assert_eq!(held_records(&daemon.status(), &paced), Some(2));
    assert_eq!(daemon.stop().code(), 0);
    assert_eq!(cluster.read(&paced).len(), 3);
}
