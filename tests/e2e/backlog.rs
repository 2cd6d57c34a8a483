//! Stored topics: what was answered as stored survives the process, Kafka's absence and a full log, and comes once and in order.

use std::thread;

use forebay::devbroker::At;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dev_kafka::DevKafka;
use crate::support::balance::settled_ledger;
use crate::support::client::{Client, Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles, Extra};
use crate::support::scenario::SOON;

/// A daemon's files, and a directory for its backlog, which outlives it.
pub struct Stored {
    backlog: TempDir,
    limit: &'static str,
}

impl Stored {
    pub fn new(limit: &'static str) -> Stored {
        Stored { backlog: TempDir::with_prefix("forebay-backlog-").expect("a temporary directory"), limit }
    }

    /// Every topic is stored; frames are small enough for the smallest log.
    fn files(&self, cluster: &impl Cluster, memory: &str) -> DaemonFiles {
        self.files_with(cluster, memory, "store = \"always\"")
    }

    /// The same with these rules for every topic.
    pub fn files_with(&self, cluster: &impl Cluster, memory: &str, rules: &str) -> DaemonFiles {
        let (directory, limit) = (self.backlog.path(), self.limit);
        let rest = format!(
            "[backlog]\ndirectory = {directory:?}\nlimit = {limit:?}\n[producer]\n{rules}\n[memory]\nlimit = {memory:?}"
        );
        let stream = "max_frame_size = \"1MiB\"\nmax_unanswered_size = \"1MiB\"";
        DaemonFiles::new(&cluster.bootstrap(), Extra { stream, rest: &rest, ..Extra::default() })
    }
}

pub fn numbered(number: usize, bytes: usize) -> [Outgoing; 1] {
    let mut value = format!("{number:08}").into_bytes();
    value.resize(bytes.max(value.len()), b'.');
    [Outgoing { value: Some(value), ..Outgoing::default() }]
}

/// Sends one record and waits until it is stored, or delivered.
pub fn send(client: &mut Client, topic: &str, acks: i16, number: usize) {
    let answer = client.produce(&Produce { acks, partition: 0, ..Produce::new(topic, &numbered(number, 100)) });
    assert_eq!((answer.error_code, answer.records[0].error_code), (0, 0), "{answer:?}");
    assert_eq!(answer.records[0].offset >= 0, acks == -1, "{answer:?}");
}

/// The numbers in a topic's first partition, in the order of Kafka's log.
pub fn numbers(cluster: &impl Cluster, topic: &str) -> Vec<usize> {
    let of = |value: &[u8]| std::str::from_utf8(value.get(..8)?).ok()?.parse().ok();
    cluster
        .read(topic)
        .iter()
        .map(|record| of(record.value.as_deref().expect("it has a value")).expect("a number"))
        .collect()
}

pub fn backlog<'a>(status: &'a Value, key: &str) -> &'a Value {
    &status["backlog"][key]
}

#[test]
fn what_was_answered_as_stored_survives_kills_and_is_delivered_once_and_in_order() {
    let (cluster, stored) = (DevKafka::start(1), Stored::new("64MiB"));
    let topic = new_topic(&cluster, "audit", 1);
    let mut daemon = Daemon::start_on(stored.files(&cluster, "64MiB"));
    send(&mut daemon.connect(), &topic, -1, 0);
    cluster.hold_requests(At::Anywhere);
    let mut number = 1;
    for _ in 0..3 {
        let mut client = daemon.connect();
        for _ in 0..40 {
            send(&mut client, &topic, 1, number);
            number += 1;
        }
        daemon = Daemon::start_on(daemon.kill().files);
        let held = daemon.status()["ledger"]["held"].clone();
        assert_eq!(held, json!(number - 1), "what was stored is held after a start");
    }
    cluster.release_requests();
    let ledger = settled_ledger(&daemon, number as u64 - 1);
    assert_eq!((&ledger["dropped"], &ledger["possible_duplicates"]), (&json!({}), &json!(0)));
    send(&mut daemon.connect(), &topic, -1, number);
    assert_eq!(numbers(&cluster, &topic), (0..=number).collect::<Vec<_>>());
    let status = daemon.wait_for_status("acknowledgements in the log", SOON, |status| {
        (backlog(status, "held_records") == &json!(0)).then(|| status.clone())
    });
    assert_eq!(backlog(&status, "delivered"), &json!(number + 1), "{status:#}");
}

