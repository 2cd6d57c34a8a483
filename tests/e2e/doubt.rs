//! What the daemon cannot know: requests without an answer, leaders that move before they have answered, brokers that have
//! forgotten a producer, topics that are not what they were.

use std::time::Duration;

use forebay::devbroker::{At, Settings};
use serde_json::Value;

use crate::dev_kafka::DevKafka;
use crate::support::balance::{Ending, check, check_read, read, settled_ledger};
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, Extra};
use crate::support::load::{self, Load};
use crate::support::scenario::{SOON, held_records, mixed_writers};
use crate::support::writer::{By, Way, Writer};

/// Records of each client between one event and the next.
const STRETCH: u64 = 30;

/// A request without an answer is given up soon.
pub const IMPATIENT: Extra<'_> = Extra {
    kafka: "request_timeout = \"300ms\"\nretry_backoff = \"10ms\"\nretry_backoff_max = \"50ms\"\n\
            reconnect_backoff = \"10ms\"\nreconnect_backoff_max = \"50ms\"",
    stream: "",
    datagram: "",
    rest: "",
};

/// Nothing lost, nothing doubled, in order; what was counted as possibly doubled is returned.
fn check_but_for_doubt(cluster: &DevKafka, daemon: &Daemon, load: Load) -> Value {
    let accounts = load.finish();
    let sent: u64 = accounts.iter().map(|account| u64::from(account.sent)).sum();
    let ledger = settled_ledger(daemon, sent);
    assert_eq!(check_read(&read(cluster, &accounts), &accounts, Ending::Settled), sent);
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&sent.into(), &sent.into()), "{ledger}");
    ledger["possible_duplicates"].clone()
}

#[test]
fn a_broker_that_does_not_answer_is_left_and_asked_again() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
    let topic = new_topic(&cluster, "silent", 6);
    let load = Load::start(&daemon, mixed_writers(&topic, 6));
    for id in 1..=3 {
        load.wait_for_each(STRETCH);
        let connections = cluster.counters().connections;
        cluster.hold_answers(At::Broker(id));
        cluster.wait_for("new connection", |counters| counters.connections > connections);
        cluster.release_answers();
    }
    load.wait_for_each(STRETCH);
    check(&cluster, &daemon, &load.finish());
    assert!(cluster.counters().duplicates > 0);
}

#[test]
fn a_partition_moves_only_when_its_old_leader_has_answered_or_is_given_up() {
    for answers_at_last in [true, false] {
        let cluster = DevKafka::start(2);
        let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
        let topic = new_topic(&cluster, "moving", 2);
        let load = Load::start(&daemon, mixed_writers(&topic, 2));
        for round in 0..6 {
            load.wait_for_each(STRETCH);
            let (partition, leader) = (round % 2, cluster.leader(&topic, round % 2));
            cluster.hold_answers(At::Broker(leader));
            cluster.wait_for("answer held", |counters| counters.held_answers > 0);
            let duplicates = cluster.counters().duplicates;
            cluster.move_leader(&topic, partition, 3 - leader);
            if !answers_at_last {
                cluster.wait_for("batch sent again", |counters| counters.duplicates > duplicates);
            }
            cluster.release_answers();
        }
        load.wait_for_each(STRETCH);
        check(&cluster, &daemon, &load.finish());
    }
}

#[test]
fn a_producer_that_brokers_do_not_know_or_do_not_want_goes_on_under_a_new_epoch() {
    for code in [45, 59, 47, 90] {
        let cluster = DevKafka::start(2);
        let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
        let topic = new_topic(&cluster, "fenced", 2);
        let load = Load::start(&daemon, mixed_writers(&topic, 2));
        for partition in [0, 1, 0] {
            load.wait_for_each(STRETCH);
            let before = cluster.counters().refused.get(&code).copied().unwrap_or_default();
            cluster.return_error(&topic, partition, code, 25, false);
            cluster.wait_for("all refusals", |counters| counters.refused.get(&code).is_some_and(|n| *n >= before + 25));
        }
        load.wait_for_each(STRETCH);
        check_but_for_doubt(&cluster, &daemon, load);
    }
}

