//! The daemon is killed with -9, or its power cut, again and again, while clients write and nodes of a real cluster are killed: see
//! `tests/crash`, which does the same on devbroker.
//!
//! `KILLS=200 SEED=7 cargo test --release --test kafka -- --nocapture crash` is the long form.

use fastrand::Rng;
use tempfile::TempDir;

use crate::cluster::{self, Cluster, NODES};
use crate::support::cluster::{Cluster as _, unique};
use crate::support::crash::power::{disk_or_say, lose_power};
use crate::support::crash::{self, PARTITIONS, Plan, Store, Topic, overflowing, stored_in};
use crate::support::daemon::{Daemon, Stopped};

const KILLS: u32 = 10;
const POWER_CUTS: u32 = 4;

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

fn topic(name: &str, acks: &[i16], store: Store) -> Topic {
    Topic { name: unique(name), acks: acks.to_vec(), store }
}

fn run(topics: Vec<Topic>, config: String, kills: u32, kill: impl FnMut(Daemon) -> Stopped) {
    let Some(mut cluster) = cluster::exclusive() else { return };
    let plan = Plan { topics, config, ..Plan::from_environment(kills) };
    let judgement = crash::run(&mut *cluster, &plan, |cluster, random| harm(cluster, &plan.topics, random), kill);
    assert!(judgement.found > 0);
}

#[test]
fn a_daemon_that_is_killed_again_and_again_keeps_what_kafka_has_acknowledged_and_what_it_has_stored() {
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let topics = vec![
        topic("stored", &[-1, 0, 1], Store::Always),
        topic("overflow", &[-1, 0, 1], Store::Overflow),
        topic("memory", &[-1, 0], Store::Never),
    ];
    run(topics, stored_in(backlog.path(), "stored*") + &overflowing("overflow*"), KILLS, Daemon::kill);
}

#[test]
fn a_daemon_whose_power_is_cut_again_and_again_keeps_what_it_has_acknowledged() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let Some((disk, backlog)) = disk_or_say(directory.path()) else { return };
    let topics = vec![topic("power", &[-1, 0, 1, 1], Store::Always), topic("memory", &[-1, 0], Store::Never)];
    run(topics, stored_in(&backlog, "power*"), POWER_CUTS, |daemon| lose_power(daemon, &disk));
}
