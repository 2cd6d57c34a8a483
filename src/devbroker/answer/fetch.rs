//! Fetch: batches from an offset on, held back until there are enough bytes or the client's time is over.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::devbroker::Shared;
use crate::devbroker::cluster::Cluster;
use crate::wire::api::fetch::{self, PartitionAnswer, Request, RequestPartition};
use crate::wire::frame::RequestFrame;
use crate::wire::{WireError, codes};

/// The most that one answer holds, but for a larger first batch.
const RESPONSE_BYTES_MAX: usize = 8 << 20;
/// The longest that a client may make a request wait.
const WAIT_MAX: Duration = Duration::from_secs(300);

pub(in crate::devbroker) async fn answer(
    shared: &Shared,
    broker: i32,
    request: RequestFrame,
) -> Result<BytesMut, WireError> {
    let (version, correlation_id) = (request.version, request.correlation_id);
    let asked = fetch::decode_request(version, request.body)?;
    let deadline = Instant::now() + asked.max_wait.min(WAIT_MAX);
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        // From here on no change is missed.
        changed.as_mut().enable();
        let over = Instant::now() >= deadline;
        if let Some(answers) = shared.with(|cluster| read(cluster, broker, &asked, over)) {
            return fetch::encode_response(version, correlation_id, Duration::ZERO, &answers);
        }
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

/// The answer, unless it is to wait: there are too few bytes, no error, and the time is not over.
fn read(cluster: &mut Cluster, broker: i32, asked: &Request, over: bool) -> Option<Vec<PartitionAnswer>> {
    let enough = asked.min_bytes.min(RESPONSE_BYTES_MAX);
    let mut ready = 0;
    let mut failed = false;
    for part in &asked.partitions {
        match place(cluster, broker, part) {
            Ok(()) if ready < enough => {
                let partition = cluster.partition(&part.topic, part.partition);
                ready += partition.map_or(0, |partition| partition.readable(part.offset, enough));
            }
            Ok(()) => {}
            Err(_) => failed = true,
        }
    }
    if ready < enough && !failed && !over {
        return None;
    }
    let mut left = asked.max_bytes.min(RESPONSE_BYTES_MAX);
    let mut first = true;
    let answers = asked.partitions.iter().map(|part| {
        let answer = of_partition(cluster, broker, part, left, first);
        left = left.saturating_sub(answer.records.len());
        first &= answer.records.is_empty();
        answer
    });
    Some(answers.collect())
}

/// Whether the offset can be read here.
fn place(cluster: &mut Cluster, broker: i32, part: &RequestPartition) -> Result<(), i16> {
    let partition = cluster.read(broker, &part.topic, part.partition, part.current_leader_epoch)?;
    if (0..=partition.end()).contains(&part.offset) { Ok(()) } else { Err(codes::OFFSET_OUT_OF_RANGE) }
}

/// `first`: nothing is in the answer yet, so one batch may exceed the limits (KIP-74).
fn of_partition(
    cluster: &mut Cluster,
    broker: i32,
    part: &RequestPartition,
    left: usize,
    first: bool,
) -> PartitionAnswer {
    let mut answer = PartitionAnswer {
        topic: Arc::clone(&part.topic),
        partition: part.partition,
        error_code: codes::NONE,
        high_watermark: -1,
        log_start_offset: -1,
        records: Bytes::new(),
    };
    let found = place(cluster, broker, part).and_then(|()| cluster.partition(&part.topic, part.partition));
    match found {
        Ok(partition) => {
            answer.high_watermark = partition.end();
            answer.log_start_offset = 0;
            answer.records = partition.read(part.offset, left.min(part.max_bytes), first);
        }
        Err(code) => answer.error_code = code,
    }
    answer
}
