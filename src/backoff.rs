//! How long to wait before trying again: doubling, bounded, with jitter so that many hosts do not come at once.

use std::time::Duration;

/// Delays from `first` to `max`, as Kafka's `retry.backoff.ms` and `retry.backoff.max.ms` mean them (KIP-580).
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// After many.
    pub max: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row (1 or more), ±20 %.
    pub fn delay(&self, failures: u32, random: &mut fastrand::Rng) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.max).mul_f64(0.8 + 0.4 * random.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_with_a_fifth_of_jitter() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut random = fastrand::Rng::with_seed(7);
        for (failures, middle) in [(1, 100), (2, 200), (4, 800), (5, 1000), (60, 1000), (u32::MAX, 1000)] {
            let delay = backoff.delay(failures, &mut random).as_millis();
            assert!((middle * 8 / 10..=middle * 12 / 10).contains(&delay), "{failures}: {delay}");
        }
    }
}
