//! Metadata (513) and Versions (514): what a client may ask.

use super::cursor::Cursor;
use super::error::{EncodeError, Located, Refusal, Refused};
use super::writer::FrameWriter;
use super::{Limits, METADATA, Request, VERSIONS};

/// Which topics and partitions there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataRequest<'a> {
    /// The answer carries it.
    pub correlation_id: i32,
    /// How many topics are asked about; 0: about all that are known.
    pub topic_count: u32,
    names: Cursor<'a>,
}

impl<'a> MetadataRequest<'a> {
    /// The names asked about, as sent: each is a topic's or gets error 17.
    pub fn names(&self) -> Names<'a> {
        Names { cursor: self.names, left: self.topic_count }
    }
}

/// The names in a Metadata request, in order.
#[derive(Clone, Debug)]
pub struct Names<'a> {
    cursor: Cursor<'a>,
    left: u32,
}

impl<'a> Iterator for Names<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        Some(self.cursor.string("Name").expect("the same walk over the same bytes succeeded before"))
    }
}

pub(super) fn decode_metadata<'a>(mut body: Cursor<'a>, limits: &Limits) -> Result<Request<'a>, Located> {
    let correlation_id = body.i32("CorrelationId")?;
    let topic_count = body.count("TopicCount")?;
    let names = body;
    for _ in 0..topic_count {
        body.string("Name")?;
    }
    body.finish()?;
    let limit = limits.max_records_per_request;
    if topic_count as usize > limit {
        let refusal = Refusal::TooMany { count: topic_count, limit };
        let correlation_id = Some(correlation_id);
        return Ok(Request::Refused(Refused { api_key: METADATA, correlation_id, records: 0, refusal }));
    }
    Ok(Request::Metadata(MetadataRequest { correlation_id, topic_count, names }))
}

/// Appends a question about `topics`; none: about all that are known.
///
/// # Errors
/// If a name or the list is too long; nothing is appended then.
pub fn encode_metadata_request(out: &mut Vec<u8>, correlation_id: i32, topics: &[&str]) -> Result<(), EncodeError> {
    let mut frame = FrameWriter::begin(out, METADATA, 0);
    frame.i32(correlation_id);
    frame.len32("TopicCount", topics.len())?;
    for name in topics {
        frame.string("Name", name.as_bytes())?;
    }
    frame.finish()
}

/// Which keys, versions and limits there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionsRequest {
    /// The answer carries it.
    pub correlation_id: i32,
}

pub(super) fn decode_versions(mut body: Cursor<'_>) -> Result<Request<'_>, Located> {
    let correlation_id = body.i32("CorrelationId")?;
    body.finish()?;
    Ok(Request::Versions(VersionsRequest { correlation_id }))
}

/// Appends a question for keys, versions and limits.
pub fn encode_versions_request(out: &mut Vec<u8>, correlation_id: i32) {
    let mut frame = FrameWriter::begin(out, VERSIONS, 0);
    frame.i32(correlation_id);
    frame.finish().expect("twelve bytes fit");
}
