//! OffsetForLeaderEpoch: where an epoch ends in the log.

use bytes::BytesMut;

use crate::devbroker::cluster::Cluster;
use crate::wire::api::offset_for_leader_epoch::{self, PartitionAnswer};
use crate::wire::frame::RequestFrame;
use crate::wire::{WireError, codes};

pub(in crate::devbroker) fn answer(
    cluster: &mut Cluster,
    broker: i32,
    request: RequestFrame,
) -> Result<BytesMut, WireError> {
    let asked = offset_for_leader_epoch::decode_request(request.version, request.body)?;
    let answers: Vec<_> = asked
        .into_iter()
        .map(|asked| {
            let found = cluster.led(broker, &asked.topic, asked.partition, asked.current_leader_epoch);
            let (error_code, (leader_epoch, end_offset)) = match found {
                Ok(led) => (codes::NONE, led.epoch_end(asked.leader_epoch)),
                Err(code) => (code, (-1, -1)),
            };
            PartitionAnswer { topic: asked.topic, partition: asked.partition, error_code, leader_epoch, end_offset }
        })
        .collect();
    offset_for_leader_epoch::encode_response(request.version, request.correlation_id, &answers)
}
