//! Reading record batches: headers, and records one by one.

use bytes::{Buf, Bytes};

use super::{CRC_FROM, HEADER_BYTES, LENGTH_FROM, Lane, MAGIC, Stamp};
use crate::record::{RawRecord, Run, TimestampMs};
use crate::wire::WireError;
use crate::wire::codec::{self, Codec};

/// The header of a batch, as it stands in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; 0 from a producer.
    pub base_offset: i64,
    /// Bytes after this field.
    pub length: i32,
    /// Set by the broker; -1 from a producer.
    pub partition_leader_epoch: i32,
    /// Always 2.
    pub magic: i8,
    /// CRC-32C of the bytes from the attributes onwards; it fits.
    pub crc: u32,
    /// Bits 0–2 codec, 3 timestamp type, 4 transactional, 5 control.
    pub attributes: i16,
    /// Offset of the last record minus the base offset.
    pub last_offset_delta: i32,
    /// The first record's timestamp.
    pub base_timestamp: TimestampMs,
    /// The latest timestamp.
    pub max_timestamp: TimestampMs,
    /// -1: not idempotent.
    pub producer_id: i64,
    /// -1: not idempotent.
    pub epoch: i16,
    /// -1: not idempotent.
    pub base_sequence: i32,
    /// Records in the batch.
    pub count: i32,
}

impl BatchHeader {
    /// Bytes of the whole batch.
    pub fn size_bytes(&self) -> usize {
        LENGTH_FROM + self.length as usize
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Result<Codec, WireError> {
        Codec::from_attributes(self.attributes)
    }

    /// What was stamped on it; `None` if it is not idempotent.
    pub fn stamp(&self) -> Option<Stamp> {
        let lane = Lane { producer_id: self.producer_id, epoch: self.epoch };
        (self.producer_id >= 0).then_some(Stamp { lane, base_sequence: self.base_sequence })
    }
}

/// Reads the header of the batch that `bytes` begin with. More may follow it: see [`BatchHeader::size_bytes`].
///
/// Errors: cut short, another magic, a CRC that does not fit, counts that cannot be.
pub fn parse_header(bytes: &[u8]) -> Result<BatchHeader, WireError> {
    let mut header = bytes.get(..HEADER_BYTES).ok_or(malformed(bytes.len(), "shorter than its header"))?;
    let header = BatchHeader {
        base_offset: header.get_i64(),
        length: header.get_i32(),
        partition_leader_epoch: header.get_i32(),
        magic: header.get_i8(),
        crc: header.get_u32(),
        attributes: header.get_i16(),
        last_offset_delta: header.get_i32(),
        base_timestamp: header.get_i64(),
        max_timestamp: header.get_i64(),
        producer_id: header.get_i64(),
        epoch: header.get_i16(),
        base_sequence: header.get_i32(),
        count: header.get_i32(),
    };
    if header.magic != MAGIC {
        return Err(malformed(16, "magic is not 2"));
    }
    let end = usize::try_from(header.length).ok().and_then(|length| length.checked_add(LENGTH_FROM));
    let Some(covered) = end.and_then(|end| bytes.get(CRC_FROM..end)) else {
        return Err(malformed(8, "length does not fit the bytes"));
    };
    if header.size_bytes() < HEADER_BYTES {
        return Err(malformed(8, "length is shorter than the header"));
    }
    if header.count < 0 || header.last_offset_delta < -1 {
        return Err(malformed(57, "negative count"));
    }
    let computed = crc32c::crc32c(covered);
    if computed != header.crc {
        return Err(WireError::Crc { stored: header.crc, computed });
    }
    Ok(header)
}

/// One record of a batch. Holds on to the bytes of the whole batch (to the decompressed ones, if it was compressed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Its offset minus the batch's base offset.
    pub offset_delta: i32,
    /// When it happened.
    pub timestamp: TimestampMs,
    /// The record from the key's length onwards: what [`super::BatchBuilder::append`] takes.
    pub suffix: Bytes,
    /// `None` is null.
    pub key: Option<Bytes>,
    /// `None` is null.
    pub value: Option<Bytes>,
    /// In order; names may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Reads the records of the batch that `batch` begins with, decompressed to at most `limit_uncompressed` bytes.
///
/// Errors: those of [`parse_header`], of decompression, and a record section shorter than its count. Records are read one by
/// one; the first that is malformed ends the iteration with its error.
pub fn records(batch: &Bytes, limit_uncompressed: usize) -> Result<Records, WireError> {
    let header = parse_header(batch)?;
    let section = batch.slice(HEADER_BYTES..header.size_bytes());
    let rest = match header.codec()? {
        Codec::None if section.len() <= limit_uncompressed => section,
        codec => Bytes::from(codec::decompress(codec, &section, limit_uncompressed)?),
    };
    let cursor = Cursor { end: rest.len(), rest };
    Ok(Records { cursor, left: header.count, base_timestamp: header.base_timestamp })
}

/// The records of the batch that `batch` begins with in run form, decompressed to at most `limit_uncompressed` bytes. Who gave them their
/// timestamps is not known.
///
/// Errors: those of [`records`], and of the first record that is malformed.
pub fn in_run_form(batch: &Bytes, limit_uncompressed: usize) -> Result<Run, WireError> {
    let mut run = Run::default();
    for record in records(batch, limit_uncompressed)? {
        let record = record?;
        run.push_raw(&RawRecord { timestamp: record.timestamp, stamped_here: false, suffix: &record.suffix });
    }
    Ok(run)
}

/// Iterates over the records of a batch.
#[derive(Clone, Debug)]
pub struct Records {
    cursor: Cursor,
    left: i32,
    base_timestamp: TimestampMs,
}

impl Iterator for Records {
    type Item = Result<OwnedRecord, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = if self.left > 0 {
            self.left -= 1;
            self.read()
        } else if self.cursor.rest.is_empty() {
            return None;
        } else {
            Err(self.cursor.error("bytes after the last record"))
        };
        if record.is_err() {
            self.left = 0;
            self.cursor.rest.clear();
        }
        Some(record)
    }
}

