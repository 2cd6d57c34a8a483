//! DescribeProducers: what the partition's leader remembers.

use bytes::BytesMut;

use crate::devbroker::cluster::Cluster;
use crate::wire::api::describe_producers::{self, PartitionAnswer};
use crate::wire::frame::RequestFrame;
use crate::wire::{WireError, codes};

pub(in crate::devbroker) fn answer(
    cluster: &mut Cluster,
    broker: i32,
    request: RequestFrame,
) -> Result<BytesMut, WireError> {
    let asked = describe_producers::decode_request(request.version, request.body)?;
    let answers: Vec<_> = asked
        .into_iter()
        .map(|(topic, partition)| {
            let (error_code, producers) = match cluster.read(broker, &topic, partition, -1) {
                Ok(led) => (codes::NONE, led.producers()),
                Err(code) => (code, vec![]),
            };
            PartitionAnswer { topic, partition, error_code, producers }
        })
        .collect();
    describe_producers::encode_response(request.version, request.correlation_id, &answers)
}
