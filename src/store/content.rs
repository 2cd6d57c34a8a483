//! Records as a run of the log holds them.

use bytes::Bytes;

use crate::backlog::log::entry::{NO_TAGS, Records};
use crate::record::TimestampMs;
use crate::wire::WireError;
use crate::wire::codec::Codec;
use crate::wire::record_batch::{HEADER_BYTES, in_run_form, parse_header};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// 0 in run form, else Kafka's number of the compression.
    pub codec: u8,
    /// How many records.
    pub count: u32,
    /// Timestamp of the first.
    pub base_timestamp: TimestampMs,
    /// The newest timestamp.
    pub max_timestamp: TimestampMs,
    /// The records.
    pub data: Bytes,
}

impl Content {
    /// The records of a batch: in run form, or compressed as they are.
    ///
    /// # Errors
    /// If the batch is damaged, which none of ours is.
    pub fn of(batch: &Bytes, count: u32) -> Result<Content, WireError> {
        let header = parse_header(batch)?;
        let codec = header.codec()?;
        let section = batch.slice(HEADER_BYTES..header.size_bytes());
        let data = match codec {
            Codec::None => in_run_form(batch, section.len())?.into_bytes().into(),
            _ => section,
        };
        let (base_timestamp, max_timestamp) = (header.base_timestamp, header.max_timestamp);
        Ok(Content { codec: codec.id() as u8, count, base_timestamp, max_timestamp, data })
    }

    /// As an entry of the log.
    pub fn records(&self, partition: u32, first: u64, stored_at: TimestampMs) -> Records<'_> {
        Records {
            partition,
            first,
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            stored_at,
            codec: self.codec,
            tags: NO_TAGS,
            data: &self.data,
        }
    }
}
