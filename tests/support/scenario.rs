//! What must hold on every cluster, devbroker or real: each scenario writes through a daemon while something happens, and
//! then compares what the clients were told, what a reader finds, and the daemon's ledger.

use std::time::Duration;

use serde_json::Value;

use super::balance::{self, Ending, check, check_read};
use super::client::Outgoing;
use super::client::Produce;
use super::cluster::{Cluster, new_topic, unique};
use super::daemon::{Daemon, Extra};
use super::kcat::ReadRecord;
use super::load::{self, Load};
use super::writer::{Account, By, Way, Writer};

/// How long the daemon may take to notice something.
pub const SOON: Duration = Duration::from_secs(60);
/// Records of each client between one event and the next.
const STRETCH: u64 = 60;

/// Every way to write and to choose a partition, to three topics of eight partitions, by sixteen clients at once.
pub fn many_clients_and_partitions(cluster: &impl Cluster, records: u32) {
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topics: Vec<String> = (0..3).map(|_| new_topic(cluster, "many", 8)).collect();
    let ways = [Way::All(5), Way::None, Way::Dory, Way::Datagram];
    let bys = [By::Key, By::Partition, By::Any];
    let writers = (0..16_usize).map(|id| Writer {
        way: ways[id % ways.len()],
        by: bys[id / ways.len() % bys.len()],
        burst: 7,
        records: Some(records),
        ..Writer::new(id as u32, &topics[id % topics.len()], 8)
    });
    let accounts = load::run(&daemon, writers.collect());
    check(cluster, &daemon, &accounts);
    assert_eq!(daemon.stop().code(), 0);
}

/// Six clients with answers and two without, to a topic of six partitions.
pub fn mixed_writers(topic: &str, partitions: i32) -> Vec<Writer> {
    let bys = [By::Partition, By::Partition, By::Key, By::Any];
    let mut writers: Vec<_> =
        (0..6).map(|id| Writer { by: bys[id as usize % bys.len()], ..Writer::new(id, topic, partitions) }).collect();
    writers.push(Writer { way: Way::None, by: By::Key, ..Writer::new(6, topic, partitions) });
    writers.push(Writer { way: Way::Dory, by: By::Any, ..Writer::new(7, topic, partitions) });
    writers
}

/// Leaders move again and again while clients write.
pub fn leaders_move_under_load(cluster: &impl Cluster, rounds: i32) {
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(cluster, "moving", 6);
    let load = Load::start(&daemon, mixed_writers(&topic, 6));
    let brokers = cluster.brokers();
    for round in 0..rounds {
        load.wait_for_each(STRETCH);
        for partition in (round % 2..6).step_by(2) {
            let leader = cluster.leader(&topic, partition);
            let place = brokers.iter().position(|id| *id == leader).expect("a leader is a broker");
            cluster.move_leader(&topic, partition, brokers[(place + 1) % brokers.len()]);
        }
    }
    load.wait_for_each(STRETCH);
    check(cluster, &daemon, &load.finish());
}

/// How a broker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// It gives its leaderships away first.
    InOrder,
    /// It does not.
    Killed,
}

/// These brokers go and come back, one after the other, while clients write.
pub fn brokers_restart_under_load(cluster: &mut impl Cluster, going: Going, brokers: &[i32]) -> (String, u64) {
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(cluster, "restarts", 6);
    let load = Load::start(&daemon, mixed_writers(&topic, 6));
    for id in brokers {
        load.wait_for_each(STRETCH);
        match going {
            Going::InOrder => cluster.stop_broker(*id),
            Going::Killed => cluster.kill_broker(*id),
        }
        load.wait_for_each(STRETCH);
        cluster.start_broker(*id);
    }
    load.wait_for_each(STRETCH);
    let count = check(cluster, &daemon, &load.finish());
    (topic, count)
}