#[test]
fn records_with_old_times_are_delivered_and_doubt_about_them_is_counted() {
    // A broker may forget the producer of an old batch at any time, so what was not answered may be there twice.
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
    let topic = new_topic(&cluster, "old", 1);
    let old = Outgoing { timestamp: Some(1_600_000_000_000), value: Some(b"old".to_vec()), ..Outgoing::default() };
    let fresh = Outgoing { timestamp: None, value: Some(b"fresh".to_vec()), ..Outgoing::default() };
    let mut client = daemon.connect();
    let records: Vec<_> = [&old, &old, &fresh, &old, &fresh, &fresh].map(Clone::clone).into();
    for (number, record) in (0..).zip(&records) {
        let answer = client.produce(&Produce::new(&topic, std::slice::from_ref(record)));
        assert_eq!((answer.error_code, answer.records[0].offset), (0, number), "{answer:?}");
    }
    assert_eq!(settled_ledger(&daemon, 6)["possible_duplicates"], 0);
    cluster.lose_answers(At::Anywhere, 1);
    assert_eq!(client.produce(&Produce::new(&topic, &[fresh])).error_code, 0);
    assert_eq!(settled_ledger(&daemon, 7)["possible_duplicates"], 0);
    cluster.lose_answers(At::Anywhere, 1);
    assert_eq!(client.produce(&Produce::new(&topic, &[old.clone(), old])).error_code, 0);
    assert_eq!(settled_ledger(&daemon, 9)["possible_duplicates"], 2);
    assert_eq!(cluster.read(&topic).len(), 9, "this broker had not forgotten");
}

#[test]
fn producers_that_are_swept_while_they_write_are_not_noticed() {
    let cluster =
        DevKafka::start_as(Settings { brokers: 2, producer_id_expiration: Duration::ZERO, ..Settings::default() });
    let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
    let topic = new_topic(&cluster, "swept", 4);
    let load = Load::start(&daemon, mixed_writers(&topic, 4));
    let mut swept = 0;
    for _ in 0..10 {
        load.wait_for_each(STRETCH);
        swept += cluster.sweep_producers();
    }
    assert!(swept > 0);
    load.wait_for_each(STRETCH);
    check_but_for_doubt(&cluster, &daemon, load);
}

#[test]
fn a_topic_that_is_made_anew_goes_on() {
    let cluster = DevKafka::start(2);
    let extra = Extra { kafka: "allow_auto_create_topics = false\nretry_backoff_max = \"200ms\"", ..Extra::default() };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let topic = new_topic(&cluster, "anew", 2);
    let mut client = daemon.connect();
    let record = |number: u8| [Outgoing { value: Some(vec![number]), ..Outgoing::default() }];
    for number in 0..3 {
        assert_eq!(client.produce(&Produce { partition: 1, ..Produce::new(&topic, &record(number)) }).error_code, 0);
    }
    cluster.delete_topic(&topic).expect("it exists");
    let refused = |counters: &forebay::devbroker::Counters| counters.refused.values().sum::<u64>();
    let before = refused(&cluster.counters());
    client.send_produce(&Produce { partition: 1, ..Produce::new(&topic, &record(3)) });
    cluster.wait_for("refusal", |counters| refused(counters) > before);
    daemon.wait_for_status("record held", SOON, |status| held_records(status, &topic).filter(|held| *held == 1));
    cluster.create_topic(&topic, 2);
    let answer = client.read_produce_answer();
    assert_eq!((answer.error_code, answer.records[0].offset), (0, 0), "{answer:?}");
    let answer = client.produce(&Produce { partition: 1, ..Produce::new(&topic, &record(4)) });
    assert_eq!((answer.error_code, answer.records[0].offset), (0, 1), "{answer:?}");
    assert_eq!(settled_ledger(&daemon, 5)["delivered"], 5);
    let values: Vec<_> = cluster.read(&topic).into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, [[3], [4]]);
}

#[test]
fn partitions_that_are_added_are_used() {
    let cluster = DevKafka::start(3);
    let kafka = "metadata_max_age = \"1s\"";
    let daemon = Daemon::start(&cluster.bootstrap(), Extra { kafka, ..Extra::default() });
    let topic = new_topic(&cluster, "growing", 2);
    let load = Load::start(&daemon, mixed_writers(&topic, 2));
    load.wait_for_each(STRETCH);
    cluster.add_partitions(&topic, 5).expect("it has fewer");
    daemon.wait_for_status("five partitions", SOON, |status| {
        let topics = status["topics"].as_array()?;
        (topics.iter().find(|found| found["name"] == topic)?["partitions"] == 5).then_some(())
    });
    let explicit = Writer { records: Some(50), ..Writer::new(20, &topic, 5) };
    let any = Writer { by: By::Partition, way: Way::Dory, ..explicit.clone() };
    let more = load::run(&daemon, vec![explicit, Writer { id: 21, ..any }]);
    load.wait_for_each(STRETCH);
    // Keys change their partition when there are more, so those of before and after are not compared.
    let accounts: Vec<_> =
        load.finish().into_iter().filter(|account| account.writer.by != By::Key).chain(more).collect();
    let known = |value: &[u8]| Writer::parse(value).is_some_and(|(id, _)| accounts.iter().any(|a| a.writer.id == id));
    let mut found = read(&cluster, &accounts);
    found.values_mut().for_each(|records| records.retain(|record| record.value.as_deref().is_some_and(known)));
    check_read(&found, &accounts, Ending::Settled);
    assert!((2..5).all(|partition| !cluster.read_partition(&topic, partition).is_empty()));
}

