//! Topics that overflow: in memory alone as long as that does, in the log when it does not.

use std::fs;

use forebay::devbroker::At;
use serde_json::{Value, json};

use crate::backlog::{Stored, backlog, numbered, numbers, send};
use crate::dev_kafka::DevKafka;
use crate::support::balance::settled_ledger;
use crate::support::client::{Client, Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::Daemon;
use crate::support::scenario::SOON;

/// What the process may take beside `memory.limit`: what the log gathers, and what the allocator does not give back at once.
const OVERHEAD_BYTES: u64 = 32 << 20;

/// The rule of every topic.
const OVERFLOW: &str = "store = \"overflow\"";

/// Partitions of the daemon's only topic that go through the log now.
fn stored(status: &Value) -> &Value {
    &status["topics"][0]["stored"]
}

fn wait_until_stored(daemon: &Daemon, partitions: &Value) {
    daemon
        .wait_for_status("the partitions that are stored", SOON, |status| (stored(status) == partitions).then_some(()));
}

/// Sends one record that nobody is answered about.
fn hand_over(client: &mut Client, topic: &str, number: usize) {
    client.send_produce(&Produce { acks: 0, partition: 0, ..Produce::new(topic, &numbered(number, 100)) });
}

/// The most that the process ever had in memory.
fn peak_bytes(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process().id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so");
    peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
fn while_kafka_takes_all_nothing_is_stored_unless_a_client_asks_for_it() {
    let (cluster, files) = (DevKafka::start(1), Stored::new("64MiB"));
    let topic = new_topic(&cluster, "overflow", 1);
    let daemon = Daemon::start_on(files.files_with(&cluster, "64MiB", OVERFLOW));
    let mut client = daemon.connect();
    (0..20).for_each(|number| send(&mut client, &topic, -1, number));
    let status = daemon.status();
    assert_eq!((backlog(&status, "accepted"), stored(&status)), (&json!(0), &json!([])), "{status:#}");
    send(&mut client, &topic, 1, 20);
    let status = daemon.status();
    assert_eq!((backlog(&status, "accepted"), stored(&status)), (&json!(1), &json!([0])), "{status:#}");
    assert_eq!(status["topics"][0]["spilled_records"], 1, "{status:#}");
    // Nobody asks any more: it goes back to memory alone.
    wait_until_stored(&daemon, &json!([]));
    send(&mut client, &topic, -1, 21);
    settled_ledger(&daemon, 22);
    assert_eq!(backlog(&daemon.status(), "accepted"), &json!(1));
    assert_eq!(numbers(&cluster, &topic), (0..22).collect::<Vec<_>>());
}

#[test]
fn acks_1_keeps_all_before_it_through_a_kill() {
    let (cluster, files) = (DevKafka::start(1), Stored::new("64MiB"));
    let topic = new_topic(&cluster, "asked", 1);
    let mut daemon = Daemon::start_on(files.files_with(&cluster, "64MiB", OVERFLOW));
    send(&mut daemon.connect(), &topic, -1, 0);
    cluster.hold_requests(At::Anywhere);
    let mut number = 1;
    for _ in 0..3 {
        let mut client = daemon.connect();
        for _ in 0..20 {
            hand_over(&mut client, &topic, number);
            number += 1;
        }
        send(&mut client, &topic, 1, number);
        number += 1;
        daemon = Daemon::start_on(daemon.kill().files);
        let status = daemon.status();
        assert_eq!(status["ledger"]["held"], number - 1, "{status:#}");
        assert_eq!(stored(&status), &json!([0]));
    }
    cluster.release_requests();
    let ledger = settled_ledger(&daemon, number as u64 - 1);
    assert_eq!((&ledger["dropped"], &ledger["possible_duplicates"]), (&json!({}), &json!(0)));
    wait_until_stored(&daemon, &json!([]));
    send(&mut daemon.connect(), &topic, -1, number);
    assert_eq!(numbers(&cluster, &topic), (0..=number).collect::<Vec<_>>());
}

#[test]
fn what_waits_for_longer_than_spill_after_survives_a_kill() {
    let (cluster, files) = (DevKafka::start(1), Stored::new("64MiB"));
    let topic = new_topic(&cluster, "waits", 1);
    let daemon = Daemon::start_on(files.files_with(&cluster, "64MiB", "store = \"overflow\"\nspill_after = \"100ms\""));
    let mut client = daemon.connect();
    send(&mut client, &topic, -1, 0);
    cluster.hold_requests(At::Anywhere);
    (1..=10).for_each(|number| hand_over(&mut client, &topic, number));
    wait_until_stored(&daemon, &json!([0]));
    daemon.wait_for_status("all of it in the log", SOON, |status| {
        (backlog(status, "held_records") == &json!(10)).then_some(())
    });
    // Given to the log a moment ago, and synced within milliseconds.
    send(&mut client, &topic, 1, 11);
    let daemon = Daemon::start_on(daemon.kill().files);
    cluster.release_requests();
    settled_ledger(&daemon, 11);
    assert_eq!(numbers(&cluster, &topic), (0..=11).collect::<Vec<_>>());
}

#[test]
fn a_stop_while_kafka_is_away_loses_nothing_and_does_not_wait_for_it() {
    let (mut cluster, files) = (DevKafka::start(1), Stored::new("64MiB"));
    let topic = new_topic(&cluster, "stopped", 1);
    let mut daemon = Daemon::start_on(files.files_with(&cluster, "64MiB", OVERFLOW));
    send(&mut daemon.connect(), &topic, -1, 0);
    cluster.kill_broker(1);
    let mut number = 1;
    for _ in 0..2 {
        let mut client = daemon.connect();
        for _ in 0..50 {
            hand_over(&mut client, &topic, number);
            number += 1;
        }
        daemon.wait_for_status("all of it", SOON, |status| (status["ledger"]["held"] == number - 1).then_some(()));
        daemon = daemon.restart();
    }
    cluster.start_all();
    settled_ledger(&daemon, number as u64 - 1);
    assert_eq!(numbers(&cluster, &topic), (0..number).collect::<Vec<_>>());
}

/// More than memory holds comes while Kafka is away; the daemon is stopped and started in the middle of it.
#[test]
fn an_outage_larger_than_memory_takes_no_more_than_memory_and_is_delivered_once_and_in_order() {
    const LIMIT: u64 = 64 << 20;
    const REQUESTS: usize = 1500;
    const RECORDS: usize = 100;
    let (mut cluster, files) = (DevKafka::start(1), Stored::new("512MiB"));
    let topic = new_topic(&cluster, "outage", 1);
    let mut daemon = Daemon::start_on(files.files_with(&cluster, "64MiB", OVERFLOW));
    send(&mut daemon.connect(), &topic, -1, 0);
    cluster.kill_broker(1);
    let mut number = 1;
    for _ in 0..2 {
        let mut client = daemon.connect();
        for _ in 0..REQUESTS / 2 {
            let records: Vec<Outgoing> = (number..number + RECORDS).flat_map(|number| numbered(number, 1024)).collect();
            client.send_produce(&Produce { acks: 0, partition: 0, ..Produce::new(&topic, &records) });
            number += RECORDS;
        }
        // Answered when all before it is in the log.
        send(&mut client, &topic, 1, number);
        number += 1;
        let peak = peak_bytes(&daemon);
        assert!(peak <= LIMIT + OVERHEAD_BYTES, "{peak}");
        daemon = Daemon::start_on(daemon.kill().files);
    }
    assert!(number * 1024 > 2 * LIMIT as usize);
    cluster.start_all();
    let ledger = settled_ledger(&daemon, number as u64 - 1);
    assert_eq!((&ledger["dropped"], &ledger["possible_duplicates"]), (&json!({}), &json!(0)));
    let peak = peak_bytes(&daemon);
    assert!(peak <= LIMIT + OVERHEAD_BYTES, "{peak}");
    assert!(numbers(&cluster, &topic) == (0..number).collect::<Vec<_>>(), "not all of it once and in order");
    wait_until_stored(&daemon, &json!([]));
}
