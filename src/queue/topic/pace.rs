//! How fast the batches of a topic may be sent: `rate_limit`.
//!
//! Each batch takes as long as the rate allows for its bytes, from when the one before is over. So nothing is counted down, no timer
//! runs for a topic that sends nothing, and what one batch takes too much the next one waits for.

use std::time::Duration;

use crossbeam::atomic::AtomicCell;
use tokio::time::Instant;

/// Time that was not used is kept for so long: timers are late by a millisecond or two, which must not make the topic slower.
const CREDIT: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    over: AtomicCell<Option<Instant>>,
}

impl Pace {
    /// So many bytes a second, at least 1.
    pub fn new(bytes_per_second: u64) -> Self {
        Pace { bytes_per_second: bytes_per_second.max(1), over: AtomicCell::new(None) }
    }

    /// From when on the next batch may be sent, if not now.
    pub fn free_from(&self, now: Instant) -> Option<Instant> {
        self.over.load().filter(|over| *over > now)
    }

    /// A batch of so many bytes is sent.
    pub fn spend(&self, bytes: usize, now: Instant) {
        let nanos = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(self.bytes_per_second));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let from = now.checked_sub(CREDIT).unwrap_or(now);
        // Connections of several brokers may send of one topic at once.
        let _ = self.over.fetch_update(|over| {
            let begins = over.map_or(from, |over| over.max(from));
            Some(Some(begins.checked_add(takes).unwrap_or(begins)))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_over_a_while_is_what_the_rate_allows_and_a_batch() {
        let pace = Pace::new(100 * KIB as u64);
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < Duration::from_secs(10) {
            match pace.free_from(Instant::now()) {
                // As late as timers are.
                Some(moment) => tokio::time::sleep_until(moment + Duration::from_millis(2)).await,
                None => {
                    pace.spend(KIB, Instant::now());
                    sent += KIB;
                }
            }
        }
        let allowed = 10 * 100 * KIB;
        assert!((allowed * 99 / 100..=allowed + 12 * KIB).contains(&sent), "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_was_sent_is_not_made_up_for() {
        let pace = Pace::new(KIB as u64);
        pace.spend(KIB, Instant::now());
        tokio::time::advance(Duration::from_secs(60)).await;
        pace.spend(KIB, Instant::now());
        assert_eq!(pace.free_from(Instant::now()), Some(Instant::now() + Duration::from_millis(900)));
    }
}
