//! Answers: what the daemon writes and its clients read.
//!
//! Each begins with the header that its request had, `CorrelationId int32 · ErrorCode int16 · ErrorMessage nullable string`,
//! in every version. One with an error may end there; so whoever is refused can read why, even a client of a version
//! that this daemon does not know.

use super::cursor::Cursor;
use super::error::{EncodeError, Fault};
use super::framing;
use super::writer::FrameWriter;
use super::{Decoded, Limits, METADATA, PRODUCE, SERVED, VERSIONS};
use crate::queue::receipt::RecordResult;
use crate::wire::codes;

/// A key of the protocol and the versions in which it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedKey {
    /// Which kind of request.
    pub api_key: i16,
    /// The lowest version.
    pub min_version: i16,
    /// The highest version.
    pub max_version: i16,
}

/// One topic in a Metadata answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata<'a> {
    /// Whether it is there, or not yet known (3), or cannot be a topic's name (17).
    pub error_code: i16,
    /// As in the request; not always UTF-8 if the request's was not.
    pub name: &'a [u8],
    /// In the order of their ids.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition in a Metadata answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// [`codes::NONE`] if it has a leader now, else [`codes::LEADER_NOT_AVAILABLE`].
    pub error_code: i16,
    /// Its number in the topic.
    pub id: i32,
}

/// Appends an answer that is an error and says nothing else. Of a message over 32767 bytes the end is cut.
pub fn encode_error(
    out: &mut Vec<u8>,
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
    error_code: i16,
    message: &str,
) {
    begin(out, api_key, api_version, correlation_id, Some((error_code, message)))
        .finish()
        .expect("a header and at most 32767 bytes fit");
}

/// Appends the answer to a Produce request: the error that one of its records has, with words about it, and a result
/// for each record in the request's order. Of words over 32767 bytes the end is cut.
///
/// # Errors
/// If it does not fit in a frame, which a request that came in a frame cannot cause: nothing is appended then.
pub fn encode_produce_answer(
    out: &mut Vec<u8>,
    correlation_id: i32,
    failure: Option<(i16, &str)>,
    results: &[RecordResult],
) -> Result<(), EncodeError> {
    let mut frame = begin(out, PRODUCE, 0, correlation_id, failure);
    frame.len32("RecordCount", results.len())?;
    for result in results {
        frame.i16(result.error_code);
        frame.i32(result.partition);
        frame.i64(result.offset);
    }
    frame.finish()
}

/// Writes the answer to a Metadata request, topic by topic. Dropped unfinished, it leaves nothing in the buffer.
#[derive(Debug)]
pub struct MetadataAnswer<'o> {
    frame: FrameWriter<'o>,
    count_at: usize,
    count: i32,
}

impl<'o> MetadataAnswer<'o> {
    /// Begins it at the end of `out`.
    pub fn begin(out: &'o mut Vec<u8>, correlation_id: i32) -> Self {
        let mut frame = begin(out, METADATA, 0, correlation_id, None);
        let count_at = frame.len();
        frame.i32(0);
        MetadataAnswer { frame, count_at, count: 0 }
    }

    /// Appends a topic.
    ///
    /// # Errors
    /// If the name is over 32767 bytes.
    pub fn topic(
        &mut self,
        error_code: i16,
        name: &[u8],
        partitions: impl ExactSizeIterator<Item = PartitionMetadata>,
    ) -> Result<(), EncodeError> {
        let before = self.frame.len();
        self.frame.i16(error_code);
        let written =
            self.frame.string("Name", name).and_then(|()| self.frame.len32("PartitionCount", partitions.len()));
        if written.is_err() {
            self.frame.truncate(before);
            return written;
        }
        for partition in partitions {
            self.frame.i16(partition.error_code);
            self.frame.i32(partition.id);
        }
        self.count += 1;
        Ok(())
    }

    /// Bytes of the answer so far.
    pub fn len_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// If it is longer than its Size can say; nothing of it is left in the buffer then.
    pub fn finish(mut self) -> Result<(), EncodeError> {
        self.frame.patch_i32(self.count_at, self.count);
        self.frame.finish()
    }
}

/// Appends the answer to a Versions request: [`SERVED`] and the limits of this listener.
pub fn encode_versions_answer(out: &mut Vec<u8>, correlation_id: i32, limits: &Limits) {
    let clamped = |limit: usize| i32::try_from(limit).unwrap_or(i32::MAX);
    let mut frame = begin(out, VERSIONS, 0, correlation_id, None);
    frame.i32(SERVED.len() as i32);
    for key in SERVED {
        frame.i16(key.api_key);
        frame.i16(key.min_version);
        frame.i16(key.max_version);
    }
    frame.i32(clamped(limits.max_frame_size));
    frame.i32(clamped(limits.max_records_per_request));
    frame.finish().expect("five keys fit");
}

fn begin<'o>(
    out: &'o mut Vec<u8>,
    api_key: i16,
    api_version: i16,
    correlation_id: i32,
    failure: Option<(i16, &str)>,
) -> FrameWriter<'o> {
    let mut frame = FrameWriter::begin(out, api_key, api_version);
    frame.i32(correlation_id);
    match failure {
        None => {
            frame.i16(codes::NONE);
            frame.i16(-1);
        }
        Some((error_code, message)) => {
            frame.i16(error_code);
            let message = &message[..message.floor_char_boundary(i16::MAX as usize)];
            frame.string("ErrorMessage", message.as_bytes()).expect("it was cut to what fits");
        }
    }
    frame
}

