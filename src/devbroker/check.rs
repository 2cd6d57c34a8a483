//! A produced batch, checked as a broker checks it before it looks for duplicates.
//!
//! In two steps, because a broker answers in this order: what makes a request malformed (`ProduceRequest.validateRecords`)
//! comes before the question who leads, the rest (`UnifiedLog.analyzeAndValidateRecords`, `LogValidator`) after it.
//! The costly part, decoding every record, needs no lock, so [`CheckedBatch::check`] does it at once and keeps the verdict.

use bytes::{Bytes, BytesMut};

use super::producers::Numbers;
use crate::wire::record_batch::{self, BatchHeader, HEADER_BYTES};
use crate::wire::{WireError, codes};

/// The most that a batch may decompress to, in bytes.
pub(super) const DECOMPRESSED_MAX: usize = 128 << 20;

/// Where in a batch's bytes its fields stand (`DefaultRecordBatch.java`).
const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

/// Bits of a batch's attributes.
const CODEC_BITS: i16 = 0b111;
const ZSTD: i16 = 4;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// Why a batch is refused, as a Produce answer says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: i16,
    /// Index in the batch and reason.
    pub record_errors: Vec<(i32, Option<String>)>,
    pub message: Option<String>,
}

impl Refusal {
    pub(super) fn of(code: i16) -> Self {
        Refusal { code, record_errors: vec![], message: None }
    }

    pub(super) fn because(code: i16, message: impl Into<String>) -> Self {
        Refusal { code, record_errors: vec![], message: Some(message.into()) }
    }
}

/// What a topic allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `max.message.bytes`.
    pub max_message_bytes: usize,
    /// `message.timestamp.before.max.ms`.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub after_max_ms: i64,
}

/// A well-formed request's one batch.
#[derive(Clone, Debug)]
pub(super) struct CheckedBatch {
    bytes: Bytes,
    header: Result<BatchHeader, Refusal>,
    /// Each record's timestamp, in order.
    timestamps: Vec<i64>,
}

impl CheckedBatch {
    /// Decodes the records of one partition in a Produce request of this version. An error is the answer, whoever leads.
    pub(super) fn check(records: Option<&Bytes>, version: i16) -> Result<Self, Refusal> {
        let one_batch =
            || Refusal::because(codes::INVALID_RECORD, "a produce request must have exactly one record batch");
        let bytes = records.filter(|bytes| bytes.len() >= HEADER_BYTES).ok_or_else(one_batch)?;
        let length = i32_at(bytes, LENGTH_AT);
        if usize::try_from(length).ok().and_then(|length| length.checked_add(LEADER_EPOCH_AT)) != Some(bytes.len()) {
            return Err(one_batch());
        }
        if bytes[MAGIC_AT] != 2 {
            return Err(Refusal::because(
                codes::INVALID_RECORD,
                "a produce request must have record batches of magic 2",
            ));
        }
        if version < 7 && attributes(bytes) & CODEC_BITS == ZSTD {
            return Err(Refusal::of(codes::UNSUPPORTED_COMPRESSION_TYPE));
        }
        let mut batch =
            CheckedBatch { bytes: bytes.clone(), header: Err(Refusal::of(codes::CORRUPT_MESSAGE)), timestamps: vec![] };
        batch.header = batch.decode();
        Ok(batch)
    }

    fn decode(&mut self) -> Result<BatchHeader, Refusal> {
        let invalid = |why: &str| Refusal::because(codes::INVALID_RECORD, why);
        let header = record_batch::parse_header(&self.bytes).map_err(unreadable)?;
        if header.base_offset != 0 {
            return Err(invalid("the base offset of a produced batch must be 0"));
        }
        if header.count <= 0 || header.last_offset_delta != header.count - 1 {
            return Err(invalid("the batch's count and its last offset delta do not agree"));
        }
        if header.attributes & (TRANSACTIONAL | CONTROL) != 0 {
            return Err(invalid("transactions are not offered here"));
        }
        if header.producer_id >= 0 && (header.base_sequence < 0 || header.epoch < 0) {
            return Err(invalid("an idempotent producer's batch must have an epoch and a sequence number"));
        }
        let records = record_batch::records(&self.bytes, DECOMPRESSED_MAX).map_err(unreadable)?;
        for (index, record) in records.enumerate() {
            let record = record.map_err(unreadable)?;
            if record.offset_delta as usize != index {
                let reason = Some(format!("offset delta {} at index {index}", record.offset_delta));
                let record_errors = vec![(index as i32, reason)];
                return Err(Refusal {
                    code: codes::INVALID_RECORD,
                    record_errors,
                    message: Some("offsets are not consecutive".into()),
                });
            }
            self.timestamps.push(record.timestamp);
        }
        Ok(header)
    }

