//! What the fuzz targets check, each a function from bytes that panics where forebay is wrong.
//!
//! `tests/fuzz_twins.rs` includes the same files, so that every `cargo test` runs them on seeds and what proptest makes of them.

#![forbid(unsafe_code)]

pub mod answer;
pub mod frame;
pub mod record_batch;
pub mod segment;
