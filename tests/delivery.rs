//! From the router to the brokers, without sockets and processes: what only shows when the parts run together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use forebay::broker::slot::{Place, Slot};
use forebay::broker::{self, Clocks};
use forebay::cluster::{self, dial::Dialer};
use forebay::config::{Config, HostPort};
use forebay::devbroker::{At, DevCluster, Settings};
use forebay::queue::budget::Budget;
use forebay::queue::drainer::Drainer;
use forebay::queue::ledger::{Balance, Ledger};
use forebay::queue::topic::Topics;
use forebay::record::Record;
use forebay::route::{By, Router, placer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

struct Running {
    router: Arc<Router>,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as i64
}

const CLOCKS: Clocks = Clocks { wall: now, since_boot: || Duration::ZERO };

fn start(cluster: &DevCluster, mend: impl FnOnce(&mut Config)) -> Running {
    start_by(CLOCKS, cluster, mend)
}

fn start_by(clocks: Clocks, cluster: &DevCluster, mend: impl FnOnce(&mut Config)) -> Running {
    let (running, context) = start_without_brokers(clocks, cluster, mend);
    tokio::spawn(broker::supervise(context, fastrand::Rng::with_seed(8), running.stop.clone()));
    running
}

/// Nobody sends anything yet.
fn start_without_brokers(
    clocks: Clocks,
    cluster: &DevCluster,
    mend: impl FnOnce(&mut Config),
) -> (Running, Arc<broker::Context>) {
    let mut config = Config::default();
    config.kafka.bootstrap_servers = cluster
        .bootstrap_servers()
        .iter()
        .map(|address| {
            let (host, port) = address.split_once(':').expect("an IPv4 address and a port");
            HostPort { host: host.into(), port: port.parse().expect("a port") }
        })
        .collect();
    mend(&mut config);
    let config = Arc::new(config);
    let budget = Arc::new(Budget::new(config.memory.limit));
    let ledger = Arc::new(Ledger::default());
    let topics = Arc::new(Topics::new(config.clone()));
    let router = Router::new(topics.clone(), budget.clone(), ledger.clone());
    let dialer = Dialer::tcp("test", Duration::from_secs(10));
    let stop = CancellationToken::new();
    let mut random = fastrand::Rng::with_seed(7);
    let (metadata, handle) = cluster::metadata_task(config.clone(), topics.clone(), dialer.clone(), random.fork());
    tokio::spawn(metadata.run(stop.clone()));
    tokio::spawn(placer::run(router.clone(), handle.clone(), random.fork(), stop.clone()));
    let context = broker::Context::new(config, topics, budget.clone(), ledger.clone(), handle, dialer, clocks);
    (Running { router, ledger, budget, stop }, context)
}

/// Writers, each with its own outlet, records numbered in their values.
async fn write(running: &Running, writers: u32, records: u32, topics: &'static [&'static str]) {
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let mut outlet = running.router.outlet(fastrand::Rng::with_seed(writer.into()));
            let budget = running.budget.clone();
            tokio::spawn(async move {
                for number in 0..records {
                    let value = format!("{writer} {number}");
                    let key = format!("key-{}", number % 7);
                    let key = (writer % 2 == 0).then_some(key.as_bytes());
                    let value = Some(value.as_bytes());
                    let record = Record { timestamp: now(), stamped_here: false, key, value, headers: &[] };
                    outlet.put(topics[number as usize % topics.len()].as_bytes(), By::Key, &record, None);
                    if number % 50 == 49 {
                        budget.reserve(1).await;
                        budget.release(1);
                        outlet.flush(Instant::now());
                        tokio::task::yield_now().await;
                    }
                }
                outlet.flush(Instant::now());
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("wrote");
    }
}

async fn settled(running: &Running) -> Balance {
    let waiting = async {
        loop {
            let balance = running.ledger.balance();
            if balance.held == 0 {
                return balance;
            }
            tokio::task::yield_now().await;
        }
    };
    let Ok(balance) = tokio::time::timeout(Duration::from_secs(60), waiting).await else {
        panic!("still held: {:?}", running.ledger.balance());
    };
    balance
}

/// Every record once, in order within its writer, topic and partition.
fn check(cluster: &DevCluster, writers: u32, records: u32, topics: &[&str]) {
    let mut seen: HashMap<(u32, u32), u32> = HashMap::new();
    for topic in topics {
        let partitions = cluster.topics().iter().find(|(name, _)| name == topic).expect("there").1;
        for partition in 0..partitions as i32 {
            let mut newest: HashMap<u32, u32> = HashMap::new();
            for record in cluster.records(topic, partition).expect("readable") {
                let value = String::from_utf8(record.value.expect("a value").to_vec()).expect("text");
                let (writer, number) = value.split_once(' ').expect("two numbers");
                let (writer, number) = (writer.parse().expect("one"), number.parse().expect("one"));
                *seen.entry((writer, number)).or_default() += 1;
                let before = newest.insert(writer, number);
                assert!(
                    before.is_none_or(|before| before < number),
                    "{topic}-{partition}: {writer} {number} after {before:?}"
                );
            }
        }
    }
    assert!(seen.values().all(|times| *times == 1), "doubled");
    assert_eq!(seen.len() as u32, writers * records, "lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_arrives_once_and_in_order() {
    let cluster = DevCluster::start(Settings { brokers: 3, ..Settings::default() }).await.expect("started");
    for topic in ["a", "b"] {
        cluster.create_topic(topic, 5).expect("created");
    }
    let running = start(&cluster, |_| {});
    write(&running, 8, 5_000, &["a", "b"]).await;
    let balance = settled(&running).await;
    assert_eq!((balance.delivered, balance.possible_duplicates), (40_000, 0));
    check(&cluster, 8, 5_000, &["a", "b"]);
    assert_eq!(running.budget.used(), 0, "memory is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_loses_and_doubles_nothing() {
    let cluster = DevCluster::start(Settings { brokers: 3, ..Settings::default() }).await.expect("started");
    cluster.create_topic("a", 6).expect("created");
    cluster.delay_answers(At::Anywhere, Duration::from_millis(2));
    let running = start(&cluster, |config| config.kafka.reconnect_backoff = Duration::from_millis(5));
    let trouble = async {
        for round in 0..20i32 {
            let target = (round as u64 + 1) * 2_500;
            cluster.wait_until(move |counters| counters.records >= target).await;
            match round % 4 {
                0 => (0..6).for_each(|partition| {
                    cluster.move_leader("a", partition, (partition + round) % 3 + 1).expect("moved");
                }),
                1 => cluster.lose_answers(At::Anywhere, 2),
                2 => cluster.stop_broker(round % 3 + 1).await.expect("stopped"),
                _ => cluster.start_broker((round - 1) % 3 + 1).await.expect("started"),
            }
        }
    };
    tokio::join!(write(&running, 8, 10_000, &["a"]), trouble);
    let balance = settled(&running).await;
    assert_eq!((balance.delivered, balance.possible_duplicates), (80_000, 0));
    check(&cluster, 8, 10_000, &["a"]);
    assert_eq!(running.budget.used(), 0, "memory is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_that_is_set_brings_new_producer_ids_and_loses_and_doubles_nothing() {
    static AHEAD: AtomicI64 = AtomicI64::new(0);
    let cluster = DevCluster::start(Settings { brokers: 3, ..Settings::default() }).await.expect("started");
    for topic in ["a", "b"] {
        cluster.create_topic(topic, 6).expect("created");
    }
    let clocks = Clocks { wall: || now() + AHEAD.load(Ordering::Relaxed), ..CLOCKS };
    let running = start_by(clocks, &cluster, |_| {});
    for topics in [&["a"], &["b"]] {
        write(&running, 4, 500, topics).await;
        settled(&running).await;
        check(&cluster, 4, 500, topics);
        AHEAD.fetch_add(2 * 60 * 1000, Ordering::Relaxed);
    }
    let balance = running.ledger.balance();
    assert_eq!((balance.delivered, balance.possible_duplicates), (4_000, 0));
    let cluster = &cluster;
    let ids_of = |topic| {
        let producers = (0..6).flat_map(move |partition| cluster.producers(topic, partition).expect("there"));
        producers.map(|producer| producer.lane.producer_id).collect::<HashSet<i64>>()
    };
    let (before, after) = (ids_of("a"), ids_of("b"));
    assert!(!after.is_empty() && before.is_disjoint(&after), "{before:?} before, {after:?} after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_task_that_is_dropped_leaves_nothing_in_flight_and_the_next_one_goes_on() {
    let cluster = DevCluster::start(Settings::default()).await.expect("started");
    cluster.create_topic("a", 1).expect("created");
    let (running, context) = start_without_brokers(CLOCKS, &cluster, |_| {});
    write(&running, 2, 500, &["a"]).await;
    let topic = running.router.topics().all().first().expect("the topic is known").clone();
    let placed = async {
        loop {
            match topic.partitions() {
                Some(partitions) => return partitions[0].clone(),
                None => tokio::task::yield_now().await,
            }
        }
    };
    let partition = tokio::time::timeout(Duration::from_secs(60), placed).await.expect("placed");
    let address = context.config.kafka.bootstrap_servers[0].clone();
    let slot = |drainer: &Arc<Drainer>| {
        let (place, random) = (Place::Usual { apart: Drainer::new(1) }, fastrand::Rng::with_seed(9));
        Slot::new(context.clone(), drainer.clone(), place, Default::default(), address.clone(), random)
            .run(running.stop.clone())
    };
    for _ in 0..3 {
        let drainer = Drainer::new(1);
        partition.assign(&drainer);
        cluster.hold_answers(At::Anywhere);
        let task = tokio::spawn(slot(&drainer));
        cluster.wait_until(|counters| counters.held_answers > 0).await;
        task.abort();
        assert!(task.await.expect_err("aborted").is_cancelled());
        assert_eq!(partition.window().in_flight(), 0);
        partition.abandon(&drainer);
        cluster.release_answers();
        cluster.wait_until(|counters| counters.held_answers == 0).await;
    }
    let drainer = Drainer::new(1);
    partition.assign(&drainer);
    tokio::spawn(slot(&drainer));
    let balance = settled(&running).await;
    assert_eq!((balance.delivered, balance.possible_duplicates), (1000, 0));
    check(&cluster, 2, 500, &["a"]);
}
