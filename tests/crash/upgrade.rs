//! Backlogs that earlier versions have written are opened and drained by this one: `tests/data/backlog` has one directory for each version
//! whose bytes differ.
//!
//! `WRITE_BACKLOG=tests/data/backlog/NAME cargo test --test crash upgrade` writes another one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use forebay::devbroker::At;
use tempfile::TempDir;

use crate::dev_kafka::DevKafka;
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::Cluster;
use crate::support::crash::stored_in;
use crate::support::daemon::{Daemon, DaemonFiles, Extra};
use crate::support::scenario::SOON;

const TOPIC: &str = "audit";
const PARTITIONS: i32 = 3;
/// What Kafka had, and the log knows.
const DELIVERED: usize = 10;
/// All of a partition; those that were not delivered are held, and some of them may have been sent.
const RECORDS: usize = 40;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(cluster: &DevKafka, backlog: &Path) -> DaemonFiles {
    let config = stored_in(backlog, "*").replace("[topics", "limit = \"64MiB\"\n[topics");
    let stream = "max_frame_size = \"1MiB\"\nmax_unanswered_size = \"1MiB\"";
    DaemonFiles::new(&cluster.bootstrap(), Extra { stream, rest: &config, ..Extra::default() })
}

/// Of all records: whoever reads them is not to behave otherwise when they have become old.
const TIMESTAMP: i64 = 1_767_225_600_000;

/// Record `number` of a partition: some have a key, some headers.
fn record(partition: i32, number: usize) -> Outgoing {
    let value = format!("{partition}/{number}");
    let record = match number % 3 {
        0 => Outgoing { value: Some(value.into()), ..Outgoing::default() },
        1 => Outgoing { key: Some(value.clone().into()), value: Some(value.into()), ..Outgoing::default() },
        _ => Outgoing {
            value: Some(format!("{value}/{}", "x".repeat(1000)).into()),
            headers: vec![(b"from".to_vec(), Some(b"before".to_vec()))],
            ..Outgoing::default()
        },
    };
    Outgoing { timestamp: Some(TIMESTAMP), ..record }
}

fn send(daemon: &Daemon, acks: i16, numbers: std::ops::Range<usize>) {
    let mut client = daemon.connect();
    for number in numbers {
        for partition in 0..PARTITIONS {
            let records = [record(partition, number)];
            let answer = client.produce(&Produce { acks, partition, ..Produce::new(TOPIC, &records) });
            assert_eq!(answer.error_code, 0, "{answer:?}");
        }
    }
}

/// Writes what this version writes: what was delivered, what is in doubt, what is behind that.
fn write(to: &Path) {
    let cluster = DevKafka::start(1);
    cluster.create_topic(TOPIC, PARTITIONS);
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let daemon = Daemon::start_on(files(&cluster, backlog.path()));
    send(&daemon, -1, 0..DELIVERED);
    cluster.hold_requests(At::Anywhere);
    send(&daemon, 1, DELIVERED..RECORDS);
    drop(daemon.kill());
    fs::create_dir_all(to).expect("it can be made");
    for file in fs::read_dir(backlog.path()).expect("it is there").flatten() {
        if file.metadata().expect("it is there").is_file() && file.file_name() != "lock" {
            let mut bytes = fs::read(file.path()).expect("it can be read");
            // What is only kept free says nothing.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(end);
            if !bytes.is_empty() {
                fs::write(to.join(file.file_name()), bytes).expect("it can be written");
            }
        }
    }
}

#[test]
fn a_backlog_of_every_earlier_version_is_opened_and_drained_in_order() {
    if let Ok(name) = env::var("WRITE_BACKLOG") {
        write(&directory(&name));
    }
    let mut versions = 0;
    for version in fs::read_dir(directory("tests/data/backlog")).expect("there are some").flatten() {
        versions += 1;
        let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
        for file in fs::read_dir(version.path()).expect("it is a directory").flatten() {
            fs::copy(file.path(), backlog.path().join(file.file_name())).expect("it can be copied");
        }
        let cluster = DevKafka::start(1);
        cluster.create_topic(TOPIC, PARTITIONS);
        // What the earlier version had delivered, Kafka has.
        let earlier = Daemon::start(&cluster.bootstrap(), "");
        send(&earlier, -1, 0..DELIVERED);
        drop(earlier.kill());
        let daemon = Daemon::start_on(files(&cluster, backlog.path()));
        let status = daemon.wait_for_status("nothing held", SOON, |status| {
            (status["ledger"]["held"] == 0 && status["backlog"]["held_records"] == 0).then(|| status.clone())
        });
        let all = RECORDS * usize::try_from(PARTITIONS).expect("there are few");
        assert_eq!(status["backlog"]["delivered"], all, "{:?}: {status:#}", version.path());
        for partition in 0..PARTITIONS {
            let read = cluster.read_partition(TOPIC, partition);
            let expected: Vec<_> = (0..RECORDS).map(|number| record(partition, number)).collect();
            assert_eq!(read.len(), expected.len(), "{:?}", version.path());
            for (read, sent) in read.into_iter().zip(expected) {
                assert!(
                    (&read.key, &read.value, &read.headers) == (&sent.key, &sent.value, &sent.headers)
                        && read.timestamp == TIMESTAMP,
                    "{:?}: partition {partition}, offset {}",
                    version.path(),
                    read.offset
                );
            }
        }
    }
    assert!(versions > 0, "there is none to be opened");
}
