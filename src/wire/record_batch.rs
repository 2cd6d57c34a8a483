//! Record batches of magic 2 (KIP-98; `DefaultRecordBatch.java`, `DefaultRecord.java`).
//!
//! Records in run form come in: timestamp and suffix, the suffix being the end of a Kafka record from the key's length
//! onwards. A [`BatchBuilder`] puts length, attributes and the two deltas before each suffix; a [`SealedBatch`] is a whole batch
//! that lacks only its [`Stamp`]; stamping writes producer id, epoch, base sequence and the CRC, and the bytes leave as
//! [`Bytes`] that never change again. [`parse_header`] and [`records`] go the other way.
//!
//! ```text
//!  0 base offset i64 · 8 length i32 (of what follows) · 12 partition leader epoch i32 · 16 magic i8 · 17 crc u32 (of what follows)
//! 21 attributes i16 · 23 last offset delta i32 · 27 base timestamp i64 · 35 max timestamp i64
//! 43 producer id i64 · 51 producer epoch i16 · 53 base sequence i32 · 57 count i32 · 61 records, compressed or not
//! ```
//!
//! Invariants: the base timestamp is the first record's, as in Kafka, so deltas may be negative; offset deltas are 0, 1, 2, …;
//! a batch made here is never transactional, never a control batch, and its timestamps are CreateTime.
//!
//! Deliberately absent: which records make a batch, and which sequence it gets.

mod read;
mod walk;

use bytes::{Buf, Bytes};

use super::WireError;
use super::codec::{Codec, Compressor};
use crate::record::{TimestampMs, put_varint, varint_len, zigzag};

pub use read::{BatchHeader, OwnedRecord, Records, in_run_form, parse_header, records};
pub use walk::{Seen, walk};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

const MAGIC: i8 = 2;
/// Bytes that the length field does not count: base offset and itself.
const LENGTH_FROM: usize = 12;
const CRC_AT: usize = 17;
/// The CRC covers everything from here.
const CRC_FROM: usize = 21;
const PRODUCER_ID_AT: usize = 43;

/// What a record needs before its suffix: length ≤ 5 bytes, attributes 1, timestamp delta ≤ 10, offset delta ≤ 5.
const RECORD_HEAD_BYTES: usize = 24;

/// Zigzag numbers below this take one byte or two.
const SHORT_ZIGZAG: u64 = 1 << 14;
/// With suffixes shorter than this, a record's length takes one byte or two.
const SHORT_SUFFIX_BYTES: usize = 8000;

/// A buffer larger than this is given back when its batch is done.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// Who numbers the batches of a partition: one producer id in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// From InitProducerId.
    pub producer_id: i64,
    /// 0 to `i16::MAX`.
    pub epoch: i16,
}

/// What sealing writes into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Whose numbers.
    pub lane: Lane,
    /// The first record's sequence number, 0 to `i32::MAX`; the others follow and wrap to 0.
    pub base_sequence: i32,
}

/// Makes batches one after another. Keeps its buffers and its compression contexts.
#[derive(Default)]
pub struct BatchBuilder {
    /// Room for the header, then the records; empty while there is no record.
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
    compressor: Compressor,
}

impl BatchBuilder {
    /// A builder that holds no record and no memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the batch as it stands, header included, uncompressed.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len().max(HEADER_BYTES)
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of memory held, used or not (compression contexts aside).
    pub fn capacity_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether the batch has at most `max_bytes` with one record more.
    #[inline]
    pub fn has_room_for(&self, timestamp: TimestampMs, suffix_len: usize, max_bytes: usize) -> bool {
        let len = self.len_bytes();
        // Only the records near the end are measured exactly.
        len + RECORD_HEAD_BYTES + suffix_len <= max_bytes || len + self.encoded_len(timestamp, suffix_len) <= max_bytes
    }

    /// Bytes that [`BatchBuilder::append`] would add.
    pub fn encoded_len(&self, timestamp: TimestampMs, suffix_len: usize) -> usize {
        let body = self.body_len(timestamp, suffix_len);
        varint_len(body as i64) + body
    }

