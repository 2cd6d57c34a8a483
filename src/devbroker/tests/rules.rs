use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::{batch, compressed_batch};
use crate::devbroker::Settings;
use crate::devbroker::answer::produce::{Checked, carry_out};
use crate::devbroker::cluster::Cluster;
use crate::wire::api::ApiKey;
use crate::wire::api::produce::{PartitionAnswer, Request, RequestPartition, TopicRef};
use crate::wire::codes;
use crate::wire::record_batch::Lane;

mod batches;

const TOPIC: &str = "t";
const HOUR_MS: i64 = 3_600_000;
/// Noon of some day.
const NOW: i64 = 1_764_000_000_000;

const LANE: Lane = Lane { producer_id: 7, epoch: 0 };

/// Three brokers, one topic of two partitions; partition 0 is led by broker 1.
struct Bench {
    cluster: Cluster,
    /// Timestamps of the records of a batch.
    stamps: Vec<i64>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut cluster = Cluster::new(settings, &[address; 3]);
        cluster.create_topic(TOPIC, 2).unwrap();
        Bench { cluster, stamps: vec![NOW; 3] }
    }

    /// Sends a batch of three to partition 0 of its leader: the base offset, or the error.
    fn send(&mut self, lane: Lane, base_sequence: i32) -> Result<i64, i16> {
        let records = batch(lane, base_sequence, &self.stamps);
        self.send_bytes(records)
    }

    fn send_bytes(&mut self, records: Bytes) -> Result<i64, i16> {
        let leader = self.leader();
        let answer = self.produce(leader, -1, records);
        if answer.error_code == codes::NONE { Ok(answer.base_offset) } else { Err(answer.error_code) }
    }

    fn produce(&mut self, broker: i32, acks: i16, records: Bytes) -> PartitionAnswer {
        self.produce_to(TopicRef::Name(TOPIC.into()), broker, acks, records)
    }

    fn produce_to(&mut self, topic: TopicRef, broker: i32, acks: i16, records: Bytes) -> PartitionAnswer {
        let part = RequestPartition { topic, partition: 0, records: Some(records) };
        let request = Request { transactional_id: None, acks, timeout: Duration::from_secs(1), partitions: vec![part] };
        let checked = Checked::new(request, 12);
        carry_out(&mut self.cluster, broker, &checked, Duration::ZERO, NOW).partitions.remove(0)
    }

    fn leader(&mut self) -> i32 {
        self.cluster.partition(TOPIC, 0).unwrap().leader
    }

    fn end(&mut self) -> i64 {
        self.cluster.partition(TOPIC, 0).unwrap().end()
    }

    fn restart(&mut self, broker: i32) {
        self.cluster.stop(broker);
        self.cluster.start(broker, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    }

    /// (producer id, epoch, last sequence) of each.
    fn producers(&mut self) -> Vec<(i64, i16, i32)> {
        let producers = self.cluster.partition(TOPIC, 0).unwrap().producers();
        producers.iter().map(|p| (p.lane.producer_id, p.lane.epoch, p.last_sequence)).collect()
    }

    /// Five batches: 0, 3, 6, 9, 12.
    fn with_five_batches() -> Self {
        let mut bench = Bench::new();
        for n in 0..5 {
            assert_eq!(bench.send(LANE, n * 3), Ok(i64::from(n) * 3));
        }
        bench
    }
}

#[test]
fn a_broker_that_never_gave_a_producer_id_answers_14_once_and_then_gives_ids_of_its_own_block() {
    let mut cluster = Bench::new().cluster;
    assert_eq!(cluster.init_producer_id(2), Err(codes::COORDINATOR_LOAD_IN_PROGRESS));
    assert_eq!((cluster.init_producer_id(2), cluster.init_producer_id(2)), (Ok(0), Ok(1)));
    assert_eq!(cluster.init_producer_id(1), Err(codes::COORDINATOR_LOAD_IN_PROGRESS));
    assert_eq!(cluster.init_producer_id(1), Ok(1000));
    assert_eq!((2..1000).map(|_| cluster.init_producer_id(2).unwrap()).last(), Some(999));
    assert_eq!(cluster.init_producer_id(2), Ok(2000));
}

