//! The backlog: what outlives the process.
//!
//! `log` is the storage engine; it knows partitions by number and bytes. `name` says which bytes name a partition, `letter` what a
//! dead letter says beside its records; `catalog` is a cache beside them. `docs/backlog-format.md` has the files byte by byte.

pub mod catalog;
pub mod letter;
pub mod log;
pub mod name;
