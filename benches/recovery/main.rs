//! How long the death of a leader is felt: forebay and librdkafka (`kcat -P`) write the same partitions of a real Kafka at the same
//! pace, one of three nodes is killed with -9, and each record's append time, by the broker's clock, says when it got through.
//!
//!     cargo bench --bench recovery                    # three rounds, two minutes; needs Java, Maven (once) and kcat
//!     cargo bench --bench recovery -- 5               # five
//!     cargo bench --bench recovery -- 3 followers     # the node that dies has followers, too
//!
//! Each partition has two replicas. Those that the node leads *move*; the others have no replica on it, and are *untouched*: nothing but
//! the producer can make them wait. With `followers`, a third of the partitions has its follower there: no broker answers for
//! these until the follower is out of sync, and none reads on from the connection meanwhile.
//! A record that is lost or doubled fails the bench.

#![expect(clippy::print_stdout, reason = "the tables are what is asked for")]

#[path = "../../tests/kafka/admin.rs"]
#[expect(dead_code, reason = "the suite uses the rest")]
mod admin;
#[path = "../../tests/kafka/cluster.rs"]
#[expect(dead_code, reason = "the suite uses the rest")]
mod cluster;
#[path = "../../tests/kafka/console_consumer.rs"]
mod console_consumer;
#[path = "../../tests/kafka/jars.rs"]
mod jars;
#[path = "../../tests/support/mod.rs"]
mod support;

mod figures;
mod load;

use std::env;
use std::time::Duration;

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};

use cluster::{Cluster, NODES};
use figures::{Felt, Group, felt};
use load::{Load, Producer, now_ms};
use support::daemon::Daemon;
use support::watch::{Watch, poll};

const ROUNDS: usize = 3;
const PARTITIONS: usize = 12;
/// Written before anything is looked at: connections, metadata and Java's compiler are warm then.
const WARM_UP: Duration = Duration::from_secs(4);
/// Looked at before the kill.
const BEFORE: Duration = Duration::from_secs(5);
/// And after it: the session's timeout, the election and what follows.
const AFTER: Duration = Duration::from_secs(15);
const CREATE_TOPICS_VERSION: i16 = 7;
const TIMEOUT_MS: i32 = 15_000;

/// The first and the second replica of each partition; the first leads.
struct Layout {
    replicas: [[i32; 2]; PARTITIONS],
    killed: i32,
}

impl Layout {
    fn new(killed: i32, with_followers: bool) -> Layout {
        let (a, b) = (killed % NODES + 1, (killed + 1) % NODES + 1);
        let third = if with_followers { [[a, killed], [b, killed]] } else { [[a, b], [b, a]] };
        let six = [[killed, a], [killed, b], [a, b], [b, a], third[0], third[1]];
        Layout { replicas: std::array::from_fn(|partition| six[partition % six.len()]), killed }
    }

    fn group(&self, partition: i32) -> Group {
        match self.replicas[usize::try_from(partition).expect("not negative")] {
            [leader, _] if leader == self.killed => Group::Moved,
            [_, follower] if follower == self.killed => Group::WithoutFollower,
            _ => Group::Untouched,
        }
    }
}

fn main() {
    // Cargo gives a bench one argument of its own.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let with_followers = arguments.iter().any(|argument| argument == "followers");
    let rounds = arguments.iter().find(|argument| *argument != "followers");
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("the number of rounds"));
    let Some(mut cluster) = cluster::exclusive() else { return };
    println!("{} records/s into each of {PARTITIONS} partitions, from each producer\n", load::RECORDS_PER_SECOND);
    println!(
        "| round | producer | pause of the moved, ms: median, longest | p99 of the untouched, ms: before, after the kill |"
    );
    println!("|--:|---|--:|--:|");
    let (mut pauses, mut slowdowns) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let killed = i32::try_from(round).expect("there are few") % NODES + 1;
        let [forebay, librdkafka] = measure(&mut cluster, round, &Layout::new(killed, with_followers));
        println!("| {round} | forebay | {forebay} |\n| {round} | librdkafka | {librdkafka} |");
        pauses.push(forebay.median_pause() as f64 / librdkafka.median_pause() as f64);
        slowdowns.push([forebay.slowdown(), librdkafka.slowdown()]);
    }
    pauses.sort_by(f64::total_cmp);
    println!("\npause of the moved, forebay ÷ librdkafka: {pauses:.2?}");
    println!("p99 of the untouched, after ÷ before, forebay and librdkafka: {slowdowns:.2?}");
}

/// One kill.
fn measure(cluster: &mut Cluster, round: usize, layout: &Layout) -> [Felt; 2] {
    let topic = format!("recovery-{round}");
    create(cluster, &topic, layout);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let load = Load::start(&cluster.bootstrap(), &topic, PARTITIONS, &daemon);
    let never = Watch::<()>::default();
    let rest = |time| _ = never.wait(time, |()| None::<()>);
    rest(WARM_UP + BEFORE);
    let killed_at = now_ms();
    cluster.kill(layout.killed);
    rest(AFTER);
    let written = load.finish();
    assert_eq!(daemon.stop().code(), 0);
    cluster.restore();
    let read = cluster.consume(&topic);
    [Producer::Forebay, Producer::Librdkafka].map(|producer| {
        felt(&read, producer, written[producer as usize], killed_at, |partition| layout.group(partition))
    })
}

/// Two replicas each, one of which is enough, and the broker's own times.
fn create(cluster: &Cluster, topic: &str, layout: &Layout) {
    let assignments = layout.replicas.iter().zip(0..).map(|(replicas, partition)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(partition)
            .with_broker_ids(replicas.iter().map(|id| (*id).into()).collect())
    });
    let configs = [("message.timestamp.type", "LogAppendTime"), ("min.insync.replicas", "1")].map(|(name, value)| {
        CreatableTopicConfig::default().with_name(admin::string(name)).with_value(Some(admin::string(value)))
    });
    let wanted = CreatableTopic::default()
        .with_name(admin::topic_name(topic))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(assignments.collect())
        .with_configs(configs.to_vec());
    let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(TIMEOUT_MS);
    let response = admin::call(cluster.any_port(), CREATE_TOPICS_VERSION, &request).expect("a node answers");
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
    let known = |port| admin::partitions(port, topic).is_ok_and(|found| found.len() == PARTITIONS);
    let all = || cluster.live_ports().all(known).then_some(());
    assert!(poll(cluster::SETTLE_TIMEOUT, all).is_some(), "not all nodes know {topic}");
    cluster.wait_in_sync();
}
