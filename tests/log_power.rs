//! Real power loss: a log on a file system of its own, whose power is cut while it is written to (`support/mount.rs`), and opened again
//! from what the device holds. Nothing that was ever answered as synced may be gone.
//!
//! Needs root, loop devices, mkfs.ext4 and python3; says so and does nothing without them, unless `FOREBAY_REQUIRE_LOOP` is set.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is test code")]

#[path = "support/log.rs"]
mod fixture;
#[path = "support/mount.rs"]
mod mount;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Acknowledged, Entry};
use forebay::backlog::log::error::LogError;
use forebay::backlog::log::options::Options;
use forebay::backlog::log::read::{Cursor, Next};
use forebay::backlog::log::storage::Storage;
use forebay::backlog::log::storage::real::RealStorage;
use forebay::backlog::log::thread::{Durable, LogThread, SyncPolicy, Work};

use fixture::records;
use mount::Mount;

const ROUNDS: u64 = 20;
const IMAGE_BYTES: u64 = 96 << 20;

fn options() -> Options {
    Options { segment_bytes: 4 << 20, ..Options::with_limit(64 << 20) }
}

/// Appends record `n` of the only partition.
fn append(n: u64) -> Work<RealStorage> {
    Box::new(move |log| {
        let partition = log.define(b"p")?;
        let data = record(n);
        let records = records(partition, n, &data);
        log.append(&[Entry::Records(records)])
    })
}

fn record(n: u64) -> Vec<u8> {
    format!("{n} ").repeat(20 + n as usize % 200).into_bytes()
}

/// How many records a log has had; those that are not settled are all there, as they were written.
fn read_all<S: Storage>(log: &mut Log<S>) -> u64 {
    let mut cursor = Cursor::new(0, 0);
    let mut expected = log.partition(0).map_or(0, |partition| partition.settled);
    while let Next::Runs(runs) = log.locate(&mut cursor, 1 << 20).expect("it can be read") {
        for run in runs {
            let stored = run.read().expect("nothing is damaged");
            assert_eq!((stored.records().first, stored.records().data), (expected, &record(expected)[..]));
            expected += 1;
        }
    }
    expected
}

#[test]
fn nothing_that_was_synced_is_lost_with_the_power() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut answered, mut more, mut refused) = (0, 0, 0);
    for round in 0..ROUNDS {
        let name = format!("round-{round}");
        let Some(mount) = Mount::new_or_say(directory.path(), &name, IMAGE_BYTES) else { return };
        // Different rounds end at different places of the log.
        let told = write_until_the_power_goes(&mount, round, 50 + round * 300);
        mount.mount_again();
        let (mut log, damage) = Log::open(RealStorage::new(&mount.point), options(), 99).unwrap();
        let harmed = !damage.gaps.is_empty() || damage.notes_lost || !damage.unreadable_segments.is_empty();
        assert!(!harmed && damage.missing_segments.is_empty(), "round {round}: {damage:?}");
        let held = read_all(&mut log);
        assert!(held >= told.synced, "round {round}: {} records were synced, {held} are there", told.synced);
        answered += told.synced;
        more += held - told.synced;
        refused += told.refused;
    }
    println!(
        "{ROUNDS} times: {answered} synced records, none lost, {more} more were there; {refused} times it was said that the disk fails"
    );
}

/// What a writer heard.
struct Told {
    /// So many records were durable before the power went. A sync that is under way at that moment may succeed without having synced: the
    /// journal's transaction ends, if only because it is given up (`jbd2_complete_transaction` of Linux).
    synced: u64,
    /// How often it was told that they are not.
    refused: u64,
}

