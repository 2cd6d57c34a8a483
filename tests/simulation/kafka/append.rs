//! The leader's side of Produce: validate, look for duplicates, append, wait for the replicas.
//!
//! In the order of `ReplicaManager.appendRecords`, `Partition.appendRecordsToLeader` and `UnifiedLog.append`: is the topic there and
//! allowed (3, 100, 29), who leads (6), are enough in sync (19), is the batch valid (10, 2, 87, 32), and only then the producer's
//! numbers (45, 47, or a duplicate). So a batch that is in the log can be refused later.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use forebay::wire::api::produce::TopicRef;
use forebay::wire::codes;
use forebay::wire::record_batch::{last_sequence, parse_header, records};

use super::events::Event;
use super::producers::Numbers;
use super::replica::Entry;
use super::{Key, State};

/// Records that begin so are refused where a topic refuses them, with error 87.
pub const POISON: &[u8] = b"poison";

/// The most that a batch may decompress to.
const UNPACKED_MAX_BYTES: usize = 64 << 20;

/// A batch that is not taken.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    pub code: i16,
    /// Which records, for 87.
    pub records: Vec<i32>,
}

impl From<i16> for Refusal {
    fn from(code: i16) -> Self {
        Refusal { code, records: Vec::new() }
    }
}

/// A batch that is in the leader's log, and waits.
#[derive(Clone, Debug)]
pub struct Placed {
    pub key: Key,
    pub topic: Arc<str>,
    pub base_offset: i64,
    /// Committed when the high watermark is here.
    pub required: i64,
    /// It will be answered with this, whatever becomes of it.
    pub ordered: Option<i16>,
}

/// A batch, read.
struct Batch {
    numbers: Numbers,
    max_timestamp: i64,
    records: Arc<[u32]>,
    poisoned: Vec<i32>,
}

/// Its records must be those of a schedule: text that begins with the record's number, or with poison and the number.
fn read(bytes: &Bytes) -> Result<Batch, i16> {
    let header = parse_header(bytes).map_err(|_| codes::CORRUPT_MESSAGE)?;
    let stamp = header.stamp().ok_or(codes::INVALID_RECORD)?;
    let count = u32::try_from(header.count).map_err(|_| codes::INVALID_RECORD)?;
    let mut numbers = Vec::new();
    let mut poisoned = Vec::new();
    for (place, record) in (0i32..).zip(records(bytes, UNPACKED_MAX_BYTES).map_err(|_| codes::CORRUPT_MESSAGE)?) {
        let value = record.map_err(|_| codes::CORRUPT_MESSAGE)?.value.ok_or(codes::INVALID_RECORD)?;
        let text = value.strip_prefix(POISON).inspect(|_| poisoned.push(place)).unwrap_or(&value);
        let number = text.split(|byte| *byte == b' ').next().and_then(|digits| std::str::from_utf8(digits).ok());
        numbers.push(number.and_then(|number| number.parse().ok()).ok_or(codes::INVALID_RECORD)?);
    }
    let first = stamp.base_sequence;
    let numbers_of = Numbers { lane: stamp.lane, first, last: last_sequence(first, count) };
    Ok(Batch { numbers: numbers_of, max_timestamp: header.max_timestamp, records: numbers.into(), poisoned })
}

