//! forebay is a producer daemon for Apache Kafka.
//!
//! ```text
//!  local programs
//!    │ Unix stream · Unix datagram
//!    ▼
//!  ingest ── one task per connection; frames → records; backpressure by not reading
//!    ▼
//!  route ─── topic known? which partition? (explicit · murmur2 of the key · sticky)
//!    ▼
//!  queue ─── per partition: a lock-free intake that the connection's own task pushes bursts into
//!    ▼
//!  batch ─── at first send: merge small runs, split large ones, compress, give sequences
//!    ▼
//!  broker ── one task per broker connection: takes batches of the partitions it leads, pipelines Produce
//!    │           ▲
//!    │           └── cluster: metadata → an immutable snapshot; the supervisor of the broker tasks
//!    ▼
//!  acknowledged → released from memory ──► answers acks=all
//! ```
//!
//! The modules stand in the order in which they may import each other, see `ARCHITECTURE.md`.

pub mod backoff;
pub mod record;
pub mod sampler;

pub mod config;

pub mod backlog;
pub mod wire;

pub mod queue;

pub mod batch;
pub mod cluster;
pub mod store;

pub mod broker;
pub mod route;

pub mod admin;
pub mod ingest;

pub mod devbroker;

pub mod cli;
pub mod daemon;
