//! One client's connection: one task, which reads when it may and writes when it must.
//!
//! Between two waits everything is synchronous ([`Connection::step`], [`Connection::read`]), and every wait is cancel safe, so
//! the task can be dropped at any await point. What it waits for follows from its state; there is no second task, and no channel.

mod ending;
mod reading;

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Shared;
use super::crowd::ANSWER_TIMEOUT;
use super::frame_clock::FrameClock;
use super::input::Input;
use super::serve::Service;
use crate::ingest::READ_BYTES;
use crate::ingest::frame;

/// How often a connection looks whether it has to end or to go on though nothing happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Connection {
    stream: UnixStream,
    input: Input,
    service: Service,
    clock: FrameClock,
    /// Since when the client has taken nothing of the answers that are there.
    unread: FrameClock,
    /// Of the share for large frames, while one is read.
    permit: Option<OwnedSemaphorePermit>,
    /// The last answer, until it is written: a frame could not be read.
    farewell: Option<Vec<u8>>,
    /// When the connection ends at the latest, since a frame could not be read.
    end_by: Option<Instant>,
    /// When to look whether a client that sends no more is still there, or what has become of a crowd.
    next_look: Option<Instant>,
    /// Not after the stream's end, a malformed frame, or when the daemon closes.
    is_reading: bool,
    /// Frames may be pending that cannot be served before answers are written.
    is_stalled: bool,
    /// There is something to read, and no room for it.
    is_short_of_room: bool,
    /// The client has begun a frame of which nothing was read, because of a crowd.
    is_left: bool,
}

/// What reading waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It does not: the client has to read answers first, or will send no more.
    Idle,
    /// For the share of memory that large frames have.
    Permit,
    /// For the client.
    Client,
    /// For room in the memory budget.
    Room,
}

enum Event {
    /// The daemon ends.
    Stop,
    /// The daemon reads no more.
    Closing,
    /// Answers may be ready, or may be written, or a time has come.
    Step,
    Permit(Option<OwnedSemaphorePermit>),
    Readable,
    /// Room for a read is reserved.
    Room,
}

impl Connection {
    pub fn new(stream: UnixStream, service: Service) -> Self {
        Connection {
            stream,
            input: Input::new(&service.shared().context),
            service,
            clock: FrameClock::default(),
            unread: FrameClock::default(),
            permit: None,
            farewell: None,
            end_by: None,
            next_look: None,
            is_reading: true,
            is_stalled: false,
            is_short_of_room: false,
            is_left: false,
        }
    }

    fn shared(&self) -> &Shared {
        self.service.shared()
    }

    /// Until the client has ended it and has all its answers, or `closing` and it has, or `stop`.
    #[expect(clippy::manual_async_fn, reason = "an async fn would keep room for the connection twice")]
    pub fn run(mut self, closing: CancellationToken, stop: CancellationToken) -> impl Future<Output = ()> {
        async move { self.serve_client(&closing, &stop).await }
    }

    async fn serve_client(&mut self, closing: &CancellationToken, stop: &CancellationToken) {
        loop {
            // A client that never stops sending leaves the worker to others now and then.
            tokio::task::coop::consume_budget().await;
            if self.step(Instant::now()).is_break() {
                break;
            }
            match self.wait(closing, stop).await {
                Event::Step => {}
                Event::Readable if self.reserve_now() => self.read(READ_BYTES),
                Event::Readable => self.is_short_of_room = true,
                Event::Room => {
                    self.service.must_wait = false;
                    self.read(READ_BYTES);
                }
                Event::Permit(permit) => self.permit = permit,
                Event::Closing => self.end_reading(),
                Event::Stop => return self.last_words().await,
            }
        }
        debug!(peer = %self.service.peer, "disconnected");
        if self.end_by.is_some() {
            self.linger().await;
        }
    }

