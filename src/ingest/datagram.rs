//! A datagram listener: one task that takes one of Dory's messages a datagram.

use std::any::Any;
use std::fmt::Write;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::bind::DatagramSocket;
use super::charge::Charge;
use super::frame::{self, Limits, Request};
use super::{Context, READ_BYTES, put_dory};
use crate::route::Outlet;
use crate::sampler::Sampler;

/// Datagrams taken before what they hold is flushed, and others get their turn.
const DATAGRAMS_AT_ONCE: usize = 64;
/// Bytes of a bad datagram that are logged.
const SAMPLE_BYTES: usize = 32;

/// Receives until it is told to stop.
pub(super) struct Receiver {
    socket: DatagramSocket,
    context: Context,
    frame: Limits,
    outlet: Outlet,
    /// Has room for the largest datagram. Only the part that datagrams have ever filled is real memory.
    buffer: Vec<u8>,
    faults: Sampler,
    /// Memory was full when records were put: no more are read before there is room, even if some may be rejected.
    must_wait: bool,
}

/// A datagram as it came.
struct Datagram {
    len: usize,
    is_truncated: bool,
    sender: Option<UnixCredentials>,
}

impl Receiver {
    pub fn new(socket: DatagramSocket, mut context: Context, frame: Limits) -> Self {
        let outlet = context.router.outlet(context.random.fork());
        let buffer = vec![0; frame.max_frame_size];
        Receiver { socket, context, frame, outlet, buffer, faults: Sampler::default(), must_wait: false }
    }

    /// Until `closing`. Then the socket and its file go.
    pub async fn run(mut self, closing: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                _ = self.socket.socket.readable() => {}
            }
            if !self.context.reserve_read(self.must_wait) {
                tokio::select! {
                    biased;
                    () = closing.cancelled() => return,
                    () = self.context.router.budget().reserve(READ_BYTES) => self.must_wait = false,
                }
            }
            let _reserved = Charge::reserved(self.context.router.budget().clone(), READ_BYTES);
            // The listener outlives a defect: there is nobody to connect again.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.receive_some())) {
                self.recover(&*panic);
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Takes what is there, within bounds, and puts it in the queues.
    fn receive_some(&mut self) {
        let arrived = Instant::now();
        let now = (self.context.clock)();
        let mut bytes = 0;
        for _ in 0..DATAGRAMS_AT_ONCE {
            let datagram = match receive(&self.socket.socket, &mut self.buffer) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if let Some(times) = self.faults.admit() {
                        warn!(%error, times, "cannot receive datagrams");
                    }
                    break;
                }
            };
            bytes += datagram.len;
            self.take(&datagram, now);
            if bytes >= READ_BYTES {
                break;
            }
        }
        self.context.counters.bytes_read.add(bytes as u64);
        let waiting = self.outlet.flush(arrived);
        if waiting > 0 && !self.context.router.budget().has_room() {
            self.must_wait = true;
        }
    }

    fn take(&mut self, datagram: &Datagram, now: i64) {
        let bytes = self.buffer.get(..datagram.len).unwrap_or_default();
        let counters = &self.context.counters;
        if datagram.is_truncated {
            counters.datagrams_truncated.increment();
            let cause = format!("it is over max_frame_size, {} bytes", self.frame.max_frame_size);
            return self.log_fault(datagram, &cause);
        }
        match frame::datagram(bytes, &self.frame) {
            Ok(Request::Dory(message)) => {
                counters.datagrams.increment();
                put_dory(&mut self.outlet, &message, now);
            }
            Ok(Request::Refused(refused)) => {
                counters.requests_refused.increment();
                counters.records_refused.add(u64::from(refused.records));
                self.log_fault(datagram, &refused.refusal.to_string());
            }
            // The codec gives nothing else for a datagram; if it did, nothing of it would have been taken.
            Ok(Request::Produce(_) | Request::Metadata(_) | Request::Versions(_)) => {
                counters.datagrams_malformed.increment();
            }
            Err(malformed) => {
                counters.datagrams_malformed.increment();
                self.log_fault(datagram, &malformed.to_string());
            }
        }
    }

    fn log_fault(&self, datagram: &Datagram, cause: &str) {
        let Some(times) = self.faults.admit() else { return };
        let mut sample = String::new();
        for byte in self.buffer.iter().take(datagram.len.min(SAMPLE_BYTES)) {
            // Writing to a string cannot fail.
            let _ = write!(sample, "{byte:02x}");
        }
        let (pid, uid) = datagram.sender.map_or((0, None), |sender| (sender.pid(), Some(sender.uid())));
        let len = datagram.len;
        warn!(pid, uid, len, cause, sample, times, "datagram dropped");
    }

    fn recover(&mut self, panic: &(dyn Any + Send)) {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        error!(panic = words, "the datagram listener has panicked and goes on: this is a defect of forebay");
        self.context.counters.connections_panicked.increment();
        // What was put since the last flush is lost with it; its records were never accepted.
        self.outlet = self.context.router.outlet(self.context.random.fork());
    }
}

/// One datagram, if there is one. Of one that is longer than `buffer` the rest is gone.
fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<Datagram> {
    // Room for the sender's credentials and no more, so that no file descriptor can be sent along.
    let mut control = cmsg_space!(UnixCredentials);
    socket.try_io(Interest::READABLE, || {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let sender = message.cmsgs().ok().and_then(|mut found| {
            found.find_map(|one| match one {
                ControlMessageOwned::ScmCredentials(credentials) => Some(credentials),
                _ => None,
            })
        });
        let is_truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
        Ok(Datagram { len: message.bytes, is_truncated, sender })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;
    use crate::ingest::activation::HandedOver;
    use crate::ingest::bind::datagram_listener;

    #[tokio::test]
    async fn the_kernel_says_who_has_sent_a_datagram_and_how_long_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = Listener::datagram(&path);
        let DatagramSocket { socket, file: _file } = datagram_listener(&listener, &mut HandedOver::default()).unwrap();
        let client = std::os::unix::net::UnixDatagram::unbound().unwrap();
        client.send_to(b"12345678", &path).unwrap();
        client.send_to(b"123456789", &path).unwrap();
        socket.readable().await.unwrap();
        let mut buffer = [0; 8];
        for is_truncated in [false, true] {
            let datagram = receive(&socket, &mut buffer).unwrap();
            assert_eq!((datagram.len, datagram.is_truncated), (8, is_truncated));
            let sender = datagram.sender.unwrap();
            assert_eq!(sender.pid() as u32, std::process::id());
            assert_eq!(sender.uid(), nix::unistd::getuid().as_raw());
        }
        assert_eq!(receive(&socket, &mut buffer).err().unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
