//! What a test can do to the cluster while it runs, and what it can see of it.
//!
//! Every control takes effect at once, before it returns: a request is carried out either wholly before or wholly after it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::faults::At;
use super::partition::{Partition, StoredBatch, StoredRecord};
use super::{Counters, DevBrokerError, DevCluster, as_millis};
use crate::wire::api::ApiKey;
use crate::wire::api::describe_producers::Producer;
use crate::wire::codes;

/// Topics and leaders.
impl DevCluster {
    /// Creates a topic; its leaders are spread over the brokers.
    pub fn create_topic(&self, name: &str, partitions: usize) -> Result<(), DevBrokerError> {
        let created = self.shared.change(|cluster| cluster.create_topic(name, partitions));
        created.map_err(|code| kafka(format!("cannot create topic {name} with {partitions} partitions"), code))
    }

    /// Deletes a topic and its records. One of the same name that is created later has another id.
    pub fn delete_topic(&self, name: &str) -> Result<(), DevBrokerError> {
        let deleted = self.shared.change(|cluster| cluster.delete_topic(name));
        deleted.map_err(|code| kafka(format!("cannot delete topic {name}"), code))
    }

    /// Adds partitions to a topic until it has `count`.
    pub fn add_partitions(&self, name: &str, count: usize) -> Result<(), DevBrokerError> {
        let added = self.shared.change(|cluster| cluster.set_partitions(name, count));
        added.map_err(|code| kafka(format!("cannot extend topic {name} to {count} partitions"), code))
    }

    /// Makes a broker, which must be up, the leader of a partition in the next epoch, even if it is the leader already.
    pub fn move_leader(&self, topic: &str, partition: i32, broker: i32) -> Result<(), DevBrokerError> {
        let moved = self.shared.change(|cluster| {
            if !cluster.nodes.get(&broker).is_some_and(|node| node.up) {
                return Err(codes::BROKER_NOT_AVAILABLE);
            }
            cluster.partition(topic, partition).map(|partition| partition.lead(broker))
        });
        moved.map_err(|code| kafka(format!("cannot move {topic}-{partition} to broker {broker}"), code))
    }

    /// Who leads a partition, and in which epoch; `None` if nobody does.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<Option<(i32, i32)>, DevBrokerError> {
        let leader =
            |partition: &mut Partition| (partition.leader >= 0).then_some((partition.leader, partition.leader_epoch));
        self.of_partition(topic, partition, leader)
    }

    /// Sets `max.message.bytes` of a topic.
    pub fn set_max_message_bytes(&self, topic: &str, bytes: usize) -> Result<(), DevBrokerError> {
        self.of_topic(topic, |topic| topic.limits.max_message_bytes = bytes)
    }

    /// Sets `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` of a topic.
    pub fn set_timestamp_range(&self, topic: &str, before: Duration, after: Duration) -> Result<(), DevBrokerError> {
        self.of_topic(topic, |topic| {
            topic.limits.before_max_ms = as_millis(before);
            topic.limits.after_max_ms = as_millis(after);
        })
    }

    /// Sets `message.timestamp.type` of a topic: whether records get the broker's time.
    pub fn set_log_append_time(&self, topic: &str, on: bool) -> Result<(), DevBrokerError> {
        self.of_topic(topic, |topic| topic.log_append_time = on)
    }

    /// Whether clients may READ a topic: Fetch and DescribeProducers are answered by 29 where they may not.
    pub fn set_readable(&self, topic: &str, readable: bool) -> Result<(), DevBrokerError> {
        self.of_topic(topic, |topic| topic.unreadable = !readable)
    }

    /// Whether too few replicas of a partition are in sync: acks=all is then answered by 19, before anything is appended.
    pub fn set_min_insync_lost(&self, topic: &str, partition: i32, lost: bool) -> Result<(), DevBrokerError> {
        self.of_partition(topic, partition, |partition| partition.min_insync_lost = lost)
    }

    /// Forgets the producers whose last batch is older than the expiry by its newest timestamp, as Kafka does every 10 minutes.
    /// Returns how many.
    pub fn sweep_producers(&self) -> usize {
        let now = self.shared.clock.now();
        self.shared.change(|cluster| {
            let expired_at = now.saturating_sub(as_millis(cluster.settings.producer_id_expiration));
            cluster.sweep(expired_at)
        })
    }

    /// Offers no other versions of an API, and closes connections that use one; an empty range hides the API.
    pub fn limit_versions(&self, api: ApiKey, versions: RangeInclusive<i16>) {
        self.shared.change(|cluster| cluster.limit_versions(api, &versions));
    }
}

/// Faults. They concern Produce requests alone.
impl DevCluster {
    /// The next `n` requests are not carried out, and their connections closed.
    pub fn lose_requests(&self, at: At, n: u32) {
        self.shared.change(|cluster| cluster.faults.order_lost_requests(at, n));
    }

