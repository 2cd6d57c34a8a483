//! The admin socket: how the daemon is, over HTTP/1.1 on a Unix socket of its own.
//!
//! - `GET /status`: one JSON object, a [`Status`].
//! - `GET /metrics`: the same for Prometheus.
//! - `GET /healthz`: `ok`, as long as the daemon's tasks run. It says nothing about Kafka.
//!
//! What comes in is a bound listener and a function that takes the status; what goes out is its JSON. [`client`] is the other end,
//! for `forebay status`; `curl --unix-socket PATH http://forebay/status` does as well.
//!
//! Invariants: at most [`CONNECTIONS_MAX`] connections, one request each, each over after [`CONNECTION_TIME_MAX`], so that whoever may
//! open the socket cannot make the daemon hold more than that. Nothing is changed through this socket.
//!
//! It does not make the socket's file, and does not know where the figures come from.

pub mod client;
pub mod status;

mod metrics;
mod server;

#[cfg(test)]
mod tests;

pub use server::{CONNECTION_TIME_MAX, CONNECTIONS_MAX, Door, serve};
pub use status::Status;
