//! InitProducerId (key 22): a producer id of one's own, without a transactional id (KIP-98).

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::{ApiKey, duration, milliseconds};
use crate::wire::frame::{self, Frame};
use crate::wire::record_batch::Lane;
use crate::wire::{WireError, shape};

/// Versions that this module encodes and decodes (6 is for two-phase commit, and the crate does not encode it).
pub const VERSIONS: RangeInclusive<i16> = 0..=5;

/// What a broker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How long the broker asks to be left alone.
    pub throttle: Duration,
    /// 0, or why there is no id; 14 is usual while the broker fetches its block of ids.
    pub error_code: i16,
    /// -1 on an error.
    pub producer_id: i64,
    /// 0 with a fresh id, -1 on an error.
    pub epoch: i16,
}

/// Asks for a fresh producer id.
pub fn encode(version: i16, correlation_id: i32, client_id: &str) -> Result<Frame, WireError> {
    // Java too sends the largest timeout without a transactional id: the broker does not look at it.
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
    frame::encode_request(ApiKey::InitProducerId, version, correlation_id, client_id, &request)
}

/// The answer.
pub fn decode(version: i16, body: Bytes) -> Result<Answer, WireError> {
    let response: InitProducerIdResponse = frame::decode(&shape::INIT_PRODUCER_ID_RESPONSE, version, body)?;
    Ok(Answer {
        throttle: duration(response.throttle_time_ms),
        error_code: response.error_code,
        producer_id: response.producer_id.0,
        epoch: response.producer_epoch,
    })
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `None`: idempotent only.
    pub transactional_id: Option<String>,
    /// After how long a transaction of it is aborted.
    pub transaction_timeout: Duration,
    /// The id that it has and wants a new epoch of (KIP-360).
    pub current: Option<Lane>,
}

/// The server's side of [`encode`].
pub fn decode_request(version: i16, body: Bytes) -> Result<Request, WireError> {
    let request: InitProducerIdRequest = frame::decode(shape::request(ApiKey::InitProducerId), version, body)?;
    let current = Lane { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    Ok(Request {
        transactional_id: request.transactional_id.map(|id| id.0.to_string()),
        transaction_timeout: duration(request.transaction_timeout_ms),
        current: (current.producer_id >= 0).then_some(current),
    })
}

/// The server's side of [`decode`].
pub fn encode_response(version: i16, correlation_id: i32, answer: &Answer) -> Result<BytesMut, WireError> {
    let response = InitProducerIdResponse::default()
        .with_throttle_time_ms(milliseconds(answer.throttle))
        .with_error_code(answer.error_code)
        .with_producer_id(ProducerId(answer.producer_id))
        .with_producer_epoch(answer.epoch);
    frame::encode_response(ApiKey::InitProducerId, version, correlation_id, &response)
}