impl State {
    /// A topic's name and id as `broker` knows them.
    pub fn topic_of(&self, broker: i32, topic: &TopicRef) -> Result<(Arc<str>, uuid::Uuid), i16> {
        let node = self.brokers.get(&broker).ok_or(codes::UNKNOWN_SERVER_ERROR)?;
        match topic {
            TopicRef::Name(name) => {
                let known = node.image.get(name).ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION)?;
                Ok((name.clone(), known.id))
            }
            TopicRef::Id(id) => {
                let known = node.image.iter().find(|(_, topic)| topic.id == *id).ok_or(codes::UNKNOWN_TOPIC_ID)?;
                Ok((known.0.clone(), *id))
            }
        }
    }

    /// One partition's batch.
    pub fn append(&mut self, broker: i32, topic: &TopicRef, index: i32, bytes: &Bytes) -> Result<Placed, Refusal> {
        let (topic, id) = self.topic_of(broker, topic)?;
        let (key, rules) = ((id, index), self.rules(&topic));
        if !rules.authorised {
            return Err(codes::TOPIC_AUTHORIZATION_FAILED.into());
        }
        if self.believed(broker, key).is_none() {
            return Err(codes::UNKNOWN_TOPIC_OR_PARTITION.into());
        }
        let leader_epoch = self.leads(broker, key).ok_or(codes::NOT_LEADER_OR_FOLLOWER)?;
        let ordered = self.ordered(broker);
        if let Some(super::Ordered { code, appended: false, .. }) = ordered {
            return Err(code.into());
        }
        if self.in_sync(broker, key).len() < rules.in_sync_min {
            return Err(codes::NOT_ENOUGH_REPLICAS.into());
        }
        if bytes.len() > rules.message_bytes_max {
            return Err(codes::MESSAGE_TOO_LARGE.into());
        }
        let batch = read(bytes)?;
        if rules.refuses_poison && !batch.poisoned.is_empty() {
            return Err(Refusal { code: codes::INVALID_RECORD, records: batch.poisoned });
        }
        let node = self.brokers.get_mut(&broker).ok_or(codes::UNKNOWN_SERVER_ERROR)?;
        let replica = node.replicas.get_mut(&key).ok_or(codes::KAFKA_STORAGE_ERROR)?;
        let ordered = ordered.map(|ordered| ordered.code);
        if let Some(seen) = replica.producers.judge(&batch.numbers)? {
            let (base_offset, required) = seen.offsets;
            return Ok(Placed { key, topic, base_offset, required, ordered });
        }
        let base_offset = replica.end();
        let mut placed = BytesMut::from(&bytes[..]);
        placed[..8].copy_from_slice(&base_offset.to_be_bytes());
        placed[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        let Batch { numbers, max_timestamp, records, .. } = batch;
        let entry = Entry { base_offset, leader_epoch, numbers, max_timestamp, records, bytes: placed.freeze() };
        let required = entry.end();
        replica.append(entry);
        // Segments are rolled now and then, and producers written down.
        if self.random.u8(..8) == 0 {
            replica.snapshot();
        }
        self.appended(broker, key, required);
        Ok(Placed { key, topic, base_offset, required, ordered })
    }

    /// A leader's log has grown.
    fn appended(&mut self, leader: i32, key: Key, end: i64) {
        let lag_max = self.settings.lag_max;
        self.events.add(lag_max, Event::Lag { leader, key, offset: end });
        let followers: Vec<i32> = self.brokers.keys().copied().filter(|id| *id != leader).collect();
        for follower in followers {
            self.fetch_soon(follower, key);
        }
        self.advance(leader, key);
    }

    fn ordered(&mut self, broker: i32) -> Option<super::Ordered> {
        let node = self.brokers.get_mut(&broker)?;
        let ordered = node.ordered?;
        node.ordered = (ordered.left > 1).then_some(super::Ordered { left: ordered.left - 1, ..ordered });
        Some(ordered)
    }

    /// What becomes of a batch that waits, if that is known: 0 or Kafka's code (`DelayedProduce.tryComplete`,
    /// `Partition.checkEnoughReplicasReachOffset`).
    pub fn outcome(&mut self, broker: i32, placed: &Placed) -> Option<i16> {
        if self.brokers.get(&broker).is_none_or(|node| !node.image.values().any(|topic| topic.id == placed.key.0)) {
            return Some(codes::UNKNOWN_TOPIC_OR_PARTITION);
        }
        if self.leads(broker, placed.key).is_none() {
            return Some(codes::NOT_LEADER_OR_FOLLOWER);
        }
        let replica = self.brokers.get(&broker)?.replicas.get(&placed.key)?;
        if replica.high_watermark < placed.required {
            return None;
        }
        if let Some(code) = placed.ordered {
            return Some(code);
        }
        let is_enough = self.in_sync(broker, placed.key).len() >= self.rules(&placed.topic).in_sync_min;
        Some(if is_enough { codes::NONE } else { codes::NOT_ENOUGH_REPLICAS_AFTER_APPEND })
    }
}
