//! The real cluster as the scenarios see one. All topics have three replicas, two of which must have a record.

use crate::cluster::{Cluster, NODES};
use crate::support::cluster;
use crate::support::kcat::ReadRecord;

impl cluster::Cluster for Cluster {
    fn bootstrap(&self) -> String {
        Cluster::bootstrap(self)
    }

    fn brokers(&self) -> Vec<i32> {
        (1..=NODES).collect()
    }

    fn create_topic(&self, name: &str, partitions: i32) {
        // Some tests send times long past, which would otherwise be reason enough to delete them.
        Cluster::create_topic(self, name, partitions, 3, &[("retention.ms", "-1")]);
    }

    fn leader(&self, topic: &str, partition: i32) -> i32 {
        Cluster::leader(self, topic, partition)
    }

    fn move_leader(&self, topic: &str, partition: i32, to: i32) {
        Cluster::move_leader(self, topic, partition, to);
    }

    fn stop_broker(&mut self, id: i32) {
        self.stop(id);
    }

    fn kill_broker(&mut self, id: i32) {
        self.kill(id);
    }

    fn start_broker(&mut self, id: i32) {
        self.start_node(id);
        self.wait_in_sync();
    }

    fn start_all(&mut self) {
        self.restore();
    }

    fn read(&self, topic: &str) -> Vec<ReadRecord> {
        self.consume(topic)
    }
}
