//! Why a connection is over, in words that help whoever set it up.

use std::io;

use crate::wire::{WireError, codes};

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The broker closed it while nothing was asked; brokers close idle connections.
    #[error("connection closed by the broker")]
    Closed,
    /// The broker closed it, or it broke, with requests unanswered or a response half read. What they asked for may have
    /// happened.
    #[error("connection closed by the broker with {outstanding} requests unanswered")]
    Interrupted {
        /// How many.
        outstanding: usize,
    },
    /// The socket failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// The peer does not speak Kafka, or lost the thread.
    #[error("not a valid answer: {0}")]
    Wire(#[from] WireError),
    /// A response of impossible size.
    #[error("response of {size} bytes, allowed are 4 to {limit}; is this a Kafka listener, and without TLS?")]
    ResponseSize {
        /// What its length field says.
        size: i32,
        /// [`super::Limits::max_response_bytes`].
        limit: usize,
    },
    /// A response to something else than the oldest request.
    #[error("response to request {got}, expected one to {expected:?}")]
    OutOfOrder {
        /// Its correlation id.
        got: i32,
        /// That of the oldest unanswered request, if there is one.
        expected: Option<i32>,
    },
    /// The broker refuses every version of ApiVersions, or answers it with an error.
    #[error("broker answers ApiVersions with error {code} {}", codes::name(*code))]
    Refused {
        /// Kafka's error code.
        code: i16,
    },
    /// The connection has failed before.
    #[error("connection has failed before")]
    Failed,
}
