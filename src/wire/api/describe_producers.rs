//! DescribeProducers (key 61): what a partition's leader remembers of its producers (KIP-664).

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::ApiKey;
use crate::record::TimestampMs;
use crate::wire::frame::{self, Frame};
use crate::wire::record_batch::Lane;
use crate::wire::{WireError, shape};

/// Versions that this module decodes and encodes.
pub const VERSIONS: RangeInclusive<i16> = 0..=0;

/// Asks about one partition.
pub fn encode(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    topic: &str,
    partition: i32,
) -> Result<Frame, WireError> {
    let topic = TopicRequest::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_indexes(vec![partition]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    frame::encode_request(ApiKey::DescribeProducers, version, correlation_id, client_id, &request)
}

/// The answers, in the order in which they stand. Epochs are cut to the 16 bits that they have in batches.
pub fn decode(version: i16, body: Bytes) -> Result<Vec<PartitionAnswer>, WireError> {
    let response: DescribeProducersResponse = frame::decode(&shape::DESCRIBE_PRODUCERS_RESPONSE, version, body)?;
    let producer = |state: &ProducerState| Producer {
        lane: Lane { producer_id: state.producer_id.0, epoch: i16::try_from(state.producer_epoch).unwrap_or(-1) },
        last_sequence: state.last_sequence,
        last_timestamp: state.last_timestamp,
    };
    let mut answers = Vec::new();
    for topic in response.topics {
        let name: Arc<str> = Arc::from(topic.name.as_str());
        answers.extend(topic.partitions.into_iter().map(|answer| PartitionAnswer {
            topic: name.clone(),
            partition: answer.partition_index,
            error_code: answer.error_code,
            producers: answer.active_producers.iter().map(producer).collect(),
        }));
    }
    Ok(answers)
}

/// The partitions asked for, in the order of the request.
pub fn decode_request(version: i16, body: Bytes) -> Result<Vec<(Arc<str>, i32)>, WireError> {
    let request: DescribeProducersRequest = frame::decode(shape::request(ApiKey::DescribeProducers), version, body)?;
    let mut partitions = Vec::new();
    for topic in request.topics {
        let name: Arc<str> = Arc::from(topic.name.as_str());
        partitions.extend(topic.partition_indexes.into_iter().map(|partition| (name.clone(), partition)));
    }
    Ok(partitions)
}

/// What the leader of a partition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionAnswer {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its number in the topic.
    pub partition: i32,
    /// 0, or why there is nothing.
    pub error_code: i16,
    /// Those that are remembered.
    pub producers: Vec<Producer>,
}

/// A producer that a partition remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id, and its epoch on this partition.
    pub lane: Lane,
    /// The sequence number of its last record, committed or not.
    pub last_sequence: i32,
    /// The newest timestamp of its last batch.
    pub last_timestamp: TimestampMs,
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
            PartitionResponse::default()
                .with_partition_index(answer.partition)
                .with_error_code(answer.error_code)
                .with_active_producers(answer.producers.iter().map(producer_state).collect())
        });
        TopicResponse::default()
            .with_name(TopicName(StrBytes::from_string(name.to_owned())))
            .with_partitions(partitions.collect())
    });
    let response = DescribeProducersResponse::default().with_topics(topics.collect());
    frame::encode_response(ApiKey::DescribeProducers, version, correlation_id, &response)
}

fn producer_state(producer: &Producer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.lane.producer_id))
        .with_producer_epoch(producer.lane.epoch.into())
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::protocol::{Decodable, Encodable};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_crate_s_request_is_read_and_the_answer_understood() {
        let name = TopicName(StrBytes::from_static_str("a"));
        let topic = TopicRequest::default().with_name(name).with_partition_indexes(vec![4, 5]);
        let mut body = BytesMut::new();
        DescribeProducersRequest::default().with_topics(vec![topic]).encode(&mut body, 0).unwrap();
        assert_eq!(decode_request(0, body.freeze()).unwrap(), [("a".into(), 4), ("a".into(), 5)]);

        let lane = Lane { producer_id: 9, epoch: 2 };
        let producer = Producer { lane, last_sequence: 14, last_timestamp: 3 };
        let answer = PartitionAnswer { topic: "a".into(), partition: 4, error_code: 0, producers: vec![producer] };
        let mut frame = encode_response(0, 5, &[answer]).unwrap().freeze();
        assert_eq!(frame.get_i32() as usize, frame.len());
        let (_, mut body) = frame::strip_response_header(frame, ApiKey::DescribeProducers, 0).unwrap();
        let response = DescribeProducersResponse::decode(&mut body, 0).unwrap();
        let state = &response.topics[0].partitions[0].active_producers[0];
        assert_eq!((state.producer_id.0, state.producer_epoch, state.last_sequence), (9, 2, 14));
    }

    proptest! {
        #[test]
        fn both_sides_understand_each_other(partition in any::<i32>(), code in any::<i16>(), id in any::<i64>(), epoch in any::<i16>()) {
            let mut bytes = encode(0, 5, "client", "a", partition).unwrap().to_bytes();
            bytes.advance(4);
            let request = decode_request(0, frame::decode_request(bytes).unwrap().body).unwrap();
            prop_assert_eq!(request, [("a".into(), partition)]);

            let lane = Lane { producer_id: id, epoch };
            let producers = vec![Producer { lane, last_sequence: 14, last_timestamp: 3 }; 3];
            let answer = PartitionAnswer { topic: "a".into(), partition, error_code: code, producers };
            let mut bytes = encode_response(0, 5, std::slice::from_ref(&answer)).unwrap().freeze();
            bytes.advance(4);
            let (_, body) = frame::strip_response_header(bytes, ApiKey::DescribeProducers, 0).unwrap();
            prop_assert_eq!(decode(0, body).unwrap(), [answer]);
        }

        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(0..6_u8, 0..50)) {
            let bytes: Bytes = bytes.into();
            let _ = decode_request(0, bytes.clone());
            let _ = decode(0, bytes);
        }
    }
}