#[test]
fn a_bootstrap_server_that_is_dead_is_passed_over() {
    let cluster = DevKafka::start(2);
    let bootstrap = format!("127.0.0.1:1,{},127.0.0.1:2", cluster.bootstrap());
    let daemon = Daemon::start(&bootstrap, "");
    let topic = new_topic(&cluster, "bootstrap", 2);
    let accounts = load::run(&daemon, vec![Writer { records: Some(30), ..Writer::new(0, &topic, 2) }]);
    check(&cluster, &daemon, &accounts);
}

#[test]
fn records_of_every_size_up_to_the_limits_are_delivered() {
    let cluster = DevKafka::start(2);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "sizes", 2);
    // A request is 1 MiB at most, and so is the topic's limit.
    let sizes = [0, 1, 1000, 70_000, 300_000, 600_000, 900_000, 1_048_000, 2, 500_000, 500_000, 500_000];
    let records: Vec<_> = (0_u8..)
        .zip(sizes)
        .map(|(number, bytes)| Outgoing { value: Some(vec![number; bytes]), ..Outgoing::default() })
        .collect();
    let mut client = daemon.connect();
    let answer = client.produce(&Produce { partition: 1, ..Produce::new(&topic, &records) });
    let offsets: Vec<_> = answer.records.iter().map(|record| (record.error_code, record.offset)).collect();
    assert_eq!(offsets, (0..sizes.len() as i64).map(|offset| (0, offset)).collect::<Vec<_>>(), "{answer:?}");
    let found: Vec<_> = cluster.read(&topic).into_iter().map(|record| record.value).collect();
    assert!(found == records.into_iter().map(|record| record.value).collect::<Vec<_>>());
    // One that no request can hold.
    let huge = [Outgoing { value: Some(vec![7; 1_100_000]), ..Outgoing::default() }];
    let answer = client.produce(&Produce { partition: 1, ..Produce::new(&topic, &huge) });
    assert_eq!(answer.error_code, 10, "{answer:?}");
    assert_eq!(settled_ledger(&daemon, 13)["dead_lettered"], 1);
}

#[test]
fn brokers_that_remember_one_batch_only_are_asked_what_they_have_with_and_without_the_right_to_read() {
    for readable in [true, false] {
        let mut cluster = DevKafka::start(3);
        let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
        let topic = new_topic(&cluster, "forgetful", 3);
        cluster.set_readable(&topic, readable).expect("the topic exists");
        let load = Load::start(&daemon, mixed_writers(&topic, 3));
        for id in [1, 2, 3, 1, 2, 3] {
            load.wait_for_each(STRETCH);
            // Requests in flight are carried out, and their answers lost with what the broker remembers of them.
            cluster.hold_answers(At::Broker(id));
            cluster.wait_for("answer held", |counters| counters.held_answers > 0);
            cluster.kill_broker(id);
            cluster.release_answers();
            cluster.start_broker(id);
        }
        load.wait_for_each(STRETCH);
        check(&cluster, &daemon, &load.finish());
        let asked = [61, 1].map(|api| cluster.counters().requests.get(&api).copied().unwrap_or_default());
        assert!(readable || asked[1] == 0, "{asked:?}");
    }
}

