//! What brokers and networks do wrong and the daemon makes good: nothing is lost, nothing doubled, nothing out of order.

use std::time::Duration;

use forebay::devbroker::At;

use crate::dev_kafka::DevKafka;
use crate::support::balance::{check, settled_ledger};
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, Extra};
use crate::support::load::{self, Load};
use crate::support::scenario::{SOON, mixed_writers};
use crate::support::writer::{Way, Writer};

/// Records of each client between one fault and the next.
const STRETCH: u64 = 30;

/// Every batch at once, and a broker that is gone is tried again soon.
const EAGER: Extra<'_> = Extra {
    kafka: "retry_backoff = \"10ms\"\nretry_backoff_max = \"50ms\"\nreconnect_backoff = \"10ms\"\nreconnect_backoff_max = \"50ms\"",
    stream: "",
    datagram: "",
    rest: "[producer]\nlinger = \"1ms\"",
};

/// What a broker asks for that throttles.
const THROTTLE: Duration = Duration::from_millis(300);

/// Clients write to six partitions while `fault` happens so many times.
fn under_load(cluster: &DevKafka, times: usize, mut fault: impl FnMut(usize, &str)) {
    let daemon = Daemon::start(&cluster.bootstrap(), EAGER);
    let topic = new_topic(cluster, "faults", 6);
    // Answers that take their time, so that several batches are under way.
    cluster.delay_answers(At::Anywhere, Duration::from_millis(3));
    let load = Load::start(&daemon, mixed_writers(&topic, 6));
    for time in 0..times {
        load.wait_for_each(STRETCH);
        fault(time, &topic);
    }
    load.wait_for_each(STRETCH);
    check(cluster, &daemon, &load.finish());
}

#[test]
fn a_lost_answer_doubles_nothing() {
    let cluster = DevKafka::start(3);
    under_load(&cluster, 12, |time, topic| {
        let at = if time % 2 == 0 { At::Anywhere } else { At::partition(topic, time as i32 % 6) };
        cluster.lose_answers(at, 1 + time as u32 % 3);
        cluster.wait_for("lost answer", |counters| counters.lost > time as u64);
    });
    let counters = cluster.counters();
    assert!(counters.duplicates > 0, "the broker recognised what came again: {counters:?}");
}

#[test]
fn a_lost_request_comes_again_in_order() {
    let cluster = DevKafka::start(3);
    under_load(&cluster, 12, |time, _| {
        cluster.lose_requests(At::Anywhere, 1 + time as u32 % 3);
        cluster.wait_for("lost request", |counters| counters.lost > time as u64);
    });
    assert_eq!(cluster.counters().duplicates, 0);
}

#[test]
fn requests_and_answers_are_lost_while_leaders_move() {
    let cluster = DevKafka::start(3);
    under_load(&cluster, 20, |time, topic| {
        let partition = time as i32 % 6;
        cluster.lose_answers(At::partition(topic, partition), 1);
        cluster.lose_requests(At::partition(topic, (partition + 1) % 6), 1);
        let leader = cluster.leader(topic, partition);
        cluster.move_leader(topic, partition, leader % 3 + 1);
    });
    assert!(cluster.counters().lost > 0);
}

#[test]
fn connections_that_break_under_load_lose_nothing() {
    let cluster = DevKafka::start(3);
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    under_load(&cluster, 15, |time, _| {
        runtime.block_on(cluster.drop_connections(time as i32 % 3 + 1)).expect("the broker exists");
    });
}

#[test]
fn the_first_batch_of_a_lane_is_refused_and_the_next_does_not_overtake_it() {
    // A broker that knows nothing of a producer takes any number: of two batches on the wire, the second.
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), Extra { rest: "[producer]\nlinger = \"0ms\"", ..EAGER });
    let mut client = daemon.connect();
    for (round, code) in (0..).zip([19, 7, 20, 6, -1, 1234]) {
        let topic = new_topic(&cluster, "first", 1);
        cluster.refuse_first_batch(&topic, 0, code);
        cluster.hold_requests(At::Anywhere);
        for number in 1..=4_u8 {
            let record = [Outgoing { value: Some(vec![number]), ..Outgoing::default() }];
            client.send_produce(&Produce::new(&topic, &record));
            cluster.wait_for("first batch", |counters| counters.held_requests == 1);
            daemon.wait_for_status("record taken", SOON, |status| {
                (status["ledger"]["held"] == u64::from(number)).then_some(())
            });
        }
        cluster.release_requests();
        for _ in 1..=4 {
            let answer = client.read_produce_answer();
            let offset = i64::from(answer.correlation_id - round * 4 - 1);
            assert_eq!((answer.error_code, answer.records[0].offset), (0, offset), "after {code}: {answer:?}");
        }
        let values: Vec<_> = cluster.read(&topic).into_iter().filter_map(|record| record.value).collect();
        assert_eq!(values, [[1], [2], [3], [4]], "after {code}");
        assert!(cluster.counters().refused.contains_key(&code));
    }
    assert_eq!(settled_ledger(&daemon, 24)["possible_duplicates"], 0);
}

