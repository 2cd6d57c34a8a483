//! The daemon is killed with -9 again and again while clients write and its brokers die: nothing that was acknowledged is
//! lost, doubled or out of order. On devbroker; `tests/kafka/crash.rs` does the same on real Kafka.
//!
//! `KILLS=200 SEED=7 cargo test --release --test crash` is the long form.

#[path = "../support/mod.rs"]
mod support;

#[path = "../e2e/dev_kafka.rs"]
#[expect(dead_code, reason = "the end-to-end suite uses the rest")]
mod dev_kafka;

mod disk;
mod one_by_one;
mod outage;
mod power;
mod stored;
mod upgrade;
mod witness;

use fastrand::Rng;
use forebay::devbroker::{At, DevCluster};

use dev_kafka::DevKafka;
use support::cluster::{Cluster, unique};
use support::crash::{self, PARTITIONS, Plan, Store, Topic};
use support::daemon::{Daemon, Stopped};
use support::kcat;

const KILLS: u32 = 20;
const BROKERS: i32 = 3;

fn topic(name: &str, acks: &[i16], store: Store) -> Topic {
    Topic { name: unique(name), acks: acks.to_vec(), store }
}

/// Something happens to the cluster; sooner or later all brokers are up again.
fn harm(cluster: &mut DevKafka, topics: &[Topic], random: &mut Rng) {
    let broker = random.i32(1..=BROKERS);
    match random.u8(..7) {
        0 => cluster.kill_broker(broker),
        1 | 2 => cluster.start_all(),
        3 => {
            for topic in topics {
                for partition in 0..PARTITIONS {
                    // One that is down cannot lead.
                    let _ = DevCluster::move_leader(cluster, &topic.name, partition, broker);
                }
            }
        }
        4 => cluster.lose_answers(At::Broker(broker), random.u32(1..=3)),
        5 => cluster.lose_requests(At::Broker(broker), random.u32(1..=3)),
        _ => cluster.drop_all_connections(broker),
    }
}

fn run(topics: Vec<Topic>, config: &str) {
    run_and_end(topics, config, Daemon::kill);
}

/// As `run`, with another way to end a daemon at once.
fn run_and_end(topics: Vec<Topic>, config: &str, kill: impl FnMut(Daemon) -> Stopped) {
    let mut cluster = DevKafka::start(3);
    let plan = Plan { topics, config: config.to_owned(), ..Plan::from_environment(KILLS) };
    let judgement = crash::run(&mut cluster, &plan, |cluster, random| harm(cluster, &plan.topics, random), kill);
    assert!(judgement.found > 0);
    if kcat::is_installed_or_say("reading with kcat") {
        for Topic { name, .. } in &plan.topics {
            let by_kcat = kcat::consume(&cluster.bootstrap(), name);
            assert!(by_kcat == cluster.read(name), "kcat does not read of {name} what we do");
        }
    }
}

#[test]
fn a_daemon_that_is_killed_again_and_again_keeps_what_kafka_has_acknowledged() {
    run(vec![topic("killed", &[-1, 0], Store::Never), topic("killed", &[-1], Store::Never)], "");
}
