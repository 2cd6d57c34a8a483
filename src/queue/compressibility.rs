//! What a partition has learned of its records: whether compressing them pays.
//!
//! The sizes of batches come in, and how each attempt went; out goes whether to try the next one. Records that are compressed
//! or encrypted already do not shrink, and to find that out costs as much as compressing; what a partition holds can change.
//! So an attempt that did not pay is made up for by bytes that go out untried: as many as it had, then, after each further
//! one in a row, 3, 7, 15 and at most 31 times as many. One that pays starts this anew.
//!
//! Invariants: between two attempts at most 31 times the bytes of the first go out untried, so that records which begin to
//! shrink are found out soon. Bytes are counted, not batches: a batch larger than all that may still go untried is tried, so small
//! ones that do not pay never hold back a large one for long.
//!
//! Deliberately absent: how much must be saved (`wire::codec`), time, and any look at the records.

/// Failures in a row that lengthen the pause: 2⁵ − 1 = 31 times the bytes, or 3 % of all bytes tried in vain.
const MISSES_MAX: u8 = 5;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compressibility {
    /// Bytes that may still go out untried.
    untried: u32,
    /// Attempts in a row that did not pay, as far as they count.
    misses: u8,
}

impl Compressibility {
    /// Whether to compress a batch of so many bytes, at least one. If not, it counts as gone out untried; if so, say how it
    /// went by [`Compressibility::tried`].
    pub fn is_worth_trying(&mut self, bytes: usize) -> bool {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.untried.checked_sub(bytes));
        self.untried = left.unwrap_or(0);
        left.is_none()
    }

    /// A batch of so many bytes was compressed, and it `paid` or is sent as it was.
    pub fn tried(&mut self, bytes: usize, paid: bool) {
        if paid {
            *self = Self::default();
            return;
        }
        self.misses = (self.misses + 1).min(MISSES_MAX);
        let pause = bytes.saturating_mul((1 << self.misses) - 1);
        self.untried = u32::try_from(pause).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lets a batch pass, which `pays` if it is tried; whether it was.
    fn pass(state: &mut Compressibility, bytes: usize, pays: bool) -> bool {
        let tries = state.is_worth_trying(bytes);
        if tries {
            state.tried(bytes, pays);
        }
        tries
    }

    #[test]
    fn a_partition_whose_batches_shrink_has_each_of_them_compressed() {
        let mut state = Compressibility::default();
        assert!((1..100).all(|n| pass(&mut state, n * 1000, true)));
    }

    #[test]
    fn after_each_failure_in_a_row_the_pause_is_longer_up_to_31_batches() {
        let mut state = Compressibility::default();
        let mut pauses = vec![];
        for _ in 0..7 {
            assert!(pass(&mut state, 500, false));
            let mut pause = state;
            pauses.push((0..100).take_while(|_| !pass(&mut pause, 500, false)).count());
            (0..pauses[pauses.len() - 1]).for_each(|_| assert!(!pass(&mut state, 500, false)));
        }
        assert_eq!(pauses, [1, 3, 7, 15, 31, 31, 31]);
    }

    #[test]
    fn one_success_starts_anew() {
        let mut state = Compressibility::default();
        while state.misses < MISSES_MAX {
            pass(&mut state, 500, false);
        }
        while !pass(&mut state, 500, true) {}
        assert_eq!(state, Compressibility::default());
    }

    #[test]
    fn small_batches_that_do_not_shrink_do_not_hold_back_a_large_one() {
        let mut state = Compressibility::default();
        for _ in 0..1000 {
            pass(&mut state, 80, false);
        }
        assert!(pass(&mut state, 256 << 10, true));
    }

    #[test]
    fn of_what_never_shrinks_little_more_than_3_percent_is_compressed() {
        for bytes in [1, 100, 256 << 10, 100 << 20] {
            let mut state = Compressibility::default();
            let tried = (0..10_000).filter(|_| pass(&mut state, bytes, false)).count();
            assert!(tried <= 10_000 / 32 + 5, "{tried} of 10,000 batches of {bytes} bytes");
        }
    }

    proptest! {
        #[test]
        fn a_pause_is_at_most_31_times_what_was_tried_and_none_follows_a_success(
            batches in prop::collection::vec((prop_oneof![1..100_usize, 1..1_000_000_usize], any::<bool>()), 1..300),
        ) {
            let mut state = Compressibility::default();
            let mut pause = 0;
            for (bytes, pays) in batches {
                if pass(&mut state, bytes, pays) {
                    pause = if pays { 0 } else { 31 * bytes };
                } else {
                    prop_assert!(bytes <= pause);
                    pause -= bytes;
                }
            }
        }

        #[test]
        fn the_largest_sizes_there_are_do_no_harm(batches in prop::collection::vec((any::<usize>(), any::<bool>()), 1..20)) {
            let mut state = Compressibility::default();
            for (bytes, pays) in batches {
                pass(&mut state, bytes, pays);
            }
        }
    }
}
