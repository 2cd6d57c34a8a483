//! The clocks of a schedule: the brokers' wall clock is its runtime's paused clock; that of forebay's host is set now and then, and
//! its machine suspended.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// When a schedule begins, in ms since 1970.
const BEGIN_MS: i64 = 1_800_000_000_000;

thread_local! {
    static BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
    static LOCAL_AHEAD_MS: Cell<i64> = const { Cell::new(0) };
    static SUSPENDED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A schedule begins on this thread.
pub fn begin() {
    BEGIN.set(Some(Instant::now()));
    LOCAL_AHEAD_MS.set(0);
    SUSPENDED.set(Duration::ZERO);
}

/// How long it has run.
pub fn elapsed() -> Duration {
    BEGIN.get().map_or(Duration::ZERO, |begin| begin.elapsed())
}

/// The brokers' wall clock.
pub fn now_ms() -> i64 {
    BEGIN_MS + elapsed().as_millis() as i64
}

/// That of forebay's host.
pub fn local_ms() -> i64 {
    now_ms() + LOCAL_AHEAD_MS.get()
}

/// The time since forebay's host was started.
pub fn since_boot() -> Duration {
    elapsed() + SUSPENDED.get()
}

/// Sets the clock of forebay's host.
pub fn set_local(ahead_ms: i64) {
    LOCAL_AHEAD_MS.set(ahead_ms);
}

/// Forebay's host was suspended for so long: a moment for all others, as far as they can tell.
pub fn suspend(pause: Duration) {
    SUSPENDED.set(SUSPENDED.get() + pause);
}
