//! How the daemon ends: in order, under load, without Kafka, and in a hurry.

use forebay::devbroker::At;
use nix::sys::signal::Signal;

use crate::dev_kafka::DevKafka;
use crate::support::balance::{Ending, check_read, read};
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, Stopped};
use crate::support::load;
use crate::support::scenario::{self, SOON, last_words};
use crate::support::writer::{Way, Writer};

const TEMPORARY_FAILURE: i32 = 75;

#[test]
fn a_stop_under_load_keeps_what_was_acknowledged() {
    scenario::stop_under_load(&DevKafka::start(3));
}

#[test]
fn a_stop_delivers_what_is_held_and_answers_those_who_wait() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "drained", 3);
    cluster.hold_requests(At::Anywhere);
    let mut client = daemon.connect();
    let records = [Outgoing { value: Some(b"v".to_vec()), ..Outgoing::default() }];
    for partition in 0..3 {
        client.send_produce(&Produce { partition, ..Produce::new(&topic, &records) });
    }
    cluster.wait_for("request held", |counters| counters.held_requests > 0);
    daemon.wait_for_status("all held", SOON, |status| (status["ledger"]["held"] == 3).then_some(()));
    daemon.process().signal(Signal::SIGTERM);
    daemon.process().wait_for_text("stopping", SOON);
    cluster.release_requests();
    for _ in 0..3 {
        let answer = client.read_produce_answer();
        assert_eq!((answer.error_code, answer.records[0].offset), (0, 0), "{answer:?}");
    }
    assert_eq!(client.read_frame().expect("the connection is closed in order"), None);
    let stopped = daemon.ended();
    assert_eq!(stopped.code(), 0, "{}", stopped.log);
    assert_eq!(last_words(&stopped.log)("delivered"), 3);
}

/// A daemon with 40 records that Kafka does not take, told to stop.
fn stop_without_kafka(cluster: &DevKafka, drain_timeout: &str, then: impl FnOnce(&Daemon)) -> Stopped {
    let daemon = Daemon::start(&cluster.bootstrap(), &*format!("[daemon]\ndrain_timeout = {drain_timeout:?}"));
    let topic = new_topic(cluster, "undelivered", 2);
    cluster.hold_requests(At::Anywhere);
    let writer = Writer { way: Way::None, records: Some(37), ..Writer::new(0, &topic, 2) };
    let accounts = load::run(&daemon, vec![writer]);
    let mut client = daemon.connect();
    let records = vec![Outgoing::default(); 3];
    client.send_produce(&Produce::new(&topic, &records));
    daemon.wait_for_status("all held", SOON, |status| (status["ledger"]["held"] == 40).then_some(()));
    daemon.process().signal(Signal::SIGTERM);
    daemon.process().wait_for_text("stopping", SOON);
    then(&daemon);
    // A request that nobody knows the fate of.
    let answer = client.read_produce_answer();
    let codes: Vec<i16> = answer.records.iter().map(|record| record.error_code).collect();
    assert_eq!((answer.error_code, &codes[..]), (-1, &[-1; 3][..]), "{answer:?}");
    let stopped = daemon.ended();
    assert_eq!(check_read(&read(cluster, &accounts), &accounts, Ending::Cut), 0);
    stopped
}

#[test]
fn a_stop_without_kafka_says_how_many_records_are_lost() {
    let stopped = stop_without_kafka(&DevKafka::start(1), "100ms", |_| {});
    assert_eq!(stopped.code(), TEMPORARY_FAILURE, "{}", stopped.log);
    assert!(stopped.log.contains("40 records were not delivered within drain_timeout"), "{}", stopped.log);
    let last = last_words(&stopped.log);
    assert_eq!((last("accepted"), last("delivered")), (40, 0));
}

#[test]
fn a_second_signal_ends_the_wait() {
    let stopped = stop_without_kafka(&DevKafka::start(1), "10min", |daemon| daemon.process().signal(Signal::SIGINT));
    assert_eq!(stopped.code(), TEMPORARY_FAILURE, "{}", stopped.log);
    assert!(stopped.log.contains("second signal"), "{}", stopped.log);
    assert!(stopped.log.contains("40 records were not delivered"), "{}", stopped.log);
}

#[test]
fn a_stop_that_has_never_found_kafka_says_how_many_records_are_lost() {
    let daemon = Daemon::start("127.0.0.1:1", "[daemon]\ndrain_timeout = \"100ms\"");
    let writers =
        (0..3).map(|id| Writer { way: Way::None, records: Some(20), ..Writer::new(id, &format!("t{id}"), 2) });
    load::run(&daemon, writers.collect());
    daemon.wait_for_status("all held", SOON, |status| (status["ledger"]["held"] == 60).then_some(()));
    let stopped = daemon.stop();
    assert_eq!(stopped.code(), TEMPORARY_FAILURE, "{}", stopped.log);
    assert!(stopped.log.contains("60 records were not delivered"), "{}", stopped.log);
    for topic in ["t0", "t1", "t2"] {
        assert!(stopped.log.contains(&format!("topic={topic} records=20")), "{}", stopped.log);
    }
}

#[test]
fn a_stop_without_records_is_quick_whether_kafka_is_there_or_not() {
    let daemon = Daemon::start("127.0.0.1:1", "[daemon]\ndrain_timeout = \"10min\"");
    let client = daemon.connect();
    let stopped = daemon.stop();
    assert_eq!(stopped.code(), 0, "{}", stopped.log);
    drop(client);
}
