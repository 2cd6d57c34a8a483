//! A long outage: far more is stored than memory holds, the daemon is stopped and killed meanwhile, and all of it is delivered in order when Kafka is
//! back, within the same memory.
//!
//! `OUTAGE_MIB=2048 cargo test --release --test crash -- --nocapture outage` is the long form.

use std::env;
use std::path::Path;
use std::thread;
use std::time::Duration;

use forebay::devbroker::Settings;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::dev_kafka::DevKafka;
use crate::support::client::{Client, Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles, Stopped};

const PARTITIONS: i32 = 6;
const RECORD_BYTES: usize = 1024;
const RECORDS_PER_REQUEST: usize = 64;
/// What a client has unanswered at a time.
const REQUESTS_IN_FLIGHT: usize = 16;
/// `memory.limit`.
const LIMIT_MIB: u64 = 64;
/// Beside what `memory.limit` counts: the program, its threads, what allocators keep.
const OVERHEAD_MIB: u64 = 24;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

/// How much is stored: by default what debug builds do in seconds and memory does not hold.
fn size_mib() -> usize {
    env::var("OUTAGE_MIB").map_or(96, |mib| mib.parse().expect("OUTAGE_MIB is a number"))
}

/// A record's value: its number, half of it words that compress and half noise.
fn value(number: usize) -> Vec<u8> {
    let mut value = format!("{number:08}").into_bytes();
    value.resize(RECORD_BYTES / 2, b'w');
    let mut noise = fastrand::Rng::with_seed(number as u64);
    value.extend(std::iter::repeat_with(|| noise.u8(..)).take(RECORD_BYTES - value.len()));
    value
}

/// Writes these numbers to a partition with acks=1, and returns when all are answered as stored.
fn store(socket: &Path, topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    let mut client = Client::connect(socket);
    let mut unanswered = 0;
    let take = |client: &mut Client| {
        let answer = client.read_produce_answer();
        assert_eq!(answer.error_code, 0, "{answer:?}");
    };
    for first in numbers.clone().step_by(RECORDS_PER_REQUEST) {
        let these = first..numbers.end.min(first + RECORDS_PER_REQUEST);
        let records: Vec<_> =
            these.map(|number| Outgoing { value: Some(value(number)), ..Outgoing::default() }).collect();
        client.send_produce(&Produce { acks: 1, partition, ..Produce::new(topic, &records) });
        unanswered += 1;
        if unanswered == REQUESTS_IN_FLIGHT {
            take(&mut client);
            unanswered -= 1;
        }
    }
    (0..unanswered).for_each(|_| take(&mut client));
}

/// The most memory that a daemon has had so far.
fn peak_mib(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.process().id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") >> 10
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures are what the long form is for")]
fn an_outage_larger_than_memory_is_stored_and_delivered_in_order_within_the_limit_of_memory() {
    let mib = size_mib();
    let log_limit_bytes = (mib as u64) << 21;
    let mut cluster = DevKafka::start_as(Settings { brokers: 3, log_limit_bytes, ..Settings::default() });
    let topic = new_topic(&cluster, "outage", PARTITIONS);
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let config = format!(
        "[backlog]\ndirectory = {:?}\nlimit = \"{}MiB\"\n[producer]\nstore = \"always\"\n[memory]\nlimit = \"{LIMIT_MIB}MiB\"",
        backlog.path(),
        mib * 2 + 256,
    );
    let mut daemon = Daemon::start_on(DaemonFiles::new(&cluster.bootstrap(), &*config));
    // Its partitions are known from here on.
    (0..PARTITIONS).for_each(|partition| store(&daemon.files().stream_socket(), &topic, partition, 0..1));
    (1..=3).for_each(|broker| cluster.kill_broker(broker));

    let each = (mib << 20) / RECORD_BYTES / usize::try_from(PARTITIONS).expect("there are few");
    let thirds = [1, each / 3, each / 3 * 2, each];
    let mut peaks = vec![];
    for (third, ends) in thirds.windows(2).zip([Some(Signal::SIGKILL), Some(Signal::SIGTERM), None]) {
        let started = Instant::now();
        let socket = daemon.files().stream_socket();
        thread::scope(|scope| {
            for partition in 0..PARTITIONS {
                let (socket, topic) = (&socket, &topic);
                scope.spawn(move || store(socket, topic, partition, third[0]..third[1]));
            }
        });
        println!("{} MiB stored in {:?}", mib / 3, started.elapsed());
        peaks.push(peak_mib(&daemon));
        let Some(signal) = ends else { break };
        daemon.process().signal(signal);
        let Stopped { files, .. } = daemon.ended();
        let restarted = Instant::now();
        daemon = Daemon::start_on(files);
        println!("after {signal}: ready in {:?}", restarted.elapsed());
    }

    let returned = Instant::now();
    cluster.start_all();
    daemon.wait_for_status("all delivered", DRAIN_TIMEOUT, |status| {
        (status["backlog"]["held_records"] == 0 && status["ledger"]["held"] == 0).then_some(())
    });
    println!("{mib} MiB delivered in {:?}", returned.elapsed());
    peaks.push(peak_mib(&daemon));
    println!("most memory, by daemon: {peaks:?} MiB");
    for partition in 0..PARTITIONS {
        let read = cluster.read_partition(&topic, partition);
        assert_eq!(read.len(), each, "partition {partition}");
        let is_right = |(number, record): (usize, &_)| {
            let record: &crate::support::kcat::ReadRecord = record;
            record.value.as_deref() == Some(&value(number)[..])
        };
        assert!(read.iter().enumerate().all(is_right), "partition {partition} has something else than was stored");
    }
    let most = peaks.iter().max().expect("there are some");
    assert!(*most <= LIMIT_MIB + OVERHEAD_MIB, "{most} MiB of memory where {LIMIT_MIB} are allowed: {peaks:?}");
}