/// An error that comes and goes, for a batch that was appended and for one that was not, on a partition under load.
fn passing_errors(codes: &[i16]) {
    let cluster = DevKafka::start(3);
    under_load(&cluster, codes.len() * 2, |time, topic| {
        let (code, appended) = (codes[time / 2], time % 2 == 1);
        let before = cluster.counters().refused.get(&code).copied().unwrap_or_default();
        let times = 1 + time as u32 % 3;
        cluster.return_error(topic, time as i32 % 6, code, times, appended);
        let all = before + u64::from(times);
        cluster.wait_for("error answered", |counters| counters.refused.get(&code).is_some_and(|count| *count >= all));
    });
}

#[test]
fn a_batch_that_was_appended_and_answered_with_an_error_is_recognised_when_it_comes_again() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), EAGER);
    let topic = new_topic(&cluster, "appended", 1);
    let mut client = daemon.connect();
    for (number, code) in (0..).zip([7, 20, -1, 14, 1234, 3, 5, 6, 9, 13, 56, 74, 75, 100, 103]) {
        cluster.return_error(&topic, 0, code, 1, true);
        let answer = client.produce(&Produce::new(&topic, &[Outgoing::default()]));
        assert_eq!((answer.error_code, answer.records[0].offset), (0, number), "after {code}: {answer:?}");
        assert_eq!(cluster.counters().duplicates, number as u64 + 1, "after {code}");
    }
    assert_eq!(cluster.read(&topic).len(), 15);
}

#[test]
fn errors_that_pass_are_waited_out() {
    passing_errors(&[7, 20, -1, 14, 1234]);
}

#[test]
fn errors_that_speak_of_leaders_and_topics_are_followed_by_a_look() {
    passing_errors(&[3, 5, 6, 9, 13, 56, 74, 75, 100, 103]);
}

#[test]
fn too_few_replicas_in_sync_are_waited_for() {
    let cluster = DevKafka::start(3);
    under_load(&cluster, 6, |time, topic| {
        let before = cluster.counters().refused.get(&19).copied().unwrap_or_default();
        let partition = time as i32 % 6;
        cluster.set_min_insync_lost(topic, partition, true).expect("the partition exists");
        cluster.wait_for("refusal", |counters| counters.refused.get(&19).is_some_and(|count| *count > before));
        cluster.set_min_insync_lost(topic, partition, false).expect("the partition exists");
    });
    assert_eq!(cluster.counters().duplicates, 0);
}

#[test]
fn a_broker_that_has_forgotten_all_but_the_last_batch_is_probed() {
    let mut cluster = DevKafka::start(1);
    // Long enough for the broker to be restarted in between.
    let kafka = "reconnect_backoff = \"500ms\"\nreconnect_backoff_max = \"500ms\"";
    let daemon =
        Daemon::start(&cluster.bootstrap(), Extra { kafka, rest: "[producer]\nlinger = \"0ms\"", ..Extra::default() });
    let topic = new_topic(&cluster, "forgotten", 1);
    let mut client = daemon.connect();
    let record = |number: u8| [Outgoing { value: Some(vec![number]), ..Outgoing::default() }];
    // A success first: only then is more than one batch under way.
    assert_eq!(client.produce(&Produce::new(&topic, &record(0))).error_code, 0);
    cluster.hold_requests(At::Anywhere);
    for number in 1..=4 {
        client.send_produce(&Produce::new(&topic, &record(number)));
        daemon.wait_for_status("record taken", SOON, |status| {
            (status["ledger"]["held"] == u64::from(number)).then_some(())
        });
    }
    // The first is appended and answered by 7, the second appended and not answered, the rest not even read.
    cluster.return_error(&topic, 0, 7, 1, true);
    cluster.hold_answers(At::Anywhere);
    cluster.release_requests();
    cluster.wait_for("answer held", |counters| counters.held_answers == 1);
    cluster.lose_answers(At::Anywhere, 1);
    cluster.release_answers();
    cluster.wait_for("answer lost", |counters| counters.lost == 1);
    cluster.restart(1);
    for _ in 1..=4 {
        let answer = client.read_produce_answer();
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }
    let values: Vec<_> = cluster.read(&topic).into_iter().filter_map(|record| record.value).collect();
    assert_eq!(values, [[0], [1], [2], [3], [4]]);
    let counters = cluster.counters();
    assert!(counters.refused.contains_key(&45), "the broker had forgotten: {counters:?}");
    let ledger = settled_ledger(&daemon, 5);
    assert_eq!((&ledger["delivered"], &ledger["possible_duplicates"]), (&5.into(), &0.into()), "{ledger}");
}

#[test]
fn a_broker_that_throttles_is_given_its_time() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), EAGER);
    let topic = new_topic(&cluster, "throttled", 1);
    cluster.throttle(At::Anywhere, THROTTLE);
    let started = tokio::time::Instant::now();
    let writer = Writer { way: Way::All(1), records: Some(15), ..Writer::new(0, &topic, 1) };
    let accounts = load::run(&daemon, vec![writer]);
    // Five requests, one after the other: four times the daemon had to wait. The broker itself would not have made it wait
    // at all, for it answers before it pauses, but a request sent meanwhile lies in its buffer.
    assert!(started.elapsed() >= 4 * THROTTLE, "{:?}", started.elapsed());
    cluster.throttle(At::Anywhere, Duration::ZERO);
    check(&cluster, &daemon, &accounts);
}