    /// What a record's length field counts: attributes, deltas, suffix.
    fn body_len(&self, timestamp: TimestampMs, suffix_len: usize) -> usize {
        let base = if self.count == 0 { timestamp } else { self.base_timestamp };
        1 + varint_len(timestamp.wrapping_sub(base)) + varint_len(i64::from(self.count)) + suffix_len
    }

    /// Appends a record whose key, value and headers are encoded already. The caller keeps the batch below 2 GiB.
    #[inline]
    pub fn append(&mut self, timestamp: TimestampMs, suffix: &[u8]) {
        if self.count == 0 {
            self.bytes.resize(HEADER_BYTES, 0);
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = zigzag(timestamp.wrapping_sub(self.base_timestamp));
        let offset_delta = u64::from(self.count) << 1;

        self.bytes.reserve(RECORD_HEAD_BYTES + suffix.len());
        let start = self.bytes.len();
        if timestamp_delta < SHORT_ZIGZAG && offset_delta < SHORT_ZIGZAG && suffix.len() < SHORT_SUFFIX_BYTES {
            let (timestamp_delta, timestamp_bytes) = short_varint(timestamp_delta);
            let (offset_delta, offset_bytes) = short_varint(offset_delta);
            let (body, body_bytes) = short_varint((1 + timestamp_bytes + offset_bytes + suffix.len() as u64) << 1);
            // The attributes of a record are always 0.
            let head = body | (timestamp_delta | offset_delta << (8 * timestamp_bytes)) << (8 * (body_bytes + 1));
            // A store of a fixed size, cut back: copying as many bytes as are needed would be a call.
            self.bytes.extend_from_slice(&head.to_le_bytes());
            self.bytes.truncate(start + (body_bytes + 1 + timestamp_bytes + offset_bytes) as usize);
        } else {
            let body = self.body_len(timestamp, suffix.len());
            put_varint(&mut self.bytes, body as i64);
            self.bytes.push(0);
            put_varint(&mut self.bytes, timestamp.wrapping_sub(self.base_timestamp));
            put_varint(&mut self.bytes, i64::from(self.count));
        }
        self.bytes.extend_from_slice(suffix);
        self.count += 1;
    }

    /// Takes the batch out, compressed if that pays. The builder is empty afterwards. A compressor that fails costs the
    /// compression, never the batch: the error comes beside it.
    pub fn finish(&mut self, codec: Codec, level: Option<i32>) -> (SealedBatch, Option<WireError>) {
        let count = std::mem::take(&mut self.count);
        let (base, max) = (self.base_timestamp, self.max_timestamp);
        let raw = self.bytes.get(HEADER_BYTES..).unwrap_or_default();
        let sealed = match self.compressor.compress(codec, level, raw) {
            Ok(Some(packed)) => (from_opaque(codec, count, base, max, packed), None),
            Ok(None) => (self.take_raw(count), None),
            Err(error) => (self.take_raw(count), Some(error)),
        };
        self.compressor.trim();
        self.bytes.clear();
        self.bytes.shrink_to(BUFFER_KEPT_BYTES);
        sealed
    }

    /// The buffer itself becomes the batch, which saves a copy; the next one starts with room for as much and an eighth more.
    fn take_raw(&mut self, count: u32) -> SealedBatch {
        let len = self.bytes.len();
        let next = Vec::with_capacity((len + len / 8).min(BUFFER_KEPT_BYTES));
        let mut bytes = std::mem::replace(&mut self.bytes, next);
        bytes.resize(len.max(HEADER_BYTES), 0);
        // A batch may wait for long: it is not to hold much more than itself.
        if bytes.capacity() - len > len / 4 {
            bytes.shrink_to_fit();
        }
        SealedBatch::new(bytes, Codec::None, count, self.base_timestamp, self.max_timestamp)
    }
}

/// A whole batch as bytes, complete but for its stamp and CRC.
#[derive(Clone, Debug)]
pub struct SealedBatch {
    bytes: Vec<u8>,
    count: u32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

impl SealedBatch {
    /// `bytes` = room for the header, then the records section.
    fn new(mut bytes: Vec<u8>, codec: Codec, count: u32, base: TimestampMs, max: TimestampMs) -> Self {
        let length = (bytes.len() - LENGTH_FROM) as i32;
        let mut header = [0; HEADER_BYTES];
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        header[16] = MAGIC as u8;
        header[21..23].copy_from_slice(&codec.id().to_be_bytes());
        header[23..27].copy_from_slice(&(count as i32 - 1).to_be_bytes());
        header[27..35].copy_from_slice(&base.to_be_bytes());
        header[35..43].copy_from_slice(&max.to_be_bytes());
        header[43..57].fill(0xff);
        header[57..61].copy_from_slice(&(count as i32).to_be_bytes());
        bytes[..HEADER_BYTES].copy_from_slice(&header);
        SealedBatch { bytes, count, base_timestamp: base, max_timestamp: max }
    }

