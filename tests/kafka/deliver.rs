//! The scenarios that must hold on any cluster, on real Kafka, read back by kcat; where the way of a record's bytes is the
//! question, and where nodes die, by Kafka's own Java client as well.

use std::collections::BTreeSet;
use std::ops::Deref;

use crate::cluster::{self, Cluster};
use crate::support::cluster::Cluster as _;
use crate::support::daemon::Daemon;
use crate::support::scenario::{self, COMPRESSIONS, Going};

/// Kafka's own client must find what kcat has found, all of it.
fn java_agrees(cluster: &Cluster, topic: &str, count: u64) {
    let read = cluster.consume(topic);
    assert_eq!(read.len() as u64, count);
    let count = usize::try_from(count).expect("a test writes less");
    assert!(cluster.consume_with_java(topic, count) == read, "the two readers of {topic} do not agree");
}

/// The codecs of record batches that stand one after the other.
fn codecs(mut batches: &[u8]) -> BTreeSet<u8> {
    let mut codecs = BTreeSet::new();
    while let Some(length) = batches.get(8..12) {
        let length = u32::from_be_bytes(length.try_into().expect("these are four bytes"));
        codecs.insert(batches[22] & 7);
        batches = &batches[12 + length as usize..];
    }
    codecs
}

#[test]
fn many_clients_write_in_every_way_to_many_partitions() {
    let Some(cluster) = cluster::shared() else { return };
    scenario::many_clients_and_partitions(cluster.deref(), 1000);
}

#[test]
fn leaders_move_under_load() {
    let Some(cluster) = cluster::shared() else { return };
    scenario::leaders_move_under_load(cluster.deref(), 6);
}

#[test]
fn records_of_an_unknown_topic_are_held_until_it_is_known() {
    let Some(cluster) = cluster::shared() else { return };
    scenario::unknown_topic_is_known_later(cluster.deref());
}

#[test]
fn records_of_a_topic_that_never_comes_are_refused_and_disturb_nobody() {
    let Some(cluster) = cluster::shared() else { return };
    scenario::unknown_topic_never_comes(cluster.deref());
}

#[test]
fn a_stop_under_load_keeps_what_was_acknowledged() {
    let Some(cluster) = cluster::shared() else { return };
    scenario::stop_under_load(cluster.deref());
}

#[test]
fn batches_of_every_codec_are_read_by_others() {
    let Some(cluster) = cluster::shared() else { return };
    for (codec, id, level) in COMPRESSIONS {
        let (topic, count) = scenario::compressed(cluster.deref(), codec, level);
        java_agrees(&cluster, &topic, count);
        for partition in 0..3 {
            assert_eq!(codecs(&cluster.segment(&topic, partition)), [id].into(), "{codec} {level}");
        }
    }
}

#[test]
fn both_readers_find_every_byte_as_it_was_sent() {
    let Some(cluster) = cluster::shared() else { return };
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let (topic, expected) = scenario::delicate_records(cluster.deref(), &daemon);
    assert_eq!(cluster.read(&topic), expected);
    assert_eq!(cluster.consume_with_java(&topic, expected.len()), expected);
}

#[test]
fn a_topic_is_created_by_its_first_record_where_the_broker_allows_it() {
    let Some(cluster) = cluster::shared() else { return };
    scenario::topic_created_by_first_record(cluster.deref());
}

#[test]
fn the_leader_is_killed_twice_under_load() {
    let Some(mut cluster) = cluster::exclusive() else { return };
    let (topic, count) = scenario::leader_killed_twice_under_load(&mut *cluster);
    java_agrees(&cluster, &topic, count);
}

#[test]
fn all_nodes_are_restarted_in_turn_under_load() {
    let Some(mut cluster) = cluster::exclusive() else { return };
    let (topic, count) = scenario::brokers_restart_under_load(&mut *cluster, Going::InOrder, &[1, 2, 3]);
    java_agrees(&cluster, &topic, count);
}

#[test]
fn records_wait_while_too_few_replicas_are_in_sync() {
    let Some(mut cluster) = cluster::exclusive() else { return };
    scenario::too_few_replicas(&mut *cluster);
}

#[test]
fn kafka_may_come_after_the_daemon() {
    let Some(mut cluster) = cluster::exclusive() else { return };
    scenario::kafka_away_at_start(&mut *cluster);
}
