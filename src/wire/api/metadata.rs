//! Metadata (key 3): the brokers, and the topics with their partitions and leaders.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{ApiKey, duration, milliseconds};
use crate::wire::frame::{self, Frame};
use crate::wire::{WireError, shape};

/// Versions that this module encodes and decodes. 4: auto-creation can be declined. 7: leader epochs. 10: topic ids. 13: an
/// error of its own (129).
pub const VERSIONS: RangeInclusive<i16> = 4..=13;

/// What a broker knows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// How long the broker asks to be left alone.
    pub throttle: Duration,
    /// Which cluster this is.
    pub cluster_id: Option<String>,
    /// -1: unknown.
    pub controller_id: i32,
    /// 0 before version 13.
    pub error_code: i16,
    /// The brokers that are up.
    pub brokers: Vec<Broker>,
    /// Those asked for, or all.
    pub topics: Vec<Topic>,
}

/// Where a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broker {
    /// Its number in the cluster.
    pub id: i32,
    /// Name or address, as advertised.
    pub host: String,
    /// As advertised.
    pub port: u16,
    /// Where it stands.
    pub rack: Option<String>,
}

/// A topic, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// 0, or for example 3, 5, 17, 29.
    pub error_code: i16,
    /// `None` only if it was asked for by an id that the broker does not know.
    pub name: Option<String>,
    /// Nil before version 10.
    pub id: Uuid,
    /// Whether it belongs to Kafka itself.
    pub is_internal: bool,
    /// In the broker's order.
    pub partitions: Vec<Partition>,
    /// What the client may do with it, if it has asked and the broker has told.
    pub authorized_operations: Option<Operations>,
}

/// What a client may do with a topic: a bit for each `AclOperation` (KIP-430).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operations(pub i32);

impl Operations {
    /// All that can be done with a topic: 3 READ, 4 WRITE, 5 CREATE, 6 DELETE, 7 ALTER, 8 DESCRIBE, 10 DESCRIBE_CONFIGS and 11
    /// ALTER_CONFIGS. Without an authorizer everybody may.
    pub const ALL: Operations = Operations(0b1101_1111_1000);
    /// The field of a broker that was not asked, or does not know (`Integer.MIN_VALUE`).
    const UNTOLD: i32 = i32::MIN;
    /// The number of `AclOperation.WRITE`.
    const WRITE: i32 = 4;

    /// Whether records may be produced.
    pub fn write(self) -> bool {
        self.0 & (1 << Self::WRITE) != 0
    }
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// 0, or for example 5 when it has no leader.
    pub error_code: i16,
    /// Its number in the topic.
    pub id: i32,
    /// -1: none.
    pub leader: i32,
    /// -1 before version 7.
    pub leader_epoch: i32,
    /// The brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync: Vec<i32>,
}

/// Asks for some topics, or with `None` for all. An empty list asks for the brokers alone.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    topics: Option<&[&str]>,
    allow_auto_topic_creation: bool,
) -> Result<Frame, WireError> {
    if !VERSIONS.contains(&version) {
        return Err(WireError::UnsupportedVersion { api: ApiKey::Metadata.name(), version });
    }
    let topics = topics.map(|topics| topics.iter().map(|name| asked(name)).collect());
    let request =
        MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(allow_auto_topic_creation);
    frame::encode_request(ApiKey::Metadata, version, correlation_id, client_id, &request)
}

/// The first version in which a broker tells what the client may do.
const OPERATIONS_SINCE: i16 = 8;

/// Asks for some topics and, where the version can say it, for what the client may do with them. Creates none.
pub fn encode_with_operations(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    topics: &[&str],
) -> Result<Frame, WireError> {
    if !VERSIONS.contains(&version) {
        return Err(WireError::UnsupportedVersion { api: ApiKey::Metadata.name(), version });
    }
    let request = MetadataRequest::default()
        .with_topics(Some(topics.iter().map(|name| asked(name)).collect()))
        .with_allow_auto_topic_creation(false)
        .with_include_topic_authorized_operations(version >= OPERATIONS_SINCE);
    frame::encode_request(ApiKey::Metadata, version, correlation_id, client_id, &request)
}

