//! ListOffsets: the log's start, its end, or the first record stamped at or after a time.

use bytes::BytesMut;

use crate::devbroker::cluster::Cluster;
use crate::devbroker::partition::Partition;
use crate::wire::api::list_offsets::{self, PartitionAnswer, RequestPartition};
use crate::wire::frame::RequestFrame;
use crate::wire::{WireError, codes};

pub(in crate::devbroker) fn answer(
    cluster: &mut Cluster,
    broker: i32,
    request: RequestFrame,
) -> Result<BytesMut, WireError> {
    let asked = list_offsets::decode_request(request.version, request.body)?;
    let answers: Vec<_> = asked.into_iter().map(|asked| of_partition(cluster, broker, asked)).collect();
    list_offsets::encode_response(request.version, request.correlation_id, &answers)
}

fn of_partition(cluster: &mut Cluster, broker: i32, asked: RequestPartition) -> PartitionAnswer {
    let RequestPartition { topic, partition, current_leader_epoch, timestamp } = asked;
    match cluster.led(broker, &topic, partition, current_leader_epoch) {
        Ok(led) => {
            let (timestamp, offset) = find(led, timestamp);
            let leader_epoch = led.leader_epoch;
            PartitionAnswer { topic, partition, error_code: codes::NONE, timestamp, offset, leader_epoch }
        }
        Err(error_code) => {
            PartitionAnswer { topic, partition, error_code, timestamp: -1, offset: -1, leader_epoch: -1 }
        }
    }
}

/// The record's timestamp and offset; -1 for either that there is not.
fn find(partition: &Partition, timestamp: i64) -> (i64, i64) {
    match timestamp {
        list_offsets::LATEST => (-1, partition.end()),
        list_offsets::EARLIEST => (-1, 0),
        list_offsets::MAX_TIMESTAMP => {
            let newest = partition.log().iter().map(|stored| stored.max_timestamp).max();
            newest.and_then(|newest| partition.first_since(newest)).unwrap_or((-1, -1))
        }
        wanted => partition.first_since(wanted).unwrap_or((-1, -1)),
    }
}
