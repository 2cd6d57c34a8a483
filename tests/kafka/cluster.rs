//! Three nodes of real Apache Kafka on loopback, shared by all tests of this target.
//!
//! Most tests share the cluster ([`shared`]) and keep apart by topics of their own. A test that kills or stops nodes has
//! it alone ([`exclusive`]); whoever comes next finds all nodes up and all replicas in sync again. The cluster starts
//! with the first test that asks for it and dies with the test process, see [`Process`].
//!
//! Logs and data stay in `target/tmp/kafka-PID` for a look after a failure, until the next run sweeps them away.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use nix::sys::signal::Signal;

use crate::admin;
use crate::console_consumer;
use crate::jars::jars;
use crate::support::kcat::{self, ReadRecord};
use crate::support::process::Process;
use crate::support::watch::poll;

/// How many nodes, each a broker and a controller; their ids start at 1.
pub const NODES: i32 = 3;
/// Set to 1 where a skipped test is an error.
const REQUIRE: &str = "FOREBAY_REQUIRE_KAFKA";
/// 16 bytes in base64, as `StorageTool random-uuid` makes them.
const CLUSTER_ID: &str = "Zm9yZWJheS10ZXN0cy0wMA";
const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long elections, new topics and replicas that catch up may take.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Below Linux's range for outgoing connections: there, a stopped node's port could be taken by a client's connection,
/// and a client that tries it again and again can even connect to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

static CLUSTER: LazyLock<Result<RwLock<Cluster>, String>> = LazyLock::new(|| Cluster::start().map(RwLock::new));

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    jars: PathBuf,
    directory: PathBuf,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    id: i32,
    port: u16,
    process: Option<Process>,
}

