//! Random operations on a log, on a disk that loses its power, tears writes, fails and fills up, against a simple model.
//!
//! After each reopening the log must be what the model was after some number of frames, at least all that were answered as synced:
//! nothing synced is gone, nothing is invented, order and ledger are right, and every record that is held can be read.
//!
//! `LOG_MODEL_SEED=n` replays one case, `LOG_MODEL_CASES=n` tries so many, from `LOG_MODEL_FROM=n` on. A failure names its seed.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "all of it is test code")]

#[path = "log_model/crashes.rs"]
mod crashes;
#[path = "log_model/model.rs"]
mod model;
#[path = "log_model/reading.rs"]
mod reading;
#[path = "log_model/tally.rs"]
mod tally;
#[path = "log_model/world.rs"]
mod world;

use tally::Tally;
use world::World;

/// In a debug build, where each takes much longer, a taste.
const CASES: u64 = if cfg!(debug_assertions) { 300 } else { 10_000 };

/// Says so often how far it is.
const PROGRESS: u64 = 50_000;

#[test]
fn a_log_is_what_the_model_says_after_every_crash() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seeds = match number("LOG_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let from = number("LOG_MODEL_FROM").unwrap_or(0);
            from..from + number("LOG_MODEL_CASES").unwrap_or(CASES)
        }
    };
    let single = seeds.end - seeds.start == 1;
    let mut total = Tally::default();
    for seed in seeds {
        let _named = Named(seed);
        let mut world = World::new(seed, single);
        let steps = world.random.usize(20..200);
        for _ in 0..steps {
            world.step();
        }
        world.end();
        total.add(&world.tally);
        if (seed + 1).is_multiple_of(PROGRESS) {
            println!("{} cases: {total:?}", seed + 1);
        }
    }
    println!("{total:?}");
}

/// Says which case failed.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with LOG_MODEL_SEED={} cargo test --test log_model -- --nocapture", self.0);
        }
    }
}
