//! Produce (512): records for one topic.
//!
//! Decoding walks the records once and keeps none of them; [`ProduceRequest::records`] walks the same bytes again and gives
//! them out. Two walks over bytes in the cache cost less than a list of them.

use std::time::Duration;

use super::cursor::Cursor;
use super::error::{EncodeError, Fault, Located, Refusal, Refused};
use super::topic::TopicName;
use super::writer::FrameWriter;
use super::{Limits, PRODUCE, Request};
use crate::record::{Header, Record, TimestampMs};

/// "Now", in the request.
const NO_TIMESTAMP: TimestampMs = -1;

/// When the client is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    None,
    /// When the records are in the log on disk, durable.
    Stored,
    /// When the cluster has replicated the records.
    #[default]
    All,
}

impl Acks {
    fn to_wire(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Stored => 1,
            Acks::All => -1,
        }
    }
}

/// One Produce request, checked to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest<'a> {
    /// The answer carries it.
    pub correlation_id: i32,
    /// When to answer.
    pub acks: Acks,
    /// How long the client waits for the answer; `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// Where the records go.
    pub topic: TopicName<'a>,
    /// `None`: forebay chooses, by key.
    pub partition: Option<i32>,
    /// How many, at least 1.
    pub record_count: u32,
    records: Cursor<'a>,
}

impl<'a> ProduceRequest<'a> {
    /// The records in order; `now` is the time of those that have none.
    pub fn records(&self, now: TimestampMs) -> Records<'a> {
        Records { cursor: self.records, left: self.record_count, now }
    }
}

/// The records of one request. Not an `Iterator`, because a record borrows its headers from a buffer of the caller's.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    left: u32,
    now: TimestampMs,
}

impl<'a> Records<'a> {
    /// The next record. Its headers are put into `headers`, which is emptied first: one buffer serves for all records.
    #[inline]
    pub fn next_record<'h>(&mut self, headers: &'h mut Vec<Header<'a>>) -> Option<Record<'h>> {
        self.left = self.left.checked_sub(1)?;
        headers.clear();
        let (timestamp, key, value) = walk_record(&mut self.cursor, |header| headers.push(header))
            .expect("the same walk over the same bytes succeeded when the request was decoded");
        let stamped_here = timestamp == NO_TIMESTAMP;
        let timestamp = if stamped_here { self.now } else { timestamp };
        Some(Record { timestamp, stamped_here, key, value, headers })
    }
}

type KeyOrValue<'a> = Option<&'a [u8]>;

#[inline]
fn walk_record<'a>(
    cursor: &mut Cursor<'a>,
    mut on_header: impl FnMut(Header<'a>),
) -> Result<(TimestampMs, KeyOrValue<'a>, KeyOrValue<'a>), Fault> {
    let timestamp = cursor.i64("Timestamp")?;
    let key = cursor.nullable_blob("Key")?;
    let value = cursor.nullable_blob("Value")?;
    let header_count = cursor.i16("HeaderCount")?;
    if header_count < 0 {
        return Err(Fault::BadSize { field: "HeaderCount", size: i32::from(header_count) });
    }
    for _ in 0..header_count {
        let name = cursor.string("a header's Name")?;
        let value = cursor.nullable_blob("a header's Value")?;
        on_header(Header { name, value });
    }
    Ok((timestamp, key, value))
}

