//! What has been read from one client and not been served yet.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use bytes::BufMut;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::crowd::LITTLE_BYTES;
use super::serve::{Rest, Served};
use crate::ingest::charge::Charge;
use crate::ingest::frame::{Decoded, Limits, next_request};
use crate::ingest::{Context, Counters, READ_BYTES};

thread_local! {
    /// Where a worker thread reads to, behind the beginning of the frame that the read before ended in. Used within one poll,
    /// never across an await.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a read gave.
pub(super) enum Read {
    /// So many bytes; and what was served of them, unless they are in the middle of a large frame.
    Bytes(usize, Option<Served>),
    /// The client sends no more.
    End,
}

/// What a client has sent, before any of it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glance {
    /// So many bytes are to be read: whole frames, one or a few, or what is none, or the end.
    Bytes(usize),
    /// The first frame is a large one, of so many bytes.
    Large(usize),
    /// The first frame is not whole. There will be an event when there is more of it.
    Incomplete,
}

impl Glance {
    fn at(bytes: &[u8], limits: &Limits) -> Self {
        let mut whole = 0;
        loop {
            match next_request(bytes.get(whole..).unwrap_or_default(), limits) {
                Decoded::Frame { len, .. } if whole > 0 && whole + len > LITTLE_BYTES => return Glance::Bytes(whole),
                Decoded::Frame { len, .. } => whole += len,
                Decoded::Malformed(_) => return Glance::Bytes(READ_BYTES),
                Decoded::NeedMore { .. } if whole > 0 => return Glance::Bytes(whole),
                Decoded::NeedMore { .. } if bytes.is_empty() => return Glance::Bytes(READ_BYTES),
                Decoded::NeedMore { bytes } if bytes > READ_BYTES => return Glance::Large(bytes),
                Decoded::NeedMore { .. } => return Glance::Incomplete,
            }
        }
    }
}

/// The beginning of a frame; while the connection is stalled also whole ones. Empty, it holds no memory.
#[derive(Debug)]
pub(super) struct Input {
    pending: Vec<u8>,
    need: usize,
    charge: Charge,
    counters: Arc<Counters>,
}

impl Input {
    pub fn new(context: &Context) -> Self {
        let charge = Charge::new(context.router.budget().clone());
        Input { pending: Vec::new(), need: 0, charge, counters: context.counters.clone() }
    }

    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Bytes of the frame that has begun, if it is larger than a read.
    pub fn large_frame(&self) -> Option<usize> {
        (self.need > READ_BYTES).then_some(self.need)
    }

    /// Bytes that the frame that has begun needs next.
    pub fn missing(&self) -> usize {
        self.need.saturating_sub(self.pending.len())
    }

    /// Reads once, `at_most` so many bytes and not more than [`READ_BYTES`] with what is pending, so that a read's burst is
    /// not larger than that either, and lets `serve` have all that is there.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` if nothing is there.
    pub fn read(
        &mut self,
        stream: &UnixStream,
        at_most: usize,
        serve: impl FnOnce(&[u8]) -> Served,
    ) -> io::Result<Read> {
        if self.need > READ_BYTES {
            return self.read_large(stream, serve);
        }
        self.read_scratch(|scratch| stream.try_read(scratch), at_most, serve)
    }

    fn read_scratch(
        &mut self,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
        at_most: usize,
        serve: impl FnOnce(&[u8]) -> Served,
    ) -> io::Result<Read> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(READ_BYTES, 0);
            let kept = self.pending.len();
            // Less than what is needed is pending, and no more is needed than a read: so there is room for a byte at least.
            scratch[..kept].copy_from_slice(&self.pending);
            let count = receive(&mut scratch[kept..][..at_most.clamp(1, READ_BYTES - kept)])?;
            if count == 0 {
                return Ok(Read::End);
            }
            let all = &scratch[..kept + count];
            let served = serve(all);
            self.keep(&all[served.used..], &served);
            Ok(Read::Bytes(count, Some(served)))
        })
    }

    /// As [`read`](Input::read), where no event says that there is something: what [`glance`](Input::glance) has left.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` if nothing is there.
    pub fn read_left(&mut self, stream: &UnixStream, serve: impl FnOnce(&[u8]) -> Served) -> io::Result<Read> {
        self.read_scratch(|scratch| Ok(recv(stream.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT)?), READ_BYTES, serve)
    }

    /// Looks at what the client has sent, while nothing is pending, and takes nothing of it.
    pub fn glance(&mut self, stream: &UnixStream, limits: &Limits) -> Glance {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(READ_BYTES, 0);
            let mut glance = Glance::Incomplete;
            let looked = stream.try_io(Interest::READABLE, || {
                let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
                let count = recv(stream.as_raw_fd(), scratch, flags)?;
                glance = Glance::at(&scratch[..count], limits);
                // Called nothing, so that the rest of the frame is an event.
                if glance == Glance::Incomplete { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match looked {
                // The read will meet it.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => glance = Glance::Bytes(READ_BYTES),
                _ => {}
            }
            if let Glance::Large(bytes) = glance {
                self.need = bytes;
            }
            glance
        })
    }

    /// A large frame is read where it stays, into memory that grows as it arrives and ends with it.
    fn read_large(&mut self, stream: &UnixStream, serve: impl FnOnce(&[u8]) -> Served) -> io::Result<Read> {
        let len = self.pending.len();
        let step = (self.need - len).min(READ_BYTES);
        if self.pending.capacity() < len + step {
            let wanted = (2 * len).clamp(len + step, self.need);
            self.pending.reserve_exact(wanted - len);
            self.account();
        }
        let count = stream.try_read_buf(&mut (&mut self.pending).limit(step))?;
        if count == 0 {
            return Ok(Read::End);
        }
        let is_whole = self.pending.len() >= self.need;
        Ok(Read::Bytes(count, is_whole.then(|| self.serve_pending(serve))))
    }

    /// Lets `serve` have what is pending.
    pub fn serve_pending(&mut self, serve: impl FnOnce(&[u8]) -> Served) -> Served {
        let all = std::mem::take(&mut self.pending);
        let served = serve(&all);
        self.keep(&all[served.used..], &served);
        served
    }

    fn keep(&mut self, rest: &[u8], served: &Served) {
        self.need = if let Rest::Incomplete(need) = served.rest { need } else { 0 };
        self.pending = rest.to_vec();
        self.account();
    }

    fn account(&mut self) {
        let bytes = self.pending.capacity();
        let counter = &self.counters.frames_unfinished_bytes;
        counter.add(bytes as u64);
        counter.subtract(self.charge.bytes() as u64);
        self.charge.set(bytes);
    }

    /// Forgets what is pending.
    pub fn clear(&mut self) {
        self.need = 0;
        self.pending = Vec::new();
        self.account();
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.clear();
    }
}