/// The leader of a partition is killed under load, and as soon as another one serves, that one, too.
pub fn leader_killed_twice_under_load(cluster: &mut impl Cluster) -> (String, u64) {
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(cluster, "killed", 6);
    let load = Load::start(&daemon, mixed_writers(&topic, 6));
    load.wait_for_each(STRETCH);
    let first = cluster.leader(&topic, 0);
    cluster.kill_broker(first);
    load.wait_for_each(STRETCH);
    cluster.start_broker(first);
    let second = cluster.leader(&topic, 0);
    assert_ne!(first, second, "the partition has another leader now");
    cluster.kill_broker(second);
    load.wait_for_each(STRETCH);
    cluster.start_broker(second);
    load.wait_for_each(STRETCH);
    let count = check(cluster, &daemon, &load.finish());
    (topic, count)
}

const NO_AUTO_CREATION: Extra<'_> =
    Extra { kafka: "allow_auto_create_topics = false\nmetadata_max_age = \"10s\"", stream: "", datagram: "", rest: "" };

/// Records for a topic that does not exist are held, others go on, and when it is created they are delivered in order.
pub fn unknown_topic_is_known_later(cluster: &impl Cluster) {
    let daemon = Daemon::start(&cluster.bootstrap(), NO_AUTO_CREATION);
    let (known, unknown) = (new_topic(cluster, "known", 2), unique("later"));
    let bys = [By::Partition, By::Key, By::Any];
    let writer = |id: u32| Writer { by: bys[id as usize % 3], records: Some(200), ..Writer::new(id, &unknown, 4) };
    let writers = (0..3).map(writer).chain((3..6).map(|id| Writer { way: Way::None, ..writer(id) })).collect();
    let waiting = Load::start(&daemon, writers);
    let others = Load::start(&daemon, vec![Writer::new(10, &known, 2)]);
    // The three without answers are held whole, those with answers as far as they go without.
    let held = daemon.wait_for_status("records held for the unknown topic", SOON, |status| {
        held_records(status, &unknown).filter(|held| *held >= 600 + 3 * 15)
    });
    assert_eq!(held, 600 + 3 * 15);
    others.wait_for_each(STRETCH);
    cluster.create_topic(&unknown, 4);
    let mut accounts = waiting.join();
    accounts.extend(others.finish());
    check(cluster, &daemon, &accounts);
}

/// What the status says is held for a topic.
pub fn held_records(status: &Value, topic: &str) -> Option<u64> {
    let topics = status["topics"].as_array()?;
    topics.iter().find(|found| found["name"] == topic)?["held_records"].as_u64()
}

/// A topic that does not come: error 3 after `max_block`, what cannot be answered is counted, nothing is held, and other
/// topics do not notice.
pub fn unknown_topic_never_comes(cluster: &impl Cluster) {
    let extra = Extra { rest: "[producer]\nmax_block = \"300ms\"", ..NO_AUTO_CREATION };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let (known, unknown) = (new_topic(cluster, "known", 2), unique("never"));
    let others = Load::start(&daemon, vec![Writer::new(10, &known, 2)]);
    let writers = vec![
        Writer { records: Some(30), ..Writer::new(0, &unknown, 4) },
        Writer { records: Some(20), way: Way::None, ..Writer::new(1, &unknown, 4) },
        Writer { records: Some(10), way: Way::Datagram, ..Writer::new(2, &unknown, 4) },
    ];
    let refused = load::run(&daemon, writers);
    let codes: Vec<i16> = refused[0].answers.values().map(|answer| answer.error_code).collect();
    assert_eq!(codes, [3; 30]);
    let dropped = daemon.wait_for_status("all of the unknown topic dropped", SOON, |status| {
        status["ledger"]["dropped"]["unknown_topic"].as_u64().filter(|dropped| *dropped >= 30)
    });
    assert!((30..=60).contains(&dropped), "{dropped} records dropped");
    others.wait_for_each(STRETCH);
    let accounts = others.finish();
    let sent = u64::from(accounts[0].sent);
    let ledger = balance::settled_ledger(&daemon, sent + dropped);
    assert_eq!(check_read(&balance::read(cluster, &accounts), &accounts, Ending::Settled), sent);
    assert_eq!(ledger["delivered"], sent);
    assert_eq!(ledger["accepted"], sent + dropped, "each record is delivered or dropped: {ledger}");
    let status = daemon.status();
    assert!(held_records(&status, &unknown).is_none_or(|held| held == 0), "{status:#}");
}