#[test]
fn of_seven_batches_sent_again_the_last_five_succeed_at_their_first_offsets() {
    let mut bench = Bench::new();
    for n in 0..7 {
        assert_eq!(bench.send(LANE, n * 3), Ok(i64::from(n) * 3));
    }
    let again: Vec<_> = (0..7).map(|n| bench.send(LANE, n * 3)).collect();
    assert_eq!(again, [Err(45), Err(45), Ok(6), Ok(9), Ok(12), Ok(15), Ok(18)]);
    assert_eq!(bench.end(), 21);
    assert_eq!(bench.cluster.counters.duplicates, 5);
    assert_eq!(bench.producers(), [(7, 0, 20)]);
}

#[test]
fn merged_batches_parts_of_a_batch_and_gaps_answer_45() {
    let mut bench = Bench::with_five_batches();
    assert_eq!(bench.send_bytes(batch(LANE, 9, &[NOW; 6])), Err(45));
    assert_eq!(bench.send_bytes(batch(LANE, 12, &[NOW; 2])), Err(45));
    assert_eq!(bench.send_bytes(batch(LANE, 13, &[NOW; 2])), Err(45));
    assert_eq!(bench.send(LANE, 18), Err(45));
    assert_eq!(bench.end(), 15);
}

#[test]
fn an_unknown_producer_may_start_anywhere() {
    let mut bench = Bench::new();
    assert_eq!(bench.send(LANE, 100), Ok(0));
    assert_eq!(bench.producers(), [(7, 0, 102)]);
}

#[test]
fn a_new_epoch_starts_at_0_and_fences_the_old_one_of_this_partition_alone() {
    let mut bench = Bench::with_five_batches();
    let next = Lane { epoch: 1, ..LANE };
    let other = batch(LANE, 0, &[NOW]);
    let to_other = |bench: &mut Bench, records| {
        let part = RequestPartition { topic: TopicRef::Name(TOPIC.into()), partition: 1, records: Some(records) };
        let request =
            Request { transactional_id: None, acks: -1, timeout: Duration::from_secs(1), partitions: vec![part] };
        carry_out(&mut bench.cluster, 2, &Checked::new(request, 12), Duration::ZERO, NOW).partitions.remove(0)
    };
    assert_eq!(to_other(&mut bench, other).error_code, 0);
    assert_eq!(bench.send(next, 5), Err(45));
    assert_eq!(bench.send(next, 0), Ok(15));
    assert_eq!(bench.send(LANE, 15), Err(47));
    assert_eq!(bench.producers(), [(7, 1, 2)]);
    assert_eq!(to_other(&mut bench, batch(LANE, 1, &[NOW])).error_code, 0);
}

#[test]
fn a_follower_that_was_up_all_along_knows_the_last_five() {
    let mut bench = Bench::with_five_batches();
    bench.cluster.stop(1);
    assert_eq!(bench.leader(), 2);
    let again: Vec<_> = (0..5).map(|n| bench.send(LANE, n * 3)).collect();
    assert_eq!(again, [Ok(0), Ok(3), Ok(6), Ok(9), Ok(12)]);
}

#[test]
fn a_follower_that_was_restarted_since_knows_the_very_last_batch_alone() {
    let mut bench = Bench::with_five_batches();
    bench.restart(2);
    bench.cluster.stop(1);
    assert_eq!(bench.leader(), 2);
    let again: Vec<_> = (0..5).map(|n| bench.send(LANE, n * 3)).collect();
    assert_eq!(again, [Err(45), Err(45), Err(45), Err(45), Ok(12)]);
    assert_eq!(bench.producers(), [(7, 0, 14)]);
    assert_eq!(bench.send(LANE, 15), Ok(15));
    assert_eq!(bench.send(LANE, 12), Ok(12));
}

#[test]
fn after_all_brokers_were_restarted_the_very_last_batch_is_known_alone() {
    let mut bench = Bench::with_five_batches();
    for broker in 1..=3 {
        bench.restart(broker);
    }
    let again: Vec<_> = (0..5).map(|n| bench.send(LANE, n * 3)).collect();
    assert_eq!(again, [Err(45), Err(45), Err(45), Err(45), Ok(12)]);
}

