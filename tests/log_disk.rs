//! A log on a disk that cannot be read, or not be written, and what damage may cost at most, and what may come back with recycled files.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

#[path = "support/log.rs"]
mod fixture;

use std::collections::BTreeMap;

use nix::errno::Errno;

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::header::segment_name;
use forebay::backlog::log::inspect::Inspection;
use forebay::backlog::log::options::Options;
use forebay::backlog::log::read::{Cursor, Next, ReadError, RunHandle};
use forebay::backlog::log::storage::simulated::{Fault, SimulatedFile, SimulatedStorage};
use forebay::backlog::log::storage::{Storage, StorageFile};

use fixture::{SEGMENT_BYTES, acknowledge, open, store};

type Files = BTreeMap<String, Vec<u8>>;

fn runs(log: &mut Log<SimulatedStorage>, cursor: &mut Cursor) -> Vec<RunHandle<SimulatedFile>> {
    match log.locate(cursor, 1 << 20) {
        Ok(Next::Runs(runs)) => runs,
        other => panic!("there are runs: {other:?}"),
    }
}

/// Changes a byte of the data of every run that holds `data`.
fn damage(files: &mut Files, data: &[u8]) -> usize {
    let mut damaged = 0;
    for bytes in files.values_mut() {
        let places = bytes.windows(data.len()).enumerate().filter(|(_, found)| *found == data);
        for at in places.map(|(at, _)| at).collect::<Vec<_>>() {
            bytes[at] ^= 1;
            damaged += 1;
        }
    }
    damaged
}

#[test]
fn a_log_on_a_disk_that_takes_no_writes_is_read_all_the_same() {
    let storage = SimulatedStorage::new(1);
    let mut log = open(&storage, 16);
    let partition = log.define(b"p").unwrap();
    (0..200_u8).for_each(|n| _ = store(&mut log, partition, &[n; 1000]).unwrap());
    log.sync().unwrap();
    storage.set_read_only(true);
    store(&mut log, partition, b"not on disk").unwrap();
    assert!(log.sync().is_err());
    let mut cursor = Cursor::new(partition, 0);
    let mut read = vec![];
    while cursor.next < 200 {
        read.extend(runs(&mut log, &mut cursor).iter().map(|run| run.read().unwrap().records().data[0]));
    }
    assert_eq!(read, (0..200).collect::<Vec<u8>>());
    let refused = log.locate(&mut cursor, 1 << 20).unwrap_err().to_string();
    assert!(refused.contains("(EROFS)"), "{refused}");
    assert_eq!(cursor.next, 200);
    storage.set_read_only(false);
    assert_eq!(runs(&mut log, &mut cursor)[0].read().unwrap().records().data, b"not on disk");
}

#[test]
fn a_segment_that_the_disk_cannot_read_stays_and_keeps_no_room_of_what_comes_behind_it() {
    let storage = SimulatedStorage::new(2);
    let mut log = open(&storage, 8);
    let (parked, busy) = (log.define(b"parked").unwrap(), log.define(b"busy").unwrap());
    store(&mut log, parked, b"precious").unwrap();
    while log.counters().segments_begun < 2 {
        store(&mut log, busy, &[7; 1000]).unwrap();
    }
    log.sync().unwrap();
    let name = segment_name(log.storage().list("").unwrap().iter().map(|file| oldest(&file.name)).min().unwrap());
    // So that its index must be read anew, without its footer and its first run.
    drop(log);
    storage.kill();
    storage.spoil(&name, 0..SEGMENT_BYTES);
    let mut log = open(&storage, 8);
    let other = log.define(b"other").unwrap();
    let flow = |log: &mut Log<SimulatedStorage>| {
        for n in 0..1500 {
            // Another that stands still, in segments behind it.
            if n % 500 == 0 {
                store(log, other, &[n as u8; 100]).expect("the others never meet a full log");
            }
            store(log, busy, &[7; 1000]).expect("the others never meet a full log");
            acknowledge(log, busy).unwrap();
        }
    };
    flow(&mut log);
    assert!(log.used_bytes() <= 6 * SEGMENT_BYTES, "the reserve is kept: {}", log.used_bytes());
    for power_loss in [false, true] {
        assert!(log.locate(&mut Cursor::new(parked, 0), 1000).unwrap_err().to_string().contains("(EIO)"));
        assert_eq!(others(&mut log, other), [[0; 100], [244; 100], [232; 100]]);
        log.sync().unwrap();
        if power_loss {
            storage.lose_power();
        }
        drop(log);
        storage.kill();
        let reopened = Log::open(storage.clone(), fixture::options(8), 1).unwrap();
        assert_eq!(reopened.1.missing_segments, [0_u64; 0]);
        log = reopened.0;
    }
    let report = Inspection::new(storage.clone()).unwrap().verify().unwrap().remove(0);
    assert!(report.is_unread && segment_name(report.number) == name, "{report:?}");
    storage.spoil(&name, 0..0);
    let mut cursor = Cursor::new(parked, 0);
    assert_eq!(runs(&mut log, &mut cursor)[0].read().unwrap().records().data, b"precious");
    flow(&mut log);
    assert!(!storage.files().contains_key(&name), "it is cleaned when it can be read");
    let mut cursor = Cursor::new(parked, 0);
    assert_eq!(runs(&mut log, &mut cursor)[0].read().unwrap().records().data, b"precious");
}

