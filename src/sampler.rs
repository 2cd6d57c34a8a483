//! Log lines about what others do wrong: one a second at most, however much they do.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(1);

/// Decides which of many alike events is logged.
#[derive(Debug, Default)]
pub struct Sampler(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    unlogged: u64,
}

impl Sampler {
    /// `Some` if this event is to be logged: how many there were since the last one that was, this one included.
    pub fn admit(&self) -> Option<u64> {
        let mut state = self.0.lock();
        state.unlogged += 1;
        let now = Instant::now();
        if state.last.is_some_and(|last| now < last + INTERVAL) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_event_a_second_is_logged_and_the_others_are_counted() {
        let sampler = Sampler::default();
        assert_eq!([sampler.admit(), sampler.admit(), sampler.admit()], [Some(1), None, None]);
        tokio::time::advance(INTERVAL).await;
        assert_eq!([sampler.admit(), sampler.admit()], [Some(3), None]);
    }
}
