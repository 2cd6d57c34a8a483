//! One connection to the daemon: pieces of the input go out as requests, answers come back and are counted.
//!
//! It first asks for the listener's limits, so that a record which cannot be sent is known before the daemon would close the
//! connection over it. After the first failure nothing more is sent, and what is under way is waited for.
//!
//! Invariants: at most [`UNANSWERED_MAX`] requests are unanswered and about [`WAITING_BYTES_MAX`] bytes wait to be written; input is
//! read only when all whole pieces of what was read are in requests. Answers are always read: a daemon that cannot write does not read.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::account::{Account, Sent};
use super::cut::{Cut, Pieces};
use super::input::{Chunk, InputError};
use super::report::{End, Tally};
use super::request::{Options, REQUEST_BYTES_MAX};
use crate::cli::signals::Interrupted;
use crate::ingest::frame::answer::{Answer, AnswerBody, next_answer};
use crate::ingest::frame::produce::Acks;
use crate::ingest::frame::query::encode_versions_request;
use crate::ingest::frame::{Decoded, Limits};

/// Requests that may be unanswered.
pub(super) const UNANSWERED_MAX: usize = 64;
/// Bytes that may wait to be written before another request is made.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Bytes of the largest answer: many more than one about that many records has.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Bytes to read at once.
const READ_BYTES: usize = 16 * 1024;
/// How much longer than its timeout to wait for an answer that should say that it is over: it tells of each record.
const GRACE: Duration = Duration::from_secs(1);
/// The CorrelationId of the question for limits; no request for records has it.
const LIMITS_ID: i32 = -1;

/// The state of one run of `produce`.
#[derive(Debug)]
pub(super) struct Exchange<P> {
    options: Options,
    /// Known once the daemon has told them.
    limits: Option<Limits>,
    pieces: Pieces,
    /// Whether all of the input has been read.
    input_over: bool,
    /// What is to be written, and how much of it is.
    out: Vec<u8>,
    written: usize,
    /// The beginning of an answer.
    answers: Vec<u8>,
    account: Account<P>,
    next_id: i32,
    /// Why the input ended too early.
    input_end: Option<End>,
    /// When to give up waiting for something that belongs to no request: the limits, or the daemon's end of the connection.
    deadline: Option<Instant>,
}

type Chunks = mpsc::Receiver<Result<Chunk, InputError>>;

impl<P: Fn(u64, u64)> Exchange<P> {
    pub(super) fn new(options: Options, cut: Cut, progress: P) -> Self {
        let account = Account::new(options.acks, progress);
        Exchange {
            options,
            account,
            limits: None,
            pieces: Pieces::new(cut),
            input_over: false,
            out: Vec::new(),
            written: 0,
            answers: Vec::new(),
            next_id: 0,
            input_end: None,
            deadline: None,
        }
    }

    /// Sends what comes in `chunks` until all is answered, something fails or `interrupted` is ready.
    pub(super) async fn run(
        mut self,
        stream: UnixStream,
        chunks: Chunks,
        interrupted: impl Future<Output = Interrupted>,
    ) -> (Tally, End) {
        let end = match self.exchange(stream, chunks, interrupted).await {
            Ok(()) => self.input_end.take().unwrap_or(End::Complete),
            Err(end) => end,
        };
        let failed = self.account.has_failed() || !matches!(end, End::Complete);
        let unsent_from = (failed && !self.pieces.is_over()).then(|| self.pieces.number());
        (self.account.close(unsent_from), end)
    }

