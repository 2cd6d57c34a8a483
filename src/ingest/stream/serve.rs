//! What one connection does with the frames that were read.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::warn;

use super::output::Output;
use super::unanswered::Unanswered;
use super::{Peer, Seat, Shared};
use crate::ingest::frame::answer::{MetadataAnswer, PartitionMetadata, encode_error, encode_versions_answer};
use crate::ingest::frame::error::{Malformed, Refusal, Refused};
use crate::ingest::frame::produce::{Acks, ProduceRequest};
use crate::ingest::frame::query::MetadataRequest;
use crate::ingest::frame::topic::TopicName;
use crate::ingest::frame::{Decoded, METADATA, PRODUCE, Request, next_dory, next_request};
use crate::ingest::{Context, put_dory};
use crate::queue::partition::Partition;
use crate::queue::receipt::When;
use crate::queue::topic::Topics;
use crate::record::TimestampMs;
use crate::route::{By, Outlet};
use crate::wire::codes;

/// Why no further frame was served.
pub(super) enum Rest {
    /// There is none, or not the whole of it: at least so many bytes are needed.
    Incomplete(usize),
    /// The client has to read answers, or wait for some, first.
    Stalled,
    /// It cannot be read.
    Malformed(Malformed),
}

/// What has become of some bytes.
pub(super) struct Served {
    /// So many of them were whole frames, and are done with.
    pub used: usize,
    pub rest: Rest,
}

/// What a connection is, but for its bytes.
pub(super) struct Service {
    pub output: Output,
    pub unanswered: Unanswered,
    outlet: Outlet,
    /// Memory was full when records were put: no more are read before there is room, even if some may be rejected.
    pub must_wait: bool,
    pub peer: Peer,
    /// Last, so that whatever else there is has gone when it is given back.
    seat: Seat,
}

impl Service {
    pub fn new(peer: Peer, seat: Seat, outlet: Outlet) -> Self {
        let output = Output::new(&seat.0.context);
        let unanswered = Unanswered::new(seat.0.context.router.budget().clone());
        Service { output, unanswered, outlet, must_wait: false, peer, seat }
    }

    pub fn shared(&self) -> &Shared {
        &self.seat.0
    }

    fn context(&self) -> &Context {
        &self.seat.0.context
    }

    /// Whether no further request is to be served before some are answered and the answers read.
    pub fn is_full(&self) -> bool {
        self.unanswered.is_full(&self.seat.0.limits) || !self.output.has_room()
    }

    /// A line in the log about something that this client does wrong, if there has been none for a second.
    pub fn log_fault(&self, fault: &dyn fmt::Display, consequence: &'static str) {
        if let Some(times) = self.seat.0.faults.admit() {
            warn!(peer = %self.peer, cause = %fault, times, "{consequence}");
        }
    }

    /// Serves the frames in `bytes`: whatever they hold for the queues is in the queues when this returns.
    pub fn serve(&mut self, bytes: &[u8]) -> Served {
        let arrived = Instant::now();
        let now = (self.context().clock)();
        self.outlet.expect(bytes.len());
        self.output.set_enough(self.seat.0.enough_output());
        let mut used = 0;
        let mut requests = 0;
        let rest = loop {
            let left = bytes.get(used..).unwrap_or_default();
            if left.is_empty() {
                break Rest::Incomplete(0);
            }
            if self.is_full() {
                break Rest::Stalled;
            }
            if let Some((message, len)) = next_dory(left, &self.seat.0.frame) {
                put_dory(&mut self.outlet, &message, now);
                used += len;
                requests += 1;
                continue;
            }
            match next_request(left, &self.seat.0.frame) {
                Decoded::Frame { frame, len } => {
                    self.take(frame, len, arrived, now);
                    used += len;
                    requests += 1;
                }
                Decoded::NeedMore { bytes } => break Rest::Incomplete(bytes),
                Decoded::Malformed(malformed) => break Rest::Malformed(malformed),
            }
        };
        let waiting = self.outlet.flush(arrived);
        self.context().counters.requests.add(requests);
        if waiting > 0 && !self.context().router.budget().has_room() {
            self.must_wait = true;
        }
        Served { used, rest }
    }