#[test]
fn records_are_stored_while_kafka_is_away_and_stops_neither_wait_for_it_nor_lose_them() {
    let (mut cluster, stored) = (DevKafka::start(1), Stored::new("64MiB"));
    let topic = new_topic(&cluster, "away", 1);
    let mut daemon = Daemon::start_on(stored.files(&cluster, "64MiB"));
    send(&mut daemon.connect(), &topic, -1, 0);
    cluster.kill_broker(1);
    let mut number = 1;
    for _ in 0..3 {
        let mut client = daemon.connect();
        for acks in [1, 0, 1, 1] {
            match acks {
                0 => {
                    _ = client.send_produce(&Produce {
                        acks,
                        partition: 0,
                        ..Produce::new(&topic, &numbered(number, 100))
                    })
                }
                _ => send(&mut client, &topic, acks, number),
            }
            number += 1;
        }
        daemon = daemon.restart();
    }
    cluster.start_all();
    settled_ledger(&daemon, number as u64 - 1);
    assert_eq!(numbers(&cluster, &topic), (0..number).collect::<Vec<_>>());
}

#[test]
fn writers_wait_for_a_full_backlog_that_is_larger_than_memory_and_go_on_by_themselves() {
    const RECORDS: usize = 800;
    const BYTES: usize = 100_000;
    let (cluster, stored) = (DevKafka::start(1), Stored::new("64MiB"));
    let topic = new_topic(&cluster, "full", 1);
    let daemon = Daemon::start_on(stored.files(&cluster, "8MiB"));
    send(&mut daemon.connect(), &topic, -1, 0);
    cluster.hold_requests(At::Anywhere);
    let mut client = daemon.connect();
    let to = topic.clone();
    let writer = thread::spawn(move || {
        for number in 1..=RECORDS {
            let answer =
                client.produce(&Produce { acks: 1, partition: 0, ..Produce::new(&to, &numbered(number, BYTES)) });
            assert_eq!(answer.error_code, 0, "{answer:?}");
        }
    });
    daemon.wait_for_status("a full backlog", SOON, |status| (backlog(status, "state") == "full").then_some(()));
    assert!(!writer.is_finished(), "80 MB in 64 MiB");
    cluster.release_requests();
    writer.join().expect("all were stored in the end");
    settled_ledger(&daemon, RECORDS as u64 + 1);
    assert_eq!(numbers(&cluster, &topic), (0..=RECORDS).collect::<Vec<_>>());
    daemon.wait_for_status("room", SOON, |status| (backlog(status, "state") == "well").then_some(()));
}

#[test]
fn what_is_left_of_the_disk_to_others_is_not_taken() {
    let (cluster, stored) = (DevKafka::start(1), Stored::new("64MiB"));
    let topic = new_topic(&cluster, "modest", 1);
    let files = stored.files(&cluster, "8MiB");
    let config = std::fs::read_to_string(files.config()).expect("it is there");
    let modest = config.replace("[backlog]\n", "[backlog]\nmin_free_space = \"1024TiB\"\n");
    std::fs::write(files.config(), modest).expect("it can be written");
    let daemon = Daemon::start_on(files);
    send(&mut daemon.connect(), &topic, 1, 0);
    cluster.hold_requests(At::Anywhere);
    let mut client = daemon.connect();
    let mut sent = 1;
    loop {
        let records = numbered(sent, 100_000);
        sent += 1;
        let request = Produce { acks: 1, partition: 0, timeout_ms: 5_000, ..Produce::new(&topic, &records) };
        match client.produce(&request).error_code {
            0 => {}
            code => break assert_eq!(code, 7),
        }
    }
    let status = daemon
        .wait_for_status("a full backlog", SOON, |status| (backlog(status, "state") == "full").then(|| status.clone()));
    assert!(backlog(&status, "used_bytes").as_u64() < Some(32 << 20), "{status}");
    assert!(backlog(&status, "message").as_str().is_some_and(|words| words.contains("to others")), "{status}");
    cluster.release_requests();
    settled_ledger(&daemon, sent as u64);
    assert_eq!(numbers(&cluster, &topic), (0..sent).collect::<Vec<_>>());
}