fn asked(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

/// The answer.
///
/// Errors: malformed bytes, a port that is none.
pub fn decode(version: i16, body: Bytes) -> Result<Metadata, WireError> {
    let response: MetadataResponse = frame::decode(&shape::METADATA_RESPONSE, version, body)?;
    let brokers = response.brokers.into_iter();
    Ok(Metadata {
        throttle: duration(response.throttle_time_ms),
        cluster_id: response.cluster_id.map(|id| id.to_string()),
        controller_id: response.controller_id.0,
        error_code: response.error_code,
        brokers: brokers.map(|b| broker(b.node_id.0, &b.host, b.port, b.rack)).collect::<Result<_, _>>()?,
        topics: response.topics.into_iter().map(topic).collect(),
    })
}

/// A broker as a response names it.
pub(super) fn broker(id: i32, host: &StrBytes, port: i32, rack: Option<StrBytes>) -> Result<Broker, WireError> {
    let port = u16::try_from(port)
        .map_err(|_| WireError::Refused { what: "broker", why: format!("{port} is no port of {}", host.as_str()) })?;
    Ok(Broker { id, host: host.to_string(), port, rack: rack.map(|rack| rack.to_string()) })
}

fn topic(topic: MetadataResponseTopic) -> Topic {
    let partitions = topic.partitions.into_iter().map(|partition| Partition {
        error_code: partition.error_code,
        id: partition.partition_index,
        leader: partition.leader_id.0,
        leader_epoch: partition.leader_epoch,
        replicas: partition.replica_nodes.iter().map(|id| id.0).collect(),
        in_sync: partition.isr_nodes.iter().map(|id| id.0).collect(),
    });
    Topic {
        error_code: topic.error_code,
        name: topic.name.map(|name| name.0.to_string()),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions: partitions.collect(),
        authorized_operations: Some(topic.topic_authorized_operations)
            .filter(|bits| *bits != Operations::UNTOLD)
            .map(Operations),
    }
}

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `None`: all.
    pub topics: Option<Vec<RequestedTopic>>,
    /// Whether topics that do not exist may be created.
    pub allow_auto_topic_creation: bool,
    /// Whether it wants to know what it may do with them.
    pub include_topic_authorized_operations: bool,
}

/// A topic that a client asks for: by name, or without one by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedTopic {
    /// `None`: see the id.
    pub name: Option<String>,
    /// Nil: see the name.
    pub id: Uuid,
}

/// The server's side of [`encode`], from version 0 on since other clients speak to the devbroker too.
pub fn decode_request(version: i16, body: Bytes) -> Result<Request, WireError> {
    let request: MetadataRequest = frame::decode(shape::request(ApiKey::Metadata), version, body)?;
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| RequestedTopic { name: topic.name.map(|n| n.0.to_string()), id: topic.topic_id })
            .collect::<Vec<_>>()
    });
    // Version 0 knows no null: there an empty list asks for all.
    let topics = topics.filter(|topics| version > 0 || !topics.is_empty());
    Ok(Request {
        topics,
        allow_auto_topic_creation: request.allow_auto_topic_creation,
        include_topic_authorized_operations: request.include_topic_authorized_operations,
    })
}

/// The server's side of [`decode`].
pub fn encode_response(version: i16, correlation_id: i32, metadata: &Metadata) -> Result<BytesMut, WireError> {
    let brokers = metadata.brokers.iter().map(|broker| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(StrBytes::from_string(broker.host.clone()))
            .with_port(broker.port.into())
            .with_rack(broker.rack.clone().map(StrBytes::from_string))
    });
    let response = MetadataResponse::default()
        .with_throttle_time_ms(milliseconds(metadata.throttle))
        .with_brokers(brokers.collect())
        .with_cluster_id(metadata.cluster_id.clone().map(StrBytes::from_string))
        .with_controller_id(BrokerId(metadata.controller_id))
        .with_error_code(metadata.error_code)
        .with_topics(metadata.topics.iter().map(|topic| response_topic(version, topic)).collect());
    frame::encode_response(ApiKey::Metadata, version, correlation_id, &response)
}

fn response_topic(version: i16, topic: &Topic) -> MetadataResponseTopic {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let partitions = topic.partitions.iter().map(|partition| {
        MetadataResponsePartition::default()
            .with_error_code(partition.error_code)
            .with_partition_index(partition.id)
            .with_leader_id(BrokerId(partition.leader))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.in_sync))
    });
    // The name may be null only since version 12.
    let no_name = (version < 12).then_some("");
    let operations = topic.authorized_operations.filter(|_| version >= OPERATIONS_SINCE);
    MetadataResponseTopic::default()
        .with_error_code(topic.error_code)
        .with_name(topic.name.as_deref().or(no_name).map(topic_name))
        .with_topic_id(topic.id)
        .with_is_internal(topic.is_internal)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations.map_or(Operations::UNTOLD, |operations| operations.0))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
