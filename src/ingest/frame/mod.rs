//! The local protocol's bytes: requests in, answers out, both ways for both sides.
//!
//! What comes in is the bytes that a socket gave so far; what goes out is the next frame, borrowed from them, or how many
//! bytes are missing, or what is wrong ([`next_request`], [`next_answer`](answer::next_answer), [`datagram`]). The encoders
//! append whole frames to a buffer. `docs/protocol.md` is the protocol in words and bytes.
//!
//! Invariants:
//! - A frame is checked to its last byte before it is given out, so a malformed Produce request is atomic: none of its
//!   records has been seen by anybody. Frames before it in the buffer are not touched by it.
//! - Nothing is allocated for what a request says about itself; decoding one costs its length and no more.
//! - No bytes whatever make it panic.
//!
//! It reads no socket, no clock and no configuration, and does not decide what becomes of a record.

pub mod answer;
pub mod dory;
pub mod error;
pub mod produce;
pub mod query;
pub mod topic;

mod cursor;
mod framing;
mod writer;

#[cfg(test)]
mod tests;

use std::time::Duration;

use cursor::Cursor;
use dory::DoryMessage;
use error::{Fault, Malformed, Refused};
use framing::Head;
use produce::ProduceRequest;
use query::{MetadataRequest, VersionsRequest};

/// Size, ApiKey and ApiVersion: what every frame begins with, in bytes.
pub const HEADER_BYTES: usize = 8;
/// Dory's AnyPartition: forebay chooses the partition.
pub const ANY_PARTITION: i16 = 256;
/// Dory's PartitionKey: the client's number modulo the count of partitions.
pub const PARTITION_KEY: i16 = 257;
/// Produce: records for one topic, answered unless acks is 0.
pub const PRODUCE: i16 = 512;
/// Metadata: which topics and partitions there are.
pub const METADATA: i16 = 513;
/// Versions: which keys, versions and limits this daemon has.
pub const VERSIONS: i16 = 514;

/// From here on every request and answer of every version has its CorrelationId at byte 8.
const FIRST_CORRELATED_KEY: i16 = 512;

/// The keys that are served, each with its lowest and highest version.
pub const SERVED: [answer::ServedKey; 5] = [
    answer::ServedKey { api_key: ANY_PARTITION, min_version: 0, max_version: 0 },
    answer::ServedKey { api_key: PARTITION_KEY, min_version: 0, max_version: 0 },
    answer::ServedKey { api_key: PRODUCE, min_version: 0, max_version: 0 },
    answer::ServedKey { api_key: METADATA, min_version: 0, max_version: 0 },
    answer::ServedKey { api_key: VERSIONS, min_version: 0, max_version: 0 },
];

/// What a request may not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one frame, its Size included. A larger one is malformed.
    pub max_frame_size: usize,
    /// Records of one Produce request, and names of one Metadata request. More are refused.
    pub max_records_per_request: usize,
}

/// What the bytes that are there amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<T> {
    /// Not a whole frame yet: no further answer before the buffer holds this many bytes, counted from its start.
    NeedMore {
        /// Always more than the buffer held.
        bytes: usize,
    },
    /// A whole frame.
    Frame {
        /// The frame, checked to its end.
        frame: T,
        /// Its bytes; the next frame starts after them.
        len: usize,
    },
    /// Nothing after this can be understood: the connection is to be closed, after an error answer.
    Malformed(Malformed),
}

/// One frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// One of Dory's messages; never answered.
    Dory(DoryMessage<'a>),
    /// Records for one topic.
    Produce(ProduceRequest<'a>),
    /// Which topics and partitions there are.
    Metadata(MetadataRequest<'a>),
    /// Which keys and versions are served.
    Versions(VersionsRequest),
    /// A sound frame that asks for what is not given. Nothing of it is taken; the connection goes on.
    Refused(Refused),
}

/// The first request in `buffer`, if it is a whole and sound one of Dory's messages: what comes thousands of times a read.
/// With `None`, [`next_request`] says what else it is.
#[inline]
pub(super) fn next_dory<'a>(buffer: &'a [u8], limits: &Limits) -> Option<(DoryMessage<'a>, usize)> {
    let (head, body) = framing::split_request(buffer, limits.max_frame_size)?;
    if !matches!(head.api_key, ANY_PARTITION | PARTITION_KEY) {
        return None;
    }
    let message = dory::decode(Cursor::new(body), head.api_key).ok()?.ok()?;
    Some((message, head.size as usize))
}

/// The first request in `buffer`, which must begin where a frame begins.
pub fn next_request<'a>(buffer: &'a [u8], limits: &Limits) -> Decoded<Request<'a>> {
    let Some((head, body)) = framing::split_request(buffer, limits.max_frame_size) else {
        return framing::why_no_request(buffer, limits.max_frame_size);
    };
    let decoded = match head.api_key {
        ANY_PARTITION | PARTITION_KEY => match dory::decode(Cursor::new(body), head.api_key) {
            Ok(Ok(message)) => Ok(Request::Dory(message)),
            Ok(Err(refused)) => Ok(Request::Refused(refused)),
            Err(fault) => Err(fault.into()),
        },
        PRODUCE => produce::decode(Cursor::new(body), limits),
        METADATA => query::decode_metadata(Cursor::new(body), limits),
        VERSIONS => query::decode_versions(Cursor::new(body)),
        key => Err(Fault::UnknownApiKey(key).into()),
    };
    match decoded {
        Ok(frame) => Decoded::Frame { frame, len: head.size as usize },
        Err(located) => Decoded::Malformed(head.malformed(buffer, located)),
    }
}

/// What is wrong with a frame whose beginning is in `buffer` and whose end did not come `within` its time.
pub fn unfinished(buffer: &[u8], within: Duration) -> Malformed {
    let head = Head::read(buffer).unwrap_or(Head::UNREADABLE);
    head.malformed(buffer, Fault::Unfinished { len: buffer.len(), within }.into())
}

/// The one message of a datagram: one of Dory's two, exactly as long as the datagram.
///
/// # Errors
/// Whatever else was in it. Nobody can be answered on a datagram socket.
pub fn datagram<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Request<'a>, Malformed> {
    let len = bytes.len();
    let Some(head) = Head::read(bytes) else {
        return Err(Head::UNREADABLE.malformed(bytes, Fault::Truncated { field: "the header" }.into()));
    };
    if !matches!(head.api_key, ANY_PARTITION | PARTITION_KEY) {
        return Err(head.malformed(bytes, Fault::NotForDatagrams(head.api_key).into()));
    }
    match next_request(bytes, limits) {
        Decoded::Frame { frame, len: size } if size == len => Ok(frame),
        Decoded::Frame { len: size, .. } | Decoded::NeedMore { bytes: size } => {
            Err(head.malformed(bytes, Fault::DatagramSize { size, len }.into()))
        }
        Decoded::Malformed(malformed) => Err(malformed),
    }
}
