//! How a connection reads: never without room in the memory budget, and in a crowd nothing that is not whole.

use std::io;

use tokio::time::Instant;
use tracing::debug;

use super::Connection;
use crate::ingest::READ_BYTES;
use crate::ingest::charge::Charge;
use crate::ingest::stream::input::{Glance, Read};
use crate::ingest::stream::serve::{Rest, Served};

impl Connection {
    /// Room for a read, if there is some now, or if what comes may be rejected.
    pub(super) fn reserve_now(&self) -> bool {
        // A large frame would take too much before anybody knows whether it is to be rejected.
        let waits = self.service.must_wait || self.input.large_frame().is_some();
        self.shared().context.reserve_read(waits)
    }

    /// Whether memory is full of frames that wait, as this one does, for memory to be complete. Nothing would ever free it:
    /// so each is read to its end, until they are less.
    pub(super) fn is_blocked_by_frames(&self) -> bool {
        let context = &self.shared().context;
        let unfinished = context.counters.frames_unfinished_bytes.get();
        !self.input.pending().is_empty() && unfinished > context.router.budget().limit() as u64 / 2
    }

    /// Reads once, `at_most` so many bytes, and serves what came. [`READ_BYTES`] are reserved for it.
    pub(super) fn read(&mut self, at_most: usize) {
        let _reserved = self.take_reserved();
        let Some(at_most) = self.mind_the_crowd(at_most) else { return };
        let read = self.input.read(&self.stream, at_most, |bytes| self.service.serve(bytes));
        self.has_read(read);
    }

    /// Reads once what a crowd had left unread. [`READ_BYTES`] are reserved for it.
    pub(super) fn read_left(&mut self) {
        let _reserved = self.take_reserved();
        let read = self.input.read_left(&self.stream, |bytes| self.service.serve(bytes));
        self.has_read(read);
    }

    fn take_reserved(&mut self) -> Charge {
        self.is_short_of_room = false;
        self.is_left = false;
        Charge::reserved(self.shared().context.router.budget().clone(), READ_BYTES)
    }

    /// How much may be read: in a crowd no frame is begun that is not there as a whole.
    fn mind_the_crowd(&mut self, at_most: usize) -> Option<usize> {
        if !self.service.shared().is_crowded() || self.input.large_frame().is_some() {
            return Some(at_most);
        }
        if !self.input.pending().is_empty() {
            return Some(at_most.min(self.input.missing()));
        }
        match self.input.glance(&self.stream, &self.service.shared().frame) {
            Glance::Bytes(bytes) => Some(bytes.min(at_most)),
            Glance::Large(_) => None,
            Glance::Incomplete => {
                self.is_left = true;
                None
            }
        }
    }

    /// What follows from a read.
    fn has_read(&mut self, read: io::Result<Read>) {
        let now = Instant::now();
        match read {
            Ok(Read::Bytes(count, served)) => {
                self.shared().context.counters.bytes_read.add(count as u64);
                if let Some(served) = served {
                    self.served(served, now);
                }
            }
            Ok(Read::End) => self.client_sends_no_more(now),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                debug!(peer = %self.service.peer, %error, "cannot read");
                self.client_sends_no_more(now);
            }
        }
    }

    pub(super) fn served(&mut self, served: Served, now: Instant) {
        if served.used > 0 {
            self.clock.reset();
            self.permit = None;
        }
        self.is_stalled = matches!(served.rest, Rest::Stalled);
        if let Rest::Malformed(malformed) = served.rest {
            self.shared().context.counters.frames_malformed.increment();
            self.part(&malformed, now);
        }
    }
}
