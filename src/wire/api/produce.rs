//! Produce (key 0): record batches to the leaders of their partitions (KIP-98; 10: KIP-951; 13: topic ids, KIP-516).

mod envelope;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use self::envelope::Envelope;
use super::metadata::{self, Broker};
use super::{ApiKey, duration, milliseconds};
use crate::wire::frame::{self, Frame};
use crate::wire::{WireError, shape};

/// Versions that this module encodes and decodes. 3: batches of magic 2. 7: zstd. 8: errors of single records. 10: leader
/// hints. 13: topic ids in place of names.
pub const VERSIONS: RangeInclusive<i16> = 3..=13;

/// From this version on topics go by id.
const TOPIC_IDS_SINCE: i16 = 13;

/// One partition's part of a request: exactly one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecords {
    /// The topic's name, used up to version 12.
    pub topic: Arc<str>,
    /// The topic's id, used from version 13 on.
    pub topic_id: Uuid,
    /// Its number in the topic.
    pub partition: i32,
    /// A stamped batch.
    pub records: Bytes,
}

/// A topic, as the version in use names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// Up to version 12.
    Name(Arc<str>),
    /// From version 13 on.
    Id(Uuid),
}

/// Sends batches, to be acknowledged when all in-sync replicas have them (acks = -1).
///
/// Parts of one topic must stand together: each change of topic begins a new topic in the request. The batches' bytes are not
/// copied, small ones excepted. The envelope is written by hand for that reason, and tested against the crate in every version.
///
/// Errors: a version outside of [`VERSIONS`], a topic name longer than 32,767 bytes, more than 2 GiB.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    timeout: Duration,
    parts: &[PartitionRecords],
) -> Result<Frame, WireError> {
    let mut out = Envelope::open(version, correlation_id, client_id)?;
    out.text(None)?;
    out.int16(-1);
    out.int32(milliseconds(timeout));
    let by_id = version >= TOPIC_IDS_SINCE;
    let same_topic = |a: &PartitionRecords, b: &PartitionRecords| {
        if by_id { a.topic_id == b.topic_id } else { a.topic == b.topic }
    };
    out.length(parts.chunk_by(same_topic).count())?;
    for topic in parts.chunk_by(same_topic) {
        match topic.first() {
            Some(first) if by_id => out.uuid(first.topic_id),
            first => out.text(first.map(|first| &*first.topic))?,
        }
        out.length(topic.len())?;
        for part in topic {
            out.int32(part.partition);
            out.records(&part.records)?;
            out.no_tagged_fields();
        }
        out.no_tagged_fields();
    }
    out.no_tagged_fields();
    Ok(Frame { api: ApiKey::Produce, version, correlation_id, segments: out.close()? })
}

/// What a broker answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// How long the broker asks to be left alone.
    pub throttle: Duration,
    /// One for each partition of the request.
    pub partitions: Vec<PartitionAnswer>,
    /// Where the leaders named in `current_leader` are reached (KIP-951).
    pub endpoints: Vec<Broker>,
}

/// What became of one partition's batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionAnswer {
    /// Which topic.
    pub topic: TopicRef,
    /// Its number in the topic.
    pub partition: i32,
    /// 0, or what went wrong.
    pub error_code: i16,
    /// Offset of the batch's first record, -1 on an error.
    pub base_offset: i64,
    /// When the broker appended it, -1 where topics keep the producer's timestamps.
    pub log_append_time: i64,
    /// Records that caused the batch to be refused: index in the batch, and why.
    pub record_errors: Vec<(i32, Option<String>)>,
    /// The broker's words.
    pub error_message: Option<String>,
    /// Who leads the partition now, and in which epoch (KIP-951).
    pub current_leader: Option<(i32, i32)>,
}

/// The answer.
pub fn decode(version: i16, body: Bytes) -> Result<Answer, WireError> {
    let response: ProduceResponse = frame::decode(&shape::PRODUCE_RESPONSE, version, body)?;
    let mut partitions = Vec::new();
    for topic in response.responses {
        let name = if version >= TOPIC_IDS_SINCE {
            TopicRef::Id(topic.topic_id)
        } else {
            TopicRef::Name(Arc::from(topic.name.as_str()))
        };
        partitions.extend(topic.partition_responses.into_iter().map(|answer| partition_answer(name.clone(), answer)));
    }
    let endpoints = response.node_endpoints.into_iter();
    let endpoints = endpoints.map(|node| metadata::broker(node.node_id.0, &node.host, node.port, node.rack));
    Ok(Answer {
        throttle: duration(response.throttle_time_ms),
        partitions,
        endpoints: endpoints.collect::<Result<_, _>>()?,
    })
}

