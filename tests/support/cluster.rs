//! What a scenario needs of a Kafka cluster, so that the same one runs on devbroker and on real Kafka.

use std::sync::atomic::{AtomicU32, Ordering};

use super::kcat::ReadRecord;

/// A cluster with at least three brokers, and the test's hands on it.
///
/// What changes the cluster returns when the cluster has changed, not when its clients have noticed.
pub trait Cluster {
    /// Kafka's addresses, as `bootstrap.servers`.
    fn bootstrap(&self) -> String;
    /// The ids of all brokers, up or not.
    fn brokers(&self) -> Vec<i32>;
    /// Creates a topic, replicated on all brokers.
    fn create_topic(&self, name: &str, partitions: i32);
    /// Which broker leads a partition.
    fn leader(&self, topic: &str, partition: i32) -> i32;
    /// Makes a broker, which must be up, the leader of a partition.
    fn move_leader(&self, topic: &str, partition: i32, to: i32);
    /// Stops a broker in order.
    fn stop_broker(&mut self, id: i32);
    /// Ends a broker without a word.
    fn kill_broker(&mut self, id: i32);
    /// Starts a broker that is down, and waits until it has caught up with the others.
    fn start_broker(&mut self, id: i32);
    /// Starts all brokers that are down, and waits until they serve.
    fn start_all(&mut self);
    /// All of a topic: sorted by partition, each partition in the order of its log.
    fn read(&self, topic: &str) -> Vec<ReadRecord>;
}

/// A topic's name that no other test has.
pub fn unique(name: &str) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// Creates a topic that no other test has, and returns its name.
pub fn new_topic(cluster: &impl Cluster, name: &str, partitions: i32) -> String {
    let name = unique(name);
    cluster.create_topic(&name, partitions);
    name
}