/// One answer from the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// As in the request; -1 if the daemon could not read it.
    pub api_key: i16,
    /// As in the request; -1 if the daemon could not read it.
    pub api_version: i16,
    /// As in the request; -1 if the daemon could not read it.
    pub correlation_id: i32,
    /// Of the whole request: of a Produce request, the one of a record that the message speaks of.
    pub error_code: i16,
    /// What is wrong, for people.
    pub message: Option<&'a str>,
    /// What was asked for.
    pub body: AnswerBody<'a>,
}

/// What an answer says beside its error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerBody<'a> {
    /// Nothing: the request was refused whole.
    Empty,
    /// What became of each record, in the request's order.
    Produce(RecordResults<'a>),
    /// The topics asked about.
    Metadata(Vec<TopicMetadata<'a>>),
    /// What this daemon serves.
    Versions {
        /// Key by key.
        keys: Vec<ServedKey>,
        /// The largest frame it reads, in bytes.
        max_frame_size: i32,
        /// The most records of a Produce request, and names of a Metadata request.
        max_records_per_request: i32,
    },
}

/// The results in a Produce answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordResults<'a>(&'a [[u8; 14]]);

impl<'a> RecordResults<'a> {
    /// In the request's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordResult> + use<'a> {
        self.0.iter().map(|&[e0, e1, p0, p1, p2, p3, offset @ ..]| RecordResult {
            error_code: i16::from_be_bytes([e0, e1]),
            partition: i32::from_be_bytes([p0, p1, p2, p3]),
            offset: i64::from_be_bytes(offset),
        })
    }
}

/// The first answer in `buffer`, which must begin where a frame begins. A malformed one is the end of the connection.
pub fn next_answer(buffer: &[u8], max_frame_size: usize) -> Decoded<Answer<'_>> {
    let (head, body) = match framing::split_answer(buffer, max_frame_size) {
        Ok(whole) => whole,
        Err(decoded) => return decoded,
    };
    match decode(head.api_key, head.api_version, Cursor::new(body)) {
        Ok(frame) => Decoded::Frame { frame, len: head.size as usize },
        Err(fault) => Decoded::Malformed(head.malformed(buffer, fault.into())),
    }
}

fn decode(api_key: i16, api_version: i16, mut cursor: Cursor<'_>) -> Result<Answer<'_>, Fault> {
    let correlation_id = cursor.i32("CorrelationId")?;
    let error_code = cursor.i16("ErrorCode")?;
    let message = match cursor.nullable_string("ErrorMessage")? {
        None => None,
        Some(bytes) => Some(str::from_utf8(bytes).map_err(|_| Fault::NotUtf8 { field: "ErrorMessage" })?),
    };
    let body = match (api_key, api_version) {
        _ if error_code != codes::NONE && cursor.remaining().is_empty() => AnswerBody::Empty,
        (PRODUCE, 0) => AnswerBody::Produce(RecordResults(entries("RecordCount", &mut cursor)?)),
        (METADATA, 0) => AnswerBody::Metadata(decode_topics(&mut cursor)?),
        (VERSIONS, 0) => AnswerBody::Versions {
            keys: entries("KeyCount", &mut cursor)?.iter().map(served_key).collect(),
            max_frame_size: cursor.i32("MaxFrameSize")?,
            max_records_per_request: cursor.i32("MaxRecordsPerRequest")?,
        },
        (key, 0) => return Err(Fault::UnknownApiKey(key)),
        (key, version) => return Err(Fault::UnsupportedVersion { key, version }),
    };
    cursor.finish()?;
    Ok(Answer { api_key, api_version, correlation_id, error_code, message, body })
}

/// A count and as many entries of `N` bytes.
fn entries<'a, const N: usize>(field: &'static str, cursor: &mut Cursor<'a>) -> Result<&'a [[u8; N]], Fault> {
    let count = cursor.count(field)? as usize;
    let (entries, _) = cursor.remaining().as_chunks::<N>();
    let entries = entries.get(..count).ok_or(Fault::Truncated { field: "the last entry" })?;
    cursor.skip(count * N);
    Ok(entries)
}

fn decode_topics<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<TopicMetadata<'a>>, Fault> {
    /// Error, size of the name, PartitionCount.
    const SMALLEST: usize = 2 + 2 + 4;
    let count = cursor.count("TopicCount")? as usize;
    let mut topics = Vec::with_capacity(count.min(cursor.remaining().len() / SMALLEST));
    for _ in 0..count {
        let error_code = cursor.i16("a topic's ErrorCode")?;
        let name = cursor.string("Name")?;
        let partitions = entries("PartitionCount", cursor)?.iter().map(partition_metadata).collect();
        topics.push(TopicMetadata { error_code, name, partitions });
    }
    Ok(topics)
}

fn partition_metadata(&[e0, e1, i0, i1, i2, i3]: &[u8; 6]) -> PartitionMetadata {
    PartitionMetadata { error_code: i16::from_be_bytes([e0, e1]), id: i32::from_be_bytes([i0, i1, i2, i3]) }
}

fn served_key(&[k0, k1, l0, l1, h0, h1]: &[u8; 6]) -> ServedKey {
    ServedKey {
        api_key: i16::from_be_bytes([k0, k1]),
        min_version: i16::from_be_bytes([l0, l1]),
        max_version: i16::from_be_bytes([h0, h1]),
    }
}
