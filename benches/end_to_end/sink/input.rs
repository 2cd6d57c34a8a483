//! What a client sends, field by field, through a buffer that large parts go around.

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, recv};

/// What is read at once, where it is looked at.
const BUFFER_BYTES: usize = 64 << 10;
/// What is thrown away at once.
const DISCARD_BYTES: usize = 1 << 20;

/// A connection's incoming side.
pub struct Input {
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// What of the buffer is still to be looked at.
    from: usize,
    to: usize,
    /// Never written: the kernel is told not to copy.
    discarded: Box<[u8]>,
}

impl Input {
    pub fn new(stream: TcpStream) -> Input {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Input { stream, buffer, from: 0, to: 0, discarded: vec![0; DISCARD_BYTES].into_boxed_slice() }
    }

    /// Reads until `count` bytes are there to be looked at.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        while self.to - self.from < count {
            if self.from > 0 {
                self.buffer.copy_within(self.from..self.to, 0);
                self.to -= self.from;
                self.from = 0;
            }
            match self.stream.read(&mut self.buffer[self.to..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.to += read,
            }
        }
        Ok(())
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let next = self.peek()?;
        self.from += N;
        Ok(next)
    }

    fn peek<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.fill(N)?;
        Ok(*self.buffer[self.from..self.to].first_chunk().expect("so many bytes are there"))
    }

    pub fn peek_i16(&mut self) -> io::Result<i16> {
        self.peek().map(i16::from_be_bytes)
    }

    pub fn i16(&mut self) -> io::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// An unsigned varint (KIP-482).
    pub fn uvarint(&mut self) -> io::Result<usize> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "a varint over 32 bits"))
    }

    /// The next `count` bytes, however many.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut out = vec![0; count];
        let buffered = count.min(self.to - self.from);
        out[..buffered].copy_from_slice(&self.buffer[self.from..self.from + buffered]);
        self.from += buffered;
        self.stream.read_exact(&mut out[buffered..])?;
        Ok(out)
    }

    /// Passes over the next `count` bytes; those that the kernel still has stay there (`MSG_TRUNC`, see tcp(7)).
    pub fn skip(&mut self, mut count: usize) -> io::Result<()> {
        let buffered = count.min(self.to - self.from);
        self.from += buffered;
        count -= buffered;
        while count > 0 {
            let room = count.min(self.discarded.len());
            match recv(self.stream.as_raw_fd(), &mut self.discarded[..room], MsgFlags::MSG_TRUNC)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                discarded => count -= discarded,
            }
        }
        Ok(())
    }
}
