//! How a connection ends: by its client, by a frame that cannot be read, or with the daemon.

use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::{Connection, LOOK_INTERVAL};
use crate::ingest::frame::error::Malformed;
use crate::ingest::stream::serve::Service;
use crate::wire::codes;

/// How long after a malformed frame the answers to earlier requests are waited for, and the client to read them.
const FAREWELL_TIME: Duration = Duration::from_secs(30);
/// How long a client may take to end a connection of which it has got the last answer.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// How long a client may take to read what is written when the daemon stops.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl Connection {
    /// The part of a step that follows when nothing more is read.
    pub(super) fn step_to_the_end(&mut self, now: Instant) -> ControlFlow<()> {
        let Service { output, unanswered, .. } = &mut self.service;
        if self.end_by.is_some_and(|end| end <= now) {
            if let Some(farewell) = self.farewell.take() {
                output.append(|out| out.extend_from_slice(&farewell));
            }
            // Whether the client takes it or not: it has had its time.
            output.write_to(&self.stream);
            return ControlFlow::Break(());
        }
        let is_done = unanswered.is_empty() && output.is_empty() && self.farewell.is_none();
        if is_done || output.is_lost() || self.next_look.is_some_and(|at| at <= now) && self.is_client_gone(now) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// The client has sent what is no frame: it is told, after what is due to it, and nothing more is read.
    pub(super) fn part(&mut self, malformed: &Malformed, now: Instant) {
        self.service.log_fault(malformed, "connection closes");
        let mut farewell = Vec::new();
        malformed.encode_answer(&mut farewell);
        self.farewell = Some(farewell);
        self.end_by = Some(now + FAREWELL_TIME);
        self.end_reading();
    }

    pub(super) fn client_sends_no_more(&mut self, now: Instant) {
        if !self.input.pending().is_empty() {
            self.shared().context.counters.frames_cut.increment();
            self.service.log_fault(&"the stream ends within a frame", "frame dropped");
        }
        self.next_look = Some(now);
        self.end_reading();
    }

    pub(super) fn end_reading(&mut self) {
        self.is_reading = false;
        self.is_stalled = false;
        self.permit = None;
        self.clock.reset();
        self.input.clear();
    }

    /// Whether the client has closed its side, or has ended, so that nobody will read what it waits for. It has sent all
    /// and all is read; so only writing can tell: even nothing cannot be written to a closed socket.
    fn is_client_gone(&mut self, now: Instant) -> bool {
        self.next_look = Some(now + LOOK_INTERVAL);
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        matches!(send(self.stream.as_raw_fd(), &[], flags), Err(Errno::EPIPE | Errno::ECONNRESET))
    }

    /// The daemon ends: what is not settled by now, nobody will know.
    pub(super) async fn last_words(&mut self) {
        let Service { output, unanswered, .. } = &mut self.service;
        let words = "forebay stopped before their fate was known";
        unanswered.answer_all(codes::UNKNOWN_SERVER_ERROR, words, output);
        if let Some(farewell) = self.farewell.take() {
            output.append(|out| out.extend_from_slice(&farewell));
        }
        let stream = &self.stream;
        let written = timeout(LAST_WORDS, async {
            output.write_to(stream);
            while !output.is_empty() && stream.writable().await.is_ok() {
                output.write_to(stream);
            }
        });
        if written.await.is_err() {
            debug!(peer = %self.service.peer, "the client did not read its last answers");
        }
    }

    /// Lets the client read its last answer. If the socket closed while something of the client's was unread, the client
    /// would get an error in place of the end.
    pub(super) async fn linger(&mut self) {
        let over = Instant::now() + LINGER_TIME;
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let mut ignored = [0; 64];
        while let Ok(Ok(1..)) = timeout_at(over, self.stream.read(&mut ignored)).await {}
    }
}
