//! Against real Apache Kafka: three nodes from Maven's jars, read back by kcat and by Kafka's own Java client.
//!
//! Needs Java 17, Maven (once) and kcat. Where one is missing the tests say so and do nothing; with
//! `FOREBAY_REQUIRE_KAFKA=1` that is an error.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod any_cluster;
mod cluster;
mod console_consumer;
mod jars;
mod permissions;

mod chaos;
mod check;
mod crash;
mod deliver;
mod independent_readers;
mod inquiries;
