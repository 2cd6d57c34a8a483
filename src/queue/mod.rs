//! Where records wait for their broker: per partition a lock-free intake and a window of batches.
//!
//! In come bursts ([`item::Item`]) from the tasks that read them off a socket; out go batches, taken by the task that
//! drains the partition (its [`drainer::Drainer`]). What is in flight stays here until it is settled, so a broker task
//! that ends loses nothing.
//!
//! Invariants:
//! - a push never takes a lock but on the edge from idle to ready, and never waits;
//! - cost follows what is ready: an idle partition has no task, no timer and no buffer, and stands in no list;
//! - every byte that waits is charged to the one [`budget::Budget`], every record counted in the one [`ledger::Ledger`];
//! - every [`receipt::Receipt`] is settled, if by nothing else then by being dropped.
//!
//! It does not know brokers, clients or Kafka's answers: who may send what is `broker::flight`.

pub mod budget;
pub mod compressibility;
pub mod drainer;
pub mod given_up;
pub mod inherit;
mod intake;
pub mod item;
pub mod ledger;
pub mod note;
pub mod partition;
pub mod receipt;
pub mod signal;
pub mod stored;
mod sync;
pub mod topic;
pub mod window;
