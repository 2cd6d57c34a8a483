//! Fetch (key 1): record batches from an offset on (KIP-74 on limits, KIP-320 on leader epochs).
//!
//! Sessions (KIP-227) are not offered, and not asked for: every answer says session 0, upon which clients go on with whole
//! requests. The client's side asks for one partition.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{ApiKey, duration, milliseconds};
use crate::wire::frame::{self, Frame};
use crate::wire::{WireError, shape};

/// Versions that this module decodes and encodes. 10: zstd. 12: flexible. 13 and later name topics by id.
pub const VERSIONS: RangeInclusive<i16> = 4..=12;

/// The client says from this version on in which epoch it believes the leader to be.
pub const LEADER_EPOCHS_SINCE: i16 = 9;

/// Asks for batches of one partition, committed ones only, but of open transactions, too.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    max_wait: Duration,
    asked: &RequestPartition,
) -> Result<Frame, WireError> {
    let most = i32::try_from(asked.max_bytes).unwrap_or(i32::MAX);
    let mut partition = FetchPartition::default()
        .with_partition(asked.partition)
        .with_fetch_offset(asked.offset)
        .with_partition_max_bytes(most);
    if version >= LEADER_EPOCHS_SINCE {
        partition = partition.with_current_leader_epoch(asked.current_leader_epoch);
    }
    let topic = FetchTopic::default()
        .with_topic(TopicName(StrBytes::from_string(asked.topic.to_string())))
        .with_partitions(vec![partition]);
    let mut request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(milliseconds(max_wait))
        .with_min_bytes(1)
        .with_max_bytes(most)
        .with_topics(vec![topic]);
    if version >= 7 {
        // Without a session (KIP-227).
        request = request.with_session_epoch(-1);
    }
    frame::encode_request(ApiKey::Fetch, version, correlation_id, client_id, &request)
}

/// The answers, in the order in which they stand. An error of the whole request stands in each.
pub fn decode(version: i16, body: Bytes) -> Result<Vec<PartitionAnswer>, WireError> {
    let response: FetchResponse = frame::decode(&shape::FETCH_RESPONSE, version, body)?;
    let mut answers = Vec::new();
    for topic in response.responses {
        let name: Arc<str> = Arc::from(topic.topic.as_str());
        answers.extend(topic.partitions.into_iter().map(|answer| PartitionAnswer {
            topic: name.clone(),
            partition: answer.partition_index,
            error_code: if response.error_code == 0 { answer.error_code } else { response.error_code },
            high_watermark: answer.high_watermark,
            log_start_offset: answer.log_start_offset,
            records: answer.records.unwrap_or_default(),
        }));
    }
    Ok(answers)
}

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

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::protocol::{Decodable, Encodable};
    use proptest::prelude::*;

    use super::*;

    fn name(name: &'static str) -> TopicName {
        TopicName(StrBytes::from_static_str(name))
    }

    #[test]
    fn the_crate_s_request_is_read_as_it_was_meant_in_every_version() {
        for version in VERSIONS {
            let partition = |n: i32| {
                let partition =
                    FetchPartition::default().with_partition(n).with_fetch_offset(7).with_partition_max_bytes(-1);
                if version >= 9 { partition.with_current_leader_epoch(4) } else { partition }
            };
            let topic = |topic| FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition(3); 2]);
            let message = FetchRequest::default()
                .with_max_wait_ms(500)
                .with_min_bytes(1)
                .with_max_bytes(9)
                .with_topics(vec![topic("a"), topic("b")]);
            let mut body = BytesMut::new();
            message.encode(&mut body, version).unwrap();
            let request = decode_request(version, body.freeze()).unwrap();
            let epoch = if version >= 9 { 4 } else { -1 };
            assert_eq!((request.max_wait, request.min_bytes, request.max_bytes), (Duration::from_millis(500), 1, 9));
            assert_eq!(request.partitions.len(), 4);
            assert_eq!(
                request.partitions[3],
                RequestPartition {
                    topic: "b".into(),
                    partition: 3,
                    current_leader_epoch: epoch,
                    offset: 7,
                    max_bytes: 0
                }
            );
        }
    }

    #[test]
    fn the_crate_reads_the_answer_as_it_was_meant_in_every_version() {
        let answer = |topic: &str, partition| PartitionAnswer {
            topic: topic.into(),
            partition,
            error_code: 0,
            high_watermark: 40,
            log_start_offset: 0,
            records: Bytes::from_static(b"batches"),
        };
        for version in VERSIONS {
            let answers = [answer("a", 0), answer("a", 1), answer("b", 0)];
            let mut frame = encode_response(version, 5, Duration::from_millis(3), &answers).unwrap().freeze();
            assert_eq!(frame.get_i32() as usize, frame.len());
            let (_, mut body) = frame::strip_response_header(frame, ApiKey::Fetch, version).unwrap();
            let response = FetchResponse::decode(&mut body, version).unwrap();
            assert_eq!((response.throttle_time_ms, response.responses.len()), (3, 2), "version {version}");
            let partition = &response.responses[0].partitions[1];
            assert_eq!((partition.partition_index, partition.high_watermark), (1, 40));
            assert_eq!(partition.records.as_deref(), Some(&b"batches"[..]));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_refused(bytes in prop::collection::vec(0..6_u8, 0..150), version in VERSIONS) {
            let bytes: Bytes = bytes.into();
            let _ = decode_request(version, bytes.clone());
            let _ = decode(version, bytes);
        }

        #[test]
        fn both_sides_understand_each_other_in_every_version(
            version in VERSIONS, partition in any::<i32>(), epoch in any::<i32>(), offset in any::<i64>(), code in any::<i16>()
        ) {
            let current_leader_epoch = if version >= LEADER_EPOCHS_SINCE { epoch } else { -1 };
            let asked = RequestPartition { topic: "a".into(), partition, current_leader_epoch, offset, max_bytes: 1 << 20 };
            let mut bytes = encode(version, 5, "client", Duration::from_millis(7), &asked).unwrap().to_bytes();
            bytes.advance(4);
            let request = decode_request(version, frame::decode_request(bytes).unwrap().body).unwrap();
            prop_assert_eq!((request.max_wait, request.min_bytes, request.max_bytes), (Duration::from_millis(7), 1, 1 << 20));
            prop_assert_eq!(request.partitions, [asked]);

            let log_start_offset = if version >= 5 { 3 } else { -1 };
            let records = Bytes::from_static(b"batches");
            let answer = PartitionAnswer {
                topic: "a".into(), partition, error_code: code, high_watermark: offset, log_start_offset, records
            };
            let mut bytes = encode_response(version, 5, Duration::ZERO, std::slice::from_ref(&answer)).unwrap().freeze();
            bytes.advance(4);
            let (_, body) = frame::strip_response_header(bytes, ApiKey::Fetch, version).unwrap();
            prop_assert_eq!(decode(version, body).unwrap(), [answer]);
        }
    }
}
