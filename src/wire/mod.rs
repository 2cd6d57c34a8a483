//! Kafka's bytes: the only module that imports `kafka_protocol`.
//!
//! Requests and record batches leave as bytes, answers come in as bytes and leave as plain structs of our own. What is here:
//!
//! - [`codec`] and [`record_batch`]: records → a batch (magic 2), and back. Written by us, since it is the hot path and
//!   since the crate collapses headers of the same name.
//! - [`api`]: one file per API key, the client's side and, for the devbroker, the server's.
//! - [`frame`]: what stands around a message: length, request header, response header.
//! - [`shape`]: checks every length in a message from the network before the crate allocates for it.
//! - [`connection`]: one pipelined connection, generic over its stream.
//!
//! Invariants: no bytes from outside cause a panic, or an allocation larger than a small multiple of what arrived. No type
//! of `kafka_protocol` appears in a public signature, so the crate can be replaced here alone.
//!
//! Deliberately absent: time, retries, and any decision on what an error code means for a batch.

pub mod codes;

pub mod codec;
pub mod record_batch;

pub mod api;
pub mod frame;
pub mod shape;

pub mod connection;

/// Why bytes could not be encoded or decoded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    /// A length, count or field of a message does not fit the bytes that are there.
    #[error("malformed {what} at byte {at}: {why}")]
    Malformed {
        /// The message or structure that was being read.
        what: &'static str,
        /// Byte offset in it, as far as it is known.
        at: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// `kafka_protocol` refused a message whose lengths are right (a null where none may be, bytes that are not UTF-8).
    #[error("malformed {what}: {why}")]
    Refused {
        /// The message.
        what: &'static str,
        /// The crate's words.
        why: String,
    },
    /// A message cannot be encoded: a field has no place in this version, or is too long.
    #[error("cannot encode {what}: {why}")]
    Unencodable {
        /// The message.
        what: &'static str,
        /// The crate's words.
        why: String,
    },
    /// We do not speak this version of this API.
    #[error("version {version} of {api} is not supported")]
    UnsupportedVersion {
        /// The API's name.
        api: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// We do not know this API at all.
    #[error("api key {0} is not supported")]
    UnknownApi(i16),
    /// The checksum of a record batch does not fit its bytes.
    #[error("record batch has crc {stored:#010x} but its bytes give {computed:#010x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// CRC-32C of bytes 21 onwards.
        computed: u32,
    },
    /// The records are compressed in a way that cannot be read or written here.
    #[error("compression {0} is not supported")]
    UnsupportedCodec(&'static str),
    /// Compressed records could not be decompressed, or a compressor failed.
    #[error("{codec} failed: {why}")]
    Codec {
        /// Which.
        codec: &'static str,
        /// The library's words.
        why: String,
    },
    /// Decompressed records would be larger than allowed.
    #[error("records decompress to more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}
