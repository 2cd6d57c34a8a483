//! What the fuzz targets check, in every `cargo test`: on the seeds, and on what proptest makes of them. The checks are those of
//! `fuzz/src`, included here; a finding of the fuzzer is fixed by a test of its own, in the module that it was in.
//!
//! `FOREBAY_WRITE_SEEDS=1 cargo test --test fuzz_twins` writes the seeds to where the fuzzer looks for them.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

#[path = "../fuzz/src/answer.rs"]
mod answer;
#[path = "../fuzz/src/frame.rs"]
mod frame;
#[path = "../fuzz/src/record_batch.rs"]
mod record_batch;
#[path = "../fuzz/src/segment.rs"]
mod segment;

/// What is done to a seed.
#[derive(Clone, Debug)]
enum Change {
    /// Other bytes in place of some.
    Overwrite(Index, Vec<u8>),
    /// Bytes between others.
    Insert(Index, Vec<u8>),
    /// Some are missing.
    Remove(Index, usize),
    /// The end is missing.
    Cut(Index),
}

impl Change {
    fn apply(&self, input: &mut Vec<u8>) {
        // The end is a place too.
        let place = |index: &Index, len: usize| index.index(len + 1);
        match self {
            Change::Overwrite(index, bytes) => {
                let at = place(index, input.len());
                let end = input.len().min(at + bytes.len());
                input.splice(at..end, bytes.iter().copied());
            }
            Change::Insert(index, bytes) => {
                let at = place(index, input.len());
                input.splice(at..at, bytes.iter().copied());
            }
            Change::Remove(index, count) => {
                let at = place(index, input.len());
                input.drain(at..input.len().min(at + count));
            }
            Change::Cut(index) => input.truncate(place(index, input.len())),
        }
    }
}

/// Bytes as fuzzers like them: lengths at their limits, and any.
fn few_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), Just(0), Just(1), Just(0x7f), Just(0x80), Just(0xff)];
    prop_oneof![
        4 => prop::collection::vec(byte, 1..9),
        1 => any::<i32>().prop_map(|n| n.to_be_bytes().to_vec()),
        1 => (0..100_i32).prop_map(|n| n.to_be_bytes().to_vec()),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (any::<Index>(), few_bytes()).prop_map(|(at, bytes)| Change::Overwrite(at, bytes)),
        2 => (any::<Index>(), few_bytes()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => any::<Index>().prop_map(Change::Cut),
    ]
}

/// A seed, changed; or two, one in the other; or any bytes.
fn input(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let seed = prop::sample::select(seeds);
    let changed = (seed.clone(), prop::collection::vec(change(), 0..5)).prop_map(|(mut input, changes)| {
        changes.iter().for_each(|change| change.apply(&mut input));
        input
    });
    let crossed = (seed.clone(), seed, any::<Index>()).prop_map(|(mut input, other, at)| {
        Change::Insert(at, other).apply(&mut input);
        input
    });
    prop_oneof![8 => changed, 2 => crossed, 1 => prop::collection::vec(any::<u8>(), 0..300)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_local_clients_send_is_harmless(input in input(frame::seeds())) {
        frame::check(&input);
    }

    #[test]
    fn what_a_broker_answers_is_harmless(input in input(answer::seeds())) {
        answer::check(&input);
    }

    #[test]
    fn a_record_batch_is_harmless(input in input(record_batch::seeds())) {
        record_batch::check(&input);
    }

    #[test]
    fn a_segment_is_harmless(input in input(segment::seeds())) {
        segment::check(&input);
    }
}

/// Compressed seeds are whatever the libraries made of them when they were written: they are compared by number alone.
#[test]
fn the_fuzzer_begins_with_every_seed() {
    type Target = (&'static str, Vec<Vec<u8>>, fn(&[u8]));
    let targets: [Target; 4] = [
        ("frame", frame::seeds(), frame::check),
        ("answer", answer::seeds(), answer::check),
        ("record_batch", record_batch::seeds(), record_batch::check),
        ("segment", segment::seeds(), segment::check),
    ];
    for (target, seeds, check) in targets {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        if std::env::var_os("FOREBAY_WRITE_SEEDS").is_some() {
            write_seeds(&directory, &seeds);
        }
        let committed = seed_files(&directory);
        assert_eq!(committed.len(), seeds.len(), "{target}: run FOREBAY_WRITE_SEEDS=1 cargo test --test fuzz_twins");
        for path in committed {
            check(&fs::read(path).expect("a seed can be read"));
        }
    }
}

fn write_seeds(directory: &Path, seeds: &[Vec<u8>]) {
    fs::create_dir_all(directory).expect("the directory can be made");
    seed_files(directory).iter().for_each(|path| fs::remove_file(path).expect("a file that was listed can go"));
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(directory.join(format!("seed-{number:02}")), seed).expect("a seed can be written");
    }
}

/// What is committed; beside it lies what the fuzzer has found.
fn seed_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")))
        .collect()
}
