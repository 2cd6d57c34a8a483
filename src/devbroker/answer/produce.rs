//! Produce: each partition's batch is validated, judged by the deduplication rules and appended.
//!
//! In Kafka's order: a malformed request, a topic or partition that is not there (3, 100), who leads (6), too few replicas in
//! sync (19), size, checksum, contents and timestamps (10, 2, 87, 32), then duplicates and sequence numbers. So a batch that is
//! in the log can still be refused when the limits have changed since.

use std::time::Duration;

use crate::devbroker::check::{CheckedBatch, Refusal};
use crate::devbroker::cluster::Cluster;
use crate::devbroker::producers::Verdict;
use crate::wire::api::produce::{Answer, PartitionAnswer, Request, TopicRef};
use crate::wire::codes;

/// `acks = all`.
const ACKS_ALL: i16 = -1;

/// A request whose batches have been looked at, which takes no lock.
pub(in crate::devbroker) struct Checked {
    acks: i16,
    parts: Vec<Part>,
}

struct Part {
    topic: TopicRef,
    partition: i32,
    batch: Result<CheckedBatch, Refusal>,
}

impl Checked {
    pub(in crate::devbroker) fn new(request: Request, version: i16) -> Self {
        let parts = request.partitions.into_iter().map(|part| Part {
            topic: part.topic,
            partition: part.partition,
            batch: CheckedBatch::check(part.records.as_ref(), version),
        });
        Checked { acks: request.acks, parts: parts.collect() }
    }
}

/// The partitions that a request names, topics by name; those that do not exist are left out.
pub(in crate::devbroker) fn touched(cluster: &Cluster, request: &Request) -> Vec<(String, i32)> {
    let parts = request.partitions.iter();
    parts.filter_map(|part| Some((cluster.topic_name(&part.topic).ok()?, part.partition))).collect()
}

/// Carries a request out at time `now` (ms).
pub(in crate::devbroker) fn carry_out(
    cluster: &mut Cluster,
    broker: i32,
    request: &Checked,
    throttle: Duration,
    now: i64,
) -> Answer {
    let mut answer = Answer { throttle, ..Answer::default() };
    for part in &request.parts {
        let outcome = one(cluster, broker, request.acks, part, now);
        let mut partition = PartitionAnswer {
            topic: part.topic.clone(),
            partition: part.partition,
            error_code: codes::NONE,
            base_offset: -1,
            log_append_time: -1,
            record_errors: vec![],
            error_message: None,
            current_leader: None,
        };
        match outcome {
            Ok((base_offset, log_append_time)) => {
                partition.base_offset = base_offset;
                partition.log_append_time = log_append_time.unwrap_or(-1);
            }
            Err(refusal) => {
                *cluster.counters.refused.entry(refusal.code).or_default() += 1;
                partition.error_code = refusal.code;
                partition.record_errors = refusal.record_errors;
                partition.error_message = refusal.message;
                if refusal.code == codes::NOT_LEADER_OR_FOLLOWER {
                    partition.current_leader = leader_hint(cluster, part);
                }
            }
        }
        answer.partitions.push(partition);
    }
    let hinted: Vec<i32> = answer.partitions.iter().filter_map(|p| p.current_leader).map(|(id, _)| id).collect();
    answer.endpoints = cluster.brokers().into_iter().filter(|broker| hinted.contains(&broker.id)).collect();
    answer
}

/// Who leads instead (KIP-951), if anybody does.
fn leader_hint(cluster: &mut Cluster, part: &Part) -> Option<(i32, i32)> {
    let name = cluster.topic_name(&part.topic).ok()?;
    let partition = cluster.partition(&name, part.partition).ok()?;
    (partition.leader >= 0).then_some((partition.leader, partition.leader_epoch))
}

/// The base offset, and when it was appended where timestamps are the broker's.
fn one(cluster: &mut Cluster, broker: i32, acks: i16, part: &Part, now: i64) -> Result<(i64, Option<i64>), Refusal> {
    if !(ACKS_ALL..=1).contains(&acks) {
        return Err(Refusal::of(codes::INVALID_REQUIRED_ACKS));
    }
    let name = cluster.topic_name(&part.topic).map_err(Refusal::of)?;
    if let Some(code) = cluster.faults.takes_error(&name, part.partition, false) {
        return Err(Refusal::of(code));
    }
    let placed = append(cluster, broker, acks, &name, part, now)?;
    match cluster.faults.takes_error(&name, part.partition, true) {
        Some(code) => Err(Refusal::of(code)),
        None => Ok(placed),
    }
}

fn append(
    cluster: &mut Cluster,
    broker: i32,
    acks: i16,
    name: &str,
    part: &Part,
    now: i64,
) -> Result<(i64, Option<i64>), Refusal> {
    let batch = part.batch.as_ref().map_err(Clone::clone)?;
    let topic = cluster.topics.get(name).ok_or_else(|| Refusal::of(codes::UNKNOWN_TOPIC_OR_PARTITION))?;
    let (limits, append_time) = (topic.limits, topic.log_append_time.then_some(now));
    // No more than there are replicas (`Partition.effectiveMinIsr`).
    let too_few_in_sync = cluster.brokers().len() < cluster.settings.min_insync_replicas.min(cluster.nodes.len());
    let partition = cluster.led(broker, name, part.partition, -1).map_err(Refusal::of)?;
    if (partition.min_insync_lost || too_few_in_sync) && acks == ACKS_ALL {
        return Err(Refusal::of(codes::NOT_ENOUGH_REPLICAS));
    }
    batch.validate(&limits, append_time.is_some(), now)?;
    let numbers = batch.numbers();
    let verdict = partition.judge(&numbers).map_err(Refusal::of)?;
    let known = partition.knows(numbers.producer_id);
    if let Verdict::Duplicate(offset) = verdict {
        cluster.counters.duplicates += 1;
        // Whatever the topic says: Kafka answers the stored batch's time (`UnifiedLog.append`).
        return Ok((offset, append_time.or(Some(batch.max_timestamp()))));
    }
    if !known && let Some(code) = cluster.faults.takes_first_batch(name, part.partition) {
        return Err(Refusal::of(code));
    }
    let bytes = batch.len_bytes() as u64;
    if cluster.held_bytes + bytes > cluster.settings.log_limit_bytes {
        let limit = cluster.settings.log_limit_bytes;
        return Err(Refusal::because(
            codes::KAFKA_STORAGE_ERROR,
            format!("the dev-broker's limit of {limit} bytes is reached"),
        ));
    }
    let base_offset = cluster.led(broker, name, part.partition, -1).map_err(Refusal::of)?.append(batch, append_time);
    cluster.held_bytes += bytes;
    cluster.counters.batches += 1;
    cluster.counters.records += u64::from(batch.count().unsigned_abs());
    Ok((base_offset, append_time))
}
