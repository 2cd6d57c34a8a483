//! What can be wrong with a frame: so much that the connection ends, or so little that an answer is enough.

use std::time::Duration;

use super::answer;
use crate::wire::codes;

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Size counts itself, ApiKey and ApiVersion.
    #[error("Size is {0}, but it counts the 8 bytes of the header too")]
    SizeTooSmall(i32),
    /// Over the listener's limit.
    #[error("a frame of {size} bytes is over the limit of {limit}: send less at once, or raise max_frame_size")]
    FrameTooLarge {
        /// Bytes it says it has.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not a key of this protocol, or not of this version of forebay.
    #[error("ApiKey {0} is unknown: 256, 257, 512, 513 and 514 are served")]
    UnknownApiKey(i16),
    /// The key is served, but not so.
    #[error("ApiKey {key} is served in version 0 alone, not in {version}")]
    UnsupportedVersion {
        /// Which key.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// The frame ends where a field should be.
    #[error("the frame ends within {field}")]
    Truncated {
        /// Which field.
        field: &'static str,
    },
    /// A size or count that no field can have.
    #[error("the size of {field} is {size}")]
    BadSize {
        /// Which field.
        field: &'static str,
        /// What it says.
        size: i32,
    },
    /// Size says more than the fields hold.
    #[error("{0} bytes follow the last field")]
    TrailingBytes(usize),
    /// Dory's Flags are reserved.
    #[error("Flags is {0}, and must be 0")]
    Flags(i16),
    /// Text that is not text.
    #[error("{field} is not UTF-8")]
    NotUtf8 {
        /// Which field.
        field: &'static str,
    },
    /// A datagram is one message.
    #[error("a message of {size} bytes came in a datagram of {len}")]
    DatagramSize {
        /// Bytes the message says it has.
        size: usize,
        /// Bytes of the datagram.
        len: usize,
    },
    /// The client began it and did not go on.
    #[error("the frame was not complete within {within:?} (see frame_timeout): {len} bytes of it came")]
    Unfinished {
        /// Bytes that came.
        len: usize,
        /// How long it could take.
        within: Duration,
    },
    /// Only Dory's messages need no answer.
    #[error("ApiKey {0} needs a stream socket: a datagram holds one message of ApiKey 256 or 257")]
    NotForDatagrams(i16),
}

impl Fault {
    /// The code that an error answer carries.
    pub fn error_code(&self) -> i16 {
        match self {
            Fault::FrameTooLarge { .. } => codes::MESSAGE_TOO_LARGE,
            Fault::UnknownApiKey(_) | Fault::UnsupportedVersion { .. } => codes::UNSUPPORTED_VERSION,
            Fault::Unfinished { .. } => codes::REQUEST_TIMED_OUT,
            _ => codes::INVALID_REQUEST,
        }
    }
}

/// A fault, and in which record of a request it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Located {
    pub record: Option<u32>,
    pub fault: Fault,
}

impl From<Fault> for Located {
    fn from(fault: Fault) -> Self {
        Located { record: None, fault }
    }
}

/// A frame that cannot be read, and what is needed to say so before the connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// As sent; -1 if unreadable.
    pub api_key: i16,
    /// As sent; -1 if unreadable.
    pub api_version: i16,
    /// As sent; -1 if unreadable, or if the key has none.
    pub correlation_id: i32,
    /// The record in which the fault is, counted from 0.
    pub record: Option<u32>,
    /// What is wrong.
    pub fault: Fault,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.record {
            Some(record) => write!(f, "record {record}: {}", self.fault),
            None => self.fault.fmt(f),
        }
    }
}

impl std::error::Error for Malformed {}

impl Malformed {
    /// The last answer that this connection gets.
    pub fn encode_answer(&self, out: &mut Vec<u8>) {
        let message = self.to_string();
        let (key, version) = (self.api_key, self.api_version);
        answer::encode_error(out, key, version, self.correlation_id, self.fault.error_code(), &message);
    }
}

/// Why a sound frame is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// See [`TopicName`](super::topic::TopicName).
    #[error("a topic's name is 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and neither '.' nor '..'")]
    InvalidTopic,
    /// Resends cannot be recognised yet.
    #[error("Source must be null: this version does not recognise a client's resends")]
    Source,
    /// The topic's records do not go to the disk.
    #[error("acks=1 means stored on disk, and this topic is not stored: use acks=all (-1) or acks=0")]
    AcksStored,
    /// No such acks.
    #[error("Acks is {0}: use 0, 1 or all (-1)")]
    Acks(i16),
    /// Neither none nor a time.
    #[error("TimeoutMs is {0}: use -1 for none")]
    Timeout(i32),
    /// Neither none nor a partition.
    #[error("Partition is {0}: use -1 and forebay chooses")]
    Partition(i32),
    /// A request that would have no answer for any record.
    #[error("RecordCount is 0")]
    NoRecords,
    /// Over the listener's limit.
    #[error("{count} records or names are over the limit of {limit}: split them, or raise max_records_per_request")]
    TooMany {
        /// How many came.
        count: u32,
        /// How many may.
        limit: usize,
    },
    /// Kafka's own clients refuse them too.
    #[error("record {record} has the timestamp {timestamp}: use -1 for now")]
    Timestamp {
        /// Which record, counted from 0.
        record: u32,
        /// What it says.
        timestamp: i64,
    },
}

impl Refusal {
    /// The code that the answer carries.
    pub fn error_code(&self) -> i16 {
        match self {
            Refusal::InvalidTopic => codes::INVALID_TOPIC_EXCEPTION,
            Refusal::AcksStored | Refusal::Acks(_) => codes::INVALID_REQUIRED_ACKS,
            Refusal::TooMany { .. } => codes::RECORD_LIST_TOO_LARGE,
            Refusal::Timestamp { .. } => codes::INVALID_TIMESTAMP,
            Refusal::Source | Refusal::Timeout(_) | Refusal::Partition(_) | Refusal::NoRecords => {
                codes::INVALID_REQUEST
            }
        }
    }
}

/// A sound frame that is not served, whole; the frames after it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which kind of frame.
    pub api_key: i16,
    /// To be answered under this id; `None` where the client expects no answer (Dory's messages, acks=0).
    pub correlation_id: Option<i32>,
    /// Records in it, none of them taken: they are to be counted.
    pub records: u32,
    /// Why.
    pub refusal: Refusal,
}

impl Refused {
    /// The answer, if the client expects one.
    pub fn encode_answer(&self, out: &mut Vec<u8>) {
        if let Some(correlation_id) = self.correlation_id {
            let message = self.refusal.to_string();
            answer::encode_error(out, self.api_key, 0, correlation_id, self.refusal.error_code(), &message);
        }
    }
}

/// Why a frame cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The field's size has no room for so many.
    #[error("{field} has {len} bytes or entries, {max} at most")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// How many there are.
        len: usize,
        /// How many there may be.
        max: usize,
    },
}
