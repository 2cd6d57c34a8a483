//! The wall clock of a schedule, which is its runtime's paused clock.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// When a schedule begins, in ms since 1970.
const BEGIN_MS: i64 = 1_800_000_000_000;

thread_local! {
    static BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A schedule begins on this thread.
pub fn begin() {
    BEGIN.set(Some(Instant::now()));
}

/// How long it has run.
pub fn elapsed() -> Duration {
    BEGIN.get().map_or(Duration::ZERO, |begin| begin.elapsed())
}

/// The wall clock.
pub fn now_ms() -> i64 {
    BEGIN_MS + elapsed().as_millis() as i64
}