impl Records {
    fn read(&mut self) -> Result<OwnedRecord, WireError> {
        let mut record = self.cursor.record()?;
        record.attributes()?;
        let timestamp = self.base_timestamp.wrapping_add(record.varint()?);
        let offset_delta =
            i32::try_from(record.varint()?).map_err(|_| record.error("an offset delta does not fit 32 bits"))?;
        let suffix = record.rest.clone();
        let key = record.nullable()?;
        let value = record.nullable()?;
        let headers = record.headers()?;
        if !record.rest.is_empty() {
            return Err(record.error("bytes after a record's last header"));
        }
        Ok(OwnedRecord { offset_delta, timestamp, suffix, key, value, headers })
    }
}

/// A place in the records section, or in one record of it.
#[derive(Clone, Debug)]
struct Cursor {
    rest: Bytes,
    /// Where `rest` ends in the section.
    end: usize,
}

impl Cursor {
    fn record(&mut self) -> Result<Cursor, WireError> {
        let rest = self.sized()?;
        Ok(Cursor { rest, end: self.end - self.rest.len() })
    }

    /// No bit of a record's attributes means anything yet.
    fn attributes(&mut self) -> Result<(), WireError> {
        self.rest.try_get_i8().map(drop).map_err(|_| self.error("a record is cut short"))
    }

    fn headers(&mut self) -> Result<Vec<(Bytes, Option<Bytes>)>, WireError> {
        let count = self.varint()?;
        if count < 0 {
            return Err(self.error("a negative number of headers"));
        }
        // Grows as headers are found, so a count that lies allocates nothing.
        let mut headers = Vec::new();
        for _ in 0..count {
            headers.push((self.sized()?, self.nullable()?));
        }
        Ok(headers)
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, WireError> {
        match self.varint()? {
            -1 => Ok(None),
            length => self.split_to(length).map(Some),
        }
    }

    fn sized(&mut self) -> Result<Bytes, WireError> {
        let length = self.varint()?;
        self.split_to(length)
    }

    fn split_to(&mut self, length: i64) -> Result<Bytes, WireError> {
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok(self.rest.split_to(length)),
            _ => Err(self.error("a length does not fit the bytes")),
        }
    }

    fn varint(&mut self) -> Result<i64, WireError> {
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.rest.try_get_u8().map_err(|_| self.error("a varint is cut short"))?;
            if shift == 63 && byte > 1 {
                break;
            }
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
            }
        }
        Err(self.error("a varint is longer than 64 bits"))
    }

    fn error(&self, why: &'static str) -> WireError {
        WireError::Malformed { what: "records of a batch", at: self.end - self.rest.len(), why }
    }
}

pub(super) fn malformed(at: usize, why: &'static str) -> WireError {
    WireError::Malformed { what: "record batch", at, why }
}
