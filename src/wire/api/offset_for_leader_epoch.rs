//! OffsetForLeaderEpoch (key 23): where a leader's epoch ends in the log (KIP-101, KIP-320). Asked of the present leader about the
//! present epoch, the answer is its log's end, committed or not.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::ApiKey;
use crate::wire::frame::{self, Frame};
use crate::wire::{WireError, shape};

/// Versions that this module encodes and decodes. 2: the epoch in which the client believes the leader to be. 4: flexible.
pub const VERSIONS: RangeInclusive<i16> = 2..=4;

/// What is asked of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub partition: i32,
    /// The epoch in which the client believes the leader to be, -1 if it does not say.
    pub current_leader_epoch: i32,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

/// What is answered for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionAnswer {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub partition: i32,
    /// 0, or why there is no answer.
    pub error_code: i16,
    /// The epoch asked for, or the largest one below it that the log has; -1 if there is none.
    pub leader_epoch: i32,
    /// The offset behind its last record; -1 if there is no such epoch.
    pub end_offset: i64,
}

/// Asks about one partition.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    asked: &RequestPartition,
) -> Result<Frame, WireError> {
    let partition = OffsetForLeaderPartition::default()
        .with_partition(asked.partition)
        .with_current_leader_epoch(asked.current_leader_epoch)
        .with_leader_epoch(asked.leader_epoch);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(TopicName(StrBytes::from_string(asked.topic.to_string())))
        .with_partitions(vec![partition]);
    // A replica id of -1 is a client.
    let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    frame::encode_request(ApiKey::OffsetForLeaderEpoch, version, correlation_id, client_id, &request)
}

/// The answers, in the order in which they stand.
pub fn decode(version: i16, body: Bytes) -> Result<Vec<PartitionAnswer>, WireError> {
    let response: OffsetForLeaderEpochResponse =
        frame::decode(&shape::OFFSET_FOR_LEADER_EPOCH_RESPONSE, version, body)?;
    let mut answers = Vec::new();
    for topic in response.topics {
        let name: Arc<str> = Arc::from(topic.topic.as_str());
        answers.extend(topic.partitions.into_iter().map(|answer| PartitionAnswer {
            topic: name.clone(),
            partition: answer.partition,
            error_code: answer.error_code,
            leader_epoch: answer.leader_epoch,
            end_offset: answer.end_offset,
        }));
    }
    Ok(answers)
}

/// The server's side of [`encode`].
pub fn decode_request(version: i16, body: Bytes) -> Result<Vec<RequestPartition>, WireError> {
    let request: OffsetForLeaderEpochRequest =
        frame::decode(shape::request(ApiKey::OffsetForLeaderEpoch), version, body)?;
    let mut partitions = Vec::new();
    for topic in request.topics {
        let name: Arc<str> = Arc::from(topic.topic.as_str());
        partitions.extend(topic.partitions.into_iter().map(|asked| RequestPartition {
            topic: name.clone(),
            partition: asked.partition,
            current_leader_epoch: asked.current_leader_epoch,
            leader_epoch: asked.leader_epoch,
        }));
    }
    Ok(partitions)
}

/// The server's side of [`decode`]. Partitions of one topic must stand together.
pub fn encode_response(
    version: i16,
    correlation_id: i32,
    partitions: &[PartitionAnswer],
) -> Result<BytesMut, WireError> {
    let topics = partitions.chunk_by(|a, b| a.topic == b.topic).map(|partitions| {
        let name = partitions.first().map_or("", |answer| &answer.topic);
        let partitions = partitions.iter().map(|answer| {
            EpochEndOffset::default()
                .with_error_code(answer.error_code)
                .with_partition(answer.partition)
                .with_leader_epoch(answer.leader_epoch)
                .with_end_offset(answer.end_offset)
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(TopicName(StrBytes::from_string(name.to_owned())))
            .with_partitions(partitions.collect())
    });
    let response = OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
    frame::encode_response(ApiKey::OffsetForLeaderEpoch, version, correlation_id, &response)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_sides_understand_each_other_in_every_version(
            version in VERSIONS, partition in any::<i32>(), epochs in any::<(i32, i32)>(), end in any::<i64>(), code in any::<i16>()
        ) {
            let (current_leader_epoch, leader_epoch) = epochs;
            let asked = RequestPartition { topic: "a".into(), partition, current_leader_epoch, leader_epoch };
            let mut bytes = encode(version, 5, "client", &asked).unwrap().to_bytes();
            bytes.advance(4);
            let request = frame::decode_request(bytes).unwrap();
            prop_assert_eq!(decode_request(version, request.body).unwrap(), [asked]);

            let answer =
                PartitionAnswer { topic: "a".into(), partition, error_code: code, leader_epoch, end_offset: end };
            let mut bytes = encode_response(version, 5, std::slice::from_ref(&answer)).unwrap().freeze();
            bytes.advance(4);
            let (_, body) = frame::strip_response_header(bytes, ApiKey::OffsetForLeaderEpoch, version).unwrap();
            prop_assert_eq!(decode(version, body).unwrap(), [answer]);
        }

        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(0..6_u8, 0..150), version in VERSIONS) {
            let bytes: Bytes = bytes.into();
            let _ = decode_request(version, bytes.clone());
            let _ = decode(version, bytes);
        }
    }
}