fn others(log: &mut Log<SimulatedStorage>, partition: u32) -> Vec<Vec<u8>> {
    let mut cursor = Cursor::new(partition, 0);
    let mut found = vec![];
    while cursor.next < log.partition(partition).unwrap().next {
        found.extend(runs(log, &mut cursor).iter().map(|run| run.read().unwrap().records().data.to_vec()));
    }
    found
}

fn oldest(name: &str) -> u64 {
    name.strip_suffix(".segment").map_or(u64::MAX, |number| number.parse().unwrap())
}

#[test]
fn a_segment_that_cannot_be_read_is_freed_when_nothing_is_held() {
    let storage = SimulatedStorage::new(3);
    let mut log = open(&storage, 8);
    let partition = log.define(b"p").unwrap();
    while log.counters().segments_begun < 4 {
        store(&mut log, partition, &[7; 1000]).unwrap();
    }
    log.sync().unwrap();
    drop(log);
    storage.kill();
    let mut names: Vec<String> = storage.files().into_keys().filter(|name| name.ends_with(".segment")).collect();
    names.pop();
    names.iter().for_each(|name| storage.spoil(name, 0..SEGMENT_BYTES));
    let mut log = open(&storage, 8);
    acknowledge(&mut log, partition).unwrap();
    log.sync().unwrap();
    assert!(log.used_bytes() <= 2 * SEGMENT_BYTES, "{}", log.used_bytes());
}

