//! The requests of one connection that have no answer yet.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::output::Output;
use crate::config::StreamLimits;
use crate::ingest::frame::PRODUCE;
use crate::ingest::frame::answer::{self, encode_produce_answer};
use crate::queue::budget::Budget;
use crate::queue::receipt::{Answers, RecordResult, Request, Results, When};
use crate::wire::codes;

/// What a request costs beside its results: itself, its place here, its words.
const REQUEST_OVERHEAD_BYTES: usize = 320;
/// Bytes of an answer beside its results, without words.
const ANSWER_OVERHEAD_BYTES: usize = 20;
/// Bytes of a record's result in an answer.
const ANSWER_RECORD_BYTES: usize = 14;
/// What a map may keep when it is empty.
const IDLE_CAPACITY: usize = 8;

/// Identifies a request for as long as anybody has it.
type Id = usize;

#[derive(Debug)]
struct Open {
    request: Arc<Request>,
    counted_bytes: usize,
    deadline: Option<Instant>,
    timeout: Duration,
}

/// Each request is here from when it is taken until its answer is encoded; whatever settles after that is not answered
/// again.
#[derive(Debug)]
pub(super) struct Unanswered {
    answers: Arc<Answers>,
    open: HashMap<Id, Open>,
    deadlines: BTreeSet<(Instant, Id)>,
    bytes: usize,
    /// The answers were not all taken for lack of room in the output.
    more: bool,
}

impl Unanswered {
    pub fn new(budget: Arc<Budget>) -> Self {
        Unanswered {
            answers: Answers::new(budget),
            open: HashMap::new(),
            deadlines: BTreeSet::new(),
            bytes: 0,
            more: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Whether no further request may be taken.
    pub fn is_full(&self, limits: &StreamLimits) -> bool {
        self.open.len() >= limits.max_unanswered_requests || self.bytes >= limits.max_unanswered_size
    }

    /// A request that wants an answer, for its receipts. `timeout` counts from `now`.
    pub fn begin(
        &mut self,
        when: When,
        correlation_id: i32,
        records: u32,
        frame_bytes: usize,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Arc<Request> {
        let charged = REQUEST_OVERHEAD_BYTES + records as usize * size_of::<RecordResult>();
        let request = Request::answered_when(when, correlation_id, records, charged, self.answers.clone());
        let counted_bytes = frame_bytes + ANSWER_OVERHEAD_BYTES + records as usize * ANSWER_RECORD_BYTES;
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        let id = id(&request);
        self.bytes += counted_bytes;
        self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
        let timeout = timeout.unwrap_or_default();
        self.open.insert(id, Open { request: request.clone(), counted_bytes, deadline, timeout });
        request
    }

    /// When the next request times out.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Whether there may be answers that only wait for room in the output.
    pub fn has_more(&self) -> bool {
        self.more
    }

    /// Encodes the answers of complete requests, then of those whose time is over, as far as `output` has room. Returns
    /// how many have timed out.
    pub fn answer(&mut self, now: Instant, output: &mut Output) -> u64 {
        self.more = false;
        loop {
            if !output.has_room() {
                self.more = true;
                return 0;
            }
            let Some(request) = self.answers.pop() else { break };
            if self.close(id(&request)).is_some() {
                encode(request.correlation_id, &request.results(), output);
            }
        }
        let mut timed_out = 0;
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            if !output.has_room() {
                self.more = true;
                break;
            }
            let Some(open) = self.close(id) else { continue };
            let words = format!(
                "not all records were settled within {} ms: those with error 7 stay accepted",
                open.timeout.as_millis()
            );
            encode_open(&open.request, codes::REQUEST_TIMED_OUT, &words, output);
            timed_out += 1;
        }
        timed_out
    }

    /// Encodes an answer to each request: what is not settled has an error of its own, and will not be told.
    pub fn answer_all(&mut self, error_code: i16, words: &str, output: &mut Output) {
        for (_, open) in self.open.drain() {
            encode_open(&open.request, error_code, words, output);
        }
        self.clear();
    }

    /// Nobody is to be answered any more.
    pub fn clear(&mut self) {
        self.open.clear();
        self.deadlines.clear();
        self.bytes = 0;
        self.more = false;
    }

    fn close(&mut self, id: Id) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.bytes -= open.counted_bytes;
        if let Some(deadline) = open.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if self.open.is_empty() && self.open.capacity() > IDLE_CAPACITY {
            self.open.shrink_to(IDLE_CAPACITY);
        }
        Some(open)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.answers.close();
    }
}

/// The address cannot be another request's while this one is here or in the answers.
fn id(request: &Arc<Request>) -> Id {
    Arc::as_ptr(request).addr()
}

/// The answer to a request that is not settled: what is not known gets `error_code`.
fn encode_open(request: &Request, error_code: i16, words: &str, output: &mut Output) {
    let mut results = request.results();
    for result in results.records.iter_mut().filter(|result| result.error_code == codes::UNKNOWN_SERVER_ERROR) {
        result.error_code = error_code;
        results.failure = Some((error_code, words.into()));
    }
    encode(request.correlation_id, &results, output);
}

fn encode(correlation_id: i32, results: &Results, output: &mut Output) {
    let failure = results.failure.as_ref().map(|(code, words)| (*code, &**words));
    output.append(|out| {
        if let Err(error) = encode_produce_answer(out, correlation_id, failure, &results.records) {
            let words = error.to_string();
            answer::encode_error(out, PRODUCE, 0, correlation_id, codes::UNKNOWN_SERVER_ERROR, &words);
        }
    });
}
