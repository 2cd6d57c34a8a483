//! FindCoordinator (key 10), the server's side: there are no groups and no transactions here, and the answer says so.
//!
//! Clients look for the key in ApiVersions (librdkafka takes LZ4 to be supported only where it is listed), and some ask.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::ApiKey;
use crate::wire::frame;
use crate::wire::{WireError, shape};

/// Versions that this module decodes and encodes. 4: several keys at once (KIP-699).
pub const VERSIONS: RangeInclusive<i16> = 0..=4;

/// From this version on a request has several keys.
const SEVERAL_SINCE: i16 = 4;

/// The groups or transactional ids whose coordinator is asked for.
pub fn decode_request(version: i16, body: Bytes) -> Result<Vec<String>, WireError> {
    let request: FindCoordinatorRequest = frame::decode(shape::request(ApiKey::FindCoordinator), version, body)?;
    Ok(if version >= SEVERAL_SINCE {
        request.coordinator_keys.iter().map(|key| key.to_string()).collect()
    } else {
        vec![request.key.to_string()]
    })
}

/// Refuses every key with one error and its reason.
pub fn encode_refusal(
    version: i16,
    correlation_id: i32,
    keys: &[String],
    error_code: i16,
    reason: &str,
) -> Result<BytesMut, WireError> {
    let reason = Some(StrBytes::from_string(reason.to_owned()));
    let mut response = FindCoordinatorResponse::default();
    if version >= SEVERAL_SINCE {
        let coordinators = keys.iter().map(|key| {
            Coordinator::default()
                .with_key(StrBytes::from_string(key.clone()))
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_code(error_code)
                .with_error_message(reason.clone())
        });
        response = response.with_coordinators(coordinators.collect());
    } else {
        response = response.with_error_code(error_code).with_node_id(BrokerId(-1)).with_port(-1);
        if version >= 1 {
            response = response.with_error_message(reason);
        }
    }
    frame::encode_response(ApiKey::FindCoordinator, version, correlation_id, &response)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::protocol::{Decodable, Encodable};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_key_is_refused_in_every_version() {
        for version in VERSIONS {
            let key = StrBytes::from_static_str("group");
            let message = FindCoordinatorRequest::default();
            let message =
                if version >= SEVERAL_SINCE { message.with_coordinator_keys(vec![key]) } else { message.with_key(key) };
            let mut body = BytesMut::new();
            message.encode(&mut body, version).unwrap();
            let keys = decode_request(version, body.freeze()).unwrap();
            assert_eq!(keys, ["group"]);

            let mut frame = encode_refusal(version, 5, &keys, 15, "none here").unwrap().freeze();
            assert_eq!(frame.get_i32() as usize, frame.len());
            let (_, mut body) = frame::strip_response_header(frame, ApiKey::FindCoordinator, version).unwrap();
            let response = FindCoordinatorResponse::decode(&mut body, version).unwrap();
            let code = response.coordinators.first().map_or(response.error_code, |first| first.error_code);
            assert_eq!(code, 15, "version {version}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_refused(bytes in prop::collection::vec(0..6_u8, 0..50), version in VERSIONS) {
            let _ = decode_request(version, bytes.into());
        }
    }
}
