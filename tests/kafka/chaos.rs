//! All that happens to a cluster, one thing after the other in an order of chance, while clients write.
//!
//! `SEED=n` replays an order; how fast things happen beside it is up to the machine.

use std::env;
use std::ops::DerefMut;

use crate::admin;
use crate::cluster::{self, Cluster};
use crate::support::balance::{check, check_counted, check_read, read, settled_ledger};
use crate::support::cluster::{Cluster as _, unique};
use crate::support::daemon::{Daemon, Extra};
use crate::support::kcat;
use crate::support::load::Load;
use crate::support::scenario::{SOON, held_records, mixed_writers};
use crate::support::watch::poll;
use crate::support::writer::{Account, By, Way, Writer};

/// Records of each client between one event and the next.
const STRETCH: u64 = 60;

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    RollingRestart,
    KilledLeader,
    PreferredElection,
    Reassignment,
    MorePartitions,
    TooFewInSync,
    SmallerMessages,
}

/// Whether the daemon may read what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Allowed,
    Forbidden,
}

/// Topics that differ in what may happen to them.
struct Topics {
    /// Three replicas, of which two must have a record.
    main: String,
    /// Two replicas, so that there is another node to move to.
    wandering: String,
    /// Its clients do not write by key: a key would change its partition.
    growing: String,
}

impl Topics {
    fn create(cluster: &Cluster) -> Topics {
        let topics = Topics { main: unique("main"), wandering: unique("wandering"), growing: unique("growing") };
        let forever = ("retention.ms", "-1");
        cluster.create_topic(&topics.main, 6, 3, &[forever]);
        cluster.create_topic(&topics.wandering, 3, 2, &[forever, ("min.insync.replicas", "1")]);
        cluster.create_topic(&topics.growing, 2, 3, &[forever]);
        topics
    }

    fn names(&self) -> [&str; 3] {
        [&self.main, &self.wandering, &self.growing]
    }

    fn writers(&self) -> Vec<Writer> {
        let mut writers = mixed_writers(&self.main, 6);
        writers.retain(|writer| [0, 2, 3, 6].contains(&writer.id));
        writers.push(Writer::new(10, &self.wandering, 3));
        writers.push(Writer { by: By::Key, ..Writer::new(11, &self.wandering, 3) });
        writers.push(Writer::new(12, &self.growing, 2));
        writers.push(Writer { by: By::Any, ..Writer::new(13, &self.growing, 2) });
        writers
    }

    fn happen(&self, event: Event, cluster: &mut Cluster, daemon: &Daemon, load: &Load) {
        match event {
            Event::RollingRestart => {
                for id in cluster.brokers() {
                    cluster.stop_broker(id);
                    load.wait_for_each(STRETCH);
                    cluster.start_broker(id);
                }
            }
            Event::KilledLeader => {
                let leader = cluster.leader(&self.main, 0);
                cluster.kill_broker(leader);
                load.wait_for_each(STRETCH);
                cluster.start_broker(leader);
            }
            Event::PreferredElection => {
                for partition in 0..6 {
                    let to = cluster.leader(&self.main, partition) % cluster::NODES + 1;
                    cluster.move_leader(&self.main, partition, to);
                }
            }
            Event::Reassignment => (0..3).for_each(|partition| cluster.reassign(&self.wandering, partition)),
            Event::MorePartitions => cluster.add_partition(&self.growing),
            Event::TooFewInSync => {
                // One node fewer than the topic asks for, and nothing of it is taken until that is back.
                cluster.set_topic_config(&self.main, "min.insync.replicas", "3");
                let leader = cluster.leader(&self.main, 0);
                let follower = leader % cluster::NODES + 1;
                cluster.kill_broker(follower);
                daemon.wait_for_status("records held", SOON, |status| {
                    (held_records(status, &self.main)? > 0).then_some(())
                });
                cluster.start_broker(follower);
                load.wait_for_each(STRETCH);
                cluster.set_topic_config(&self.main, "min.insync.replicas", "2");
            }
            Event::SmallerMessages => {
                // Room for the largest record, and not for three of them. One record a batch is slow where much is held.
                cluster.set_topic_config(&self.main, "max.message.bytes", "220");
                load.wait_for_each(STRETCH / 6);
                cluster.set_topic_config(&self.main, "max.message.bytes", "1048588");
            }
        }
    }
}

/// All events, in an order of chance; what it was is printed.
#[expect(clippy::print_stdout, reason = "to be seen when the test fails")]
fn run(cluster: &mut Cluster, daemon: &Daemon, reading: Reading) -> Vec<Account> {
    let seed = env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("SEED is a number"));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut events = [
        Event::RollingRestart,
        Event::KilledLeader,
        Event::KilledLeader,
        Event::PreferredElection,
        Event::Reassignment,
        Event::MorePartitions,
        Event::TooFewInSync,
        Event::SmallerMessages,
    ];
    random.shuffle(&mut events);
    println!("SEED={seed}: reading {reading:?}, {events:?}");
    let topics = Topics::create(cluster);
    if reading == Reading::Forbidden {
        topics.names().into_iter().for_each(|topic| cluster.forbid_reading(topic));
        let (status, stderr) = kcat::try_consume(&cluster.bootstrap(), &topics.main);
        assert!(
            !status.success() && stderr.contains("Topic authorization failed"),
            "it can be read: {status} {stderr}"
        );
    }
    let load = Load::start(daemon, topics.writers());
    for event in events {
        load.wait_for_each(STRETCH);
        println!("{event:?}");
        topics.happen(event, cluster, daemon, &load);
    }
    load.wait_for_each(STRETCH);
    let accounts = load.finish();
    let ledger = settled_ledger(daemon, accounts.iter().map(|account| u64::from(account.sent)).sum());
    println!("{ledger}");
    if reading == Reading::Forbidden {
        topics.names().into_iter().for_each(|topic| cluster.allow_reading(topic));
    }
    accounts
}