/// Writes, in full flow or each record when the last is durable, cuts the power when so many records are synced, and goes on writing until an answer says that the disk fails.
fn write_until_the_power_goes(mount: &Mount, seed: u64, enough: u64) -> Told {
    let (log, _) = Log::open(RealStorage::new(&mount.point), options(), seed).unwrap();
    // So that much is not synced when the power goes.
    let policy = SyncPolicy { after_bytes: 1 << 20, after: Duration::from_secs(3600) };
    let thread = LogThread::start(log, policy).unwrap();
    let (synced, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let one_by_one = !seed.is_multiple_of(2);
    // Each takes a sync.
    let enough = if one_by_one { enough / 8 } else { enough };
    let known = std::thread::scope(|scope| {
        let handle = thread.handle();
        let (synced_by, refused_by) = (&synced, &refused);
        let writer = scope.spawn(move || {
            let mut n = 0;
            while refused_by.load(Ordering::Acquire) == 0 {
                let (synced, refused) = (Arc::clone(synced_by), Arc::clone(refused_by));
                let (told, hears) = sync_channel::<()>(0);
                let durable: Durable = Box::new(move |result| {
                    _ = match result {
                        Ok(_) => synced.fetch_max(n + 1, Ordering::AcqRel),
                        Err(_) => refused.fetch_add(1, Ordering::AcqRel),
                    };
                    drop(told);
                });
                handle.submit(append(n), (one_by_one || n % 37 == 0).then_some(durable)).unwrap();
                if one_by_one {
                    hears.recv().unwrap_err();
                }
                n += 1;
                let done = n.is_multiple_of(2000).then(|| settle(n / 2));
                done.into_iter().for_each(|done| handle.submit(done, None).unwrap());
            }
        });
        while synced.load(Ordering::Acquire) < enough && refused.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(refused.load(Ordering::Acquire), 0, "there is room, and power");
        let switch = mount.power_switch();
        let known = synced.load(Ordering::Acquire);
        switch.cut();
        writer.join().unwrap();
        known
    });
    thread.stop().expect_err("there is no power");
    Told { synced: known, refused: refused.load(Ordering::Acquire) }
}

/// Everything before record `n` is done with.
fn settle(n: u64) -> Work<RealStorage> {
    let entry = Entry::Acknowledged(Acknowledged {
        partition: 0,
        last: n - 1,
        offset: 0,
        leader_epoch: 0,
        topic_id: [0; 16],
        possible_duplicates: 0,
    });
    Box::new(move |log| log.append(std::slice::from_ref(&entry)))
}

#[test]
fn a_full_file_system_is_an_error_that_loses_nothing_and_heals_by_itself() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(mount) = Mount::new_or_say(directory.path(), "full", IMAGE_BYTES) else { return };
    let storage = RealStorage::new(&mount.point);
    let options = Options { segment_bytes: 4 << 20, ..Options::with_limit(1 << 30) };
    let (mut log, _) = Log::open(storage.clone(), options, 1).unwrap();
    let filler = File::create(mount.point.join("others")).unwrap();
    let mut n = 0;
    let full = loop {
        match append(n)(&mut log) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LogError::Full { .. }), "{full}");
    // Others take what is left.
    let mut filled = 0;
    while std::os::unix::fs::FileExt::write_all_at(&filler, &[1; 4096], filled).is_ok() {
        filled += 4096;
    }
    let last = n - 1;
    for _ in 0..50_000 {
        let range = forebay::backlog::log::entry::IndexRange::new(last, last).unwrap();
        log.append(&[Entry::Dropped { partition: 0, range, reason: 2 }]).expect("notes have files of their own");
    }
    log.sync().unwrap();
    drop(log);
    let (mut log, _) = Log::open(storage, options, 2).expect("opening needs no room");
    assert_eq!(read_all(&mut log), n);
    filler.set_len(0).unwrap();
    let done =
        Acknowledged { partition: 0, last, offset: 0, leader_epoch: 0, topic_id: [0; 16], possible_duplicates: 0 };
    log.append(&[Entry::Acknowledged(done)]).unwrap();
    log.sync().unwrap();
    for more in n..n + 1000 {
        append(more)(&mut log).expect("there is room again");
    }
    log.sync().unwrap();
}
