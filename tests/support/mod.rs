//! What the end-to-end suites share, whichever cluster they run against: forebay as a process of its own, a client of
//! its local protocol that knows nothing of forebay's code, and kcat as an independent reader of what reached Kafka.
//!
//! Nothing here waits for a fixed time: every wait is for an event, with a deadline after which the test fails and says
//! what it has seen until then.

// Each suite is a crate of its own and uses the part that it needs.
#![allow(dead_code)]

pub mod client;
pub mod daemon;
pub mod kcat;
pub mod process;
pub mod watch;
