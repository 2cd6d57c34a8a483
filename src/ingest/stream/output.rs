//! Answers on their way to one client.

use std::io;
use std::sync::Arc;

use tokio::net::UnixStream;

use crate::ingest::charge::Charge;
use crate::ingest::{Context, Counters};

/// Unwritten bytes beyond which no further answer is made.
pub(super) const ENOUGH_BYTES: usize = 64 * 1024;

/// Encoded answers that the client has not taken. Empty, it holds no memory.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    written: usize,
    charge: Charge,
    counters: Arc<Counters>,
    is_lost: bool,
    enough: usize,
}

impl Output {
    pub fn new(context: &Context) -> Self {
        let charge = Charge::new(context.router.budget().clone());
        let counters = context.counters.clone();
        Output { bytes: Vec::new(), written: 0, charge, counters, is_lost: false, enough: ENOUGH_BYTES }
    }

    /// Whether a write has failed: the client will not read any more. What it has sent may still be there to be read.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether another answer should be made now.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.written < self.enough
    }

    /// From now on so many unwritten bytes are enough.
    pub fn set_enough(&mut self, bytes: usize) {
        self.enough = bytes;
    }

    /// Appends what `encode` appends.
    pub fn append<T>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let result = encode(&mut self.bytes);
        self.account();
        result
    }

    fn account(&mut self) {
        let bytes = self.bytes.capacity();
        let counter = &self.counters.answers_unread_bytes;
        counter.add(bytes as u64);
        counter.subtract(self.charge.bytes() as u64);
        self.charge.set(bytes);
    }

    /// Writes what the socket takes now; whether it took anything. Where nobody reads any more, it goes nowhere.
    pub fn write_to(&mut self, stream: &UnixStream) -> bool {
        let before = self.written;
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty() && !self.is_lost) {
            match stream.try_write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.written > before,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.is_lost = true,
            }
        }
        if !self.bytes.is_empty() {
            self.clear();
        }
        true
    }

    fn clear(&mut self) {
        self.bytes = Vec::new();
        self.written = 0;
        self.account();
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.clear();
    }
}