/// Nothing makes a broker forget a producer, so nothing is even possibly doubled.
fn nothing_is_forgotten(reading: Reading) {
    let Some(mut cluster) = cluster::exclusive() else { return };
    let cluster = cluster.deref_mut();
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let accounts = run(cluster, &daemon, reading);
    check(cluster, &daemon, &accounts);
}

/// Brokers forget a producer within seconds of its last record's time.
fn producers_are_forgotten(reading: Reading) {
    let Some(mut cluster) = cluster::exclusive() else { return };
    let cluster = cluster.deref_mut();
    let kafka = "producer_id_expiration = \"20s\"";
    let daemon = Daemon::start(&cluster.bootstrap(), Extra { kafka, ..Extra::default() });
    cluster.set_cluster_config("producer.id.expiration.ms", "20000");
    let accounts = run(cluster, &daemon, reading);
    check_counted(cluster, &daemon, &accounts);
    cluster.set_cluster_config("producer.id.expiration.ms", "86400000");
}

#[test]
fn chaos_loses_doubles_and_reorders_nothing() {
    nothing_is_forgotten(Reading::Allowed);
}

#[test]
fn chaos_loses_doubles_and_reorders_nothing_of_what_may_not_be_read() {
    nothing_is_forgotten(Reading::Forbidden);
}

#[test]
fn chaos_doubles_only_what_is_counted_where_brokers_forget_producers() {
    producers_are_forgotten(Reading::Allowed);
}

#[test]
fn chaos_doubles_only_what_is_counted_where_brokers_forget_producers_of_what_may_not_be_read() {
    producers_are_forgotten(Reading::Forbidden);
}

#[test]
fn a_topic_that_is_deleted_and_made_again_goes_on() {
    let Some(cluster) = cluster::shared() else { return };
    let kafka = "allow_auto_create_topics = false\nmetadata_max_age = \"1s\"";
    let daemon = Daemon::start(&cluster.bootstrap(), Extra { kafka, ..Extra::default() });
    let (topic, other) = (unique("again"), unique("other"));
    cluster.create_topic(&topic, 3, 3, &[]);
    cluster.create_topic(&other, 3, 3, &[]);
    let first = vec![Writer { records: Some(300), ..Writer::new(0, &topic, 3) }];
    let first = Load::start(&daemon, first).join();
    let beside = Load::start(&daemon, vec![Writer::new(9, &other, 3)]);
    cluster.delete_topic(&topic);
    beside.wait_for_each(STRETCH);
    // Written while it is away, and for the new one.
    let second = Load::start(
        &daemon,
        vec![
            Writer { records: Some(300), ..Writer::new(1, &topic, 3) },
            Writer { records: Some(300), way: Way::None, by: By::Key, ..Writer::new(2, &topic, 3) },
        ],
    );
    daemon.wait_for_status("records held", SOON, |status| (held_records(status, &topic)? >= 300).then_some(()));
    beside.wait_for_each(STRETCH);
    cluster.create_topic(&topic, 3, 3, &[]);
    let mut accounts = second.join();
    accounts.extend(beside.finish());
    let sent: u64 = accounts.iter().chain(&first).map(|account| u64::from(account.sent)).sum();
    let ledger = settled_ledger(&daemon, sent);
    assert_eq!((&ledger["delivered"], &ledger["dead_lettered"]), (&sent.into(), &0.into()), "{ledger}");
    check_read(&read(&*cluster, &accounts), &accounts, crate::support::balance::Ending::Settled);
}

impl Cluster {
    /// Moves a partition of two replicas to the node that has none, its leader included.
    fn reassign(&self, topic: &str, partition: i32) {
        let found = admin::partitions(self.any_port(), topic).expect("a node answers");
        let replicas = &found.iter().find(|found| found.partition_index == partition).expect("it exists").replica_nodes;
        let to: Vec<_> = replicas.iter().map(|node| (node.0 % cluster::NODES + 1).into()).collect();
        admin::prefer(self.any_port(), topic, partition, to.clone()).expect("replicas can be moved");
        let moved = poll(SOON, || {
            let found = admin::partitions(self.any_port(), topic).ok()?;
            let found = found.into_iter().find(|found| found.partition_index == partition)?;
            (found.replica_nodes == to && found.isr_nodes.len() == to.len()).then_some(())
        });
        assert!(moved.is_some(), "{topic}/{partition} has not moved");
    }

    fn add_partition(&self, topic: &str) {
        let count = admin::partitions(self.any_port(), topic).expect("a node answers").len();
        let count = i32::try_from(count + 1).expect("there are few");
        admin::add_partitions(self.any_port(), topic, count).expect("partitions can be added");
    }

    fn delete_topic(&self, topic: &str) {
        admin::delete_topic(self.any_port(), topic).expect("a topic can be deleted");
        let gone = poll(SOON, || {
            self.live_ports()
                .all(|port| admin::partitions(port, topic).is_ok_and(|found| found.is_empty()))
                .then_some(())
        });
        assert!(gone.is_some(), "{topic} is still there");
    }

    fn set_topic_config(&self, topic: &str, name: &str, value: &str) {
        admin::set_topic_config(self.any_port(), topic, name, value).expect("a topic can be configured");
    }

    fn set_cluster_config(&self, name: &str, value: &str) {
        admin::set_cluster_config(self.any_port(), name, value).expect("brokers can be configured");
    }
}