    async fn wait(&self, closing: &CancellationToken, stop: &CancellationToken) -> Event {
        let Connection { stream, service: Service { output, unanswered, .. }, .. } = self;
        let shared = self.shared();
        let phase = self.phase();
        let alarm = self.alarm();
        let large = self.input.large_frame().unwrap_or(0);
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            () = closing.cancelled(), if self.is_reading => Event::Closing,
            _ = stream.writable(), if !output.is_empty() => Event::Step,
            () = unanswered.answers().changed(), if output.has_room() => Event::Step,
            () = async { sleep_until(alarm.unwrap_or_else(Instant::now)).await }, if alarm.is_some() => Event::Step,
            permit = shared.large_frame_permit(large), if phase == Phase::Permit => Event::Permit(permit),
            _ = stream.readable(), if phase == Phase::Client => Event::Readable,
            () = shared.context.router.budget().reserve(READ_BYTES), if phase == Phase::Room => Event::Room,
        }
    }

    fn phase(&self) -> Phase {
        if !self.is_reading || self.is_stalled || self.service.is_full() {
            Phase::Idle
        } else if self.input.large_frame().is_some() && self.permit.is_none() {
            Phase::Permit
        } else if self.is_short_of_room {
            Phase::Room
        } else {
            Phase::Client
        }
    }

    /// When there is something to do though nothing happens.
    fn alarm(&self) -> Option<Instant> {
        // Without room in the output a timeout cannot be answered anyway.
        let deadline = self.service.unanswered.next_deadline().filter(|_| self.service.output.has_room());
        let frame = self.clock.reaches(self.frame_timeout());
        [deadline, frame, self.end_by, self.next_look].into_iter().flatten().min()
    }

    fn frame_timeout(&self) -> Duration {
        self.shared().frame_timeout(self.permit.is_some())
    }

    /// Everything that can be done at `now` without waiting. `Break`: the connection is over.
    fn step(&mut self, now: Instant) -> ControlFlow<()> {
        let enough = self.shared().enough_output();
        self.service.output.set_enough(enough);
        let frame_timeout = self.frame_timeout();
        if self.clock.reaches(frame_timeout).is_some_and(|end| end <= now) {
            self.shared().context.counters.frames_timed_out.increment();
            self.part(&frame::unfinished(self.input.pending(), frame_timeout), now);
        }
        if self.next_look.is_some_and(|at| at <= now) {
            self.look(now)?;
        }
        loop {
            let Service { output, unanswered, .. } = &mut self.service;
            let timed_out = unanswered.answer(now, output);
            if unanswered.is_empty()
                && let Some(farewell) = self.farewell.take()
            {
                output.append(|out| out.extend_from_slice(&farewell));
            }
            if output.write_to(&self.stream) {
                self.unread.reset();
            }
            if output.is_lost() {
                // What it has sent before it went is read all the same.
                unanswered.clear();
            }
            let has_more = unanswered.has_more() && output.has_room();
            self.shared().context.counters.requests_timed_out.add(timed_out);
            if has_more {
                continue;
            }
            if !self.is_stalled || self.service.is_full() {
                break;
            }
            let served = self.input.serve_pending(|bytes| self.service.serve(bytes));
            self.served(served, now);
        }
        let is_waiting = self.phase() == Phase::Client && !self.input.pending().is_empty();
        self.clock.run(is_waiting, now);
        let has_answers = !self.service.output.is_empty();
        self.unread.run(has_answers, now);
        if !self.is_reading {
            return self.step_to_the_end(now);
        }
        let looks = is_waiting || has_answers || self.is_left || self.is_short_of_room;
        let next = self.next_look.filter(|at| *at > now).unwrap_or(now + LOOK_INTERVAL);
        self.next_look = looks.then_some(next);
        ControlFlow::Continue(())
    }

    /// What is to be done now and then for as long as the client keeps others, or others it, from going on.
    fn look(&mut self, now: Instant) -> ControlFlow<()> {
        if self.unread.reaches(ANSWER_TIMEOUT).is_some_and(|end| end <= now) && self.shared().is_crowded() {
            self.shared().context.counters.answers_timed_out.increment();
            self.service.log_fault(&"no answer was taken while memory for clients was crowded", "connection closes");
            return ControlFlow::Break(());
        }
        match self.phase() {
            Phase::Room if self.is_blocked_by_frames() => {
                self.shared().context.router.budget().charge(READ_BYTES);
                self.read(self.input.missing());
            }
            Phase::Client if self.is_left && !self.shared().is_crowded() && self.reserve_now() => self.read_left(),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