    async fn exchange(
        &mut self,
        stream: UnixStream,
        mut chunks: Chunks,
        interrupted: impl Future<Output = Interrupted>,
    ) -> Result<(), End> {
        let (mut reader, mut writer) = stream.into_split();
        let mut interrupted = pin!(interrupted);
        let mut closing = false;
        encode_versions_request(&mut self.out, LIMITS_ID);
        self.deadline = self.deadline_from_now();
        loop {
            self.make_requests();
            if self.is_done() && !closing {
                if self.options.acks != Acks::None {
                    return Ok(());
                }
                // What the daemon has read is known when it closes its side.
                closing = writer.shutdown().await.is_ok();
                self.deadline = self.deadline_from_now();
            }
            let deadline = self.next_deadline();
            self.answers.reserve(READ_BYTES);
            tokio::select! {
                biased;
                signal = &mut interrupted => return Err(End::Interrupted(signal)),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err(End::TimedOut);
                },
                read = reader.read_buf(&mut self.answers) => match read {
                    Ok(0) if closing => return Ok(()),
                    Ok(0) => return Err(self.lost("the daemon closed the connection")),
                    Ok(_) => self.take_answers()?,
                    Err(error) => return Err(self.lost(format_args!("the connection to the daemon broke: {error}"))),
                },
                written = writer.write(self.out.get(self.written..).unwrap_or_default()), if !self.out.is_empty() => {
                    match written {
                        Ok(written) => self.wrote(written),
                        // The daemon has closed its side; what it said before can still be read.
                        Err(_) => self.give_up_writing(),
                    }
                },
                chunk = chunks.recv(), if self.wants_input() => self.take_input(chunk, &mut chunks),
            }
        }
    }

    /// Whether the input is over and everything is written and answered.
    fn is_done(&mut self) -> bool {
        self.limits.is_some()
            && (self.stopped() || self.pieces.is_over())
            && self.out.is_empty()
            && self.account.unanswered() == 0
    }

    /// Whether something has failed, so that no more is sent.
    fn stopped(&self) -> bool {
        self.account.has_failed() || self.input_end.is_some()
    }

    fn wants_input(&mut self) -> bool {
        let Some(limits) = self.limits else { return false };
        !self.input_over
            && !self.stopped()
            && self.pieces.len_bytes() <= limits.max_frame_size
            && self.pieces.first().is_none()
    }

    fn deadline_from_now(&self) -> Option<Instant> {
        self.options.timeout.map(|timeout| Instant::now() + timeout + GRACE)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.account.deadline().into_iter().chain(self.deadline).min()
    }

    fn lost(&self, why: impl std::fmt::Display) -> End {
        let hint = match self.limits {
            None => " before it said anything; are there max_connections clients already?",
            Some(_) => "",
        };
        End::Lost(format!("{why}{hint}"))
    }

    /// Takes a chunk and those that wait behind it; nothing is the end of the input.
    fn take_input(&mut self, first: Option<Result<Chunk, InputError>>, chunks: &mut Chunks) {
        let mut next = first;
        loop {
            match next {
                Some(Ok(Chunk::Bytes(bytes))) => self.pieces.push(&bytes),
                Some(Ok(Chunk::EndOfSource)) => self.pieces.end_source(),
                Some(Err(error)) => return self.stop(End::Input(error)),
                None => {
                    self.input_over = true;
                    return self.pieces.end();
                }
            }
            if self.pieces.len_bytes() >= REQUEST_BYTES_MAX {
                return;
            }
            match chunks.try_recv() {
                Ok(chunk) => next = Some(chunk),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => next = None,
            }
        }
    }

    /// Sends no more.
    fn stop(&mut self, why: End) {
        self.input_end.get_or_insert(why);
    }

    fn wrote(&mut self, written: usize) {
        self.written += written;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
    }

    fn give_up_writing(&mut self) {
        self.out.clear();
        self.written = 0;
        self.stop(End::Lost("the daemon closed the connection".to_owned()));
    }

    /// Makes requests of the pieces that are there, as many as may be unanswered.
    fn make_requests(&mut self) {
        let Some(limits) = self.limits else { return };
        while !self.stopped() && self.account.unanswered() < UNANSWERED_MAX && self.out.len() < WAITING_BYTES_MAX {
            let first = self.pieces.number();
            let made = self.options.encode_request(self.next_id, &mut self.pieces, &limits, &mut self.out);
            let records = match made {
                Ok(0) => break,
                Ok(records) => records,
                Err(end) => {
                    // What is under way is waited for.
                    self.stop(end);
                    break;
                }
            };
            match self.options.acks {
                Acks::All | Acks::Stored => {
                    let deadline = self.deadline_from_now();
                    self.account.add(self.next_id, Sent { first, records, deadline });
                }
                Acks::None => self.account.add_unanswered(records),
            }
            self.next_id = self.next_id.wrapping_add(1) & i32::MAX;
        }
    }

    fn take_answers(&mut self) -> Result<(), End> {
        let answers = std::mem::take(&mut self.answers);
        let mut rest = answers.as_slice();
        loop {
            match next_answer(rest, ANSWER_BYTES_MAX) {
                Decoded::NeedMore { .. } => break,
                Decoded::Frame { frame, len } => {
                    self.take_answer(&frame)?;
                    rest = rest.get(len..).unwrap_or_default();
                }
                Decoded::Malformed(malformed) => {
                    return Err(End::Lost(match self.limits {
                        None => {
                            "what came is no answer of forebay's: is it the socket of a stream listener?".to_owned()
                        }
                        Some(_) => format!("what came is no answer of forebay's: {malformed}"),
                    }));
                }
            }
        }
        self.answers = rest.to_vec();
        Ok(())
    }

    fn take_answer(&mut self, answer: &Answer<'_>) -> Result<(), End> {
        if let (None, AnswerBody::Versions { max_frame_size, max_records_per_request, .. }) =
            (self.limits, &answer.body)
        {
            let limit = |limit: i32| usize::try_from(limit).unwrap_or_default();
            let (max_frame_size, max_records) = (limit(*max_frame_size), limit(*max_records_per_request));
            self.limits = Some(Limits { max_frame_size, max_records_per_request: max_records.max(1) });
            self.deadline = None;
            return Ok(());
        }
        self.account.take(answer)
    }
}