    fn take(&mut self, request: Request<'_>, len: usize, arrived: Instant, now: TimestampMs) {
        match request {
            Request::Dory(message) => put_dory(&mut self.outlet, &message, now),
            Request::Produce(request)
                if request.acks == Acks::Stored && !self.outlet.stores(request.topic.as_bytes()) =>
            {
                let (correlation_id, records) = (Some(request.correlation_id), request.record_count);
                self.refuse(&Refused { api_key: PRODUCE, correlation_id, records, refusal: Refusal::AcksStored });
            }
            Request::Produce(request) => self.produce(&request, len, arrived, now),
            Request::Metadata(request) => {
                let limit = self.seat.0.answer_limit();
                let topics = self.context().router.topics().clone();
                self.output.append(|out| answer_metadata(&request, &topics, limit, out));
            }
            Request::Versions(request) => {
                let limits = self.seat.0.frame;
                self.output.append(|out| encode_versions_answer(out, request.correlation_id, &limits));
            }
            Request::Refused(refused) => self.refuse(&refused),
        }
    }

    fn refuse(&mut self, refused: &Refused) {
        let counters = &self.context().counters;
        counters.requests_refused.increment();
        counters.records_refused.add(u64::from(refused.records));
        self.log_fault(&refused.refusal, "request refused");
        self.output.append(|out| refused.encode_answer(out));
    }

    fn produce(&mut self, request: &ProduceRequest<'_>, len: usize, arrived: Instant, now: TimestampMs) {
        let by = request.partition.map_or(By::Key, By::Partition);
        let when = match request.acks {
            Acks::None => None,
            Acks::Stored => Some(When::Stored),
            Acks::All => Some(When::Delivered),
        };
        let waiting = when.map(|when| {
            let ProduceRequest { correlation_id, record_count, timeout, .. } = *request;
            self.unanswered.begin(when, correlation_id, record_count, len, timeout, arrived)
        });
        let topic = request.topic.as_bytes();
        #[cfg(test)]
        assert_ne!(topic, crate::ingest::tests::PANIC_TOPIC.as_bytes());
        let mut records = request.records(now);
        let mut headers = Vec::new();
        for index in 0.. {
            let Some(record) = records.next_record(&mut headers) else { break };
            self.outlet.put(topic, by, &record, waiting.as_ref().map(|request| (request, index)));
        }
    }
}

/// A client's question can be short and its answer long: beyond `limit` bytes it is an error.
fn answer_metadata(request: &MetadataRequest<'_>, topics: &Topics, limit: usize, out: &mut Vec<u8>) {
    if !encode_metadata(request, topics, limit, out) {
        let words = format!("the answer would be over {limit} bytes: ask for fewer topics, by name");
        encode_error(out, METADATA, 0, request.correlation_id, codes::RECORD_LIST_TOO_LARGE, &words);
    }
}

/// False, and nothing appended, if it is too long.
fn encode_metadata(request: &MetadataRequest<'_>, topics: &Topics, limit: usize, out: &mut Vec<u8>) -> bool {
    let mut answer = MetadataAnswer::begin(out, request.correlation_id);
    let mut add = |name: &[u8], partitions: Result<Vec<PartitionMetadata>, i16>| {
        let (error_code, partitions) = match partitions {
            Ok(partitions) => (codes::NONE, partitions),
            Err(error_code) => (error_code, Vec::new()),
        };
        answer.topic(error_code, name, partitions.into_iter()).is_ok() && answer.len_bytes() <= limit
    };
    let fits = if request.topic_count == 0 {
        topics.all().iter().all(|topic| match partitions(topics, &topic.info().name) {
            Some(partitions) => add(topic.info().name.as_bytes(), Ok(partitions)),
            None => true,
        })
    } else {
        request.names().all(|name| match TopicName::new(name) {
            Some(topic) => {
                let known = partitions(topics, topic.as_str());
                if known.is_none() {
                    // So that the cluster is asked, and who asks again is told. Where there are too many such topics it is not.
                    _ = topics.find_or_create(topic.as_str());
                }
                add(name, known.ok_or(codes::UNKNOWN_TOPIC_OR_PARTITION))
            }
            None => add(name, Err(codes::INVALID_TOPIC_EXCEPTION)),
        })
    };
    fits && answer.finish().is_ok()
}

/// `None` if they are not known.
fn partitions(topics: &Topics, name: &str) -> Option<Vec<PartitionMetadata>> {
    let partitions = topics.find(name)?.partitions()?;
    let of = |partition: &Arc<Partition>| {
        let error_code = if partition.has_leader() { codes::NONE } else { codes::LEADER_NOT_AVAILABLE };
        PartitionMetadata { error_code, id: partition.id() }
    };
    Some(partitions.iter().map(of).collect())
}
