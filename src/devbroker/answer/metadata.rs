//! Metadata: the brokers that are up, and the topics.
//!
//! A topic that does not exist is created, where that is switched on and the client allows it; as with Kafka under KRaft this
//! request is still answered with error 3, and the next one finds the topic.

use std::time::Duration;

use bytes::BytesMut;
use uuid::Uuid;

use crate::devbroker::cluster::{Cluster, Topic};
use crate::devbroker::partition::{NO_LEADER, Partition};
use crate::wire::api::metadata::{self, Metadata, Operations, RequestedTopic};
use crate::wire::api::produce::TopicRef;
use crate::wire::frame::RequestFrame;
use crate::wire::{WireError, codes};

pub(in crate::devbroker) fn answer(cluster: &mut Cluster, request: RequestFrame) -> Result<BytesMut, WireError> {
    let asked = metadata::decode_request(request.version, request.body)?;
    let topics = match asked.topics {
        None => cluster.topics.iter().map(|(name, topic)| describe(cluster, name, topic)).collect::<Vec<_>>(),
        Some(topics) => {
            let create = asked.allow_auto_topic_creation && cluster.settings.auto_create_topics;
            topics.into_iter().map(|topic| of_topic(cluster, topic, create)).collect()
        }
    };
    // There is no authorizer: everybody may do everything.
    let operations = asked.include_topic_authorized_operations.then_some(Operations::ALL);
    let topics = topics.into_iter();
    let topics = topics.map(|topic| match topic.error_code {
        codes::NONE => metadata::Topic { authorized_operations: operations, ..topic },
        _ => topic,
    });
    let brokers = cluster.brokers();
    let answer = Metadata {
        throttle: Duration::ZERO,
        cluster_id: Some(cluster.settings.cluster_id.clone()),
        controller_id: brokers.first().map_or(-1, |broker| broker.id),
        error_code: codes::NONE,
        brokers,
        topics: topics.collect(),
    };
    metadata::encode_response(request.version, request.correlation_id, &answer)
}

fn of_topic(cluster: &mut Cluster, asked: RequestedTopic, create: bool) -> metadata::Topic {
    let RequestedTopic { name, id } = asked;
    let topic = match &name {
        Some(name) => TopicRef::Name(name.as_str().into()),
        None => TopicRef::Id(id),
    };
    let code = match cluster.topic_name(&topic) {
        Ok(found) => match cluster.topics.get(&found) {
            Some(topic) => return describe(cluster, &found, topic),
            None => codes::UNKNOWN_TOPIC_OR_PARTITION,
        },
        Err(code) => code,
    };
    let created = match &name {
        Some(name) if create => cluster.create_topic(name, cluster.settings.default_partitions),
        _ => Ok(()),
    };
    let error_code = created.err().unwrap_or(code);
    let id = if name.is_some() { Uuid::nil() } else { id };
    metadata::Topic { error_code, name, id, ..metadata::Topic::default() }
}

fn describe(cluster: &Cluster, name: &str, topic: &Topic) -> metadata::Topic {
    let up = |id: &i32| cluster.nodes.get(id).is_some_and(|node| node.up);
    let partition = |(index, partition): (usize, &Partition)| metadata::Partition {
        error_code: if partition.leader == NO_LEADER { codes::LEADER_NOT_AVAILABLE } else { codes::NONE },
        id: index as i32,
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        replicas: partition.replicas.clone(),
        in_sync: partition.replicas.iter().copied().filter(up).collect(),
    };
    metadata::Topic {
        error_code: codes::NONE,
        name: Some(name.to_owned()),
        id: topic.id,
        is_internal: false,
        partitions: topic.partitions.iter().enumerate().map(partition).collect(),
        authorized_operations: None,
    }
}