fn partition_answer(topic: TopicRef, answer: PartitionProduceResponse) -> PartitionAnswer {
    let leader = answer.current_leader;
    let record_errors = answer.record_errors.into_iter();
    PartitionAnswer {
        topic,
        partition: answer.index,
        error_code: answer.error_code,
        base_offset: answer.base_offset,
        log_append_time: answer.log_append_time_ms,
        record_errors: record_errors
            .map(|error| (error.batch_index, error.batch_index_error_message.map(|why| why.to_string())))
            .collect(),
        error_message: answer.error_message.map(|why| why.to_string()),
        current_leader: (leader.leader_id.0 >= 0).then_some((leader.leader_id.0, leader.leader_epoch)),
    }
}

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `None`: no transaction.
    pub transactional_id: Option<String>,
    /// 0: no answer at all; 1; -1: all in-sync replicas.
    pub acks: i16,
    /// How long the replicas may take.
    pub timeout: Duration,
    /// In the order of the request.
    pub partitions: Vec<RequestPartition>,
}

/// One partition's part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPartition {
    /// Which topic.
    pub topic: TopicRef,
    /// Its number in the topic.
    pub partition: i32,
    /// Meant to be exactly one batch; not looked at here. `None` is null.
    pub records: Option<Bytes>,
}

/// The server's side of [`encode`].
pub fn decode_request(version: i16, body: Bytes) -> Result<Request, WireError> {
    let request: ProduceRequest = frame::decode(shape::request(ApiKey::Produce), version, body)?;
    let mut partitions = Vec::new();
    for topic in request.topic_data {
        let name = if version >= TOPIC_IDS_SINCE {
            TopicRef::Id(topic.topic_id)
        } else {
            TopicRef::Name(Arc::from(topic.name.as_str()))
        };
        partitions.extend(topic.partition_data.into_iter().map(|data| RequestPartition {
            topic: name.clone(),
            partition: data.index,
            records: data.records,
        }));
    }
    Ok(Request {
        transactional_id: request.transactional_id.map(|id| id.0.to_string()),
        acks: request.acks,
        timeout: duration(request.timeout_ms),
        partitions,
    })
}

/// The server's side of [`decode`]. What a version has no place for is left out.
pub fn encode_response(version: i16, correlation_id: i32, answer: &Answer) -> Result<BytesMut, WireError> {
    let topics = answer.partitions.chunk_by(|a, b| a.topic == b.topic).map(|partitions| {
        let answers = partitions.iter().map(|answer| response_partition(version, answer)).collect();
        let topic = TopicProduceResponse::default().with_partition_responses(answers);
        match partitions.first().map(|answer| &answer.topic) {
            Some(TopicRef::Name(name)) => topic.with_name(TopicName(StrBytes::from_string(name.to_string()))),
            Some(TopicRef::Id(id)) => topic.with_topic_id(*id),
            None => topic,
        }
    });
    let mut response = ProduceResponse::default()
        .with_responses(topics.collect())
        .with_throttle_time_ms(milliseconds(answer.throttle));
    if version >= 10 {
        let endpoints = answer.endpoints.iter().map(|broker| {
            NodeEndpoint::default()
                .with_node_id(BrokerId(broker.id))
                .with_host(StrBytes::from_string(broker.host.clone()))
                .with_port(broker.port.into())
                .with_rack(broker.rack.clone().map(StrBytes::from_string))
        });
        response = response.with_node_endpoints(endpoints.collect());
    }
    frame::encode_response(ApiKey::Produce, version, correlation_id, &response)
}

fn response_partition(version: i16, answer: &PartitionAnswer) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default()
        .with_index(answer.partition)
        .with_error_code(answer.error_code)
        .with_base_offset(answer.base_offset)
        .with_log_append_time_ms(answer.log_append_time);
    if version >= 8 {
        let errors = answer.record_errors.iter().map(|(index, why)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*index)
                .with_batch_index_error_message(why.clone().map(StrBytes::from_string))
        });
        response = response
            .with_record_errors(errors.collect())
            .with_error_message(answer.error_message.clone().map(StrBytes::from_string));
    }
    if let (Some((leader, epoch)), true) = (answer.current_leader, version >= 10) {
        let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader)).with_leader_epoch(epoch);
        response = response.with_current_leader(leader);
    }
    response
}
