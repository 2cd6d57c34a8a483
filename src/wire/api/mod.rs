//! Kafka's APIs, one file per key: the client's side, and the server's for the devbroker.
//!
//! Plain structs in and out. A client's `encode` gives a whole [`super::frame::Frame`]; its `decode` takes the response after its
//! header. A server's `decode_request` takes the request after its header; its `encode_response` gives the whole frame.
//! Which version to use is the caller's choice, from what [`api_versions::Versions`] offers and the file's `VERSIONS`.

use std::time::Duration;

pub mod api_versions;
pub mod init_producer_id;
pub mod metadata;
pub mod produce;

pub mod describe_configs;
pub mod describe_producers;
pub mod fetch;
pub mod find_coordinator;
pub mod list_offsets;
pub mod offset_for_leader_epoch;

/// The APIs that forebay or its devbroker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ApiKey {
    /// Appends record batches.
    Produce = 0,
    /// Reads record batches.
    Fetch = 1,
    /// First and last offsets, or one by timestamp.
    ListOffsets = 2,
    /// Brokers, topics, partitions, leaders.
    Metadata = 3,
    /// Who coordinates a group or transaction.
    FindCoordinator = 10,
    /// What the broker speaks.
    ApiVersions = 18,
    /// Where a leader's epoch ends in the log.
    OffsetForLeaderEpoch = 23,
    /// A producer id of one's own.
    InitProducerId = 22,
    /// The settings of topics.
    DescribeConfigs = 32,
    /// What a partition knows of its producers.
    DescribeProducers = 61,
}

impl ApiKey {
    /// Every one.
    pub const ALL: [ApiKey; 10] = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::FindCoordinator,
        ApiKey::ApiVersions,
        ApiKey::InitProducerId,
        ApiKey::DescribeConfigs,
        ApiKey::DescribeProducers,
        ApiKey::OffsetForLeaderEpoch,
    ];

    /// The number on the wire.
    pub fn id(self) -> i16 {
        self as i16
    }

    /// The API of a number.
    pub fn from_id(id: i16) -> Option<ApiKey> {
        ApiKey::ALL.into_iter().find(|api| api.id() == id)
    }

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            ApiKey::Produce => "Produce",
            ApiKey::Fetch => "Fetch",
            ApiKey::ListOffsets => "ListOffsets",
            ApiKey::Metadata => "Metadata",
            ApiKey::FindCoordinator => "FindCoordinator",
            ApiKey::ApiVersions => "ApiVersions",
            ApiKey::InitProducerId => "InitProducerId",
            ApiKey::DescribeConfigs => "DescribeConfigs",
            ApiKey::DescribeProducers => "DescribeProducers",
            ApiKey::OffsetForLeaderEpoch => "OffsetForLeaderEpoch",
        }
    }
}

/// A duration of the wire, in milliseconds; a negative one is none.
fn duration(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A duration for the wire, cut to what 32 bits hold (24 days).
fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
