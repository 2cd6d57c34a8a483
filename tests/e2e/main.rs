//! End to end: the real daemon as a process, its real sockets, and a cluster of devbrokers in the test's own process, which
//! can be told to fail in every way that matters. Runs everywhere; `tests/kafka` runs what it can of this on real Kafka.

#[path = "../support/mod.rs"]
mod support;

mod dev_kafka;

mod activation;
mod backlog;
mod check;
mod dead_letters;
mod deliver;
mod doubt;
mod drain;
mod errors;
mod faults;
mod giving_up;
mod hostile;
mod isolation;
mod malformed;
mod membership;
mod memory;
mod overflow;
mod produce;
mod programs;
mod refusals;
mod rules;
mod service_manager;
mod sockets;
mod stop;
