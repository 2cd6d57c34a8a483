//! What the listeners count, for `forebay status`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// One count, or one figure that goes up and down.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// So many less.
    pub(super) fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Of all listeners together, since the start.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)+
        }

        impl Counters {
            /// Each under its name.
            pub fn by_name(&self) -> BTreeMap<String, u64> {
                [$((stringify!($name).to_owned(), self.$name.get()),)+].into()
            }
        }
    };
}

counters! {
    /// Connections open now.
    connections_open,
    /// Connections accepted, without those closed at once.
    connections_accepted,
    /// Connections closed at once because there were `max_connections`.
    connections_refused,
    /// Connections that ended by a panic in their task: each is a defect of forebay.
    connections_panicked,
    /// Bytes read from streams and in datagrams.
    bytes_read,
    /// Whole frames from streams, sound ones.
    requests,
    /// Sound requests and datagrams of which nothing was taken.
    requests_refused,
    /// Records in those.
    records_refused,
    /// Requests answered with error 7 after TimeoutMs.
    requests_timed_out,
    /// Bytes of frames that have begun and not ended, held now.
    frames_unfinished_bytes,
    /// Bytes of answers that clients have not taken, held now.
    answers_unread_bytes,
    /// Connections ended because the client took no answers while memory for clients was crowded.
    answers_timed_out,
    /// Frames that could not be read; each ended its connection.
    frames_malformed,
    /// Frames that a client began and did not end before it went.
    frames_cut,
    /// Frames that were not complete within `frame_timeout`, or within 5 s while memory for clients was crowded; each ended
    /// its connection.
    frames_timed_out,
    /// Sound datagrams.
    datagrams,
    /// Datagrams dropped because they are no message.
    datagrams_malformed,
    /// Datagrams dropped because they are over `max_frame_size`.
    datagrams_truncated,
}
