//! What a producer's records say of a kill, by the times at which they were made and appended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::load::{Producer, parse};
use crate::support::kcat::ReadRecord;
use crate::{AFTER, BEFORE};

/// Records made so long before the kill belong to neither side of it.
const NEAR_MS: i64 = 500;

/// What a kill is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Its leader was killed.
    Moved,
    /// Its other replica was: what is in sync must be agreed on anew.
    WithoutFollower,
    /// It has no replica there.
    Untouched,
}

/// What a producer felt of a kill.
pub struct Felt {
    /// The longest time between two records of each moved partition, in milliseconds, ascending.
    pub pauses: Vec<i64>,
    /// Milliseconds from the making of a record of an untouched partition to its append, ascending: before the kill and after.
    times: [Vec<i64>; 2],
}

impl Felt {
    /// Of the moved partitions, in milliseconds.
    pub fn median_pause(&self) -> i64 {
        self.pauses[self.pauses.len() / 2]
    }

    /// Of the untouched partitions, before and after.
    fn p99(&self) -> [i64; 2] {
        self.times.each_ref().map(|times| times[times.len() * 99 / 100])
    }

    /// p99 after the kill against before. Times are whole milliseconds, so less than one counts as one.
    pub fn slowdown(&self) -> f64 {
        let [before, after] = self.p99().map(|ms| ms.max(1) as f64);
        after / before
    }
}

impl fmt::Display for Felt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (longest, [before, after]) = (self.pauses[self.pauses.len() - 1], self.p99());
        write!(f, "{}, {longest} | {before}, {after}", self.median_pause())
    }
}

/// What `producer`, which wrote so many records, felt of a kill at that time; fails if one is lost or doubled.
pub fn felt(
    read: &[ReadRecord],
    producer: Producer,
    written: u64,
    killed_at: i64,
    group: impl Fn(i32) -> Group,
) -> Felt {
    let (before, after) = (BEFORE.as_millis() as i64, AFTER.as_millis() as i64);
    let mut seen = BTreeSet::new();
    let mut appended: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    let mut times: [Vec<i64>; 2] = Default::default();
    for record in read {
        let Some((number, made)) = parse(record.value.as_deref().unwrap_or_default(), producer) else { continue };
        assert!(seen.insert((record.partition, number)), "{producer:?} has doubled {number} in {}", record.partition);
        if !(killed_at - before..killed_at + after).contains(&made) {
            continue;
        }
        match group(record.partition) {
            Group::Moved => appended.entry(record.partition).or_default().push(record.timestamp),
            Group::Untouched if made >= killed_at => times[1].push(record.timestamp - made),
            // What was made just before the kill feels it.
            Group::Untouched if made < killed_at - NEAR_MS => times[0].push(record.timestamp - made),
            _ => {}
        }
    }
    assert_eq!(seen.len() as u64, written, "{producer:?} has lost records");
    times.iter_mut().for_each(|times| times.sort_unstable());
    let longest = |times: &Vec<i64>| times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(i64::MAX);
    let mut pauses: Vec<i64> = appended.values().map(longest).collect();
    pauses.sort_unstable();
    Felt { pauses, times }
}
