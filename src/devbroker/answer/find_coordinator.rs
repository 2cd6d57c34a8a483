//! FindCoordinator: there is none.

use bytes::BytesMut;

use crate::wire::api::find_coordinator;
use crate::wire::frame::RequestFrame;
use crate::wire::{WireError, codes};

pub(in crate::devbroker) fn answer(request: RequestFrame) -> Result<BytesMut, WireError> {
    let keys = find_coordinator::decode_request(request.version, request.body)?;
    let reason = "forebay's dev-broker has no consumer groups and no transactions: read by partition and offset";
    let code = codes::COORDINATOR_NOT_AVAILABLE;
    find_coordinator::encode_refusal(request.version, request.correlation_id, &keys, code, reason)
}
