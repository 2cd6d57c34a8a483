//! Dory's two messages, byte for byte, so that its clients work unchanged.
//!
//! ```text
//! Size int32 · ApiKey int16 (256, 257) · ApiVersion int16 (0) · Flags int16 (0) · [257: PartitionKey int32] ·
//! Topic (int16 size) · Timestamp int64 · Key (int32 size) · Value (int32 size)
//! ```
//!
//! Dory knows no null: an empty key or value is Kafka's null. Its timestamp never reached Kafka, so a negative one meant
//! nothing to anybody and is taken as not given.

use super::cursor::Cursor;
use super::error::{EncodeError, Fault, Refusal, Refused};
use super::topic::TopicName;
use super::writer::FrameWriter;
use super::{ANY_PARTITION, PARTITION_KEY};
use crate::record::{Record, TimestampMs};

/// One record, for one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoryMessage<'a> {
    /// Where it goes.
    pub topic: TopicName<'a>,
    /// PartitionKey, if it was one: the partition is this modulo the topic's count of partitions.
    pub partition_key: Option<u32>,
    timestamp: TimestampMs,
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> DoryMessage<'a> {
    /// The record; `now` is its time if it has none.
    #[inline]
    pub fn record(&self, now: TimestampMs) -> Record<'a> {
        let stamped_here = self.timestamp < 0;
        Record {
            timestamp: if stamped_here { now } else { self.timestamp },
            stamped_here,
            key: (!self.key.is_empty()).then_some(self.key),
            value: (!self.value.is_empty()).then_some(self.value),
            headers: &[],
        }
    }
}

/// The message; the inner error: it is sound, but its topic cannot be.
#[inline]
pub(super) fn decode(mut body: Cursor<'_>, api_key: i16) -> Result<Result<DoryMessage<'_>, Refused>, Fault> {
    let flags = body.i16("Flags")?;
    if flags != 0 {
        return Err(Fault::Flags(flags));
    }
    let partition_key = match api_key {
        PARTITION_KEY => Some(body.i32("PartitionKey")? as u32),
        _ => None,
    };
    let topic = body.string("Topic")?;
    if topic.is_empty() {
        return Err(Fault::BadSize { field: "Topic", size: 0 });
    }
    let timestamp = body.i64("Timestamp")?;
    let key = body.blob("Key")?;
    let value = body.blob("Value")?;
    body.finish()?;
    Ok(match TopicName::new(topic) {
        Some(topic) => Ok(DoryMessage { topic, partition_key, timestamp, key, value }),
        None => Err(Refused { api_key, correlation_id: None, records: 1, refusal: Refusal::InvalidTopic }),
    })
}

/// Appends a message: PartitionKey if one is given, else AnyPartition. A null key or value is sent as an empty one.
///
/// # Errors
/// If a size does not fit in its field; nothing is appended then.
pub fn encode_dory(
    out: &mut Vec<u8>,
    topic: &str,
    partition_key: Option<u32>,
    timestamp: TimestampMs,
    key: &[u8],
    value: &[u8],
) -> Result<(), EncodeError> {
    let mut frame = FrameWriter::begin(out, if partition_key.is_some() { PARTITION_KEY } else { ANY_PARTITION }, 0);
    frame.i16(0);
    if let Some(partition_key) = partition_key {
        frame.i32(partition_key as i32);
    }
    frame.string("Topic", topic.as_bytes())?;
    frame.i64(timestamp);
    frame.blob("Key", key)?;
    frame.blob("Value", value)?;
    frame.finish()
}