#[test]
fn any_number_of_damaged_runs_is_found_missing_one_by_one() {
    const RUNS: usize = (1 << 16) + 30_000;
    let storage = SimulatedStorage::new(4);
    let options = Options::with_limit(16 << 20);
    let (mut log, _) = Log::open(storage.clone(), options, 1).unwrap();
    let partition = log.define(b"p").unwrap();
    (0..RUNS).for_each(|_| _ = store(&mut log, partition, b"to be damaged").unwrap());
    log.close().unwrap();
    let mut files = storage.files();
    assert_eq!(damage(&mut files, b"to be damaged"), RUNS);
    let (mut log, _) = Log::open(SimulatedStorage::with_files(5, &files), options, 1).unwrap();
    // Nothing else says that there were those behind the newest checkpoint.
    let end = log.partition(partition).unwrap().next;
    assert!(end > 1 << 16);
    let (mut next, mut missing) = (0, 0);
    while next < end {
        let mut cursor = Cursor::new(partition, next);
        match log.locate(&mut cursor, 1).unwrap() {
            Next::Runs(runs) => {
                assert!(matches!(runs[0].read(), Err(ReadError::Damaged)));
                log.note_unreadable(&runs[0]);
                let again = log.locate(&mut Cursor::new(partition, next), 1).unwrap();
                assert!(matches!(again, Next::Missing(range) if range.first == next), "{next}: {again:?}");
            }
            Next::Missing(range) => {
                missing += range.count();
                next = range.last + 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(missing, end);
}

#[test]
fn the_quarantine_is_bounded_however_often_a_log_is_opened() {
    let storage = SimulatedStorage::new(6);
    let mut log = open(&storage, 8);
    let partition = log.define(b"p").unwrap();
    (0..10).for_each(|_| _ = store(&mut log, partition, b"to be damaged").unwrap());
    log.close().unwrap();
    let mut files = storage.files();
    assert_eq!(damage(&mut files, b"to be damaged"), 10);
    (0..1000).for_each(|n| _ = files.insert(format!("quarantine/{n:020}-64.damaged"), vec![1]));
    let storage = SimulatedStorage::with_files(7, &files);
    let log = open(&storage, 8);
    assert!(log.counters().damaged_places > 0);
    assert_eq!(log.counters().quarantine_failures, 0);
    assert_eq!(storage.list("quarantine").unwrap().len(), 1000);
}

#[test]
fn a_copy_that_was_cut_short_is_not_kept() {
    let storage = SimulatedStorage::new(8);
    let mut log = open(&storage, 8);
    let partition = log.define(b"p").unwrap();
    store(&mut log, partition, b"to be damaged").unwrap();
    log.close().unwrap();
    let mut files = storage.files();
    damage(&mut files, b"to be damaged");
    let mut failed = 0;
    for after in 0..80 {
        let storage = SimulatedStorage::with_files(after, &files);
        storage.fail(Some(Fault { after, times: 1, errno: Errno::ENOSPC }));
        let Ok((log, _)) = Log::open(storage.clone(), fixture::options(8), 1) else { continue };
        failed += log.counters().quarantine_failures;
        let mut quarantined = storage.files();
        quarantined.retain(|name, _| name.starts_with("quarantine/"));
        let is_whole = |bytes: &Vec<u8>| bytes.windows(9).any(|found| found == b"e damaged");
        let is_told = !quarantined.is_empty() || log.counters().quarantine_failures > 0;
        assert!(is_told && quarantined.values().all(is_whole), "call {after}: {quarantined:?}");
    }
    assert!(failed > 3, "{failed} copies failed");
}

#[test]
fn what_a_failed_sync_left_in_a_file_is_no_damage() {
    let storage = SimulatedStorage::new(9);
    let mut log = open(&storage, 8);
    let partition = log.define(b"p").unwrap();
    log.sync().unwrap();
    store(&mut log, partition, b"not on disk").unwrap();
    let handle = runs(&mut log, &mut Cursor::new(partition, 0)).remove(0);
    storage.set_read_only(true);
    let job = log.begin_sync().unwrap().unwrap();
    storage.set_read_only(false);
    storage.fail(Some(Fault { after: 0, times: 1, errno: Errno::EIO }));
    let outcome = job.run();
    assert!(log.finish_sync(outcome).is_err());
    // The system has forgotten what it could not write.
    let name = storage.files().into_keys().rfind(|name| name.ends_with(".segment")).unwrap();
    let bytes = storage.files().remove(&name).unwrap();
    let at = bytes.windows(11).position(|found| found == b"not on disk").unwrap();
    storage.open_for_writing(&name).unwrap().write_at(&[0; 11], at as u64).unwrap();
    assert!(matches!(handle.read(), Err(ReadError::Damaged)));
    log.note_unreadable(&handle);
    assert_eq!(log.counters().damaged_places, 0);
    let run = runs(&mut log, &mut Cursor::new(partition, 0)).remove(0);
    assert_eq!(run.read().unwrap().records().data, b"not on disk");
}

#[test]
fn no_generation_comes_twice_though_a_seed_does() {
    let storage = SimulatedStorage::new(10);
    let mut generations = BTreeMap::new();
    for _ in 0..20 {
        // With the same seed each time.
        let mut log = open(&storage, 8);
        let partition = log.define(b"p").unwrap();
        store(&mut log, partition, b"x").unwrap();
        log.sync().unwrap();
        drop(log);
        storage.kill();
        let mut files = storage.files();
        files.retain(|name, _| name.ends_with(".segment"));
        generations.extend(files.into_iter().map(|(name, bytes)| (bytes[24..32].to_vec(), name)));
    }
    let names: std::collections::BTreeSet<&String> = generations.values().collect();
    assert!(names.len() >= 20 && generations.len() == names.len(), "{generations:?}");
}