/// A topic that nobody has created is created by the broker when the daemon asks about it.
pub fn topic_created_by_first_record(cluster: &impl Cluster) {
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let writer = Writer { by: By::Key, records: Some(30), ..Writer::new(0, &unique("created"), 1) };
    check(cluster, &daemon, &load::run(&daemon, vec![writer]));
}

/// SIGTERM while clients write: the daemon ends well, all that was acknowledged is there, nothing twice, and its last
/// words agree.
pub fn stop_under_load(cluster: &impl Cluster) {
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(cluster, "stopped", 6);
    let mut writers: Vec<_> = (0..8).map(|id| Writer { way: Way::All(20), ..Writer::new(id, &topic, 6) }).collect();
    writers.push(Writer { way: Way::None, ..Writer::new(8, &topic, 6) });
    writers.push(Writer { way: Way::Datagram, by: By::Any, ..Writer::new(9, &topic, 6) });
    let load = Load::start(&daemon, writers);
    load.wait_for_each(STRETCH);
    let stopped = daemon.stop();
    assert_eq!(stopped.code(), 0, "{}", stopped.log);
    let accounts = load.finish();
    let found = check_read(&balance::read(cluster, &accounts), &accounts, Ending::Cut);
    let last = last_words(&stopped.log);
    assert_eq!(last("delivered"), found, "{}", stopped.log);
    assert_eq!(last("accepted"), found, "{}", stopped.log);
    assert_eq!(last("possible_duplicates"), 0, "{}", stopped.log);
}

/// The figures in the daemon's last line.
pub fn last_words(log: &str) -> impl Fn(&str) -> u64 {
    let line = log.lines().rev().find(|line| line.contains("stopped accepted=")).unwrap_or_default().to_owned();
    move |name| {
        let field = line.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        field.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line:?}"))
    }
}

/// Kafka is away when the daemon starts: it is ready all the same, holds what comes, and delivers it when Kafka is there.
pub fn kafka_away_at_start(cluster: &mut impl Cluster) {
    let topic = new_topic(cluster, "away", 4);
    for id in cluster.brokers() {
        cluster.kill_broker(id);
    }
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let bys = [By::Partition, By::Key, By::Any];
    let writer = |id: u32| Writer { by: bys[id as usize % 3], records: Some(150), ..Writer::new(id, &topic, 4) };
    let writers = (0..3).map(writer).chain((3..6).map(|id| Writer { way: Way::None, ..writer(id) }));
    let load = Load::start(&daemon, writers.collect());
    let held = 3 * 150 + 3 * 15;
    daemon.wait_for_status("all held", SOON, |status| (status["ledger"]["held"] == held).then_some(()));
    cluster.start_all();
    check(cluster, &daemon, &load.join());
}

/// Each codec with its number in a batch's attributes and a level, as the configuration has it: the default, and such as take
/// another way through the codec.
pub const COMPRESSIONS: [(&str, u8, &str); 8] = [
    ("gzip", 1, "\"default\""),
    ("gzip", 1, "9"),
    ("snappy", 2, "\"default\""),
    ("lz4", 3, "\"default\""),
    ("lz4", 3, "9"),
    ("zstd", 4, "\"default\""),
    ("zstd", 4, "-5"),
    ("zstd", 4, "19"),
];

