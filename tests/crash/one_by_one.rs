//! Records that were stored one at a time, each waited for: reopening does not take longer for it, and they leave in full batches, as fast as if Kafka had been there.
//!
//! `ONE_BY_ONE=1000000 cargo test --release --test crash -- --nocapture one_by_one` is the long form, which prints how fast.

use std::env;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::dev_kafka::DevKafka;
use crate::support::client::{Client, Outgoing, Produce, produce_frame};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles};
use crate::support::scenario::SOON;

const CLIENTS: usize = 256;
const PARTITIONS: i32 = 8;
const RECORD_BYTES: usize = 100;
/// Records that a client writes at once where it does not wait.
const BURST: usize = 64;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);

fn record(client: usize, number: usize) -> [Outgoing; 1] {
    let mut value = format!("{client:04}/{number:08}/").into_bytes();
    value.resize(RECORD_BYTES, b'.');
    [Outgoing { value: Some(value), ..Outgoing::default() }]
}

fn produce<'a>(topic: &'a str, acks: i16, client: usize, records: &'a [Outgoing]) -> Produce<'a> {
    let partition = i32::try_from(client).expect("there are few") % PARTITIONS;
    Produce { acks, partition, ..Produce::new(topic, records) }
}

/// All clients at once.
fn by_all_clients(socket: &Path, write: impl Fn(usize, Client) + Sync) {
    thread::scope(|scope| {
        for id in 0..CLIENTS {
            let write = &write;
            scope.spawn(move || write(id, Client::connect(socket)));
        }
    });
}

/// Each client waits for each of its records.
fn one_by_one(socket: &Path, topic: &str, each: usize) {
    by_all_clients(socket, |id, mut client| {
        for number in 0..each {
            let answer = client.produce(&produce(topic, 1, id, &record(id, number)));
            assert_eq!(answer.error_code, 0, "{answer:?}");
        }
    });
}

/// No client waits for anything.
fn in_a_stream(socket: &Path, topic: &str, each: usize) {
    by_all_clients(socket, |id, mut client| {
        for first in (0..each).step_by(BURST) {
            let numbers = first..each.min(first + BURST);
            let frames: Vec<u8> =
                numbers.flat_map(|number| produce_frame(0, &produce(topic, 0, id, &record(id, number)))).collect();
            client.send(&frames).expect("the daemon reads");
        }
    });
}

fn wait_for_all(daemon: &Daemon) {
    daemon.wait_for_status("all delivered", DRAIN_TIMEOUT, |status| (status["ledger"]["held"] == 0).then_some(()));
}

/// Each client's records are there, once and in order.
#[track_caller]
fn check(cluster: &DevKafka, topic: &str, each: usize) {
    // One more has made the topic known.
    let mut next = [0; CLIENTS + 1];
    for record in cluster.read(topic) {
        let value = record.value.expect("it has one");
        let mut parts = value.split(|byte| *byte == b'/').map(|part| std::str::from_utf8(part).expect("digits"));
        let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok()).expect("a number");
        let (client, number) = (number(), number());
        assert_eq!(number, next[client], "of client {client}");
        next[client] += 1;
    }
    assert_eq!((&next[..CLIENTS], next[CLIENTS]), (&[each; CLIENTS][..], 1));
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures are what the long form is for")]
fn records_stored_one_by_one_are_all_delivered_in_order_after_a_restart() {
    let records: usize = env::var("ONE_BY_ONE").map_or(CLIENTS * 20, |text| text.parse().expect("a number"));
    let each = records / CLIENTS;
    let mut cluster = DevKafka::start(3);
    let (healthy, away) = (new_topic(&cluster, "healthy", PARTITIONS), new_topic(&cluster, "away", PARTITIONS));
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let config =
        format!("[backlog]\ndirectory = {:?}\nlimit = \"2GiB\"\n[producer]\nstore = \"always\"", backlog.path());
    let mut daemon = Daemon::start_on(DaemonFiles::new(&cluster.bootstrap(), &*config));
    let socket = daemon.files().stream_socket();
    for topic in [&healthy, &away] {
        let answer = Client::connect(&socket).produce(&produce(topic, -1, CLIENTS, &record(CLIENTS, 0)));
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }
    let rate = |time: Duration| (records as f64 / time.as_secs_f64()) as u64;

    let started = Instant::now();
    in_a_stream(&socket, &healthy, each);
    wait_for_all(&daemon);
    let flowing = started.elapsed();
    println!("with Kafka there, in a stream: {}/s", rate(flowing));

    (1..=3).for_each(|broker| cluster.kill_broker(broker));
    let started = Instant::now();
    one_by_one(&socket, &away, each);
    println!("stored one by one: {}/s", rate(started.elapsed()));
    let files = daemon.kill().files;
    let started = Instant::now();
    daemon = Daemon::start_on(files);
    println!("ready again in {:?}", started.elapsed());
    cluster.start_all();
    // How long it is until somebody notices is another question.
    let before = daemon.wait_for_status("a delivery", SOON, |status| {
        status["ledger"]["delivered"].as_u64().filter(|delivered| *delivered > 0)
    });
    let noticed = Instant::now();
    wait_for_all(&daemon);
    let share = (records as u64 - before) as f64 / records as f64;
    let drained = noticed.elapsed().div_f64(share.max(f64::EPSILON));
    println!("drained: {}/s, {:.0} % of the stream", rate(drained), flowing.div_duration_f64(drained) * 100.);
    [&healthy, &away].into_iter().for_each(|topic| check(&cluster, topic, each));
}