/// The cluster beside other tests: nothing may be stopped.
pub struct Shared(RwLockReadGuard<'static, Cluster>);

/// The cluster alone: nodes may be killed, stopped and started, and need not be up at the end.
pub struct Exclusive(RwLockWriteGuard<'static, Cluster>);

impl Deref for Shared {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Deref for Exclusive {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl DerefMut for Exclusive {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.0
    }
}

/// The cluster, shared; `None` when there is none on this machine, which has been said.
#[track_caller]
pub fn shared() -> Option<Shared> {
    exclusive().map(|Exclusive(guard)| Shared(RwLockWriteGuard::downgrade(guard)))
}

/// The cluster alone; `None` when there is none on this machine, which has been said.
#[track_caller]
pub fn exclusive() -> Option<Exclusive> {
    match &*CLUSTER {
        Ok(cluster) => {
            // A test that panicked has poisoned the lock, but `restore` mends all that it can have left.
            let mut guard = cluster.write().unwrap_or_else(PoisonError::into_inner);
            guard.restore();
            Some(Exclusive(guard))
        }
        Err(missing) if env::var(REQUIRE).is_ok_and(|value| value == "1") => {
            panic!("no Kafka, but {REQUIRE}=1: {missing}")
        }
        Err(missing) => {
            // Past libtest's capture, so that a green run shows what it did not do.
            let _ = writeln!(io::stderr(), "skipped, no Kafka here: {missing}");
            None
        }
    }
}

impl Cluster {
    fn start() -> Result<Cluster, String> {
        let jars = jars()?;
        let directory = fresh_directory();
        let ports = free_ports(2 * usize::try_from(NODES).expect("the number of nodes is small"));
        let (ports, controller_ports) = ports.split_at(ports.len() / 2);
        let voters: Vec<String> =
            (1..=NODES).zip(controller_ports).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let voters = voters.join(",");
        let mut nodes = Vec::new();
        for ((id, port), controller_port) in (1..=NODES).zip(ports).zip(controller_ports) {
            let properties = properties(id, *port, *controller_port, &voters, &directory);
            fs::write(properties_file(&directory, id), properties).expect("a node's properties can be written");
            nodes.push(Node { id, port: *port, process: None });
        }
        let mut cluster = Cluster { jars, directory, nodes };
        cluster.format();
        cluster.restore();
        Ok(cluster)
    }

    /// Gives each node's empty data directory the cluster's id, all at once: most of it is Java's start.
    fn format(&self) {
        let tools = self.nodes.iter().map(|node| {
            let mut java = java(&self.jars, "128m");
            java.arg("kafka.tools.StorageTool").args(["format", "-t", CLUSTER_ID, "-c"]);
            java.arg(properties_file(&self.directory, node.id));
            Process::spawn(java, Stdio::null(), Some(&self.log(node.id)))
        });
        for mut tool in tools.collect::<Vec<_>>() {
            let status = tool.wait(START_TIMEOUT);
            assert!(status.success(), "a node's storage was not formatted: {status}\n{}", tool.stderr());
        }
    }

    /// Starts all nodes that are down and waits until all replicas are in sync.
    pub fn restore(&mut self) {
        let down: Vec<i32> = self.nodes.iter().filter(|node| node.process.is_none()).map(|node| node.id).collect();
        if down.is_empty() {
            return;
        }
        for id in &down {
            self.spawn(*id);
        }
        for id in down {
            self.wait_started(id);
        }
        self.wait_in_sync();
    }

    /// Kafka's addresses, as a client's `bootstrap.servers`: all nodes, up or not.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// Kills a node with -9.
    pub fn kill(&mut self, id: i32) {
        let process = self.node_mut(id).process.take();
        process.expect("the node is up").kill();
    }

    /// Stops a node in order: it gives its leaderships away first.
    pub fn stop(&mut self, id: i32) {
        let process = self.node_mut(id).process.take();
        let mut process = process.expect("the node is up");
        process.signal(Signal::SIGTERM);
        process.wait(STOP_TIMEOUT);
    }

    /// Starts a node that is down and waits until it serves.
    pub fn start_node(&mut self, id: i32) {
        self.spawn(id);
        self.wait_started(id);
    }

    /// Creates a topic and waits until each live node knows the leaders of all its partitions.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32, replication: i16, configs: &[(&str, &str)]) {
        admin::create_topic(self.any_port(), name, partitions, replication, configs).expect("the topic is new");
        let wanted = usize::try_from(partitions).expect("a topic has partitions");
        for port in self.live_ports() {
            let known = poll(SETTLE_TIMEOUT, || {
                let found = admin::partitions(port, name).ok()?;
                (found.len() == wanted && found.iter().all(|partition| partition.leader_id.0 >= 0)).then_some(())
            });
            assert!(known.is_some(), "the node on port {port} does not know all leaders of {name}");
        }
    }

    /// Which node leads a partition now, waiting for an election that is under way. A leader that is down is none.
    #[track_caller]
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        let leader = poll(SETTLE_TIMEOUT, || {
            let leader = self.partition(topic, partition)?.leader_id.0;
            self.nodes.iter().any(|node| node.id == leader && node.process.is_some()).then_some(leader)
        });
        leader.unwrap_or_else(|| panic!("{topic}/{partition} has no leader"))
    }

    /// The port of a partition's leader and in which epoch it leads.
    #[track_caller]
    pub fn leader_port(&self, topic: &str, partition: i32) -> (u16, i32) {
        let leader = self.leader(topic, partition);
        let epoch = self.partition(topic, partition).expect("the partition exists").leader_epoch;
        (self.nodes.iter().find(|node| node.id == leader).expect("a leader is a node").port, epoch)
    }

    /// Makes a node the leader of a partition of which it is a replica, while all nodes stay up.
    #[track_caller]
    pub fn move_leader(&self, topic: &str, partition: i32, to: i32) {
        let found = self.partition(topic, partition).expect("the partition exists");
        let mut replicas = found.replica_nodes;
        let at = replicas.iter().position(|replica| replica.0 == to).expect("the new leader is a replica");
        replicas[..=at].rotate_right(1);
        admin::prefer(self.any_port(), topic, partition, replicas).expect("replicas can be reordered");
        let moved = poll(SETTLE_TIMEOUT, || {
            admin::elect_preferred(self.any_port(), topic, partition).ok()?;
            (self.partition(topic, partition)?.leader_id.0 == to).then_some(())
        });
        assert!(moved.is_some(), "{topic}/{partition} is not led by {to}");
    }

    /// Reads all of a topic with kcat.
    #[track_caller]
    pub fn consume(&self, topic: &str) -> Vec<ReadRecord> {
        kcat::consume(&self.bootstrap(), topic)
    }

    /// Reads `count` records of a topic with Kafka's Java client.
    #[track_caller]
    pub fn consume_with_java(&self, topic: &str, count: usize) -> Vec<ReadRecord> {
        console_consumer::consume(&self.jars, &self.bootstrap(), topic, count)
    }

    /// The leader's first segment of a partition: its record batches, one after the other, as they are on the disk.
    pub fn segment(&self, topic: &str, partition: i32) -> Vec<u8> {
        let node = format!("data{}", self.leader(topic, partition));
        let path = self.directory.join(node).join(format!("{topic}-{partition}")).join("00000000000000000000.log");
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn partition(&self, topic: &str, partition: i32) -> Option<MetadataResponsePartition> {
        // A node that was just killed may still be asked; the next one answers.
        let known = self.live_ports().find_map(|port| admin::partitions(port, topic).ok())?;
        known.into_iter().find(|found| found.partition_index == partition)
    }

    /// Waits until all replicas are in sync and the live nodes know each other.
    pub fn wait_in_sync(&self) {
        let live = self.live_ports().count();
        let in_sync = poll(SETTLE_TIMEOUT, || {
            let partitions = admin::all_partitions(self.any_port()).ok()?;
            let all = partitions.iter().all(|p| p.isr_nodes.len() == p.replica_nodes.len() && p.leader_id.0 >= 0);
            let known = self.live_ports().all(|port| admin::live_brokers(port).is_ok_and(|count| count == live));
            (all && known).then_some(())
        });
        assert!(in_sync.is_some(), "not all replicas came in sync; the logs are in {}", self.directory.display());
    }

    fn spawn(&mut self, id: i32) {
        let mut java = java(&self.jars, "512m");
        java.arg("kafka.Kafka").arg(properties_file(&self.directory, id));
        let log = self.log(id);
        let node = self.node_mut(id);
        assert!(node.process.is_none(), "node {id} is up");
        node.process = Some(Process::spawn(java, Stdio::null(), Some(&log)));
    }

    fn wait_started(&self, id: i32) {
        let node = self.nodes.iter().find(|node| node.id == id).expect("nodes are 1 to NODES");
        node.process.as_ref().expect("the node was spawned").wait_for_text("Kafka Server started", START_TIMEOUT);
    }

    fn node_mut(&mut self, id: i32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("nodes are 1 to NODES")
    }

    pub fn live_ports(&self) -> impl Iterator<Item = u16> {
        self.nodes.iter().filter(|node| node.process.is_some()).map(|node| node.port)
    }

    pub fn any_port(&self) -> u16 {
        self.live_ports().next().expect("a node is up")
    }

    fn log(&self, id: i32) -> PathBuf {
        self.directory.join(format!("node{id}.log"))
    }
}

/// Java with Kafka's classes, a heap of at most `heap`, and what starts quickest: no second compiler, the simplest
/// collector.
fn java(jars: &Path, heap: &str) -> Command {
    let mut java = Command::new("java");
    java.arg(format!("-Xmx{heap}")).args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]);
    java.args([
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        "-Dorg.slf4j.simpleLogger.log.kafka.server=info",
    ]);
    java.arg("-cp").arg(jars.join("*"));
    java
}

