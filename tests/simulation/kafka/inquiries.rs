//! What else a client may ask of a leader: where an epoch ends, what it remembers of producers, and what is in its log.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use forebay::wire::api::{ApiKey, describe_producers, fetch, offset_for_leader_epoch};
use forebay::wire::frame::RequestFrame;
use forebay::wire::{WireError, codes};

use super::replica::Entry;
use super::{Key, State};

/// What is offered of it.
pub fn versions(read: bool) -> Vec<(i16, i16, i16)> {
    let of = |api: ApiKey, versions: RangeInclusive<i16>| (api.id(), *versions.start(), *versions.end());
    // The right to write is enough for this one.
    let mut offered = vec![of(ApiKey::OffsetForLeaderEpoch, offset_for_leader_epoch::VERSIONS)];
    if read {
        offered.push(of(ApiKey::DescribeProducers, describe_producers::VERSIONS));
        offered.push(of(ApiKey::Fetch, fetch::VERSIONS));
    }
    offered
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

    /// The same, if the client's epoch is the leader's (KIP-320); -1 is any.
    fn led_in(&self, broker: i32, topic: &str, index: i32, asked: i32) -> Result<Key, i16> {
        let key = self.led(broker, topic, index)?;
        let epoch = self.leads(broker, key).unwrap_or(-1);
        match asked {
            -1 => Ok(key),
            asked if asked < epoch => Err(codes::FENCED_LEADER_EPOCH),
            asked if asked > epoch => Err(codes::UNKNOWN_LEADER_EPOCH),
            _ => Ok(key),
        }
    }

    /// Where an epoch ends in the leader's log, committed or not: its own at the log's end, another where the next begins
    /// (`UnifiedLog.endOffsetForEpoch`, `LeaderEpochFileCache.endOffsetFor`).
    fn epoch_end(
        &self,
        broker: i32,
        part: &offset_for_leader_epoch::RequestPartition,
    ) -> offset_for_leader_epoch::PartitionAnswer {
        let mut answer = offset_for_leader_epoch::PartitionAnswer {
            topic: part.topic.clone(),
            partition: part.partition,
            error_code: codes::NONE,
            leader_epoch: -1,
            end_offset: -1,
        };
        let key = match self.led_in(broker, &part.topic, part.partition, part.current_leader_epoch) {
            Ok(key) => key,
            Err(code) => return offset_for_leader_epoch::PartitionAnswer { error_code: code, ..answer },
        };
        let Some(replica) = self.brokers.get(&broker).and_then(|node| node.replicas.get(&key)) else { return answer };
        let asked = part.leader_epoch;
        if self.leads(broker, key) == Some(asked) {
            (answer.leader_epoch, answer.end_offset) = (asked, replica.end());
        } else if let Some(last) = replica.log.iter().rfind(|entry| entry.leader_epoch <= asked) {
            (answer.leader_epoch, answer.end_offset) = (last.leader_epoch, last.end());
        }
        answer
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
            ApiKey::OffsetForLeaderEpoch => {
                let asked = offset_for_leader_epoch::decode_request(version, body)?;
                let answers: Vec<_> = asked.iter().map(|part| self.epoch_end(broker, part)).collect();
                offset_for_leader_epoch::encode_response(version, correlation_id, &answers)
            }
            _ => Err(WireError::UnsupportedVersion { api: api.name(), version }),
        }
    }

    /// Committed batches from an offset on, whole ones; the client's epoch must be the leader's
    /// (`Partition.fetchRecords`, KIP-320).
    pub fn read(&self, broker: i32, part: &fetch::RequestPartition) -> fetch::PartitionAnswer {
        let mut answer = fetch::PartitionAnswer {
            topic: part.topic.clone(),
            partition: part.partition,
            error_code: codes::NONE,
            high_watermark: -1,
            log_start_offset: -1,
            records: Bytes::new(),
        };
        let key = self.led_in(broker, &part.topic, part.partition, part.current_leader_epoch);
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
