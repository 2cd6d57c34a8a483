//! How long a frame has been unfinished while its connection was read.

use std::time::Duration;

use tokio::time::Instant;

/// Runs while forebay waits for the rest of a frame, and stands while forebay itself does not read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrameClock {
    before: Duration,
    running_since: Option<Instant>,
}

impl FrameClock {
    /// A frame is complete.
    pub fn reset(&mut self) {
        *self = FrameClock::default();
    }

    /// Lets it run, or stand, from `now` on.
    pub fn run(&mut self, on: bool, now: Instant) {
        match (self.running_since, on) {
            (None, true) => self.running_since = Some(now),
            (Some(since), false) => {
                self.before += now - since;
                self.running_since = None;
            }
            _ => {}
        }
    }

    /// When it will have run for `limit`, if it runs.
    pub fn reaches(&self, limit: Duration) -> Option<Instant> {
        self.running_since.map(|since| since + limit.saturating_sub(self.before))
    }
}
