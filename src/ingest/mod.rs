//! The sockets on which local programs hand in records.
//!
//! What comes in is `[[listeners]]` of the configuration; what goes out is records, put in the queues through a
//! [`Router`], and answers. [`bind_all`] makes the listeners' sockets before anything runs; [`Bound::run`] spawns their tasks: for a
//! stream an acceptor and one task a connection (`stream`), for a datagram socket one task (`datagram`).
//!
//! Invariants:
//! - Reading, decoding and putting records in the queues is one synchronous step: a task that is cancelled at any await
//!   point has put whole requests, each once, and holds nothing back.
//! - No bytes are read before there is room for them in the memory budget. Where a topic's rule is `full = "reject"` they
//!   are read to be refused; what else is read then is at most 64 KiB a connection.
//! - A connection without traffic holds no buffer.
//! - What clients begin and do not end, and answers that they do not take, hold about a quarter of the memory budget at most
//!   (`stream/crowd.rs`): the rest is there for those who go on.
//! - What one client does, or does not read, delays and harms no other. A panic in a connection's task ends that connection.
//!
//! It does not know brokers: what becomes of a record comes back through its receipt.

pub mod activation;
pub mod bind;
pub mod frame;

mod charge;
mod counters;
mod datagram;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::config::{Listener, ListenerKind, StreamLimits};
use crate::record::TimestampMs;
use crate::route::{By, Outlet, Router};
use activation::HandedOver;
use bind::{BindError, DatagramSocket, StreamSocket};
use frame::Limits;
use frame::dory::DoryMessage;

pub use counters::{Counter, Counters};

/// Bytes that are read at once, and for which room is reserved before.
const READ_BYTES: usize = 64 * 1024;

/// What all listeners need.
#[derive(Debug)]
pub struct Context {
    /// Where records go.
    pub router: Arc<Router>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// The wall clock, for records that come without a timestamp.
    pub clock: fn() -> TimestampMs,
    /// Whether any topic's rule is `full = "reject"`, so that clients must be read although memory is full.
    pub may_reject: bool,
    /// Decides the sticky partitions.
    pub random: fastrand::Rng,
}

impl Context {
    /// Reserves [`READ_BYTES`] if there is room. Where records may be rejected it reserves them without room too, unless the
    /// reader `waits` for it: then false says that there is none.
    fn reserve_read(&self, waits: bool) -> bool {
        let budget = self.router.budget();
        if budget.try_reserve(READ_BYTES) {
            return true;
        }
        let reads_anyway = self.may_reject && !waits;
        if reads_anyway {
            budget.charge(READ_BYTES);
        }
        reads_anyway
    }
}

/// A listener whose socket is made. Its file is removed when this, or what runs of it, ends.
#[derive(Debug)]
pub struct Bound(Socket);

#[derive(Debug)]
enum Socket {
    Stream { socket: StreamSocket, frame: Limits, limits: StreamLimits },
    Datagram { socket: DatagramSocket, frame: Limits },
}

/// Makes the sockets of all `listeners`, or finds them among those `handed_over`, of which none may be left. Clients may connect
/// and write from now on; nobody reads yet. Must be called within a tokio runtime.
///
/// # Errors
/// If a path is taken, the operating system refuses, or listeners and `handed_over` do not match.
pub fn bind_all(listeners: &[Listener], mut handed_over: HandedOver) -> Result<Vec<Bound>, BindError> {
    let bound = listeners.iter().map(|listener| bind(listener, &mut handed_over)).collect::<Result<_, _>>()?;
    handed_over.refuse_what_is_left()?;
    Ok(bound)
}

fn bind(listener: &Listener, handed_over: &mut HandedOver) -> Result<Bound, BindError> {
    let max_frame_size = listener.max_frame_size;
    Ok(Bound(match &listener.kind {
        ListenerKind::Stream(limits) => Socket::Stream {
            socket: bind::stream_listener(listener, handed_over)?,
            frame: Limits { max_frame_size, max_records_per_request: limits.max_records_per_request },
            limits: limits.clone(),
        },
        ListenerKind::Datagram => Socket::Datagram {
            socket: bind::datagram_listener(listener, handed_over)?,
            frame: Limits { max_frame_size, max_records_per_request: 1 },
        },
    }))
}

impl Bound {
    /// Takes clients until `closing` is cancelled. Then it reads no more, and each connection ends when it has nothing
    /// unanswered; those that still have when `stop` is cancelled answer what is open with error -1 and end within half a
    /// second. All its tasks are spawned on `tracker`.
    pub fn run(self, context: Context, closing: CancellationToken, stop: CancellationToken, tracker: &TaskTracker) {
        match self.0 {
            Socket::Stream { socket, frame, limits } => {
                info!(path = %socket.file.path().display(), "taking records from a stream socket");
                let acceptor = stream::Acceptor::new(socket, context, frame, limits, closing, stop, tracker.clone());
                tracker.spawn(acceptor.run());
            }
            Socket::Datagram { socket, frame } => {
                info!(path = %socket.file.path().display(), "taking records from a datagram socket");
                tracker.spawn(datagram::Receiver::new(socket, context, frame).run(closing));
            }
        }
    }
}

/// Puts the record of one of Dory's messages.
#[inline]
fn put_dory(outlet: &mut Outlet, message: &DoryMessage<'_>, now: TimestampMs) {
    let by = message.partition_key.map_or(By::Key, By::Modulo);
    outlet.put(message.topic.as_bytes(), by, &message.record(now), None);
}
