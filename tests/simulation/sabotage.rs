//! The simulation notices when a rule is taken away: without this, schedules that all hold could mean that nothing is looked at.

use std::collections::BTreeMap;
use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use forebay::broker::sabotage::{Rule, take_away};

use crate::THREADS;
use crate::plan::Purpose;
use crate::schedule;
use crate::trace::Trace;

/// A rule is missed within so many schedules, or it is not.
const SCHEDULES: u64 = 10_000;

/// In which schedules a rule is missed. Where several things must come together for it that seldom do, in those that are drawn for that.
fn purpose_of(rule: Rule) -> Purpose {
    match rule {
        Rule::AlonePerLane => Purpose::NewIds,
        Rule::SuccessProves => Purpose::Uncommitted,
        Rule::ScanToLogEnd => Purpose::Forgotten,
        _ => Purpose::Any,
    }
}

/// The first seed that misses `rule`, and what it says.
fn first_that_misses(rule: Rule) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let found = AtomicU64::new(SCHEDULES);
    let run = || {
        take_away(Some(rule));
        let mut failed = BTreeMap::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= found.load(Ordering::Relaxed) {
                return failed;
            }
            if let Err(why) = schedule::run(seed, purpose_of(rule), &Trace::default()).verdict {
                found.fetch_min(seed, Ordering::Relaxed);
                failed.insert(seed, why);
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        let failed = threads.into_iter().flat_map(|thread| thread.join().expect("no schedule panics"));
        failed.collect::<BTreeMap<_, _>>().pop_first()
    })
}

/// `RULE=OldestFirst` takes only that one away; with `SEED=n` as well, that schedule is printed.
#[test]
fn each_rule_that_is_taken_away_is_missed() {
    let only = env::var("RULE").ok();
    let rules = Rule::ALL.into_iter().filter(|rule| only.as_ref().is_none_or(|only| *only == format!("{rule:?}")));
    let mut unnoticed = Vec::new();
    for rule in rules {
        if let Ok(seed) = env::var("SEED") {
            take_away(Some(rule));
            let outcome = schedule::run(seed.parse().expect("SEED is a number"), purpose_of(rule), &Trace::printed());
            eprintln!("without {rule:?}, seed {seed}: {outcome:?}");
            continue;
        }
        match first_that_misses(rule) {
            Some((seed, why)) => {
                eprintln!("without {rule:?}, schedule {seed}: {why}");
                take_away(None);
                let outcome = schedule::run(seed, purpose_of(rule), &Trace::default());
                outcome.verdict.unwrap_or_else(|why| panic!("with {rule:?}, schedule {seed} does not hold: {why}"));
            }
            None => unnoticed.push(rule),
        }
    }
    assert!(unnoticed.is_empty(), "nobody has missed {unnoticed:?} in {SCHEDULES} schedules");
}
