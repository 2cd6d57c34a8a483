//! The scenarios that must hold on any cluster, on devbroker.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay::devbroker::Settings;
use forebay::wire::api::ApiKey;

use crate::dev_kafka::DevKafka;
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::Daemon;
use crate::support::process::{Process, stdin_of};
use crate::support::scenario::{self, COMPRESSIONS, Going};
use crate::support::watch::poll;
use crate::support::writer::Writer;
use crate::support::{balance, kcat, load};

/// The low byte of a record batch's attributes; its lowest three bits are the codec.
const ATTRIBUTES_AT: usize = 22;

#[test]
fn many_clients_write_in_every_way_to_many_partitions() {
    scenario::many_clients_and_partitions(&DevKafka::start(3), 400);
}

#[test]
fn who_asks_for_a_topic_that_nobody_has_written_to_is_told_once_the_cluster_has_been_asked() {
    let cluster = DevKafka::start(1);
    let topic = new_topic(&cluster, "asked", 2);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let mut client = daemon.connect();
    let partitions = poll(scenario::SOON, || {
        let told = client.metadata(&[&topic]).remove(0);
        (told.error_code == 0).then_some(told.partitions.len())
    });
    assert_eq!(partitions, Some(2));
}

#[test]
fn leaders_move_under_load() {
    scenario::leaders_move_under_load(&DevKafka::start(3), 10);
}

#[test]
fn brokers_stop_and_start_under_load() {
    let mut cluster = DevKafka::start(3);
    scenario::brokers_restart_under_load(&mut cluster, Going::Killed, &[1, 2, 3, 1]);
}

#[test]
fn brokers_come_back_at_another_address_under_load() {
    let mut cluster = DevKafka::start_nomads(3);
    scenario::brokers_restart_under_load(&mut cluster, Going::Killed, &[3, 2, 1, 3]);
}

#[test]
fn the_leader_of_a_partition_dies_twice_under_load() {
    scenario::leader_killed_twice_under_load(&mut DevKafka::start(3));
}

#[test]
fn records_of_an_unknown_topic_are_held_until_it_is_known() {
    scenario::unknown_topic_is_known_later(&DevKafka::start(3));
}

#[test]
fn records_of_a_topic_that_never_comes_are_refused_and_disturb_nobody() {
    scenario::unknown_topic_never_comes(&DevKafka::start(3));
}

#[test]
fn a_topic_is_created_by_its_first_record_where_the_broker_allows_it() {
    let settings = Settings { brokers: 3, auto_create_topics: true, ..Settings::default() };
    scenario::topic_created_by_first_record(&DevKafka::start_as(settings));
}

#[test]
fn kafka_may_come_after_the_daemon() {
    scenario::kafka_away_at_start(&mut DevKafka::start(3));
}

/// The codecs of a topic's batches.
fn codecs(cluster: &DevKafka, topic: &str, partitions: i32) -> BTreeSet<u8> {
    let batches =
        (0..partitions).flat_map(|partition| cluster.batches(topic, partition).expect("the partition exists"));
    batches.map(|batch| batch.bytes[ATTRIBUTES_AT] & 7).collect()
}

#[test]
fn batches_are_compressed_as_the_topic_says_and_read_by_kcat() {
    let cluster = DevKafka::start(3);
    let has_kcat = kcat::is_installed_or_say("reading back with kcat");
    for (codec, id, level) in COMPRESSIONS {
        let (topic, _) = scenario::compressed(&cluster, codec, level);
        assert_eq!(codecs(&cluster, &topic, 3), [id].into(), "{codec} {level}");
        if has_kcat {
            assert!(kcat::consume(&cluster.bootstrap(), &topic) == cluster.read(&topic), "{codec} {level}");
        }
    }
}

/// librdkafka's snappy is raw, ours has xerial's framing.
#[test]
fn batches_compressed_by_librdkafka_are_read_here() {
    if !kcat::is_installed_or_say("batches compressed by librdkafka") {
        return;
    }
    let cluster = DevKafka::start(1);
    let lines: Vec<String> = (0..3000).map(|n| format!("line {n} of a text that is worth compressing")).collect();
    for (codec, id) in [("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)] {
        let topic = new_topic(&cluster, codec, 1);
        let mut command = kcat::produce_command(&cluster.bootstrap(), &topic);
        command.args(["-z", codec]);
        let mut producer = Process::spawn(command, stdin_of(lines.join("\n").as_bytes()), None);
        let status = producer.wait(Duration::from_secs(60));
        assert!(status.success(), "{}", producer.stderr());
        assert!(codecs(&cluster, &topic, 1).contains(&id), "{codec}");
        let read = cluster.read(&topic).into_iter().map(|record| record.value.expect("a line is no null"));
        assert!(read.eq(lines.iter().map(|line| line.clone().into_bytes())), "{codec}");
    }
}

#[test]
fn kcat_reads_every_byte_as_it_was_sent() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let (topic, expected) = scenario::delicate_records(&cluster, &daemon);
    assert_eq!(cluster.read(&topic), expected);
    if kcat::is_installed_or_say("reading back with kcat") {
        assert_eq!(kcat::consume(&cluster.bootstrap(), &topic), expected);
    }
}

#[test]
fn older_and_newer_brokers_are_spoken_to_in_their_own_versions() {
    for versions in [0..=3, 0..=7, 0..=9, 0..=12, 13..=13] {
        let cluster = DevKafka::start(3);
        cluster.limit_versions(ApiKey::Produce, versions);
        let daemon = Daemon::start(&cluster.bootstrap(), "");
        let topic = new_topic(&cluster, "versions", 6);
        let writers = scenario::mixed_writers(&topic, 6).into_iter();
        let writers = writers.map(|writer| Writer { records: Some(60), ..writer });
        balance::check(&cluster, &daemon, &load::run(&daemon, writers.collect()));
    }
}
