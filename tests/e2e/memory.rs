//! Memory is bounded, and who fills it waits: Kafka that takes nothing, clients that do not read their answers.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use forebay::devbroker::At;
use serde_json::Value;

use crate::dev_kafka::DevKafka;
use crate::support::balance::{Ending, check, check_read, read, settled_ledger};
use crate::support::client::{Client, Outgoing, Produce, VERSIONS, frame, produce_frame};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, Extra};
use crate::support::load::{self, Load};
use crate::support::scenario::SOON;
use crate::support::watch::poll;
use crate::support::writer::{By, Way, Writer};

const MIB: u64 = 1 << 20;
/// Four mebibytes for everything.
const SMALL: Extra<'_> = Extra {
    kafka: "",
    stream: "max_frame_size = \"256KiB\"\nmax_unanswered_size = \"1MiB\"",
    datagram: "max_frame_size = \"64KiB\"",
    rest: "[memory]\nlimit = \"4MiB\"\n",
};
/// What is converted inside may pass the limit by this much.
const OVER_THE_LIMIT: u64 = MIB;

fn used(status: &Value) -> u64 {
    status["memory"]["used_bytes"].as_u64().expect("memory is a number")
}

#[test]
fn when_memory_is_full_writers_wait_and_nothing_is_lost() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), SMALL);
    let topic = new_topic(&cluster, "full", 6);
    cluster.hold_requests(At::Anywhere);
    let ways = [Way::All(50), Way::None, Way::Dory, Way::Datagram];
    let writers = (0..8_u32).map(|id| Writer {
        way: ways[id as usize % ways.len()],
        by: if id < 4 { By::Partition } else { By::Any },
        burst: 10,
        value_bytes: 1000,
        records: Some(1500),
        ..Writer::new(id, &topic, 6)
    });
    // 12 MB in all.
    let load = Load::start(&daemon, writers.collect());
    daemon.wait_for_status("memory that is full", SOON, |status| {
        assert!(used(status) <= 4 * MIB + OVER_THE_LIMIT, "{status:#}");
        (used(status) > 3 * MIB).then_some(())
    });
    let accepted = daemon.status()["ledger"]["accepted"].as_u64().expect("a number");
    assert!(accepted < 6000, "{accepted} records of 1000 bytes taken");
    cluster.release_requests();
    check(&cluster, &daemon, &load.join());
}

#[test]
fn when_memory_is_full_a_topic_may_say_no_instead() {
    let cluster = DevKafka::start(1);
    let rest = format!("{}\n[topics.\"impatient*\"]\nfull = \"reject\"\n", SMALL.rest);
    // Room for the unanswered, so that memory is what ends first.
    let stream = "max_frame_size = \"256KiB\"\nmax_unanswered_size = \"4MiB\"";
    let daemon = Daemon::start(&cluster.bootstrap(), Extra { rest: &rest, stream, ..SMALL });
    let topic = new_topic(&cluster, "impatient", 1);
    cluster.hold_requests(At::Anywhere);
    let records = [Outgoing { value: Some(vec![7; 30_000]), ..Outgoing::default() }];
    let mut client = daemon.connect();
    let mut filler = daemon.connect();
    // One client fills memory, and another one is told.
    let (mut filled, mut refused) = (0, None);
    while refused.is_none() && filled < 300 {
        filler.send_produce(&Produce { acks: 0, ..Produce::new(&topic, &records) });
        filled += 1;
        let answer = client.produce(&Produce { timeout_ms: 20, ..Produce::new(&topic, &records) });
        refused = Some(answer).filter(|answer| answer.error_code != 7);
    }
    let refused = refused.expect("memory is full at last");
    assert_eq!(refused.error_code, 89, "{refused:?}");
    assert!(refused.error_message.is_some_and(|message| message.contains("memory.limit")));
    assert!(used(&daemon.status()) <= 4 * MIB + OVER_THE_LIMIT);
    cluster.release_requests();
    let ledger = daemon.wait_for_status("nothing held", SOON, |status| {
        (status["ledger"]["held"] == 0).then(|| status["ledger"].clone())
    });
    let dropped = ledger["dropped"]["memory_full"].as_u64().unwrap_or_default();
    let found = cluster.read(&topic).len() as u64;
    assert_eq!(ledger["delivered"], found, "{ledger}");
    assert_eq!(ledger["accepted"], found + dropped, "{ledger}");
    // And there is room again.
    assert_eq!(client.produce(&Produce::new(&topic, &records)).error_code, 0);
}

/// Requests of [`flood`]: their answers are more than a socket holds.
const REQUESTS: i32 = 2000;
/// Records in each request of [`flood`].
const FLOOD_RECORDS: usize = 200;

/// Writes requests to partition 0 until all are written, or the connection ends.
fn flood(stream: &mut UnixStream, topic: &str, requests: i32) -> i32 {
    let records = vec![Outgoing { value: Some(b"v".to_vec()), ..Outgoing::default() }; FLOOD_RECORDS];
    let request = Produce { partition: 0, ..Produce::new(topic, &records) };
    let frames = (1..=requests).map(|id| produce_frame(id, &request));
    frames.map_while(|frame| stream.write_all(&frame).ok()).count() as i32
}

