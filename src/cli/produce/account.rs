//! What was sent, and what the answers say became of it. Pure.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::report::{End, Place, RecordFailure, Tally};
use crate::ingest::frame::answer::{Answer, AnswerBody, RecordResults};
use crate::ingest::frame::produce::Acks;
use crate::wire::codes;

/// A request without its answer.
#[derive(Debug)]
pub(super) struct Sent {
    /// The number of its first record, from 1.
    pub(super) first: u64,
    /// How many.
    pub(super) records: u64,
    /// When to give up waiting for it; `None`: never.
    pub(super) deadline: Option<Instant>,
}

/// The requests without an answer, and the tally of those with one.
#[derive(Debug)]
pub(super) struct Account<P> {
    sent: BTreeMap<i32, Sent>,
    tally: Tally,
    /// Records in requests so far, answered or not.
    requested: u64,
    /// Called with how many records are acknowledged, and how many are sent.
    progress: P,
}

impl<P: Fn(u64, u64)> Account<P> {
    /// `acks`: what is asked for.
    pub(super) fn new(acks: Acks, progress: P) -> Self {
        let tally = Tally { acks, ..Tally::default() };
        Account { sent: BTreeMap::new(), tally, requested: 0, progress }
    }

    /// A request goes out that will be answered under this id.
    pub(super) fn add(&mut self, correlation_id: i32, sent: Sent) {
        self.requested += sent.records;
        self.sent.insert(correlation_id, sent);
        self.show_progress();
    }

    /// A request goes out that will not be answered: this is all that its records can get.
    pub(super) fn add_unanswered(&mut self, records: u64) {
        self.requested += records;
        self.tally.acknowledged += records;
        self.show_progress();
    }

    fn show_progress(&self) {
        (self.progress)(self.tally.acknowledged, self.requested);
    }

    /// Requests without an answer.
    pub(super) fn unanswered(&self) -> usize {
        self.sent.len()
    }

    /// When to give up waiting for the next of them.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.values().filter_map(|sent| sent.deadline).min()
    }

    /// Whether a record did not get what was asked for.
    pub(super) fn has_failed(&self) -> bool {
        self.tally.failure.is_some()
    }

    /// Of what has no answer now, nothing will be known.
    pub(super) fn close(mut self, unsent_from: Option<u64>) -> Tally {
        self.tally.unknown += self.sent.values().map(|sent| sent.records).sum::<u64>();
        self.tally.unsent_from = unsent_from;
        self.tally
    }

    /// Counts what an answer says.
    ///
    /// # Errors
    /// If the answer shows that the connection is of no more use.
    pub(super) fn take(&mut self, answer: &Answer<'_>) -> Result<(), End> {
        let Some(sent) = self.sent.remove(&answer.correlation_id) else {
            return Err(End::Lost(stray(answer)));
        };
        match answer.body {
            AnswerBody::Empty => {
                let results = (0..sent.records).map(|_| answer.error_code);
                self.settle(&sent, answer, results);
            }
            AnswerBody::Produce(results) if results.iter().len() as u64 == sent.records => {
                self.settle(&sent, answer, results.iter().map(|result| result.error_code));
                self.locate(results);
            }
            _ => {
                self.tally.unknown += sent.records;
                return Err(End::Lost("an answer does not fit its request".to_owned()));
            }
        }
        Ok(())
    }

    /// Counts what became of the records of a request.
    fn settle(&mut self, sent: &Sent, answer: &Answer<'_>, results: impl Iterator<Item = i16>) {
        let mut failure: Option<(u64, i16)> = None;
        for (record, code) in (sent.first..).zip(results) {
            match code {
                codes::NONE => self.tally.acknowledged += 1,
                // The daemon's disk fails: it keeps the record in memory.
                codes::KAFKA_STORAGE_ERROR if self.tally.acks == Acks::Stored => self.tally.unsettled += 1,
                codes::REQUEST_TIMED_OUT => self.tally.unsettled += 1,
                codes::UNKNOWN_SERVER_ERROR => self.tally.unknown += 1,
                _ => self.tally.refused += 1,
            }
            // The message speaks of a record with the answer's own code.
            let explained = failure.is_some_and(|(_, code)| code == answer.error_code);
            if code != codes::NONE && (failure.is_none() || (code == answer.error_code && !explained)) {
                failure = Some((record, code));
            }
        }
        self.show_progress();
        if let Some((record, code)) = failure {
            let message = answer.message.filter(|_| code == answer.error_code).map(str::to_owned);
            self.tally.failure.get_or_insert(RecordFailure { record, code, message });
        }
    }

    /// Notes where the records are now.
    fn locate(&mut self, results: RecordResults<'_>) {
        for result in results.iter().filter(|result| result.error_code == codes::NONE) {
            let offset = result.offset;
            let place =
                self.tally.places.entry(result.partition).or_insert(Place { records: 0, offsets: offset..=offset });
            place.records += 1;
            place.offsets = *place.offsets.start().min(&offset)..=*place.offsets.end().max(&offset);
        }
    }
}

/// An answer to no request is the daemon's last word, or not forebay's at all.
fn stray(answer: &Answer<'_>) -> String {
    let code = answer.error_code;
    match answer.message {
        _ if code == codes::NONE => "an answer came to no request".to_owned(),
        None => format!("the daemon ends the connection: {} ({code})", codes::name(code)),
        Some(message) => format!("the daemon ends the connection: {} ({code}): {message}", codes::name(code)),
    }
}
