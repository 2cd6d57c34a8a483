//! Real power loss: a log on an ext4 of its own, whose power is cut while it is written to (`FS_IOC_SHUTDOWN` without flushing the
//! journal: from then on not one block reaches the device), and opened again from what the device holds. Nothing that was ever answered as
//! synced may be gone. A copy of a mounted file system's image would show less: its blocks are of different times, as no disk's ever are.
//!
//! Needs root, loop devices, mkfs.ext4 and python3; says so and does nothing without them, unless `FOREBAY_REQUIRE_LOOP` is set. The system's own
//! writing back is kept off by `commit=` and by how short a round is, so what was not synced is mostly not there.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is test code")]

#[path = "support/log.rs"]
mod fixture;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

const ROUNDS: u64 = 20;
const IMAGE_BYTES: u64 = 96 << 20;

/// An ext4 in a file, mounted.
struct Mount {
    point: PathBuf,
}

impl Mount {
    /// Mounts an image; makes the file system first if `format` says so.
    fn new(image: &Path, point: &Path, format: bool) -> Result<Mount, String> {
        if format {
            let file = File::create(image).map_err(|error| error.to_string())?;
            file.set_len(IMAGE_BYTES).map_err(|error| error.to_string())?;
            run("mkfs.ext4", &["-q", "-F", path(image)])?;
        }
        fs::create_dir_all(point).map_err(|error| error.to_string())?;
        run("mount", &["-o", "loop,commit=300", path(image), path(point)])?;
        Ok(Mount { point: point.to_owned() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Where a test has failed its threads may still hold files.
        let unmounted = run("umount", &[path(&self.point)]).or_else(|_| run("umount", &["-l", path(&self.point)]));
        if let Err(error) = unmounted {
            eprintln!("{error}");
        }
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the build's own directory is UTF-8")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A mounted file system; `None` where the machine allows none.
fn mounted(directory: &Path, name: &str) -> Option<Mount> {
    match Mount::new(&directory.join(format!("{name}.image")), &directory.join(name), true) {
        Ok(mount) => Some(mount),
        Err(why) if std::env::var_os("FOREBAY_REQUIRE_LOOP").is_some() => panic!("{why}"),
        Err(why) => {
            eprintln!("skipped: no file system of its own here: {why}");
            None
        }
    }
}

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
        let Some(mount) = mounted(directory.path(), &name) else { return };
        // Different rounds end at different places of the log.
        let told = write_until_the_power_goes(&mount, round, 50 + round * 300);
        drop(mount);
        let mount = Mount::new(&directory.path().join(format!("{name}.image")), &directory.path().join("after"), false);
        let mount = mount.expect("its journal is replayed");
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

/// Writes in full flow, cuts the power when so many records are synced, and goes on writing until an answer says that the disk fails.
fn write_until_the_power_goes(mount: &Mount, seed: u64, enough: u64) -> Told {
    let (log, _) = Log::open(RealStorage::new(&mount.point), options(), seed).unwrap();
    // So that much is not synced when the power goes.
    let policy = SyncPolicy { after_bytes: 1 << 20, after: Duration::from_secs(3600) };
    let thread = LogThread::start(log, policy).unwrap();
    let (synced, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let known = std::thread::scope(|scope| {
        let handle = thread.handle();
        let (synced_by, refused_by) = (&synced, &refused);
        let writer = scope.spawn(move || {
            let mut n = 0;
            while refused_by.load(Ordering::Acquire) == 0 {
                let (synced, refused) = (Arc::clone(synced_by), Arc::clone(refused_by));
                let durable: Durable = Box::new(move |result| {
                    _ = match result {
                        Ok(_) => synced.fetch_max(n + 1, Ordering::AcqRel),
                        Err(_) => refused.fetch_add(1, Ordering::AcqRel),
                    };
                });
                handle.submit(append(n), (n % 37 == 0).then_some(durable)).unwrap();
                n += 1;
                let done = n.is_multiple_of(2000).then(|| settle(n / 2));
                done.into_iter().for_each(|done| handle.submit(done, None).unwrap());
            }
        });
        while synced.load(Ordering::Acquire) < enough && refused.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(refused.load(Ordering::Acquire), 0, "there is room, and power");
        let known = cut_power(mount, &synced);
        writer.join().unwrap();
        known
    });
    thread.stop().expect_err("there is no power");
    Told { synced: known, refused: refused.load(Ordering::Acquire) }
}

/// `FS_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH` (`fs/ext4/ext4.h` of Linux). What `synced` was just before.
fn cut_power(mount: &Mount, synced: &AtomicU64) -> u64 {
    const SHUT_DOWN: &str = "\
import fcntl, os, struct, sys
point = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
sys.stdin.readline()
fcntl.ioctl(point, 0x8004587d, struct.pack('I', 2))";
    let mut python = Command::new("python3")
        .args(["-c", SHUT_DOWN, path(&mount.point)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let mut ready = [0; 6];
    python.stdout.take().expect("it is piped").read_exact(&mut ready).expect("it gets ready");
    let mut go = python.stdin.take().expect("it is piped");
    let known = synced.load(Ordering::Acquire);
    go.write_all(b"\n").expect("it waits");
    assert!(python.wait().expect("it ends").success(), "the file system cannot be shut down");
    known
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
    let Some(mount) = mounted(directory.path(), "full") else { return };
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
