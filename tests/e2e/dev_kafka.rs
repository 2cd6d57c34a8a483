//! devbroker as a cluster of the tests: in this process, driven from threads that may block.

use std::future::Future;
use std::ops::Deref;
use std::time::Duration;

use forebay::devbroker::{Counters, DevCluster, Settings};
use tokio::runtime::Runtime;

use crate::support::cluster::Cluster;
use crate::support::kcat::ReadRecord;

/// How long the cluster may take to get where it is waited for.
const SOON: Duration = Duration::from_secs(60);

/// Running devbrokers; all that [`DevCluster`] can do can be done to them.
pub struct DevKafka {
    cluster: DevCluster,
    /// Whether a broker that starts again does so at another address.
    moves_house: bool,
    // Last, so that it outlives the cluster's tasks.
    runtime: Runtime,
}

impl Deref for DevKafka {
    type Target = DevCluster;
    fn deref(&self) -> &DevCluster {
        &self.cluster
    }
}

impl DevKafka {
    /// So many brokers.
    pub fn start(brokers: usize) -> DevKafka {
        DevKafka::start_as(Settings { brokers, ..Settings::default() })
    }

    /// Brokers of any kind.
    pub fn start_as(settings: Settings) -> DevKafka {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let cluster = runtime.block_on(DevCluster::start(settings)).expect("any port will do");
        DevKafka { cluster, moves_house: false, runtime }
    }

    /// The same, with brokers that have another address after each restart.
    pub fn start_nomads(brokers: usize) -> DevKafka {
        DevKafka { moves_house: true, ..DevKafka::start(brokers) }
    }

    /// Waits until the counters are as wanted.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Counters) -> bool + Send + Sync) {
        let waited = self.block_on(async { tokio::time::timeout(SOON, self.cluster.wait_until(wanted)).await });
        assert!(waited.is_ok(), "no {what} in {SOON:?}: {:?}", self.counters());
    }

    /// Restarts a broker; it forgets what brokers forget.
    pub fn restart(&mut self, id: i32) {
        self.kill_broker(id);
        self.start_broker(id);
    }

    /// Closes a broker's connections; it stays up.
    pub fn drop_all_connections(&self, id: i32) {
        self.block_on(self.cluster.drop_connections(id)).expect("the broker exists");
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

impl Cluster for DevKafka {
    fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers().join(",")
    }

    fn brokers(&self) -> Vec<i32> {
        (1..).take(self.cluster.bootstrap_servers().len()).collect()
    }

    fn create_topic(&self, name: &str, partitions: i32) {
        let partitions = usize::try_from(partitions).expect("a topic has partitions");
        self.cluster.create_topic(name, partitions).expect("the topic is new");
    }

    fn leader(&self, topic: &str, partition: i32) -> i32 {
        self.cluster.leader(topic, partition).expect("the partition exists").expect("it has a leader").0
    }

    fn move_leader(&self, topic: &str, partition: i32, to: i32) {
        self.cluster.move_leader(topic, partition, to).expect("the broker is up");
    }

    fn stop_broker(&mut self, id: i32) {
        self.block_on(self.cluster.stop_broker(id)).expect("the broker exists");
    }

    fn kill_broker(&mut self, id: i32) {
        self.stop_broker(id);
    }

    fn start_broker(&mut self, id: i32) {
        if self.moves_house {
            self.block_on(self.cluster.start_broker_elsewhere(id)).expect("any port will do");
        } else {
            self.block_on(self.cluster.start_broker(id)).expect("its port is still free");
        }
    }

    fn start_all(&mut self) {
        // One that loses what it gets does not serve.
        self.cluster.end_losses();
        self.brokers().into_iter().for_each(|id| self.start_broker(id));
    }

    fn read(&self, topic: &str) -> Vec<ReadRecord> {
        let topics = self.cluster.topics();
        let (_, partitions) = topics.iter().find(|(name, _)| name == topic).expect("the topic exists");
        let partitions = 0..i32::try_from(*partitions).expect("a topic has few partitions");
        partitions.flat_map(|partition| self.read_partition(topic, partition)).collect()
    }
}

impl DevKafka {
    /// All of a partition, in the order of its log.
    pub fn read_partition(&self, topic: &str, partition: i32) -> Vec<ReadRecord> {
        let records = self.cluster.records(topic, partition).expect("the partition exists").into_iter();
        let read = |record: forebay::devbroker::StoredRecord| ReadRecord {
            partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: record.headers.into_iter().map(|(name, value)| (name.into(), value.map(Into::into))).collect(),
        };
        records.map(read).collect()
    }
}
