//! Real power loss: a log on an ext4 of its own whose image is copied while the log is open and holds what is not synced, and opened from the
//! copy. Nothing that was answered as synced before the copy began may be gone.
//!
//! Needs root, loop devices and mkfs.ext4; says so and does nothing without them, unless `FOREBAY_REQUIRE_LOOP` is set. The system's own
//! writing back is kept off by `commit=` and by how short a round is, so what was not synced is mostly not there.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is test code")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Entry, NO_TAGS, Records};
use forebay::backlog::log::error::LogError;
use forebay::backlog::log::options::Options;
use forebay::backlog::log::read::{Cursor, Next};
use forebay::backlog::log::storage::Storage;
use forebay::backlog::log::storage::real::RealStorage;
use forebay::backlog::log::thread::{Durable, LogThread, SyncPolicy, Work};

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
        if let Err(error) = run("umount", &[path(&self.point)]) {
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
        let records = Records {
            partition,
            first: n,
            count: 1,
            base_timestamp: 0,
            max_timestamp: 0,
            stored_at: 0,
            codec: 0,
            tags: NO_TAGS,
            data: &data,
        };
        log.append(&[Entry::Records(records)])
    })
}

fn record(n: u64) -> Vec<u8> {
    format!("{n} ").repeat(20 + n as usize % 200).into_bytes()
}

/// How many records a log holds, all of them as they were written.
fn read_all<S: Storage>(log: &mut Log<S>) -> u64 {
    let mut cursor = Cursor::new(0, 0);
    let mut expected = 0;
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
    let (mut answered, mut more) = (0, 0);
    for round in 0..ROUNDS {
        let name = format!("round-{round}");
        let Some(mount) = mounted(directory.path(), &name) else { return };
        let (log, _) = Log::open(RealStorage::new(&mount.point), options(), round).unwrap();
        // So that much is not synced when the power goes.
        let policy = SyncPolicy { after_bytes: 1 << 20, after: Duration::from_secs(3600) };
        let thread = LogThread::start(log, policy).unwrap();
        let synced = Arc::new(AtomicU64::new(0));
        let (copy, writing) = (directory.path().join("copy.image"), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let handle = thread.handle();
            let (synced_by, stop) = (&synced, &writing);
            scope.spawn(move || {
                let mut n = 0;
                while stop.load(Ordering::Acquire) == 0 && n < 40_000 {
                    let synced = Arc::clone(synced_by);
                    let durable: Durable = Box::new(move |result| {
                        if result.is_ok() {
                            synced.fetch_max(n + 1, Ordering::AcqRel);
                        }
                    });
                    handle.submit(append(n), (n % 37 == 0).then_some(durable)).unwrap();
                    n += 1;
                }
            });
            // Different rounds end at different places of the log.
            let enough = 50 + round * 300;
            while synced.load(Ordering::Acquire) < enough {
                std::thread::yield_now();
            }
            writing.store(1, Ordering::Release);
            // Known before the first byte is copied.
            let known = synced.load(Ordering::Acquire);
            fs::copy(directory.path().join(format!("{name}.image")), &copy).unwrap();
            let after = Mount::new(&copy, &directory.path().join("after"), false).unwrap();
            let (mut log, damage) = Log::open(RealStorage::new(&after.point), options(), 99).unwrap();
            assert!(damage.gaps.is_empty() && !damage.notes_lost, "round {round}: {damage:?}");
            let held = read_all(&mut log);
            assert!(held >= known, "round {round}: {known} records were synced, {held} are there");
            answered += known;
            more += held - known;
            drop(log);
        });
        thread.stop().unwrap();
    }
    println!("{ROUNDS} times: {answered} synced records, none lost, and {more} more were there");
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
    let done = forebay::backlog::log::entry::Acknowledged {
        partition: 0,
        last,
        offset: 0,
        leader_epoch: 0,
        topic_id: [0; 16],
        possible_duplicates: 0,
    };
    log.append(&[Entry::Acknowledged(done)]).unwrap();
    log.sync().unwrap();
    for more in n..n + 1000 {
        append(more)(&mut log).expect("there is room again");
    }
    log.sync().unwrap();
}
