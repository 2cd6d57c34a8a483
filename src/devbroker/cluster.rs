//! The cluster's state: which brokers there are, topics, leaders, producer ids, and what was counted.
//!
//! Pure: no sockets, no clock. Every broker holds every partition and all are in sync, so a broker that stops hands its
//! partitions to the next one that is up, and one that is down comes back with all that it needs but for the producers'
//! windows (see `producers`). The controller's part is played here at once, without a delay.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use uuid::Uuid;

use super::Settings;
use super::check::Limits;
use super::faults::Faults;
use super::partition::{NO_LEADER, Partition};
use crate::wire::api::metadata::Broker;
use crate::wire::api::produce::TopicRef;
use crate::wire::api::{ApiKey, api_versions, describe_configs, describe_producers, fetch, find_coordinator};
use crate::wire::api::{init_producer_id, list_offsets, metadata, offset_for_leader_epoch, produce};
use crate::wire::codes;

/// How many producer ids a broker fetches at once (`ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
const PRODUCER_IDS_IN_BLOCK: i64 = 1000;
/// The most partitions that there may be, of all topics together.
const PARTITIONS_MAX: usize = 100_000;
/// Kafka's limit on the length of a topic's name (`Topic.MAX_NAME_LENGTH`).
const TOPIC_NAME_MAX: usize = 249;

/// What happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections taken.
    pub connections: u64,
    /// Requests read, by API key.
    pub requests: BTreeMap<i16, u64>,
    /// Batches appended.
    pub batches: u64,
    /// Records appended.
    pub records: u64,
    /// Batches that were there already.
    pub duplicates: u64,
    /// Answers of partitions with an error, by code.
    pub refused: BTreeMap<i16, u64>,
    /// Produce requests that were lost, and answers.
    pub lost: u64,
    /// Produce requests that are held now, before they are carried out.
    pub held_requests: u64,
    /// Produce requests that were carried out and whose answers are held now.
    pub held_answers: u64,
}

#[derive(Debug)]
pub(super) struct Node {
    pub address: SocketAddr,
    pub up: bool,
    /// Whether it has answered InitProducerId since it started; the first time it has no block of ids yet.
    asked_for_ids: bool,
    ids: std::ops::Range<i64>,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub id: Uuid,
    pub partitions: Vec<Partition>,
    pub limits: Limits,
    /// Timestamps are the broker's own.
    pub log_append_time: bool,
    /// Clients have no right to READ it.
    pub unreadable: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cluster {
    pub settings: Settings,
    pub nodes: BTreeMap<i32, Node>,
    pub topics: BTreeMap<String, Topic>,
    /// The names of all topics.
    names: HashMap<Uuid, String>,
    /// Partitions of all topics.
    partitions: usize,
    pub faults: Faults,
    pub counters: Counters,
    /// Bytes of all logs.
    pub held_bytes: u64,
    offered: BTreeMap<i16, RangeInclusive<i16>>,
    topics_made: u64,
    next_producer_id: i64,
}

impl Cluster {
    /// Brokers 1, 2, … at these addresses, all up.
    pub(super) fn new(settings: Settings, addresses: &[SocketAddr]) -> Self {
        let node = |address: &SocketAddr| Node { address: *address, up: true, asked_for_ids: false, ids: 0..0 };
        Cluster {
            settings,
            nodes: (1..).zip(addresses.iter().map(node)).collect(),
            topics: BTreeMap::new(),
            names: HashMap::new(),
            partitions: 0,
            faults: Faults::default(),
            counters: Counters::default(),
            held_bytes: 0,
            offered: ApiKey::ALL.into_iter().map(|api| (api.id(), served(api))).collect(),
            topics_made: 0,
            next_producer_id: 0,
        }
    }

    /// The brokers that are up, as clients are told.
    pub(super) fn brokers(&self) -> Vec<Broker> {
        let up = self.nodes.iter().filter(|(_, node)| node.up);
        up.map(|(id, node)| Broker {
            id: *id,
            host: node.address.ip().to_string(),
            port: node.address.port(),
            rack: None,
        })
        .collect()
    }

