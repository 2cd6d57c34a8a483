//! A stream listener: its acceptor, which spawns one task a connection.

mod connection;
mod crowd;
mod frame_clock;
mod input;
mod output;
mod serve;
mod unanswered;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

use super::Context;
use super::bind::StreamSocket;
use super::frame::Limits;
use crate::config::StreamLimits;
use crate::sampler::Sampler;
use connection::Connection;
use serve::Service;

/// How long to wait after the system gave no connection: without it, a lack of file descriptors would keep a core busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The part of the memory budget that unfinished frames of more than one read may take, as a divisor. What waits for
/// their other half cannot be delivered, so it must not fill the memory.
const LARGE_FRAMES_SHARE: usize = 8;

/// What the connections of one listener share.
#[derive(Debug)]
struct Shared {
    context: Context,
    frame: Limits,
    limits: StreamLimits,
    open: AtomicUsize,
    /// In KiB. First come, first served.
    large_frames: Arc<Semaphore>,
    large_frames_kib: u32,
    /// Large frames that wait for their turn.
    large_frames_waiting: AtomicUsize,
    /// For what the log says about clients' faults.
    faults: Sampler,
}

impl Shared {
    fn new(context: Context, frame: Limits, limits: StreamLimits) -> Arc<Self> {
        let share = context.router.budget().limit() / LARGE_FRAMES_SHARE / 1024;
        let large_frames_kib = u32::try_from(share).unwrap_or(u32::MAX).max(1);
        Arc::new(Shared {
            context,
            frame,
            limits,
            open: AtomicUsize::new(0),
            large_frames: Arc::new(Semaphore::new(large_frames_kib as usize)),
            large_frames_kib,
            large_frames_waiting: AtomicUsize::new(0),
            faults: Sampler::default(),
        })
    }
}

/// Accepts connections.
pub(super) struct Acceptor {
    socket: StreamSocket,
    shared: Arc<Shared>,
    random: fastrand::Rng,
    closing: CancellationToken,
    stop: CancellationToken,
    tracker: TaskTracker,
    refusals: Sampler,
    failures: Sampler,
}

impl Acceptor {
    pub fn new(
        socket: StreamSocket,
        mut context: Context,
        frame: Limits,
        limits: StreamLimits,
        closing: CancellationToken,
        stop: CancellationToken,
        tracker: TaskTracker,
    ) -> Self {
        let random = context.random.fork();
        let shared = Shared::new(context, frame, limits);
        let (refusals, failures) = (Sampler::default(), Sampler::default());
        Acceptor { socket, shared, random, closing, stop, tracker, refusals, failures }
    }

    /// Until `closing`. Then the socket and its file go.
    pub async fn run(mut self) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                accepted = self.socket.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.admit(stream),
                Err(error) => {
                    if let Some(times) = self.failures.admit() {
                        let path = self.socket.file.path().display();
                        warn!(%path, %error, times, "the system gives no connection; is the limit of open files too low?");
                    }
                    tokio::select! {
                        () = self.closing.cancelled() => return,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) {
        let peer = Peer::of(&stream);
        let counters = &self.shared.context.counters;
        let Some(seat) = Seat::take(&self.shared) else {
            counters.connections_refused.increment();
            if let Some(times) = self.refusals.admit() {
                let path = self.socket.file.path().display();
                let peer = peer.map_or_else(|error| error.to_string(), |peer| peer.to_string());
                warn!(%path, peer, times, "connection refused: there are max_connections already");
            }
            return;
        };
        counters.connections_accepted.increment();
        let peer = match peer {
            Ok(peer) => peer,
            Err(error) => return debug!(%error, "a client without credentials is gone already"),
        };
        debug!(%peer, "connected");
        let outlet = self.shared.context.router.outlet(self.random.fork());
        let connection = Connection::new(stream, Service::new(peer, seat, outlet));
        self.tracker.spawn(connection.run(self.closing.child_token(), self.stop.child_token()));
    }
}

/// Who is at the other end, as the kernel knows it from when the client connected.
#[derive(Clone, Copy, Debug)]
struct Peer {
    pid: i32,
    uid: u32,
    gid: u32,
}

impl Peer {
    fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Peer { pid: credentials.pid().unwrap_or(0), uid: credentials.uid(), gid: credentials.gid() })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} uid {} gid {}", self.pid, self.uid, self.gid)
    }
}

/// One of `max_connections`, given back when the connection's task ends, however it ends.
#[derive(Debug)]
struct Seat(Arc<Shared>);

impl Seat {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        // The acceptor alone takes seats, so no two can take the last one.
        if shared.open.load(Ordering::Relaxed) >= shared.limits.max_connections {
            return None;
        }
        shared.open.fetch_add(1, Ordering::Relaxed);
        shared.context.counters.connections_open.increment();
        Some(Seat(shared.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        let counters = &self.0.context.counters;
        counters.connections_open.subtract(1);
        if std::thread::panicking() {
            counters.connections_panicked.increment();
            error!("a connection's task has panicked; its connection is closed: this is a defect of forebay");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_says_who_has_connected() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = Peer::of(&here).unwrap();
        assert_eq!((peer.pid as u32, peer.uid), (std::process::id(), nix::unistd::getuid().as_raw()));
    }
}
