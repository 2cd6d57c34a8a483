//! InitProducerId: always a fresh id and epoch 0, whatever the client had (that is Kafka's rule without a transactional id).

use std::time::Duration;

use bytes::BytesMut;

use crate::devbroker::cluster::Cluster;
use crate::wire::api::init_producer_id::{self, Answer};
use crate::wire::frame::RequestFrame;
use crate::wire::{WireError, codes};

pub(in crate::devbroker) fn answer(
    cluster: &mut Cluster,
    broker: i32,
    request: RequestFrame,
) -> Result<BytesMut, WireError> {
    let asked = init_producer_id::decode_request(request.version, request.body)?;
    let id = match asked.transactional_id {
        None => cluster.init_producer_id(broker),
        Some(_) => Err(codes::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    };
    let (error_code, producer_id, epoch) = match id {
        Ok(id) => (codes::NONE, id, 0),
        Err(code) => (code, -1, -1),
    };
    let answer = Answer { throttle: Duration::ZERO, error_code, producer_id, epoch };
    init_producer_id::encode_response(request.version, request.correlation_id, &answer)
}
