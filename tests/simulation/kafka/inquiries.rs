//! What else a client may ask of a leader: what it remembers of producers, and what is in its log.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use forebay::wire::api::{ApiKey, describe_producers, fetch};
use forebay::wire::frame::RequestFrame;
use forebay::wire::{WireError, codes};

use super::replica::Entry;
use super::{Key, State};

/// What is offered of it.
pub fn versions(read: bool) -> Vec<(i16, i16, i16)> {
    let of = |api: ApiKey, versions: RangeInclusive<i16>| (api.id(), *versions.start(), *versions.end());
    if !read {
        return vec![];
    }
    vec![of(ApiKey::DescribeProducers, describe_producers::VERSIONS), of(ApiKey::Fetch, fetch::VERSIONS)]
}

impl State {
    /// The partition that a client means, if this broker leads it.
    fn led(&self, broker: i32, topic: &str, index: i32) -> Result<Key, i16> {
        let node = self.brokers.get(&broker).ok_or(codes::UNKNOWN_SERVER_ERROR)?;
        let known = node.image.get(topic).ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)?;
        let key = (known.id, index);
        self.believed(broker, key).ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)?;
        self.leads(broker, key).map(|_| key).ok_or(codes::NOT_LEADER_OR_FOLLOWER)
    }

    /// Answers one of these requests.
    pub fn inquire(&mut self, broker: i32, request: RequestFrame) -> Result<BytesMut, WireError> {
        let RequestFrame { api, version, correlation_id, body, .. } = request;
        match api {
            ApiKey::DescribeProducers => {
                let answers: Vec<_> = describe_producers::decode_request(version, body)?
                    .into_iter()
                    .map(|(topic, partition)| {
                        let key = self.led(broker, &topic, partition);
                        let replica = |key| self.brokers.get(&broker)?.replicas.get(&key);
                        let producers = key.ok().and_then(replica).map(|replica| replica.producers.describe());
                        let error_code = key.err().unwrap_or(codes::NONE);
                        let producers = producers.unwrap_or_default();
                        describe_producers::PartitionAnswer { topic, partition, error_code, producers }
                    })
                    .collect();
                describe_producers::encode_response(version, correlation_id, &answers)
            }
            ApiKey::Fetch => {
                let asked = fetch::decode_request(version, body)?.partitions;
                let answers: Vec<_> = asked.iter().map(|part| self.read(broker, part)).collect();
                fetch::encode_response(version, correlation_id, Duration::ZERO, &answers)
            }
            _ => Err(WireError::UnsupportedVersion { api: api.name(), version }),
        }
    }

    /// Committed batches from an offset on, whole ones; the client's epoch must be the leader's
    /// (`Partition.fetchRecords`, KIP-320).
    fn read(&self, broker: i32, part: &fetch::RequestPartition) -> fetch::PartitionAnswer {
        let mut answer = fetch::PartitionAnswer {
            topic: part.topic.clone(),
            partition: part.partition,
            error_code: codes::NONE,
            high_watermark: -1,
            log_start_offset: -1,
            records: Bytes::new(),
        };
        let key = self.led(broker, &part.topic, part.partition).and_then(|key| {
            let epoch = self.leads(broker, key).unwrap_or(-1);
            match part.current_leader_epoch {
                -1 => Ok(key),
                asked if asked < epoch => Err(codes::FENCED_LEADER_EPOCH),
                asked if asked > epoch => Err(codes::UNKNOWN_LEADER_EPOCH),
                _ => Ok(key),
            }
        });
        let replica = |key| self.brokers.get(&broker)?.replicas.get(&key);
        match key.map(replica) {
            Ok(Some(replica)) if (0..=replica.end()).contains(&part.offset) => {
                answer.high_watermark = replica.high_watermark;
                answer.log_start_offset = 0;
                let wanted = |entry: &&Entry| entry.end() > part.offset && entry.end() <= replica.high_watermark;
                let mut bytes = BytesMut::new();
                for entry in replica.log.iter().filter(wanted) {
                    if !bytes.is_empty() && bytes.len() + entry.bytes.len() > part.max_bytes {
                        break;
                    }
                    bytes.extend_from_slice(&entry.bytes);
                }
                answer.records = bytes.freeze();
            }
            Ok(_) => answer.error_code = codes::OFFSET_OUT_OF_RANGE,
            Err(code) => answer.error_code = code,
        }
        answer
    }
}
