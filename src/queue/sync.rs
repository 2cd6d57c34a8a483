//! The atomics of this module: the standard library's, or loom's when its interleavings are being searched
//! (`RUSTFLAGS="--cfg forebay_loom" LOOM_MAX_PREEMPTIONS=3 cargo test --target-dir target/loom --lib loom`).

#[cfg(not(forebay_loom))]
pub use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(forebay_loom)]
pub use loom::sync::atomic::{AtomicU8, Ordering};
