//! What the end-to-end suites share, whichever cluster they run against: forebay as a process of its own, a client of
//! its local protocol that knows nothing of forebay's code, kcat as an independent reader of what reached Kafka, writers
//! that number their records, the balance of what was sent and what was read, and the scenarios that run on any cluster.
//!
//! Nothing here waits for a fixed time: every wait is for an event, with a deadline after which the test fails and says
//! what it has seen until then.

// Each suite is a crate of its own and uses the part that it needs.
#![allow(dead_code)]

pub mod balance;
pub mod client;
pub mod cluster;
pub mod crash;
pub mod daemon;
pub mod kcat;
pub mod load;
pub mod mount;
pub mod process;
pub mod scenario;
pub mod watch;
pub mod writer;
