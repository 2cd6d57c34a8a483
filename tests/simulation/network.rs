//! The simulated network: connections whose bytes arrive late, in pieces, or never.
//!
//! A connection is two pipes. Each write is split at random and each piece given a moment of arrival, never before that of the piece
//! ahead of it. What TCP allows is allowed here: bytes that were written before a connection was lost may still arrive, much later,
//! or a part of them, or none; and whoever is cut off may hear of it at once or never.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What a pipe holds before a writer must wait: a socket's buffers.
const PIPE_BYTES: usize = 64 << 10;

/// The latest that something sent on a lost connection arrives.
pub const LATENESS_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything before it has been read.
    Finished,
    Reset,
}

struct Pipe {
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// When the last piece arrives.
    last: Instant,
    end: Option<(Instant, End)>,
    /// What is written from now on goes nowhere.
    is_cut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new() -> Self {
        let last = Instant::now();
        Pipe { pieces: VecDeque::new(), bytes: 0, last, end: None, is_cut: false, reader: None, writer: None }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn finish(&mut self, at: Instant, end: End) {
        if self.end.is_none() {
            self.end = Some((at.max(self.last), end));
        }
        self.wake();
    }

    /// What had not arrived: arrives as it would have, in part, not at all, or, if `may_be_late`, long after.
    fn cut(&mut self, random: &mut fastrand::Rng, may_be_late: bool) {
        self.is_cut = true;
        let now = Instant::now();
        self.pieces.iter_mut().for_each(|(at, _)| *at = (*at).max(now));
        match random.u8(..4) {
            0 => self.pieces.clear(),
            1 => self.pieces.truncate(random.usize(..=self.pieces.len())),
            2 if may_be_late => {
                let late = LATENESS_MAX.mul_f64(random.f64());
                self.pieces.iter_mut().for_each(|(at, _)| *at += late);
            }
            _ => {}
        }
        self.bytes = self.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        self.last = self.pieces.back().map_or(now, |(at, _)| *at);
        self.wake();
    }
}

/// One connection.
pub struct Link {
    random: fastrand::Rng,
    latency: Duration,
    /// Nothing arrives before.
    stalled_until: Instant,
    up: Pipe,
    down: Pipe,
}

/// The network's hold on a connection.
pub type Wire = Arc<Mutex<Link>>;

/// The client's end or the broker's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Broker,
}

/// One end of a connection.
pub struct Stream {
    wire: Wire,
    side: Side,
    timer: Pin<Box<Sleep>>,
}

/// A connection whose bytes take up to `latency`: the network's hold on it, the client's end, the broker's.
pub fn connection(random: fastrand::Rng, latency: Duration) -> (Wire, Stream, Stream) {
    let now = Instant::now();
    let link = Link { random, latency, stalled_until: now, up: Pipe::new(), down: Pipe::new() };
    let wire = Arc::new(Mutex::new(link));
    let end = |side| Stream { wire: wire.clone(), side, timer: Box::pin(sleep_until(now)) };
    let (client, broker) = (end(Side::Client), end(Side::Broker));
    (wire, client, broker)
}

impl Link {
    /// Loses the connection. The client hears of it now, or if `silently` never.
    pub fn cut(&mut self, silently: bool) {
        let mut random = self.random.fork();
        self.up.cut(&mut random, true);
        self.up.finish(Instant::now(), End::Finished);
        self.down.cut(&mut random, false);
        if !silently {
            self.down.finish(Instant::now(), End::Reset);
        }
    }

    /// Nothing arrives for so long; then everything does.
    pub fn stall(&mut self, pause: Duration) {
        self.stalled_until = Instant::now() + pause;
    }

    /// Whether it still carries anything.
    pub fn is_open(&self) -> bool {
        !self.up.is_cut && self.up.end.is_none() && self.down.end.is_none()
    }

    fn incoming(&mut self, side: Side) -> &mut Pipe {
        if side == Side::Client { &mut self.down } else { &mut self.up }
    }

    fn write(&mut self, side: Side, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (latency, stalled) = (self.latency, self.stalled_until);
        let Link { random, up, down, .. } = self;
        let pipe = if side == Side::Client { up } else { down };
        if pipe.is_cut {
            return Poll::Ready(Ok(bytes.len()));
        }
        if pipe.end.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut left = &bytes[..bytes.len().min(PIPE_BYTES - pipe.bytes)];
        if left.is_empty() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let written = left.len();
        while !left.is_empty() {
            let size = if random.u8(..4) == 0 { random.usize(1..=left.len()) } else { left.len() };
            let arrives = (Instant::now() + latency.mul_f64(random.f64())).max(stalled).max(pipe.last);
            pipe.pieces.push_back((arrives, Bytes::copy_from_slice(&left[..size])));
            pipe.last = arrives;
            left = &left[size..];
        }
        pipe.bytes += written;
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Stream { wire, side, timer } = self.get_mut();
        loop {
            let mut link = wire.lock();
            let pipe = link.incoming(*side);
            let now = Instant::now();
            let next = match (pipe.pieces.front_mut(), pipe.end) {
                (Some((at, piece)), _) if *at <= now => {
                    let size = piece.len().min(buffer.remaining());
                    buffer.put_slice(&piece[..size]);
                    piece.advance(size);
                    if piece.is_empty() {
                        pipe.pieces.pop_front();
                    }
                    pipe.bytes -= size;
                    if let Some(writer) = pipe.writer.take() {
                        writer.wake();
                    }
                    return Poll::Ready(Ok(()));
                }
                (Some((at, _)), _) => Some(*at),
                (None, Some((at, end))) if at <= now => {
                    return Poll::Ready(match end {
                        End::Finished => Ok(()),
                        End::Reset => Err(io::ErrorKind::ConnectionReset.into()),
                    });
                }
                (None, Some((at, _))) => Some(at),
                (None, None) => None,
            };
            pipe.reader = Some(cx.waker().clone());
            drop(link);
            let Some(next) = next else { return Poll::Pending };
            timer.as_mut().reset(next);
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.lock().write(self.side, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    /// What was written still arrives; what comes is refused.
    fn drop(&mut self) {
        let mut link = self.wire.lock();
        let now = Instant::now();
        let Link { up, down, .. } = &mut *link;
        let (outgoing, incoming) = if self.side == Side::Client { (up, down) } else { (down, up) };
        outgoing.finish(now, End::Finished);
        incoming.pieces.clear();
        incoming.bytes = 0;
        incoming.last = now;
        incoming.finish(now, End::Reset);
    }
}
