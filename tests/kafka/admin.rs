//! The few administrative requests that the tests need, sent to a broker directly: each takes milliseconds where Kafka's
//! own command line tools take a Java start.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    ElectLeadersRequest, IncrementalAlterConfigsRequest, MetadataRequest, MetadataResponse, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// How long a broker may take to accept and to answer.
const TIMEOUT: Duration = Duration::from_secs(20);
const TIMEOUT_MS: i32 = 15_000;
/// The first version of a topic's creation with tagged fields; each version here is one that Kafka 4 speaks.
const CREATE_TOPICS_VERSION: i16 = 7;
const METADATA_VERSION: i16 = 12;
const CREATE_PARTITIONS_VERSION: i16 = 3;
const DELETE_TOPICS_VERSION: i16 = 6;
const ALTER_CONFIGS_VERSION: i16 = 1;
const REASSIGNMENTS_VERSION: i16 = 0;
const ELECT_LEADERS_VERSION: i16 = 2;
/// `ElectionType.PREFERRED`.
const PREFERRED: i8 = 0;
/// `ConfigResource.Type.TOPIC` and `BROKER`, which without a name is all of them.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// `AlterConfigOp.OpType.SET`.
const SET: i8 = 0;
/// `ELECTION_NOT_NEEDED`: the wanted leader leads already.
const ELECTION_NOT_NEEDED: i16 = 84;

/// Creates a topic; `configs` are Kafka's names and values.
pub fn create_topic(
    port: u16,
    name: &str,
    partitions: i32,
    replication: i16,
    configs: &[(&str, &str)],
) -> Result<(), String> {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig::default().with_name(string(name)).with_value(Some(string(value))));
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replication)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let response = call(port, CREATE_TOPICS_VERSION, &request).map_err(|error| error.to_string())?;
    let result = response.topics.first().ok_or("no answer about the topic")?;
    match result.error_code {
        0 => Ok(()),
        code => Err(format!("topic {name} was not created: error {code} {:?}", result.error_message)),
    }
}

/// Gives a topic more partitions: `count` in all.
pub fn add_partitions(port: u16, topic: &str, count: i32) -> Result<(), String> {
    let topic = CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(count).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let response = call(port, CREATE_PARTITIONS_VERSION, &request).map_err(|error| error.to_string())?;
    all_done("partitions were not added", response.results.iter().map(|result| result.error_code))
}

/// Deletes a topic and all that is in it.
pub fn delete_topic(port: u16, topic: &str) -> Result<(), String> {
    let topic = DeleteTopicState::default().with_name(Some(topic_name(topic)));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let response = call(port, DELETE_TOPICS_VERSION, &request).map_err(|error| error.to_string())?;
    all_done("the topic was not deleted", response.responses.iter().map(|result| result.error_code))
}

/// Sets a configuration of a topic, by Kafka's name.
pub fn set_topic_config(port: u16, topic: &str, name: &str, value: &str) -> Result<(), String> {
    set_config(port, TOPIC, topic, name, value)
}

/// Sets a configuration of all brokers, by Kafka's name.
pub fn set_cluster_config(port: u16, name: &str, value: &str) -> Result<(), String> {
    set_config(port, BROKER, "", name, value)
}

fn set_config(port: u16, kind: i8, resource: &str, name: &str, value: &str) -> Result<(), String> {
    let config =
        AlterableConfig::default().with_name(string(name)).with_config_operation(SET).with_value(Some(string(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(resource))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response = call(port, ALTER_CONFIGS_VERSION, &request).map_err(|error| error.to_string())?;
    all_done("the configuration was not changed", response.responses.iter().map(|result| result.error_code))
}

/// An error with the first code that says that something was not done.
pub fn all_done(failure: &str, mut codes: impl Iterator<Item = i16>) -> Result<(), String> {
    match codes.find(|code| *code != 0) {
        None => Ok(()),
        Some(code) => Err(format!("{failure}: error {code}")),
    }
}

/// The partitions of a topic as that broker knows them; none while the topic is unknown to it.
pub fn partitions(port: u16, topic: &str) -> io::Result<Vec<MetadataResponsePartition>> {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    Ok(metadata(port, Some(vec![topic]))?.topics.into_iter().flat_map(|topic| topic.partitions).collect())
}

/// The partitions of all topics as that broker knows them.
pub fn all_partitions(port: u16) -> io::Result<Vec<MetadataResponsePartition>> {
    Ok(metadata(port, None)?.topics.into_iter().flat_map(|topic| topic.partitions).collect())
}

/// How many brokers that broker knows to be alive.
pub fn live_brokers(port: u16) -> io::Result<usize> {
    Ok(metadata(port, Some(vec![]))?.brokers.len())
}

/// Makes `replicas` the order of preference; a partition's leader does not change by that alone.
pub fn prefer(port: u16, topic: &str, partition: i32, replicas: Vec<BrokerId>) -> Result<(), String> {
    let partition = ReassignablePartition::default().with_partition_index(partition).with_replicas(Some(replicas));
    let topic = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let response = call(port, REASSIGNMENTS_VERSION, &request).map_err(|error| error.to_string())?;
    let codes = response.responses.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    match codes.chain([response.error_code]).find(|code| *code != 0) {
        None => Ok(()),
        Some(code) => Err(format!("the order of replicas was not changed: error {code}")),
    }
}

/// Makes the preferred replica the leader.
pub fn elect_preferred(port: u16, topic: &str, partition: i32) -> Result<(), String> {
    let topic = TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    let request = ElectLeadersRequest::default()
        .with_election_type(PREFERRED)
        .with_topic_partitions(Some(vec![topic]))
        .with_timeout_ms(TIMEOUT_MS);
    let response = call(port, ELECT_LEADERS_VERSION, &request).map_err(|error| error.to_string())?;
    let results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
    let codes = results.map(|partition| partition.error_code).chain([response.error_code]);
    match codes.into_iter().find(|code| *code != 0 && *code != ELECTION_NOT_NEEDED) {
        None => Ok(()),
        Some(code) => Err(format!("no election: error {code}")),
    }
}

fn metadata(port: u16, topics: Option<Vec<MetadataRequestTopic>>) -> io::Result<MetadataResponse> {
    call(port, METADATA_VERSION, &MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false))
}

/// One request on a connection of its own, and its answer.
pub fn call<R: Request>(port: u16, version: i16, request: &R) -> io::Result<R::Response> {
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).map_err(io::Error::other)?;
    request.encode(&mut body, version).map_err(io::Error::other)?;

    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let size = i32::try_from(body.len()).expect("a test's request is small");
    stream.write_all(&[&size.to_be_bytes()[..], &body].concat())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).map_err(io::Error::other)?];
    stream.read_exact(&mut answer)?;

    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).map_err(io::Error::other)?;
    R::Response::decode(&mut answer, version).map_err(io::Error::other)
}

/// A topic's name as Kafka's messages have it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(string(name))
}

/// A string as Kafka's messages have it.
pub fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
