//! The daemon is killed with -9 again and again while clients write and nodes of a real cluster are killed: see
//! `tests/crash`, which does the same on devbroker.
//!
//! `KILLS=200 SEED=7 cargo test --release --test kafka -- --nocapture crash` is the long form.

use fastrand::Rng;

use crate::cluster::{self, Cluster, NODES};
use crate::support::cluster::{Cluster as _, unique};
use crate::support::crash::{self, PARTITIONS, Plan, Topic};
use crate::support::daemon::Daemon;

const KILLS: u32 = 10;

/// A node dies and comes back, or leaders move.
fn harm(cluster: &mut Cluster, topics: &[Topic], random: &mut Rng) {
    let node = random.i32(1..=NODES);
    if random.bool() {
        cluster.kill_broker(node);
        cluster.start_broker(node);
    } else {
        let topic = &topics[random.usize(..topics.len())].name;
        (0..PARTITIONS).for_each(|partition| cluster.move_leader(topic, partition, node));
    }
}

#[test]
fn a_daemon_that_is_killed_again_and_again_keeps_what_kafka_has_acknowledged() {
    let Some(mut cluster) = cluster::exclusive() else { return };
    let topic = |acks: &[i16]| Topic { name: unique("killed"), acks: acks.to_vec(), stored: false };
    let plan = Plan { topics: vec![topic(&[-1, 0]), topic(&[-1])], ..Plan::from_environment(KILLS) };
    crash::run(&mut *cluster, &plan, |cluster, random| harm(cluster, &plan.topics, random), Daemon::kill);
}
