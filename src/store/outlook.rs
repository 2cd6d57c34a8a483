//! What is to be expected: when memory is full while the disk fails, and when the log is.

use std::time::Duration;

use tokio::time::Instant;

use crate::backlog::log::engine::Log;
use crate::backlog::log::storage::Storage;
use crate::record::TimestampMs;

/// Between the samples that a rate is made of.
const SAMPLES_APART: Duration = Duration::from_secs(30);
/// How often the oldest record is looked for.
const LOOK_FOR_OLDEST: Duration = Duration::from_secs(5);

/// What is known of the log's future, and of its oldest record.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    growth: Growth,
    looked: Option<Instant>,
    /// How long until it is full, see [`Growth::full_in`].
    pub full_in: Option<Duration>,
    /// When the oldest record that it holds was stored, about.
    pub oldest_stored_at: Option<TimestampMs>,
}

impl Outlook {
    /// Looks at the log as it is now, which by the wall clock is `clock`; at its oldest record only now and then, since that takes a read.
    pub fn look<S: Storage>(&mut self, log: &mut Log<S>, clock: TimestampMs) {
        let (now, filled) = (Instant::now(), log.filled_bytes());
        self.growth.see(now, filled);
        self.full_in = self.growth.full_in(now, filled, log.options().limit_bytes);
        if log.state().ledger.held() == 0 {
            (self.oldest_stored_at, self.looked) = (None, None);
        } else if self.looked.is_none_or(|at| now.duration_since(at) >= LOOK_FOR_OLDEST) {
            match log.oldest_run().map(|found| found.map(|run| run.read())) {
                Ok(Some(Ok(run))) => self.oldest_stored_at = Some(run.records().stored_at),
                // None is on disk yet.
                Ok(None) => self.oldest_stored_at = Some(clock),
                // What the disk does not say now it may say the next time.
                Ok(Some(Err(_))) | Err(_) => {}
            }
            self.looked = Some(now);
        }
    }
}

/// How fast something fills, over the last half to whole minute.
#[derive(Debug, Default)]
struct Growth {
    before: Option<(Instant, u64)>,
    last: Option<(Instant, u64)>,
}

impl Growth {
    /// So much is filled now.
    fn see(&mut self, now: Instant, filled: u64) {
        if self.last.is_none_or(|(at, _)| now.duration_since(at) >= SAMPLES_APART) {
            self.before = self.last;
            self.last = Some((now, filled));
        }
    }

    /// How long until `limit` is filled if it goes on like this; `None` while it does not grow, or that is not known.
    fn full_in(&self, now: Instant, filled: u64, limit: u64) -> Option<Duration> {
        let (since, filled_then) = self.before.or(self.last)?;
        until_full(limit.saturating_sub(filled), filled.saturating_sub(filled_then), now.duration_since(since))
    }
}

/// How long until `left` bytes are taken when `grown` have come within `time`. What less than a second says of a rate is not much.
fn until_full(left: u64, grown: u64, time: Duration) -> Option<Duration> {
    if grown == 0 || time < Duration::from_secs(1) {
        return None;
    }
    Duration::try_from_secs_f64(left as f64 / grown as f64 * time.as_secs_f64()).ok()
}

/// What a failing disk means for memory, in words; `grown` is how many bytes have come within `time`.
pub(super) fn of_memory(used: usize, limit: usize, grown: usize, time: Duration) -> String {
    let until_full = match until_full(limit.saturating_sub(used) as u64, grown as u64, time) {
        _ if used >= limit => "it is full, and who writes waits".to_owned(),
        Some(time) => format!("as things go it is full in {} s", time.as_secs()),
        None => "it is not known yet when it is full".to_owned(),
    };
    format!("what comes is kept in memory only, of which {} of {} KiB are taken; {until_full}", used >> 10, limit >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MIB: usize = 1 << 20;

    #[test]
    fn how_long_until_memory_is_full_follows_from_how_fast_it_fills() {
        let said = of_memory(16 * MIB, 64 * MIB, 12 * MIB, SECOND * 60);
        assert!(said.contains("16384 of 65536 KiB ") && said.ends_with("as things go it is full in 240 s"), "{said}");
        assert!(of_memory(MIB, 64 * MIB, MIB, SECOND / 2).ends_with("not known yet when it is full"));
        assert!(of_memory(MIB, 64 * MIB, 0, SECOND * 9).ends_with("not known yet when it is full"));
        assert!(of_memory(64 * MIB, 64 * MIB, MIB, SECOND * 9).ends_with("it is full, and who writes waits"));
    }

    #[test]
    fn a_rate_is_of_the_last_minute_and_not_of_all_times() {
        let (mut growth, start) = (Growth::default(), Instant::now());
        assert_eq!(growth.full_in(start, 0, 1000), None);
        // An hour of nothing, and then 2 a second.
        for second in 0..3600 {
            growth.see(start + SECOND * second, 0);
        }
        let began = start + SECOND * 3600;
        for second in 0..=90 {
            growth.see(began + SECOND * second, u64::from(second) * 2);
        }
        let left = growth.full_in(began + SECOND * 90, 180, 1000).unwrap();
        assert!((SECOND * 400..SECOND * 425).contains(&left), "{left:?}");
        // It drains.
        assert_eq!(growth.full_in(began + SECOND * 95, 10, 1000), None);
    }
}
