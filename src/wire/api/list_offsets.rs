//! ListOffsets (key 2), the server's side: the first or the next offset of a partition, or one by timestamp (KIP-79).

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::ApiKey;
use crate::record::TimestampMs;
use crate::wire::frame;
use crate::wire::{WireError, shape};

/// Versions that this module decodes and encodes. 4: leader epochs. 6: flexible. 7: the offset of the largest timestamp.
pub const VERSIONS: RangeInclusive<i16> = 1..=7;

/// Asks for the offset that the next record will get.
pub const LATEST: TimestampMs = -1;
/// Asks for the first offset that there is.
pub const EARLIEST: TimestampMs = -2;
/// Asks for the record with the largest timestamp (KIP-734).
pub const MAX_TIMESTAMP: TimestampMs = -3;

/// What a client asks for of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub partition: i32,
    /// The epoch in which the client believes the leader to be, -1 if it does not say.
    pub current_leader_epoch: i32,
    /// The first record stamped so or later is wanted; negative ones are the constants of this module.
    pub timestamp: TimestampMs,
}

/// The request, partitions in its order.
pub fn decode_request(version: i16, body: Bytes) -> Result<Vec<RequestPartition>, WireError> {
    let request: ListOffsetsRequest = frame::decode(shape::request(ApiKey::ListOffsets), version, body)?;
    let mut partitions = Vec::new();
    for topic in request.topics {
        let name: Arc<str> = Arc::from(topic.name.as_str());
        partitions.extend(topic.partitions.into_iter().map(|partition| RequestPartition {
            topic: name.clone(),
            partition: partition.partition_index,
            current_leader_epoch: partition.current_leader_epoch,
            timestamp: partition.timestamp,
        }));
    }
    Ok(partitions)
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
    /// Of the record found; -1 where none was looked for or found.
    pub timestamp: TimestampMs,
    /// -1 if there is none.
    pub offset: i64,
    /// The epoch of the leader who answers, -1 on an error.
    pub leader_epoch: i32,
}

/// The answer. Partitions of one topic must stand together.
pub fn encode_response(
    version: i16,
    correlation_id: i32,
    partitions: &[PartitionAnswer],
) -> Result<BytesMut, WireError> {
    let topics = partitions.chunk_by(|a, b| a.topic == b.topic).map(|partitions| {
        let name = partitions.first().map_or("", |answer| &answer.topic);
        let partitions = partitions.iter().map(|answer| {
            let response = ListOffsetsPartitionResponse::default()
                .with_partition_index(answer.partition)
                .with_error_code(answer.error_code)
                .with_timestamp(answer.timestamp)
                .with_offset(answer.offset);
            if version >= 4 { response.with_leader_epoch(answer.leader_epoch) } else { response }
        });
        ListOffsetsTopicResponse::default()
            .with_name(TopicName(StrBytes::from_string(name.to_owned())))
            .with_partitions(partitions.collect())
    });
    let response = ListOffsetsResponse::default().with_topics(topics.collect());
    frame::encode_response(ApiKey::ListOffsets, version, correlation_id, &response)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_protocol::protocol::{Decodable, Encodable};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_crate_s_request_is_read_as_it_was_meant_in_every_version() {
        for version in VERSIONS {
            let partition = ListOffsetsPartition::default().with_partition_index(2).with_timestamp(LATEST);
            let partition = if version >= 4 { partition.with_current_leader_epoch(4) } else { partition };
            let name = TopicName(StrBytes::from_static_str("a"));
            let topic = ListOffsetsTopic::default().with_name(name).with_partitions(vec![partition]);
            let mut body = BytesMut::new();
            ListOffsetsRequest::default().with_topics(vec![topic; 2]).encode(&mut body, version).unwrap();
            let request = decode_request(version, body.freeze()).unwrap();
            let current_leader_epoch = if version >= 4 { 4 } else { -1 };
            let expected =
                RequestPartition { topic: "a".into(), partition: 2, current_leader_epoch, timestamp: LATEST };
            assert_eq!(request, [expected.clone(), expected]);
        }
    }

    #[test]
    fn the_crate_reads_the_answer_as_it_was_meant_in_every_version() {
        for version in VERSIONS {
            let answer = PartitionAnswer {
                topic: "a".into(),
                partition: 2,
                error_code: 0,
                timestamp: 11,
                offset: 12,
                leader_epoch: 3,
            };
            let mut frame = encode_response(version, 5, &[answer]).unwrap().freeze();
            assert_eq!(frame.get_i32() as usize, frame.len());
            let (_, mut body) = frame::strip_response_header(frame, ApiKey::ListOffsets, version).unwrap();
            let response = ListOffsetsResponse::decode(&mut body, version).unwrap();
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.partition_index, partition.timestamp, partition.offset), (2, 11, 12));
            assert_eq!(partition.leader_epoch, if version >= 4 { 3 } else { -1 });
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_refused(bytes in prop::collection::vec(0..6_u8, 0..150), version in VERSIONS) {
            let _ = decode_request(version, bytes.into());
        }
    }
}