    /// The rest of the validation, in the leader's order: size, contents, timestamps. `now` in ms.
    pub(super) fn validate(&self, limits: &Limits, log_append_time: bool, now: i64) -> Result<(), Refusal> {
        if self.bytes.len() > limits.max_message_bytes {
            let message =
                format!("{} bytes are more than max.message.bytes = {}", self.bytes.len(), limits.max_message_bytes);
            return Err(Refusal::because(codes::MESSAGE_TOO_LARGE, message));
        }
        if let Err(refusal) = &self.header {
            return Err(refusal.clone());
        }
        if log_append_time {
            return Ok(());
        }
        let allowed = now.saturating_sub(limits.before_max_ms)..=now.saturating_add(limits.after_max_ms);
        let outside = self.timestamps.iter().enumerate().filter(|(_, timestamp)| !allowed.contains(timestamp));
        let record_errors: Vec<_> = outside
            .map(|(index, timestamp)| (index as i32, Some(format!("timestamp {timestamp} is out of range"))))
            .collect();
        if record_errors.is_empty() {
            return Ok(());
        }
        let message = Some("one or more records have a timestamp out of range".into());
        Err(Refusal { code: codes::INVALID_TIMESTAMP, record_errors, message })
    }

    /// The lane and numbers; those of no producer if the header is not valid.
    pub(super) fn numbers(&self) -> Numbers {
        match &self.header {
            Ok(header) => Numbers::new(header.producer_id, header.epoch, header.base_sequence, header.count),
            Err(_) => Numbers::new(-1, -1, -1, 0),
        }
    }

    /// How many records; 0 if the header is not valid.
    pub(super) fn count(&self) -> i32 {
        self.header.as_ref().map_or(0, |header| header.count)
    }

    /// The newest timestamp of its records, in ms.
    pub(super) fn max_timestamp(&self) -> i64 {
        self.timestamps.iter().copied().max().unwrap_or(-1)
    }

    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes as they stand in the log: a copy, so that the request's buffer is not kept. Offset and leader epoch are
    /// outside of the checksum; an append time is not.
    pub(super) fn placed(&self, base_offset: i64, leader_epoch: i32, append_time: Option<i64>) -> Bytes {
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[..LENGTH_AT].copy_from_slice(&base_offset.to_be_bytes());
        bytes[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
        if let Some(now) = append_time {
            let attributes = attributes(&bytes) | LOG_APPEND_TIME;
            bytes[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
            bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
            bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        }
        bytes.freeze()
    }
}

/// Whether a batch of the log has timestamps of the broker's.
pub(super) fn is_log_append_time(batch: &[u8]) -> bool {
    batch.len() >= HEADER_BYTES && attributes(batch) & LOG_APPEND_TIME != 0
}

fn unreadable(error: WireError) -> Refusal {
    let code = match error {
        WireError::Crc { .. } => codes::CORRUPT_MESSAGE,
        WireError::UnsupportedCodec(_) => codes::UNSUPPORTED_COMPRESSION_TYPE,
        _ => codes::INVALID_RECORD,
    };
    Refusal::because(code, error.to_string())
}

/// `bytes` holds a whole header, which `check` has made sure of.
fn attributes(bytes: &[u8]) -> i16 {
    i16::from_be_bytes([bytes[ATTRIBUTES_AT], bytes[ATTRIBUTES_AT + 1]])
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