pub(super) fn decode<'a>(mut body: Cursor<'a>, limits: &Limits) -> Result<Request<'a>, Located> {
    let correlation_id = body.i32("CorrelationId")?;
    let acks = body.i16("Acks")?;
    let timeout_ms = body.i32("TimeoutMs")?;
    let source = body.nullable_string("Source")?;
    body.i64("SourceSequence")?;
    let topic = body.string("Topic")?;
    let partition = body.i32("Partition")?;
    let record_count = body.count("RecordCount")?;
    let records = body;
    let mut bad_timestamp = None;
    for record in 0..record_count {
        let walked = walk_record(&mut body, |_| ());
        let (timestamp, _, _) = walked.map_err(|fault| Located { record: Some(record), fault })?;
        if timestamp < NO_TIMESTAMP && bad_timestamp.is_none() {
            bad_timestamp = Some(Refusal::Timestamp { record, timestamp });
        }
    }
    body.finish()?;

    // From here on the frame is sound: what is wrong is told, and the connection goes on.
    let checked = || {
        let served = match acks {
            0 => Acks::None,
            -1 => Acks::All,
            1 => Acks::Stored,
            other => return Err(Refusal::Acks(other)),
        };
        let topic = TopicName::new(topic).ok_or(Refusal::InvalidTopic)?;
        if source.is_some() {
            return Err(Refusal::Source);
        }
        if record_count == 0 {
            return Err(Refusal::NoRecords);
        }
        if record_count as usize > limits.max_records_per_request {
            return Err(Refusal::TooMany { count: record_count, limit: limits.max_records_per_request });
        }
        let timeout = none_if_minus_one(timeout_ms).ok_or(Refusal::Timeout(timeout_ms))?;
        let partition = none_if_minus_one(partition).ok_or(Refusal::Partition(partition))?;
        match bad_timestamp {
            Some(refusal) => Err(refusal),
            None => Ok((served, topic, timeout, partition)),
        }
    };
    Ok(match checked() {
        Ok((acks, topic, timeout_ms, partition)) => Request::Produce(ProduceRequest {
            correlation_id,
            acks,
            timeout: timeout_ms.map(|ms| Duration::from_millis(u64::from(ms.unsigned_abs()))),
            topic,
            partition,
            record_count,
            records,
        }),
        Err(refusal) => Request::Refused(Refused {
            api_key: PRODUCE,
            correlation_id: (acks != 0).then_some(correlation_id),
            records: record_count,
            refusal,
        }),
    })
}

/// `None` if it is neither -1, which is none, nor a number from 0.
fn none_if_minus_one(value: i32) -> Option<Option<i32>> {
    match value {
        -1 => Some(None),
        0.. => Some(Some(value)),
        _ => None,
    }
}

/// What a Produce request says before its records.
#[derive(Clone, Copy, Debug)]
pub struct ProduceHead<'a> {
    /// The answer will carry it.
    pub correlation_id: i32,
    /// When to be answered.
    pub acks: Acks,
    /// How long to wait for the answer, up to 24 days; `None`: as long as it takes.
    pub timeout: Option<Duration>,
    /// Where the records go. The name is not checked here.
    pub topic: &'a str,
    /// `None`: forebay chooses, by key.
    pub partition: Option<i32>,
}

/// Writes one Produce request, record by record. Dropped unfinished, it leaves nothing in the buffer.
#[derive(Debug)]
pub struct ProduceEncoder<'o> {
    frame: FrameWriter<'o>,
    count_at: usize,
    count: u32,
}

impl<'o> ProduceEncoder<'o> {
    /// Begins a request at the end of `out`.
    ///
    /// # Errors
    /// If the topic's name is longer than its field can say.
    pub fn begin(out: &'o mut Vec<u8>, head: &ProduceHead<'_>) -> Result<Self, EncodeError> {
        let mut frame = FrameWriter::begin(out, PRODUCE, 0);
        frame.i32(head.correlation_id);
        frame.i16(head.acks.to_wire());
        frame.i32(head.timeout.map_or(-1, |timeout| i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)));
        frame.i16(-1);
        frame.i64(-1);
        frame.string("Topic", head.topic.as_bytes())?;
        frame.i32(head.partition.unwrap_or(-1));
        let count_at = frame.len();
        frame.i32(0);
        Ok(ProduceEncoder { frame, count_at, count: 0 })
    }

    /// Appends a record. One that is `stamped_here` goes without its timestamp: the daemon stamps it.
    ///
    /// # Errors
    /// If a size does not fit in its field; the request is as it was before.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), EncodeError> {
        let before = self.frame.len();
        let written = self.write(record);
        match written {
            Ok(()) => self.count += 1,
            Err(_) => self.frame.truncate(before),
        }
        written
    }

    fn write(&mut self, record: &Record<'_>) -> Result<(), EncodeError> {
        let frame = &mut self.frame;
        frame.i64(if record.stamped_here { NO_TIMESTAMP } else { record.timestamp });
        frame.nullable_blob("Key", record.key)?;
        frame.nullable_blob("Value", record.value)?;
        frame.len16("HeaderCount", record.headers.len())?;
        for header in record.headers {
            frame.string("a header's Name", header.name)?;
            frame.nullable_blob("a header's Value", header.value)?;
        }
        Ok(())
    }

    /// Bytes of the request so far.
    pub fn len_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Ends the request.
    ///
    /// # Errors
    /// If it is longer than its Size can say; nothing of it is left in the buffer then.
    pub fn finish(mut self) -> Result<(), EncodeError> {
        self.frame.patch_i32(self.count_at, self.count as i32);
        self.frame.finish()
    }
}