    /// The next `n` requests are carried out and never answered, and their connections closed.
    pub fn lose_answers(&self, at: At, n: u32) {
        self.shared.change(|cluster| cluster.faults.order_lost_answers(at, n));
    }

    /// Loses no more of what [`DevCluster::lose_requests`] and [`DevCluster::lose_answers`] have ordered.
    pub fn end_losses(&self) {
        self.shared.change(|cluster| cluster.faults.end_losses());
    }

    /// Holds requests before they are carried out, until [`DevCluster::release_requests`]. What is held is carried out then, even
    /// if its client is gone.
    pub fn hold_requests(&self, at: At) {
        self.shared.holds.send_modify(|holds| holds.requests.push(at));
    }

    /// Lets all held requests go.
    pub fn release_requests(&self) {
        self.shared.holds.send_modify(|holds| holds.requests.clear());
    }

    /// Holds answers of requests that were carried out, until [`DevCluster::release_answers`]; what follows on the same connection
    /// waits, too.
    pub fn hold_answers(&self, at: At) {
        self.shared.holds.send_modify(|holds| holds.answers.push(at));
    }

    /// Lets all held answers go.
    pub fn release_answers(&self) {
        self.shared.holds.send_modify(|holds| holds.answers.clear());
    }

    /// Every answer is given so much later from now on; zero ends it.
    pub fn delay_answers(&self, at: At, delay: Duration) {
        self.shared.change(|cluster| cluster.faults.set_delay(at, delay));
    }

    /// Every answer asks for this `throttle_time_ms` from now on, and the connection is not read for as long (KIP-219); zero
    /// ends it.
    pub fn throttle(&self, at: At, throttle: Duration) {
        self.shared.change(|cluster| cluster.faults.set_throttle(at, throttle));
    }

    /// The next `n` answers for a partition carry `code`: instead of a success, if `appended`; else nothing is done.
    pub fn return_error(&self, topic: &str, partition: i32, code: i16, n: u32, appended: bool) {
        self.shared.change(|cluster| cluster.faults.order_error(topic, partition, code, n, appended));
    }

    /// The next batch of a producer that the partition does not know is answered by `code` and not appended. What follows it, on
    /// the same connection or another, is judged as Kafka judges it: taken, since the producer is still unknown.
    pub fn refuse_first_batch(&self, topic: &str, partition: i32, code: i16) {
        self.shared.change(|cluster| cluster.faults.order_first_batch_refused(topic, partition, code));
    }
}

/// Reading back.
impl DevCluster {
    /// All records of a partition, in order.
    pub fn records(&self, topic: &str, partition: i32) -> Result<Vec<StoredRecord>, DevBrokerError> {
        // Batches are shared, so the lock is not held while they are decoded.
        let log = self.of_partition(topic, partition, |partition| partition.log().to_vec())?;
        Ok(log.iter().flat_map(|stored| stored.records()).collect())
    }

    /// All batches of a partition, in order.
    pub fn batches(&self, topic: &str, partition: i32) -> Result<Vec<StoredBatch>, DevBrokerError> {
        self.of_partition(topic, partition, |partition| partition.log().iter().map(|stored| stored.batch()).collect())
    }

    /// What a partition remembers of its producers.
    pub fn producers(&self, topic: &str, partition: i32) -> Result<Vec<Producer>, DevBrokerError> {
        self.of_partition(topic, partition, |partition| partition.producers())
    }

    /// The topics and how many partitions they have, by name.
    pub fn topics(&self) -> Vec<(String, usize)> {
        let count = |(name, topic): (&String, &super::cluster::Topic)| (name.clone(), topic.partitions.len());
        self.shared.with(|cluster| cluster.topics.iter().map(count).collect())
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.with(|cluster| cluster.counters.clone())
    }

    /// Waits until the counters are as wanted. Cancel safe.
    pub async fn wait_until(&self, wanted: impl Fn(&Counters) -> bool + Send + Sync) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.shared.with(|cluster| wanted(&cluster.counters)) {
                return;
            }
            changed.await;
        }
    }

    fn of_partition<T>(
        &self,
        topic: &str,
        partition: i32,
        of: impl FnOnce(&mut Partition) -> T,
    ) -> Result<T, DevBrokerError> {
        let found = self.shared.change(|cluster| cluster.partition(topic, partition).map(of));
        found.map_err(|code| kafka(format!("no partition {topic}-{partition}"), code))
    }

    fn of_topic(&self, name: &str, of: impl FnOnce(&mut super::cluster::Topic)) -> Result<(), DevBrokerError> {
        let found = self.shared.change(|cluster| cluster.topics.get_mut(name).map(of));
        found.ok_or_else(|| kafka(format!("no topic {name}"), codes::UNKNOWN_TOPIC_OR_PARTITION))
    }
}

fn kafka(what: String, code: i16) -> DevBrokerError {
    DevBrokerError::Kafka { what, code }
}