    /// Writes whose batch this is and from which sequence on, and the CRC over it. From here on the bytes are final.
    pub fn stamp(mut self, stamp: Stamp) -> Bytes {
        write_stamp(&mut self.bytes, stamp);
        Bytes::from(self.bytes)
    }

    /// A copy of a batch that was stamped, to be stamped anew.
    pub fn reopen(stamped: &Bytes) -> Self {
        let mut bytes = stamped.to_vec();
        // What was stamped has a header.
        bytes.resize(bytes.len().max(HEADER_BYTES), 0);
        let mut header = &bytes[27..HEADER_BYTES];
        let (base_timestamp, max_timestamp) = (header.get_i64(), header.get_i64());
        header.advance(14);
        let count = header.get_u32();
        SealedBatch { bytes, count, base_timestamp, max_timestamp }
    }

    /// Records in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the batch, header included, as it will be sent.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The batch; what is stamped on it means nothing yet.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first record's timestamp.
    pub fn base_timestamp(&self) -> TimestampMs {
        self.base_timestamp
    }

    /// The latest timestamp, by which the broker forgets producer ids.
    pub fn max_timestamp(&self) -> TimestampMs {
        self.max_timestamp
    }
}

/// A batch around a records section that is encoded, and compressed with `codec`, already.
pub fn from_opaque(
    codec: Codec,
    count: u32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
    records: &[u8],
) -> SealedBatch {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + records.len());
    bytes.resize(HEADER_BYTES, 0);
    bytes.extend_from_slice(records);
    SealedBatch::new(bytes, codec, count, base_timestamp, max_timestamp)
}

/// Whether the records of a batch of ours are compressed.
pub fn is_compressed(batch: &[u8]) -> bool {
    const ATTRIBUTES_AT: usize = 21;
    let attributes = batch.get(ATTRIBUTES_AT..).and_then(|rest| rest.first_chunk()).copied();
    Codec::from_attributes(i16::from_be_bytes(attributes.unwrap_or_default())).is_ok_and(|codec| codec != Codec::None)
}

/// The last sequence number of `count` records that start at `base`: numbers go from `i32::MAX` on to 0.
pub fn last_sequence(base: i32, count: u32) -> i32 {
    next_sequence(base, count.saturating_sub(1))
}

/// The sequence number `count` records after `base` (`DefaultRecordBatch.incrementSequence`).
pub fn next_sequence(base: i32, count: u32) -> i32 {
    ((i64::from(base) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

fn write_stamp(batch: &mut [u8], stamp: Stamp) {
    let mut field = [0; 14];
    field[..8].copy_from_slice(&stamp.lane.producer_id.to_be_bytes());
    field[8..10].copy_from_slice(&stamp.lane.epoch.to_be_bytes());
    field[10..].copy_from_slice(&stamp.base_sequence.to_be_bytes());
    batch[PRODUCER_ID_AT..PRODUCER_ID_AT + field.len()].copy_from_slice(&field);
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// A varint below [`SHORT_ZIGZAG`] as little-endian bytes, and how many they are: 1 or 2, found without a branch.
#[inline]
fn short_varint(zigzag: u64) -> (u64, u64) {
    let second = u64::from(zigzag >= 0x80);
    ((zigzag & 0x7f) | second << 7 | (zigzag >> 7) << 8, 1 + second)
}

#[cfg(test)]
mod tests;
