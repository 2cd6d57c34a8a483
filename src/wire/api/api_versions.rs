//! ApiVersions (key 18): what a broker speaks. The first request on every connection (KIP-35, KIP-511).

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, api_versions_response::ApiVersion};
use kafka_protocol::protocol::StrBytes;

use super::{ApiKey, duration, milliseconds};
use crate::wire::frame::{self, Frame};
use crate::wire::{WireError, codes, shape};

/// Versions that this module encodes and decodes.
pub const VERSIONS: RangeInclusive<i16> = 0..=4;

/// What a broker offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    /// (API key, first version, last version) as the broker lists them, APIs unknown to us included.
    pub ranges: Vec<(i16, i16, i16)>,
}

impl Versions {
    /// The highest version that both sides speak.
    pub fn pick(&self, api: ApiKey, ours: RangeInclusive<i16>) -> Option<i16> {
        let (_, first, last) = self.ranges.iter().find(|(key, _, _)| *key == api.id())?;
        let version = (*last).min(*ours.end());
        (version >= *first && version >= *ours.start()).then_some(version)
    }
}

/// What a broker answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// How long the broker asks to be left alone.
    pub throttle: Duration,
    /// 0, or 35 with at least the versions of ApiVersions itself, as a rule.
    pub error_code: i16,
    /// What it offers.
    pub versions: Versions,
}

/// The request. Since version 3 it names the client's software.
pub fn encode(version: i16, correlation_id: i32, client_id: &str) -> Result<Frame, WireError> {
    let mut request = ApiVersionsRequest::default();
    if version >= 3 {
        // Kafka refuses names outside of [a-zA-Z0-9.-] (ApiVersionsRequest.java).
        request = request
            .with_client_software_name(StrBytes::from_static_str(env!("CARGO_PKG_NAME")))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    }
    frame::encode_request(ApiKey::ApiVersions, version, correlation_id, client_id, &request)
}

/// The answer to a request of `version`. A refusal of that version (35) is read in the form of version 0, whatever was asked
/// (KIP-511).
pub fn decode(version: i16, body: Bytes) -> Result<Answer, WireError> {
    let refused = body.clone().try_get_i16() == Ok(codes::UNSUPPORTED_VERSION);
    let version = if refused { 0 } else { version };
    let response: ApiVersionsResponse = frame::decode(&shape::API_VERSIONS_RESPONSE, version, body)?;
    let ranges = response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    Ok(Answer {
        throttle: duration(response.throttle_time_ms),
        error_code: response.error_code,
        versions: Versions { ranges },
    })
}

/// What a client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Name of its software, empty before version 3.
    pub software_name: String,
    /// Version of its software, empty before version 3.
    pub software_version: String,
}

/// The server's side of [`encode`]. A version outside of [`VERSIONS`] is to be answered with [`unsupported`].
pub fn decode_request(version: i16, body: Bytes) -> Result<Request, WireError> {
    let request: ApiVersionsRequest = frame::decode(shape::request(ApiKey::ApiVersions), version, body)?;
    Ok(Request {
        software_name: request.client_software_name.to_string(),
        software_version: request.client_software_version.to_string(),
    })
}

/// The server's side of [`decode`].
pub fn encode_response(version: i16, correlation_id: i32, answer: &Answer) -> Result<BytesMut, WireError> {
    let ranges = answer.versions.ranges.iter().map(|(key, first, last)| {
        ApiVersion::default().with_api_key(*key).with_min_version(*first).with_max_version(*last)
    });
    let mut response =
        ApiVersionsResponse::default().with_error_code(answer.error_code).with_api_keys(ranges.collect());
    if version >= 1 {
        response = response.with_throttle_time_ms(milliseconds(answer.throttle));
    }
    frame::encode_response(ApiKey::ApiVersions, version, correlation_id, &response)
}

/// The answer to a version that is not served: error 35 in the form of version 0, with the versions that are.
pub fn unsupported(correlation_id: i32, served: RangeInclusive<i16>) -> Result<BytesMut, WireError> {
    let ranges = vec![(ApiKey::ApiVersions.id(), *served.start(), *served.end())];
    let answer = Answer { error_code: codes::UNSUPPORTED_VERSION, versions: Versions { ranges }, ..Answer::default() };
    encode_response(0, correlation_id, &answer)
}