#[test]
fn only_stored_topics_are_answered_as_stored() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "memory", 1);
    let answer = daemon.connect().produce(&Produce { acks: 1, ..Produce::new(&topic, &numbered(0, 8)) });
    assert_eq!(answer.error_code, 21, "{answer:?}");
    assert!(answer.error_message.expect("words").contains("not stored"));
}

#[test]
fn a_backlog_that_cannot_be_used_is_said_with_the_remedy_before_anything_is_taken() {
    let (cluster, stored) = (DevKafka::start(1), Stored::new("64MiB"));
    let daemon = Daemon::start_on(stored.files(&cluster, "64MiB"));
    let second = Daemon::launch(stored.files(&cluster, "64MiB")).ended();
    assert_eq!(second.code(), 73, "{}", second.log);
    let process = daemon.process().id();
    assert!(second.log.contains(&format!("belongs to process {process}; stop that one")), "{}", second.log);
    drop(daemon.kill());
    let files = stored.files(&cluster, "64MiB");
    stored.backlog.close().expect("it can be removed");
    let without = Daemon::launch(files).ended();
    assert_eq!(without.code(), 73, "{}", without.log);
    assert!(without.log.contains("install -d -m 700"), "{}", without.log);
}

#[test]
fn a_topic_of_an_earlier_start_is_stored_before_kafka_is_there_and_without_the_catalog_once_it_is() {
    let (mut cluster, stored) = (DevKafka::start(1), Stored::new("64MiB"));
    let (known, forgotten) = (new_topic(&cluster, "known", 2), new_topic(&cluster, "forgotten", 2));
    let files = stored.files(&cluster, "64MiB");
    let config = std::fs::read_to_string(files.config()).expect("it is there");
    // In memory only, so that the log knows neither topic.
    std::fs::write(files.config(), config.replace("store = \"always\"", "store = \"never\""))
        .expect("it can be written");
    let daemon = Daemon::start_on(files);
    for topic in [&known, &forgotten] {
        send(&mut daemon.connect(), topic, -1, 0);
    }
    let files = daemon.stop().files;
    std::fs::write(files.config(), config).expect("it can be written");
    cluster.kill_broker(1);
    let daemon = Daemon::start_on(files);
    send(&mut daemon.connect(), &known, 1, 1);
    let files = daemon.kill().files;

    std::fs::remove_dir_all(stored.backlog.path().join("catalog.sled")).expect("it is there");
    let daemon = Daemon::start_on(files);
    let mut client = daemon.connect();
    send(&mut client, &known, 1, 2);
    let record = numbered(1, 100);
    _ = client.send_produce(&Produce { acks: 1, partition: 0, ..Produce::new(&forgotten, &record) });
    send(&mut daemon.connect(), &known, 1, 3);
    cluster.start_all();
    let answer = client.read_produce_answer();
    assert_eq!((answer.error_code, answer.records[0].error_code), (0, 0), "{answer:?}");
    settled_ledger(&daemon, 4);
    assert_eq!((numbers(&cluster, &known), numbers(&cluster, &forgotten)), (vec![0, 1, 2, 3], vec![0, 1]));
}