#[test]
fn a_connection_is_not_read_beyond_what_it_may_leave_unanswered() {
    let cluster = DevKafka::start(1);
    let extra = Extra { stream: "max_unanswered_requests = 10", ..Extra::default() };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let topic = new_topic(&cluster, "unanswered", 1);
    cluster.hold_requests(At::Anywhere);
    let mut client = daemon.connect();
    let records = vec![Outgoing::default(); 3];
    for _ in 0..25 {
        client.send_produce(&Produce::new(&topic, &records));
    }
    daemon.wait_for_status("ten requests", SOON, |status| (status["ledger"]["accepted"] == 30).then_some(()));
    // Another client goes through the whole daemon and back, so that what was to be read would have been.
    assert_eq!(daemon.connect().versions().len(), 5);
    assert_eq!(daemon.status()["ledger"]["accepted"], 30);
    cluster.release_requests();
    let mut answered: Vec<i32> = (0..25)
        .map(|_| {
            let answer = client.read_produce_answer();
            assert_eq!(answer.error_code, 0, "{answer:?}");
            answer.correlation_id
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, (1..=25).collect::<Vec<_>>());
}

#[test]
fn a_client_that_reads_no_answers_harms_only_itself() {
    let cluster = DevKafka::start(3);
    let rest = "[memory]\nlimit = \"8MiB\"\n";
    let stream = "max_frame_size = \"256KiB\"\nmax_unanswered_requests = 20\nmax_unanswered_size = \"1MiB\"";
    let daemon = Daemon::start(&cluster.bootstrap(), Extra { rest, stream, ..SMALL });
    let (topic, others_topic) = (new_topic(&cluster, "unread", 1), new_topic(&cluster, "read", 3));
    let mut writing = UnixStream::connect(daemon.files().stream_socket()).expect("the daemon listens");
    let mut reading = Client::on(writing.try_clone().expect("a socket can be cloned"));
    let flooding = {
        let topic = topic.clone();
        thread::spawn(move || flood(&mut writing, &topic, REQUESTS))
    };
    let writers = (0..4).map(|id| Writer { records: Some(600), ..Writer::new(id, &others_topic, 3) });
    let mut most = 0;
    let load = Load::start(&daemon, writers.collect());
    while !load.any_ended() {
        most = most.max(used(&daemon.status()));
    }
    let accounts = load.join();
    assert_eq!(check_read(&read(&cluster, &accounts), &accounts, Ending::Settled), 4 * 600);
    assert!(most <= 8 * MIB + OVER_THE_LIMIT, "{most} bytes used");
    assert!(!flooding.is_finished(), "its answers alone are more than a socket holds");
    let all = REQUESTS as u64 * FLOOD_RECORDS as u64;
    let accepted = daemon.status()["ledger"]["accepted"].as_u64().expect("a number");
    assert!(accepted < all / 2 + 4 * 600, "{accepted} records taken from one who reads nothing");
    // Now it reads after all.
    for _ in 0..REQUESTS {
        let answer = reading.read_produce_answer();
        assert_eq!((answer.error_code, answer.records.len()), (0, FLOOD_RECORDS));
    }
    assert_eq!(flooding.join().expect("the thread has not failed"), REQUESTS);
    assert_eq!(settled_ledger(&daemon, all + 4 * 600)["delivered"], all + 4 * 600);
}

#[test]
fn a_client_that_leaves_without_its_answers_is_forgotten() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "left", 1);
    cluster.hold_requests(At::Anywhere);
    let records = vec![Outgoing::default(); 3];
    for _ in 0..20 {
        daemon.connect().send_produce(&Produce::new(&topic, &records));
    }
    daemon.wait_for_status("all accepted", SOON, |status| (status["ledger"]["accepted"] == 60).then_some(()));
    cluster.release_requests();
    assert_eq!(settled_ledger(&daemon, 60)["delivered"], 60);
    assert_eq!(cluster.read(&topic).len(), 60);
    daemon.wait_for_status("memory given back", SOON, |status| (used(status) < MIB).then_some(()));
    let accounts = load::run(&daemon, vec![Writer { records: Some(9), ..Writer::new(0, &topic, 1) }]);
    assert_eq!(accounts[0].answers.len(), 9);
}

#[test]
fn connections_over_the_limit_are_closed_at_once() {
    let cluster = DevKafka::start(1);
    let extra = Extra { stream: "max_connections = 3", ..Extra::default() };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let mut clients: Vec<_> = (0..3).map(|_| daemon.connect()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.versions().len(), 5));
    match daemon.connect().read_frame() {
        Ok(None) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("the fourth connection is not closed: {other:?}"),
    }
    clients.pop();
    // The third's place is free as soon as the daemon has seen its end.
    let again = poll(SOON, || {
        let mut client = daemon.connect();
        client.send(&frame(VERSIONS, 0, &[0, 0, 0, 1])).ok()?;
        client.read_frame().ok()?
    });
    assert!(again.is_some());
}