    /// Versions that are offered, all within what is served.
    pub(super) fn offered(&self, api: ApiKey) -> RangeInclusive<i16> {
        self.offered.get(&api.id()).cloned().unwrap_or_else(|| served(api))
    }

    /// Offers no more than these versions.
    pub(super) fn limit_versions(&mut self, api: ApiKey, versions: &RangeInclusive<i16>) {
        let served = served(api);
        let within = *versions.start().max(served.start())..=*versions.end().min(served.end());
        self.offered.insert(api.id(), within);
    }

    /// Creates a topic. An error is Kafka's code: 36 if it exists.
    pub(super) fn create_topic(&mut self, name: &str, partitions: usize) -> Result<(), i16> {
        if !is_topic_name(name) {
            return Err(codes::INVALID_TOPIC_EXCEPTION);
        }
        if self.topics.contains_key(name) {
            return Err(codes::TOPIC_ALREADY_EXISTS);
        }
        self.topics_made += 1;
        let limits = Limits {
            max_message_bytes: self.settings.max_message_bytes,
            before_max_ms: i64::MAX,
            after_max_ms: 3_600_000,
        };
        // Any id but nil will do; a topic that is created again must have another.
        let id = Uuid::from_u64_pair(0xf0be_ba70_0000_4000, 0x8000_0000_0000_0000 | self.topics_made);
        let topic = Topic { id, partitions: vec![], limits, log_append_time: false, unreadable: false };
        self.topics.insert(name.to_owned(), topic);
        self.names.insert(id, name.to_owned());
        let extended = self.set_partitions(name, partitions);
        if extended.is_err() {
            self.delete_topic(name)?;
        }
        extended
    }

    /// Adds partitions until there are `count`.
    pub(super) fn set_partitions(&mut self, name: &str, count: usize) -> Result<(), i16> {
        let have = self.topics.get(name).ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)?.partitions.len();
        if count <= have {
            return Err(codes::INVALID_PARTITIONS);
        }
        if self.partitions + (count - have) > PARTITIONS_MAX {
            return Err(codes::POLICY_VIOLATION);
        }
        let ids: Vec<i32> = self.nodes.keys().copied().collect();
        let new = (have..count).map(|index| {
            let mut replicas = ids.clone();
            replicas.rotate_left(index % ids.len().max(1));
            let mut partition = Partition::new(replicas);
            elect(&self.nodes, &mut partition);
            partition
        });
        if let Some(topic) = self.topics.get_mut(name) {
            topic.partitions.extend(new);
            self.partitions += count - have;
        }
        Ok(())
    }

