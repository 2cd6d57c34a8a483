//! Rules of flight and ladder that the simulation takes away, one at a time, to see that it notices.
//!
//! Only a build with the feature `sabotage` can take any away; in every other one [`holds`] is `true` and costs nothing. Each schedule
//! runs on a thread of its own, so that is where the rule is kept. It decides nothing itself.

/// A rule (`docs/`, and the module docs of `flight` and `settle`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// One batch in flight until the lane has had a success on this connection.
    FirstFlightAlone,
    /// Each new lane starts alone.
    AlonePerLane,
    /// Retries go oldest first.
    OldestFirst,
    /// What is in doubt after a lost connection keeps its lane and numbers.
    DoubtKeepsItsLane,
    /// 3, 6 and 56 leave a doubt.
    MovedIsDoubt,
    /// The pieces of a batch keep its numbers.
    SplitsKeepNumbers,
    /// Old batches fly under a producer id of their own.
    OldHasOwnId,
    /// What a leader says of its producers proves nothing.
    SuccessProves,
    /// A scan goes on to the log's end, not to the high watermark.
    ScanToLogEnd,
}

impl Rule {
    /// Every one.
    pub const ALL: [Rule; 9] = [
        Rule::FirstFlightAlone,
        Rule::AlonePerLane,
        Rule::OldestFirst,
        Rule::DoubtKeepsItsLane,
        Rule::MovedIsDoubt,
        Rule::SplitsKeepNumbers,
        Rule::OldHasOwnId,
        Rule::SuccessProves,
        Rule::ScanToLogEnd,
    ];
}

#[cfg(feature = "sabotage")]
mod taken {
    use super::Rule;
    use std::cell::Cell;

    thread_local! {
        static TAKEN: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    /// From now on `rule` does not hold on this thread; with `None` all do.
    pub fn take_away(rule: Option<Rule>) {
        TAKEN.set(rule);
    }

    /// Whether `rule` holds on this thread.
    pub fn holds(rule: Rule) -> bool {
        TAKEN.get() != Some(rule)
    }
}

#[cfg(feature = "sabotage")]
pub use taken::{holds, take_away};

/// Every rule does.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
pub const fn holds(_: Rule) -> bool {
    true
}