#[test]
fn what_a_restarted_broker_replicated_since_it_knows_in_full() {
    let mut bench = Bench::with_five_batches();
    bench.restart(2);
    assert_eq!(bench.leader(), 1);
    assert_eq!((bench.send(LANE, 15), bench.send(LANE, 18)), (Ok(15), Ok(18)));
    bench.cluster.stop(1);
    let again: Vec<_> = (2..7).map(|n| bench.send(LANE, n * 3)).collect();
    assert_eq!(again, [Err(45), Err(45), Ok(12), Ok(15), Ok(18)]);
}

#[test]
fn a_batch_stamped_before_the_expiry_is_known_until_the_next_sweep() {
    let mut bench = Bench::new();
    bench.stamps = vec![NOW - 25 * HOUR_MS; 3];
    assert_eq!((bench.send(LANE, 0), bench.send(LANE, 0)), (Ok(0), Ok(0)));
    assert_eq!(bench.cluster.sweep(NOW - 24 * HOUR_MS), 1);
    assert_eq!(bench.producers(), []);
    assert_eq!(bench.send(LANE, 0), Ok(3));
    // One fresh record keeps it.
    bench.stamps = vec![NOW - 25 * HOUR_MS, NOW, NOW - 25 * HOUR_MS];
    assert_eq!(bench.send(LANE, 3), Ok(6));
    assert_eq!(bench.cluster.sweep(NOW - 24 * HOUR_MS), 0);
}

#[test]
fn a_first_batch_that_comes_after_its_successors_is_lost() {
    let mut bench = Bench::new();
    bench.cluster.faults.order_first_batch_refused(TOPIC, 0, codes::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(bench.send(LANE, 0), Err(6));
    assert_eq!((bench.send(LANE, 3), bench.send(LANE, 6)), (Ok(0), Ok(3)));
    assert_eq!(bench.send(LANE, 0), Err(45));
    assert_eq!(bench.send(LANE, 6), Ok(3));
}

#[test]
fn validation_comes_before_deduplication() {
    let mut bench = Bench::with_five_batches();
    bench.cluster.topics.get_mut(TOPIC).unwrap().limits.max_message_bytes = 70;
    assert_eq!(bench.send(LANE, 12), Err(10));
    bench.cluster.topics.get_mut(TOPIC).unwrap().limits.max_message_bytes = 1 << 20;
    bench.cluster.topics.get_mut(TOPIC).unwrap().limits.before_max_ms = HOUR_MS;
    bench.stamps = vec![NOW - 2 * HOUR_MS, NOW, NOW - 2 * HOUR_MS];
    let records = batch(LANE, 12, &bench.stamps);
    let answer = bench.produce(1, -1, records);
    assert_eq!(answer.error_code, 32);
    assert_eq!(answer.record_errors.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2]);
    // Of another content, and the same numbers: nobody compares.
    bench.stamps = vec![NOW; 3];
    assert_eq!(bench.send(LANE, 12), Ok(12));
}

#[test]
fn stamps_may_be_an_hour_ahead_of_the_broker_and_no_more() {
    let mut bench = Bench::new();
    bench.stamps = vec![NOW + HOUR_MS / 2; 3];
    assert_eq!(bench.send(LANE, 0), Ok(0));
    bench.stamps = vec![NOW + 2 * HOUR_MS; 3];
    assert_eq!(bench.send(LANE, 3), Err(32));
}

#[test]
fn log_append_time_replaces_timestamps_and_ignores_their_range() {
    let mut bench = Bench::new();
    bench.cluster.topics.get_mut(TOPIC).unwrap().log_append_time = true;
    let answer = bench.produce(1, -1, batch(LANE, 0, &[0, NOW * 2]));
    assert_eq!((answer.error_code, answer.log_append_time), (0, NOW));
    let log = bench.cluster.partition(TOPIC, 0).unwrap().log().to_vec();
    assert_eq!(log[0].records().map(|record| record.timestamp).collect::<Vec<_>>(), [NOW, NOW]);
    assert_eq!(bench.cluster.sweep(NOW - 24 * HOUR_MS), 0);
}

#[test]
fn produce_is_offered_from_0_as_kafka_does() {
    let cluster = Bench::new().cluster;
    assert_eq!(cluster.offered(ApiKey::Produce), 0..=13);
}