    /// Deletes a topic and what it holds.
    pub(super) fn delete_topic(&mut self, name: &str) -> Result<(), i16> {
        let topic = self.topics.remove(name).ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)?;
        self.names.remove(&topic.id);
        self.partitions -= topic.partitions.len();
        let freed: u64 = topic.partitions.iter().map(Partition::len_bytes).sum();
        self.held_bytes = self.held_bytes.saturating_sub(freed);
        Ok(())
    }

    /// The name that a request means, and whether it exists: 3 or 100.
    pub(super) fn topic_name(&self, topic: &TopicRef) -> Result<String, i16> {
        match topic {
            TopicRef::Name(name) if self.topics.contains_key(&**name) => Ok(name.to_string()),
            TopicRef::Name(_) => Err(codes::UNKNOWN_TOPIC_OR_PARTITION),
            TopicRef::Id(id) => self.names.get(id).cloned().ok_or(codes::UNKNOWN_TOPIC_ID),
        }
    }

    /// The partition, whoever leads it.
    pub(super) fn partition(&mut self, topic: &str, partition: i32) -> Result<&mut Partition, i16> {
        let index = usize::try_from(partition).ok();
        let topic = self.topics.get_mut(topic);
        let found = topic.zip(index).and_then(|(topic, index)| topic.partitions.get_mut(index));
        found.ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)
    }

    /// The partition, if `broker` leads it, in the epoch in which the client thinks so (-1: it does not say; KIP-320).
    pub(super) fn led(&mut self, broker: i32, topic: &str, partition: i32, epoch: i32) -> Result<&mut Partition, i16> {
        let partition = self.partition(topic, partition)?;
        if partition.leader != broker {
            Err(codes::NOT_LEADER_OR_FOLLOWER)
        } else if epoch >= 0 && epoch < partition.leader_epoch {
            Err(codes::FENCED_LEADER_EPOCH)
        } else if epoch > partition.leader_epoch {
            Err(codes::UNKNOWN_LEADER_EPOCH)
        } else {
            Ok(partition)
        }
    }

    /// [`Cluster::led`], if the topic may be read.
    pub(super) fn read(&mut self, broker: i32, topic: &str, partition: i32, epoch: i32) -> Result<&mut Partition, i16> {
        if self.topics.get(topic).is_some_and(|topic| topic.unreadable) {
            return Err(codes::TOPIC_AUTHORIZATION_FAILED);
        }
        self.led(broker, topic, partition, epoch)
    }

    /// A broker stops: others lead what it led, if there are any.
    pub(super) fn stop(&mut self, broker: i32) {
        let Some(node) = self.nodes.get_mut(&broker) else { return };
        node.up = false;
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            partition.broker_stopped(broker);
            elect(&self.nodes, partition);
        }
    }

    /// A broker is back, perhaps somewhere else: it leads what has no leader.
    pub(super) fn start(&mut self, broker: i32, address: SocketAddr) {
        if let Some(node) = self.nodes.get_mut(&broker) {
            *node = Node { address, up: true, asked_for_ids: false, ids: 0..0 };
        }
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            elect(&self.nodes, partition);
        }
    }

    /// The next producer id of a broker's block, or 14 the first time, as long as it is fetching one.
    pub(super) fn init_producer_id(&mut self, broker: i32) -> Result<i64, i16> {
        let node = self.nodes.get_mut(&broker).ok_or(codes::BROKER_NOT_AVAILABLE)?;
        if !std::mem::replace(&mut node.asked_for_ids, true) && self.settings.first_producer_id_fails {
            return Err(codes::COORDINATOR_LOAD_IN_PROGRESS);
        }
        if node.ids.is_empty() {
            node.ids = self.next_producer_id..self.next_producer_id + PRODUCER_IDS_IN_BLOCK;
            self.next_producer_id = node.ids.end;
        }
        node.ids.next().ok_or(codes::COORDINATOR_LOAD_IN_PROGRESS)
    }

    /// Forgets producers whose last batch is stamped at or before `expired_at` (ms). Returns how many.
    pub(super) fn sweep(&mut self, expired_at: i64) -> usize {
        let partitions = self.topics.values_mut().flat_map(|topic| &mut topic.partitions);
        partitions.map(|partition| partition.sweep(expired_at)).sum()
    }
}

/// Gives a partition whose leader is down another one, if any is up.
fn elect(nodes: &BTreeMap<i32, Node>, partition: &mut Partition) {
    let up = |id: &i32| nodes.get(id).is_some_and(|node| node.up);
    if up(&partition.leader) {
        return;
    }
    let leader = partition.replicas.iter().copied().find(up).unwrap_or(NO_LEADER);
    if leader != partition.leader {
        partition.lead(leader);
    }
}

/// What this broker can speak. Produce is said to start at 0, as Kafka says it, since older librdkafka compress only then
/// (KAFKA-18659); 0 to 2 are refused.
pub(super) fn served(api: ApiKey) -> RangeInclusive<i16> {
    match api {
        ApiKey::Produce => 0..=*produce::VERSIONS.end(),
        ApiKey::Fetch => fetch::VERSIONS,
        ApiKey::ListOffsets => list_offsets::VERSIONS,
        ApiKey::Metadata => 0..=*metadata::VERSIONS.end(),
        ApiKey::FindCoordinator => find_coordinator::VERSIONS,
        ApiKey::ApiVersions => api_versions::VERSIONS,
        ApiKey::InitProducerId => init_producer_id::VERSIONS,
        ApiKey::DescribeConfigs => describe_configs::VERSIONS,
        ApiKey::DescribeProducers => describe_producers::VERSIONS,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::VERSIONS,
    }
}

/// Kafka's rule for topic names (`Topic.validate`).
fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= TOPIC_NAME_MAX && name.bytes().all(legal)
}
