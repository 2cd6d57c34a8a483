//! Answers on their way to one client.

use std::io;
use std::sync::Arc;

use tokio::net::UnixStream;

use crate::ingest::charge::Charge;
use crate::queue::budget::Budget;

/// Unwritten bytes beyond which no further answer is made.
const ENOUGH_BYTES: usize = 64 * 1024;

/// Encoded answers that the client has not taken. Empty, it holds no memory.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    written: usize,
    charge: Charge,
    is_lost: bool,
}

impl Output {
    pub fn new(budget: Arc<Budget>) -> Self {
        Output { bytes: Vec::new(), written: 0, charge: Charge::new(budget), is_lost: false }
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
        self.bytes.len() - self.written < ENOUGH_BYTES
    }

    /// Appends what `encode` appends.
    pub fn append<T>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let result = encode(&mut self.bytes);
        self.charge.set(self.bytes.capacity());
        result
    }

    /// Writes what the socket takes now. Where nobody reads any more, it goes nowhere.
    pub fn write_to(&mut self, stream: &UnixStream) {
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty() && !self.is_lost) {
            match stream.try_write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.is_lost = true,
            }
        }
        if !self.bytes.is_empty() {
            self.bytes = Vec::new();
            self.written = 0;
            self.charge.set(0);
        }
    }
}