#[test]
fn an_old_record_in_doubt_is_found_in_the_log_though_the_broker_has_forgotten_it() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
    let topic = new_topic(&cluster, "found", 1);
    let old =
        |number: u8| Outgoing { timestamp: Some(1_600_000_000_000), value: Some(vec![number]), ..Outgoing::default() };
    let mut client = daemon.connect();
    assert_eq!(client.produce(&Produce::new(&topic, &[old(0)])).error_code, 0);
    cluster.return_error(&topic, 0, 20, 1, true);
    cluster.delay_answers(At::Anywhere, Duration::from_millis(50));
    client.send_produce(&Produce::new(&topic, &[old(1)]));
    cluster.wait_for("append", |counters| counters.batches == 2);
    cluster.sweep_producers();
    cluster.delay_answers(At::Anywhere, Duration::ZERO);
    let answer = client.read_produce_answer();
    assert_eq!((answer.error_code, answer.records[0].offset), (0, 1), "{answer:?}");
    assert_eq!(settled_ledger(&daemon, 2)["possible_duplicates"], 0);
    assert_eq!(cluster.read(&topic).len(), 2);
}

#[test]
fn without_the_right_to_read_an_old_record_in_doubt_is_counted_by_its_cause() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
    let topic = new_topic(&cluster, "counted", 1);
    cluster.set_readable(&topic, false).expect("the topic exists");
    cluster.return_error(&topic, 0, 20, 1, true);
    let old = Outgoing { timestamp: Some(1_600_000_000_000), ..Outgoing::default() };
    assert_eq!(daemon.connect().produce(&Produce::new(&topic, &[old])).error_code, 0);
    let ledger = settled_ledger(&daemon, 1);
    assert_eq!(ledger["possible_duplicates_by_cause"], serde_json::json!({"old": 1}), "{ledger}");
}

#[test]
fn what_cannot_be_proven_is_held_until_it_can_be() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), Extra { rest: "[producer]\non_unproven = \"hold\"", ..IMPATIENT });
    let topic = new_topic(&cluster, "held", 1);
    cluster.set_readable(&topic, false).expect("the topic exists");
    cluster.return_error(&topic, 0, 20, 1, true);
    let old = Outgoing { timestamp: Some(1_600_000_000_000), ..Outgoing::default() };
    let mut client = daemon.connect();
    client.send_produce(&Produce::new(&topic, &[old]));
    daemon.wait_for_status("a parked partition", SOON, |status| {
        let topics = status["topics"].as_array()?;
        let parked = topics.iter().find(|found| found["name"] == topic)?["parked"].as_array()?;
        parked
            .first()
            .filter(|parked| parked["message"].as_str().is_some_and(|m| m.contains("on_unproven")))
            .map(|_| ())
    });
    cluster.set_readable(&topic, true).expect("the topic exists");
    assert_eq!(client.read_produce_answer().error_code, 0);
    assert_eq!(settled_ledger(&daemon, 1)["possible_duplicates"], 0);
    assert_eq!(cluster.read(&topic).len(), 1);
}

#[test]
fn what_is_found_out_while_the_connection_is_lost_is_heard() {
    // The answer to the question comes when nothing of the partition is in flight, and its connection is gone.
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
    let topic = new_topic(&cluster, "heard", 1);
    let old = Outgoing { timestamp: Some(1_600_000_000_000), ..Outgoing::default() };
    let mut client = daemon.connect();
    for round in 0..20 {
        cluster.return_error(&topic, 0, 20, 1, true);
        client.send_produce(&Produce::new(&topic, std::slice::from_ref(&old)));
        let asked = |counters: &forebay::devbroker::Counters| counters.requests.get(&23).copied().unwrap_or_default();
        cluster.wait_for("question", |counters| asked(counters) > round);
        cluster.drop_all_connections(1);
        assert_eq!(client.read_produce_answer().error_code, 0);
    }
    assert_eq!(settled_ledger(&daemon, 20)["delivered"], 20);
    assert_eq!(cluster.read(&topic).len(), 20);
}

#[test]
fn a_broker_that_has_a_batch_already_does_not_say_who_stamps_the_topics_records() {
    // It answers with the time of what it has, as where it stamps records itself; and there nothing would be old.
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), IMPATIENT);
    let topic = new_topic(&cluster, "stamps", 1);
    let fresh = Outgoing { value: Some(b"fresh".to_vec()), ..Outgoing::default() };
    let old = Outgoing { timestamp: Some(1_600_000_000_000), value: Some(b"old".to_vec()), ..Outgoing::default() };
    cluster.return_error(&topic, 0, 7, 1, true);
    assert_eq!(daemon.connect().produce(&Produce::new(&topic, &[fresh])).error_code, 0);
    assert_eq!(cluster.counters().duplicates, 1);
    assert_eq!(daemon.connect().produce(&Produce::new(&topic, &[old])).error_code, 0);
    assert_eq!(cluster.producers(&topic, 0).expect("it is there").len(), 2, "the old one has an id of its own");
}