#[test]
fn sequence_numbers_wrap_to_0() {
    let mut bench = Bench::new();
    assert_eq!(bench.send(LANE, i32::MAX - 1), Ok(0));
    assert_eq!(bench.producers(), [(7, 0, 0)]);
    assert_eq!((bench.send(LANE, 1), bench.send(LANE, i32::MAX - 1)), (Ok(3), Ok(0)));
}

#[test]
fn without_a_producer_id_everything_is_appended() {
    let mut bench = Bench::new();
    let nobody = Lane { producer_id: -1, epoch: -1 };
    assert_eq!((bench.send(nobody, -1), bench.send(nobody, -1)), (Ok(0), Ok(3)));
    assert_eq!(bench.producers(), []);
}

#[test]
fn a_broker_that_does_not_lead_says_who_does() {
    let mut bench = Bench::new();
    bench.cluster.partition(TOPIC, 0).unwrap().lead(3);
    let answer = bench.produce(1, -1, batch(LANE, 0, &[NOW]));
    assert_eq!((answer.error_code, answer.current_leader), (6, Some((3, 1))));
    assert_eq!(bench.produce(3, -1, batch(LANE, 0, &[NOW])).error_code, 0);
}

#[test]
fn a_partition_without_any_broker_comes_back_with_the_first_one_that_starts() {
    let mut bench = Bench::new();
    for broker in 1..=3 {
        bench.cluster.stop(broker);
    }
    assert_eq!(bench.leader(), -1);
    bench.cluster.start(3, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let partition = bench.cluster.partition(TOPIC, 0).unwrap();
    assert_eq!((partition.leader, partition.leader_epoch), (3, 4));
}

#[test]
fn topics_that_are_not_there_and_acks_that_are_none_are_refused() {
    let mut bench = Bench::new();
    let records = batch(LANE, 0, &[NOW]);
    let gone = bench.cluster.topics[TOPIC].id;
    for (topic, code) in
        [(TopicRef::Name("other".into()), 3), (TopicRef::Id(Uuid::from_u128(1)), 100), (TopicRef::Id(gone), 0)]
    {
        assert_eq!(bench.produce_to(topic, 1, -1, records.clone()).error_code, code);
    }
    bench.cluster.delete_topic(TOPIC).unwrap();
    assert_eq!(bench.cluster.held_bytes, 0);
    bench.cluster.create_topic(TOPIC, 1).unwrap();
    assert_eq!(bench.produce_to(TopicRef::Id(gone), 1, -1, records.clone()).error_code, 100);
    assert_eq!(bench.produce(1, 2, records).error_code, 21);
}

#[test]
fn too_few_replicas_refuse_acks_all_alone() {
    let mut bench = Bench::new();
    bench.cluster.partition(TOPIC, 0).unwrap().min_insync_lost = true;
    assert_eq!(bench.send(LANE, 0), Err(19));
    assert_eq!(bench.produce(1, 1, batch(LANE, 0, &[NOW])).error_code, 0);
}

#[test]
fn ordered_errors_come_before_or_after_the_append_as_often_as_ordered() {
    let mut bench = Bench::new();
    bench.cluster.faults.order_error(TOPIC, 0, 7, 1, true);
    bench.cluster.faults.order_error(TOPIC, 0, 29, 2, false);
    assert_eq!((bench.send(LANE, 0), bench.send(LANE, 0), bench.end()), (Err(29), Err(29), 0));
    assert_eq!((bench.send(LANE, 0), bench.end()), (Err(7), 3));
    assert_eq!((bench.send(LANE, 0), bench.end()), (Ok(0), 3));
}

#[test]
fn over_the_limit_of_bytes_nothing_is_dropped_and_produce_answers_56() {
    let len = batch(LANE, 0, &[NOW; 3]).len() as u64;
    let mut bench = Bench::with(Settings { log_limit_bytes: 2 * len, ..Settings::default() });
    assert_eq!((bench.send(LANE, 0), bench.send(LANE, 3), bench.send(LANE, 6)), (Ok(0), Ok(3), Err(56)));
    assert_eq!(bench.send(LANE, 3), Ok(3));
    assert_eq!(bench.end(), 6);
}