/// What was compressed on the way is read as it was. Returns the topic and how many records are in it; each batch was worth
/// compressing, and some are larger than a block of any codec.
pub fn compressed(cluster: &impl Cluster, codec: &str, level: &str) -> (String, u64) {
    let rules = format!("[topics.\"squeezed*\"]\ncompression_type = \"{codec}\"\ncompression_level = {level}\n");
    let daemon = Daemon::start(&cluster.bootstrap(), rules.as_str());
    let topic = new_topic(cluster, "squeezed", 3);
    let bys = [By::Partition, By::Key, By::Any];
    let writers = (0..3).map(|id| Writer {
        by: bys[id as usize],
        burst: 60,
        value_bytes: 2000,
        records: Some(600),
        ..Writer::new(id, &topic, 3)
    });
    check(cluster, &daemon, &load::run(&daemon, writers.collect()));
    (topic, 3 * 600)
}

/// Records that an encoder could get wrong: null, empty and every byte in keys, values and headers, names that come twice,
/// times at the edges. Sent to partition 1; returned as a reader must find them.
pub fn delicate_records(cluster: &impl Cluster, daemon: &Daemon) -> (String, Vec<ReadRecord>) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let contents = [None, Some(vec![]), Some(b"plain".to_vec()), Some(every_byte.clone()), Some(vec![b'x'; 70_000])];
    let named = |name: &str, value: Option<&[u8]>| (name.as_bytes().to_vec(), value.map(<[u8]>::to_vec));
    let headers = [
        vec![],
        vec![named("a", None)],
        vec![named("twice", Some(b"1")), named("other", Some(&every_byte)), named("twice", Some(b"2"))],
        vec![named("", Some(b"")), named("", None), named("name", Some(b""))],
        (0..300).map(|n| named(&format!("h{n}"), Some(&[n as u8]))).collect(),
    ];
    let times = [1_700_000_000_000, 0, 1, 1_700_000_000_000, 1_600_000_000_000];
    let mut records = Vec::new();
    for key in 0..contents.len() {
        for value in 0..contents.len() {
            let (headers, timestamp) = (headers[(key + value) % headers.len()].clone(), times[value]);
            let (key, value) = (contents[key].clone(), contents[value].clone());
            records.push(Outgoing { timestamp: Some(timestamp), key, value, headers });
        }
    }
    let topic = new_topic(cluster, "delicate", 2);
    let answer = daemon.connect().produce(&Produce { partition: 1, ..Produce::new(&topic, &records) });
    let expected: Vec<ReadRecord> = (0..)
        .zip(records)
        .map(|(offset, Outgoing { timestamp, key, value, headers })| ReadRecord {
            partition: 1,
            offset,
            timestamp: timestamp.expect("each record has its time"),
            key,
            value,
            headers,
        })
        .collect();
    let answered: Vec<_> = answer.records.iter().map(|r| (r.error_code, r.partition, r.offset)).collect();
    assert_eq!(answered, expected.iter().map(|r| (0, 1, r.offset)).collect::<Vec<_>>(), "{answer:?}");
    (topic, expected)
}

/// Two of three brokers are down, and the topic wants two replicas: records are held, and delivered when one is back.
pub fn too_few_replicas(cluster: &mut impl Cluster) {
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(cluster, "replicas", 1);
    let load = Load::start(&daemon, vec![Writer::new(0, &topic, 1)]);
    load.wait_for_each(STRETCH);
    let leader = cluster.leader(&topic, 0);
    let followers: Vec<i32> = cluster.brokers().into_iter().filter(|id| *id != leader).collect();
    for id in &followers {
        cluster.kill_broker(*id);
    }
    let flood = vec![Writer { way: Way::None, records: Some(300), ..Writer::new(1, &topic, 1) }];
    let flood = load::run(&daemon, flood);
    daemon.wait_for_status("records held", SOON, |status| {
        (status["ledger"]["held"].as_u64()? >= 300 && held_records(status, &topic)? >= 300).then_some(())
    });
    cluster.start_all();
    load.wait_for_each(STRETCH);
    let accounts: Vec<Account> = load.finish().into_iter().chain(flood).collect();
    check(cluster, &daemon, &accounts);
}
