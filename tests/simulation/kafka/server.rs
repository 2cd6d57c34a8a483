//! A connection to a broker: requests are carried out one at a time, in order (`SocketServer` mutes a connection meanwhile).

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use forebay::wire::api::metadata::{self, Metadata, Partition};
use forebay::wire::api::produce::{self, PartitionAnswer, TopicRef};
use forebay::wire::api::{ApiKey, api_versions, fetch, init_producer_id};
use forebay::wire::frame::{self, RequestFrame};
use forebay::wire::{WireError, codes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::append::{Placed, Refusal};
use super::controller::{NO_LEADER, Topic};
use super::{Kafka, State};
use crate::network::Stream;

/// An answer, and for how long the broker then does not read on (KIP-219).
type Answer = Result<(BytesMut, Duration), WireError>;

/// Serves a connection until one side ends it. Whatever cannot be read ends it.
pub async fn serve(kafka: Kafka, broker: i32, life: CancellationToken, mut stream: Stream) {
    let mut buffer = BytesMut::new();
    let serving = async {
        while let Some(bytes) = read_frame(&mut stream, &mut buffer).await {
            let Ok(request) = frame::decode_request(bytes) else { return };
            let Ok((answer, pause)) = handle(&kafka, broker, request).await else { return };
            if stream.write_all(&answer).await.is_err() {
                // The client is gone, and what it has sent is carried out all the same.
                continue;
            }
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = life.cancelled() => {}
        () = serving => {}
    }
}

async fn read_frame(stream: &mut Stream, buffer: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(head) = buffer.first_chunk() {
            let size = usize::try_from(i32::from_be_bytes(*head)).ok()?;
            if buffer.len() >= head.len() + size {
                buffer.advance(4);
                return Some(buffer.split_to(size).freeze());
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn handle(kafka: &Kafka, broker: i32, request: RequestFrame) -> Answer {
    let RequestFrame { api, version, correlation_id, .. } = request;
    let answer = match api {
        ApiKey::Produce => return produce(kafka, broker, request).await,
        ApiKey::ApiVersions => {
            let ranges = api_versions(&kafka.state());
            let versions = api_versions::Versions { ranges };
            let answer = api_versions::Answer { versions, ..api_versions::Answer::default() };
            api_versions::encode_response(version, correlation_id, &answer)
        }
        ApiKey::Metadata => {
            let asked = metadata::decode_request(version, request.body)?;
            let answer = kafka.state().describe(broker, version, asked);
            metadata::encode_response(version, correlation_id, &answer)
        }
        ApiKey::InitProducerId => {
            let answer = kafka.state().producer_id(broker);
            init_producer_id::encode_response(version, correlation_id, &answer)
        }
        ApiKey::Fetch => return fetch(kafka, broker, request).await,
        _ => kafka.state().inquire(broker, request),
    };
    Ok((answer?, Duration::ZERO))
}

/// What is offered: an older broker offers less.
fn api_versions(state: &State) -> Vec<(i16, i16, i16)> {
    let (produce, metadata) = state.settings.versions;
    let mut ranges = vec![
        (ApiKey::Produce.id(), *produce::VERSIONS.start(), produce),
        (ApiKey::Metadata.id(), *metadata::VERSIONS.start(), metadata),
        (ApiKey::ApiVersions.id(), *api_versions::VERSIONS.start(), *api_versions::VERSIONS.end()),
        (ApiKey::InitProducerId.id(), *init_producer_id::VERSIONS.start(), *init_producer_id::VERSIONS.end()),
    ];
    ranges.extend(super::inquiries::versions(state.settings.read));
    ranges
}

/// Held back while there is nothing, for as long as the client allows (`DelayedFetch`).
async fn fetch(kafka: &Kafka, broker: i32, request: RequestFrame) -> Answer {
    let asked = fetch::decode_request(request.version, request.body)?;
    let deadline = Instant::now() + asked.max_wait;
    loop {
        let changes = kafka.changes.notified();
        tokio::pin!(changes);
        changes.as_mut().enable();
        let answers: Vec<_> = {
            let state = kafka.state();
            asked.partitions.iter().map(|part| state.read(broker, part)).collect()
        };
        let is_empty = answers.iter().all(|part| part.error_code == codes::NONE && part.records.is_empty());
        if !is_empty || deadline <= Instant::now() {
            let frame = fetch::encode_response(request.version, request.correlation_id, Duration::ZERO, &answers)?;
            return Ok((frame, Duration::ZERO));
        }
        tokio::select! {
            biased;
            () = changes => {}
            () = sleep_until(deadline) => {}
        }
    }
}

async fn produce(kafka: &Kafka, broker: i32, request: RequestFrame) -> Answer {
    let RequestFrame { version, correlation_id, body, .. } = request;
    let asked = produce::decode_request(version, body)?;
    // A broker is not infinitely quick.
    let busy = kafka.state().within(Duration::from_millis(1));
    sleep(busy).await;
    let deadline = Instant::now() + asked.timeout;
    let mut waiting: Vec<Result<Placed, Refusal>> = {
        let mut state = kafka.state();
        let parts = asked.partitions.iter();
        parts
            .map(|part| {
                let bytes = part.records.as_ref().ok_or(codes::INVALID_RECORD)?;
                let placed = state.append(broker, &part.topic, part.partition, bytes);
                note_append(&state, broker, part, bytes, &placed);
                placed
            })
            .collect()
    };
    let mut settled: Vec<Option<i16>> = vec![None; waiting.len()];
    loop {
        let changes = kafka.changes.notified();
        tokio::pin!(changes);
        changes.as_mut().enable();
        {
            let mut state = kafka.state();
            for (settled, part) in settled.iter_mut().zip(&waiting).filter(|(settled, _)| settled.is_none()) {
                *settled = match part {
                    Ok(placed) => state.outcome(broker, placed),
                    Err(refusal) => Some(refusal.code),
                };
            }
        }
        if settled.iter().all(Option::is_some) || deadline <= Instant::now() {
            break;
        }
        tokio::select! {
            biased;
            () = changes => {}
            () = sleep_until(deadline) => {}
        }
    }
    let mut state = kafka.state();
    let throttle = state.brokers.get(&broker).map_or(Duration::ZERO, |node| node.throttle);
    let mut answer = produce::Answer { throttle, ..produce::Answer::default() };
    for ((part, placed), code) in asked.partitions.iter().zip(waiting.drain(..)).zip(settled) {
        let code = code.unwrap_or(codes::REQUEST_TIMED_OUT);
        answer.partitions.push(state.answer(broker, &part.topic, part.partition, placed, code));
    }
    let hinted: Vec<i32> = answer.partitions.iter().filter_map(|p| p.current_leader).map(|(id, _)| id).collect();
    answer.endpoints = state.endpoints().into_iter().filter(|endpoint| hinted.contains(&endpoint.id)).collect();
    let says: Vec<(i32, i16)> = answer.partitions.iter().map(|part| (part.partition, part.error_code)).collect();
    state.trace.note(|| format!("broker {broker} answers {says:?}"));
    Ok((produce::encode_response(version, correlation_id, &answer)?, throttle))
}

fn note_append(
    state: &State,
    broker: i32,
    part: &produce::RequestPartition,
    bytes: &Bytes,
    placed: &Result<Placed, Refusal>,
) {
    state.trace.note(|| {
        let batch = forebay::wire::record_batch::parse_header(bytes);
        let numbers = batch.map(|b| format!("id {} epoch {} {}+{}", b.producer_id, b.epoch, b.base_sequence, b.count));
        let (numbers, partition) = (numbers.unwrap_or_default(), part.partition);
        match placed {
            Ok(placed) => {
                let (topic, from, to) = (&placed.topic, placed.base_offset, placed.required);
                format!("broker {broker} has {numbers} in {topic}-{partition} at {from}..{to}")
            }
            Err(refusal) => {
                format!("broker {broker} refuses {numbers} in {:?}-{partition}: {}", part.topic, refusal.code)
            }
        }
    });
}

impl State {
    fn answer(
        &mut self,
        broker: i32,
        topic: &TopicRef,
        partition: i32,
        placed: Result<Placed, Refusal>,
        code: i16,
    ) -> PartitionAnswer {
        let (base_offset, wrong) = match placed {
            Ok(placed) if code == codes::NONE => (placed.base_offset, Vec::new()),
            Ok(_) => (-1, Vec::new()),
            Err(refusal) => (-1, refusal.records),
        };
        // Who leads instead, as this broker knows it (KIP-951).
        let hint = (code == codes::NOT_LEADER_OR_FOLLOWER).then(|| self.topic_of(broker, topic).ok()).flatten();
        let hint = hint.and_then(|(_, id)| self.believed(broker, (id, partition)));
        PartitionAnswer {
            topic: topic.clone(),
            partition,
            error_code: code,
            base_offset,
            log_append_time: -1,
            record_errors: wrong.into_iter().map(|place| (place, Some("poison".to_owned()))).collect(),
            error_message: None,
            current_leader: hint.filter(|hint| hint.leader != NO_LEADER).map(|hint| (hint.leader, hint.epoch)),
        }
    }

    /// Always a new id and epoch 0; error 14 while a broker has none to give.
    fn producer_id(&mut self, broker: i32) -> init_producer_id::Answer {
        let Some(node) = self.brokers.get_mut(&broker).filter(|node| node.has_ids) else {
            if let Some(node) = self.brokers.get_mut(&broker) {
                node.has_ids = true;
            }
            let error_code = codes::COORDINATOR_LOAD_IN_PROGRESS;
            return init_producer_id::Answer { throttle: Duration::ZERO, error_code, producer_id: -1, epoch: -1 };
        };
        node.has_ids = true;
        self.next_producer_id += 1;
        let (error_code, producer_id) = (codes::NONE, self.next_producer_id);
        init_producer_id::Answer { throttle: Duration::ZERO, error_code, producer_id, epoch: 0 }
    }

    /// The brokers, as clients are told.
    pub fn endpoints(&self) -> Vec<metadata::Broker> {
        let of = |(id, port): (i32, u16)| metadata::Broker { id, host: "broker".to_owned(), port, rack: None };
        let known = self.brokers.iter().filter(|(_, node)| node.is_registered && node.is_up);
        known.map(|(id, node)| of((*id, node.port))).collect()
    }

    /// Metadata, as `broker` knows it.
    fn describe(&self, broker: i32, version: i16, asked: metadata::Request) -> Metadata {
        let image = self.brokers.get(&broker).map(|node| &node.image);
        let topics = asked.topics.unwrap_or_default().into_iter().map(|topic| {
            let name = topic.name.unwrap_or_default();
            match image.and_then(|image| image.get(name.as_str())) {
                Some(known) => describe_topic(name, known, version),
                None => metadata::Topic {
                    error_code: codes::UNKNOWN_TOPIC_OR_PARTITION,
                    name: Some(name),
                    ..metadata::Topic::default()
                },
            }
        });
        Metadata {
            throttle: Duration::ZERO,
            cluster_id: Some("simulated".to_owned()),
            controller_id: broker,
            error_code: codes::NONE,
            brokers: self.endpoints(),
            topics: topics.collect(),
        }
    }
}

fn describe_topic(name: String, topic: &Topic, version: i16) -> metadata::Topic {
    let partitions = (0i32..).zip(&topic.partitions).map(|(id, assignment)| Partition {
        error_code: if assignment.leader == NO_LEADER { codes::LEADER_NOT_AVAILABLE } else { codes::NONE },
        id,
        leader: assignment.leader,
        leader_epoch: if version >= 7 { assignment.epoch } else { -1 },
        replicas: assignment.replicas.clone(),
        in_sync: assignment.in_sync.clone(),
    });
    metadata::Topic { name: Some(name), id: topic.id, partitions: partitions.collect(), ..metadata::Topic::default() }
}
