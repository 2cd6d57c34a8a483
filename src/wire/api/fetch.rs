//! Fetch (key 1), the server's side: record batches from an offset on (KIP-74 on limits, KIP-320 on leader epochs).
//!
//! Sessions (KIP-227) are not offered: every answer says session 0, upon which clients go on with whole requests.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{ApiKey, duration, milliseconds};
use crate::wire::frame;
use crate::wire::{WireError, shape};

/// Versions that this module decodes and encodes. 10: zstd. 12: flexible. 13 and later name topics by id.
pub const VERSIONS: RangeInclusive<i16> = 4..=12;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// How long the answer may be held back for want of `min_bytes`.
    pub max_wait: Duration,
    /// Enough for an answer.
    pub min_bytes: usize,
    /// No more than this, but for the first batch (KIP-74).
    pub max_bytes: usize,
    /// In the order of the request.
    pub partitions: Vec<RequestPartition>,
}

/// What a client asks for of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub partition: i32,
    /// The epoch in which the client believes the leader to be, -1 if it does not say.
    pub current_leader_epoch: i32,
    /// The first offset that is wanted.
    pub offset: i64,
    /// No more than this of the partition, but for the first batch of the answer.
    pub max_bytes: usize,
}

/// The request; sizes below zero are taken as zero.
pub fn decode_request(version: i16, body: Bytes) -> Result<Request, WireError> {
    let request: FetchRequest = frame::decode(shape::request(ApiKey::Fetch), version, body)?;
    let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let mut partitions = Vec::new();
    for topic in request.topics {
        let name: Arc<str> = Arc::from(topic.topic.as_str());
        partitions.extend(topic.partitions.into_iter().map(|partition| RequestPartition {
            topic: name.clone(),
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            offset: partition.fetch_offset,
            max_bytes: size(partition.partition_max_bytes),
        }));
    }
    Ok(Request {
        max_wait: duration(request.max_wait_ms),
        min_bytes: size(request.min_bytes),
        max_bytes: size(request.max_bytes),
        partitions,
    })
}

/// What a client gets of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionAnswer {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub partition: i32,
    /// 0, or why there is nothing.
    pub error_code: i16,
    /// The offset after the last committed record, -1 on an error.
    pub high_watermark: i64,
    /// The first offset that there is, -1 on an error.
    pub log_start_offset: i64,
    /// Whole batches.
    pub records: Bytes,
}

/// The answer. Partitions of one topic must stand together.
pub fn encode_response(
    version: i16,
    correlation_id: i32,
    throttle: Duration,
    partitions: &[PartitionAnswer],
) -> Result<BytesMut, WireError> {
    let topics = partitions.chunk_by(|a, b| a.topic == b.topic).map(|partitions| {
        let name = partitions.first().map_or("", |answer| &answer.topic);
        FetchableTopicResponse::default()
            .with_topic(TopicName(StrBytes::from_string(name.to_owned())))
            .with_partitions(partitions.iter().map(partition_data).collect())
    });
    let response =
        FetchResponse::default().with_throttle_time_ms(milliseconds(throttle)).with_responses(topics.collect());
    frame::encode_response(ApiKey::Fetch, version, correlation_id, &response)
}

fn partition_data(answer: &PartitionAnswer) -> PartitionData {
    PartitionData::default()
        .with_partition_index(answer.partition)
        .with_error_code(answer.error_code)
        .with_high_watermark(answer.high_watermark)
        .with_last_stable_offset(answer.high_watermark)
        .with_log_start_offset(answer.log_start_offset)
        .with_records(Some(answer.records.clone()))
}