/// A directory of this run's own; those of runs that are over are removed.
fn fresh_directory() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for entry in fs::read_dir(parent).expect("cargo has made its directory for tests").flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let is_over = |pid: &str| !Path::new("/proc").join(pid).exists();
        if name.strip_prefix("kafka-").is_some_and(is_over) {
            // Another run may sweep at the same time.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let directory = parent.join(format!("kafka-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the directory for tests can be written");
    directory
}

fn properties_file(directory: &Path, id: i32) -> PathBuf {
    directory.join(format!("node{id}.properties"))
}

/// Small and quick where it does not matter, as in production where it does: three replicas, two of which must have a
/// record, no unclean elections. Leaders move only when a test moves them or takes their node away.
///
/// There are rules about who may do what, and none until a test makes one. The controllers speak among themselves before they can have
/// read any, so they know each other by a password; everybody else is `User:ANONYMOUS`.
fn properties(id: i32, port: u16, controller_port: u16, voters: &str, directory: &Path) -> String {
    let data = directory.join(format!("data{id}"));
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:SASL_PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         sasl.mechanism.controller.protocol=PLAIN\n\
         listener.name.controller.sasl.enabled.mechanisms=PLAIN\n\
         listener.name.controller.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
         required username=\"node\" password=\"node\" user_node=\"node\";\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:node\n\
         allow.everyone.if.no.acl.found=true\n\
         log.dirs={}\n\
         default.replication.factor={NODES}\n\
         min.insync.replicas=2\n\
         num.partitions=3\n\
         auto.leader.rebalance.enable=false\n\
         offsets.topic.replication.factor={NODES}\n\
         offsets.topic.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\n\
         broker.session.timeout.ms=4000\n\
         broker.heartbeat.interval.ms=500\n\
         num.network.threads=2\n\
         num.io.threads=4\n\
         log.cleaner.dedupe.buffer.size=4194304\n",
        data.display()
    )
}

/// Ports on which nobody listens now.
fn free_ports(count: usize) -> Vec<u16> {
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = fastrand::u16(PORTS);
        if !ports.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.push(port);
        }
    }
    ports
}
