//! A log at its limits: full, on a full disk, with a partition that stands still, and with a second owner.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

#[path = "support/log.rs"]
mod fixture;

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Acknowledged, Entry, IndexRange, Placed, PlacedPart, REASON_DAMAGED};
use forebay::backlog::log::error::{FullCause, LogError};
use forebay::backlog::log::options::Options;
use forebay::backlog::log::read::{Cursor, Next};
use forebay::backlog::log::storage::Storage;
use forebay::backlog::log::storage::real::RealStorage;
use forebay::backlog::log::storage::simulated::SimulatedStorage;

use fixture::{SEGMENT_BYTES, acknowledge, open, options, store};

/// All that is held of a partition, as it is read back.
fn read_all<S: Storage>(log: &mut Log<S>, partition: u32) -> Vec<Vec<u8>> {
    let mut cursor = Cursor::new(partition, 0);
    let mut found = vec![];
    while let Next::Runs(handles) = log.locate(&mut cursor, 1 << 20).expect("the disk is well") {
        found.extend(handles.iter().map(|handle| handle.read().expect("nothing is damaged").records().data.to_vec()));
    }
    assert_eq!(cursor.next, log.partition(partition).expect("it is defined").next);
    found
}

#[test]
fn a_partition_that_stands_still_never_fills_the_log_for_others() {
    let storage = SimulatedStorage::new(1);
    let mut log = open(&storage, 16);
    let (parked, busy) = (log.define(b"parked").unwrap(), log.define(b"busy").unwrap());
    let mut segments = 0;
    let mut flowed = 0;
    while flowed < 3 * 16 * SEGMENT_BYTES {
        if log.counters().segments_begun > segments {
            segments = log.counters().segments_begun;
            store(&mut log, parked, format!("parked {segments}").as_bytes()).expect("there is room");
        }
        store(&mut log, busy, &[7; 1000]).expect("the others never meet a full log");
        flowed += 1000;
        if flowed % 20_000 == 0 {
            acknowledge(&mut log, busy).unwrap();
        }
    }
    let counters = log.counters();
    assert!(counters.segments_cleaned > 10 && counters.segments_recycled > 10, "{counters:?}");
    assert!(counters.copied_bytes * 20 < counters.written_bytes, "{counters:?}");
    assert!(log.used_bytes() <= 14 * SEGMENT_BYTES, "the reserve is kept");
    let held = read_all(&mut log, parked);
    assert_eq!(held, (1..=segments).map(|n| format!("parked {n}").into_bytes()).collect::<Vec<_>>());
    log.sync().unwrap();
    storage.lose_power();
    drop(log);
    assert_eq!(read_all(&mut open(&storage, 16), parked), held);
}

#[test]
fn a_full_log_refuses_records_takes_notes_and_drains() {
    let storage = SimulatedStorage::new(2);
    let mut log = open(&storage, 8);
    let (first, second) = (log.define(b"first").unwrap(), log.define(b"second").unwrap());
    let mut stored = 0_u64;
    let full = loop {
        match store(&mut log, if stored.is_multiple_of(2) { first } else { second }, &[1; 1000]) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LogError::Full { cause: FullCause::Limit, .. }), "{full}");
    // Notes beyond the size of the whole log, while nothing can be freed.
    let notes = 8 * SEGMENT_BYTES / 30;
    for n in 0..notes {
        let range = IndexRange::new(1 + n % (stored / 4), 1 + n % (stored / 4)).unwrap();
        log.append(&[Entry::Dead { partition: first, range, reason: 1 }]).expect("notes have their room");
    }
    assert!(log.used_bytes() <= 8 * SEGMENT_BYTES);
    assert!(store(&mut log, first, &[1; 1000]).is_err(), "the reserve is not for records");
    acknowledge(&mut log, first).unwrap();
    acknowledge(&mut log, second).unwrap();
    log.sync().unwrap();
    store(&mut log, first, &[1; 1000]).expect("there is room again");
}

#[test]
fn a_full_disk_is_an_error_that_loses_nothing_and_heals_by_itself() {
    let storage = SimulatedStorage::new(3);
    let mut log = open(&storage, 64);
    let partition = log.define(b"p").unwrap();
    let mut stored: Vec<Vec<u8>> = vec![];
    let mut fill = |log: &mut Log<SimulatedStorage>| loop {
        let data = format!("{:01000}", stored.len()).into_bytes();
        match store(log, partition, &data) {
            Ok(_) => stored.push(data),
            Err(error) => break (error, stored.clone()),
        }
    };
    log.sync().unwrap();
    storage.set_capacity(storage.used_bytes() + 3 * SEGMENT_BYTES);
    let (full, before) = fill(&mut log);
    assert!(matches!(full, LogError::Full { cause: FullCause::Disk, .. }), "{full}");
    for _ in 0..2000 {
        let range = IndexRange::new(1, 1).unwrap();
        log.append(&[Entry::Dropped { partition, range, reason: 2 }]).expect("notes have files of their own");
    }
    log.sync().unwrap();
    storage.lose_power();
    drop(log);
    // Opening needs no room, and draining goes on.
    storage.set_capacity(storage.used_bytes());
    let mut log = open(&storage, 64);
    assert_eq!(read_all(&mut log, partition).len(), before.len());
    acknowledge(&mut log, partition).unwrap();
    log.sync().unwrap();
    storage.set_capacity(u64::MAX);
    store(&mut log, partition, &[1; 1000]).expect("there is room again");
}

#[test]
fn restarts_on_a_full_disk_use_up_none_of_the_room_for_notes() {
    let storage = SimulatedStorage::new(19);
    let mut log = open(&storage, 64);
    let partition = log.define(b"p").unwrap();
    log.sync().unwrap();
    storage.set_capacity(storage.used_bytes() + 3 * SEGMENT_BYTES);
    while store(&mut log, partition, &[1; 1000]).is_ok() {}
    for round in 0..12 {
        // Others take what becomes free.
        storage.set_capacity(storage.used_bytes());
        if round % 2 == 0 {
            log.close().unwrap();
        }
        storage.kill();
        storage.set_capacity(storage.used_bytes());
        log = open(&storage, 64);
        let range = IndexRange::new(2 * round + 1, 2 * round + 1).unwrap();
        log.append(&[Entry::Dropped { partition, range, reason: 2 }]).expect("notes have files of their own");
        log.sync().unwrap();
    }
}

#[test]
fn the_free_space_floor_is_left_to_others() {
    let storage = SimulatedStorage::new(4);
    storage.set_capacity(20 * SEGMENT_BYTES);
    let options = Options { free_space_floor_bytes: 10 * SEGMENT_BYTES, ..options(64) };
    let (mut log, _) = Log::open(storage.clone(), options, 1).unwrap();
    let partition = log.define(b"p").unwrap();
    let full = loop {
        match store(&mut log, partition, &[1; 1000]) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LogError::Full { cause: FullCause::Floor(_), .. }), "{full}");
    assert!(storage.available_bytes().unwrap() >= 10 * SEGMENT_BYTES);
}

#[test]
fn a_second_owner_is_refused_with_the_first_ones_process_id() {
    let directory = tempfile::tempdir().unwrap();
    let storage = RealStorage::new(directory.path());
    let log = open(&storage, 8);
    let refused = Log::open(storage.clone(), options(8), 1).unwrap_err();
    assert!(matches!(&refused, LogError::Owned { pid: Some(pid), .. } if *pid == std::process::id()));
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    log.close().unwrap();
    open(&storage, 8);
}

#[test]
fn a_newer_format_is_refused_with_words() {
    let storage = SimulatedStorage::new(5);
    let mut log = open(&storage, 8);
    log.define(b"p").unwrap();
    log.close().unwrap();
    let mut files = storage.files();
    let segment = files.iter_mut().find(|(name, _)| name.ends_with(".segment")).unwrap().1;
    segment[8] = 2;
    let crc = crc32c::crc32c(&segment[..60]);
    segment[60..64].copy_from_slice(&crc.to_le_bytes());
    let refused = Log::open(SimulatedStorage::with_files(6, &files), options(8), 1).unwrap_err();
    assert!(refused.to_string().contains("version 2"), "{refused}");
}

#[test]
fn placed_records_are_found_through_the_partition_that_they_came_from() {
    let storage = SimulatedStorage::new(7);
    let mut log = open(&storage, 8);
    let (unplaced, target) = (log.define(b"unplaced").unwrap(), log.define(b"target").unwrap());
    store(&mut log, unplaced, b"one").unwrap();
    store(&mut log, unplaced, b"two").unwrap();
    let parts = vec![PlacedPart { partition: target, first: 0, count: 2 }];
    let placed = Placed { range: IndexRange::new(0, 1).unwrap(), partition_count: 1, parts };
    log.append(&[Entry::Placed { partition: unplaced, placed }]).unwrap();
    store(&mut log, target, b"three").unwrap();
    log.sync().unwrap();
    storage.lose_power();
    drop(log);
    let mut log = open(&storage, 8);
    let mut cursor = Cursor::new(target, 0);
    let Next::Placed { range, from, placed } = log.locate(&mut cursor, 1000).unwrap() else {
        panic!("they were placed")
    };
    assert_eq!((range.first, range.last, from, placed.range.count()), (0, 1, unplaced, 2));
    assert!(matches!(log.locate(&mut cursor, 1000).unwrap(), Next::Runs(runs) if runs.len() == 1));
    assert_eq!(read_all(&mut log, unplaced), [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(log.state().ledger.held(), 3);
}

#[test]
fn placed_records_are_placed_once_and_settled_where_they_are_held() {
    let mut log = open(&SimulatedStorage::new(17), 8);
    let (unplaced, target) = (log.define(b"unplaced").unwrap(), log.define(b"target").unwrap());
    (0..10).for_each(|_| _ = store(&mut log, unplaced, b"one").unwrap());
    let range = |first, last| IndexRange::new(first, last).unwrap();
    let placed = |first, last, at| {
        let parts = vec![PlacedPart { partition: target, first: at, count: last - first + 1 }];
        Entry::Placed { partition: unplaced, placed: Placed { range: range(first, last), partition_count: 1, parts } }
    };
    log.append(&[Entry::Dropped { partition: unplaced, range: range(5, 5), reason: 1 }]).unwrap();
    log.append(&[placed(1, 3, 0)]).unwrap();
    let dead = Entry::Dead { partition: unplaced, range: range(7, 7), reason: 1 };
    for refused in
        [&[placed(3, 4, 3)][..], &[placed(4, 6, 3)], &[placed(7, 8, 3), placed(8, 9, 5)], &[dead, placed(7, 8, 3)]]
    {
        assert!(log.append(refused).is_err(), "{refused:?}");
    }
    let done = Acknowledged {
        partition: unplaced,
        last: 9,
        offset: 1,
        leader_epoch: 1,
        topic_id: [0; 16],
        possible_duplicates: 0,
    };
    assert!(log.append(&[placed(8, 9, 3), Entry::Acknowledged(done)]).is_err());
    assert!(acknowledge(&mut log, unplaced).is_err(), "the target has not settled them");
    let dropped = Entry::Dropped { partition: unplaced, range: range(0, 1), reason: 1 };
    assert!(log.append(&[dropped]).is_err());
    let _ = [target, unplaced].map(|partition| acknowledge(&mut log, partition).unwrap());
    assert!(log.append(&[placed(8, 9, 3)]).is_err(), "they are settled");
    assert_eq!((log.state().ledger.held(), log.state().ledger.delivered), (0, 9));
}

#[test]
fn what_damage_took_is_missing_once_and_dropped() {
    let storage = SimulatedStorage::new(8);
    let mut log = open(&storage, 8);
    let partition = log.define(b"p").unwrap();
    for n in 0..10_u8 {
        store(&mut log, partition, &[n; 500]).unwrap();
        log.sync().unwrap();
    }
    log.close().unwrap();
    let mut files = storage.files();
    let segment = files.iter_mut().find(|(name, _)| name.ends_with(".segment")).unwrap().1;
    let at = segment.windows(500).position(|bytes| bytes == [4; 500]).unwrap();
    segment[at] ^= 1;
    let storage = SimulatedStorage::with_files(9, &files);
    let mut log = open(&storage, 8);
    let mut cursor = Cursor::new(partition, 0);
    let mut missing = vec![];
    let mut read = 0;
    loop {
        match log.locate(&mut cursor, 1000).unwrap() {
            Next::Runs(runs) => {
                for run in runs {
                    if run.read().is_ok() {
                        read += 1;
                        continue;
                    }
                    // The footer still has it. Asked for again, it is missing.
                    log.note_unreadable(&run);
                    cursor = Cursor::new(partition, run.range().first);
                    break;
                }
            }
            Next::Missing(range) => {
                log.append(&[Entry::Dropped { partition, range, reason: REASON_DAMAGED }]).unwrap();
                missing.push(range);
            }
            Next::End => break,
            Next::Placed { .. } => panic!("nothing was placed"),
        }
    }
    assert_eq!((read, &missing[..]), (9, &[IndexRange::new(4, 4).unwrap()][..]));
    assert_eq!(log.state().ledger.dropped[&REASON_DAMAGED], 1);
    assert_eq!(log.state().ledger.held(), 9);
    assert_eq!(log.partition(partition).unwrap().unproven, 4, "notes may have been in the damaged frame");
}

#[test]
fn a_retired_partition_holds_nothing_and_its_name_is_free_again() {
    let storage = SimulatedStorage::new(11);
    let mut log = open(&storage, 8);
    let (gone, stays) = (log.define(b"gone").unwrap(), log.define(b"stays").unwrap());
    store(&mut log, gone, b"never to be delivered").unwrap();
    store(&mut log, stays, b"held").unwrap();
    assert!(log.append(&[Entry::Retired { partition: stays }]).is_err());
    log.retire(gone, 5).unwrap();
    let ledger = &log.state().ledger;
    assert_eq!((ledger.accepted, ledger.held(), ledger.dropped[&5]), (2, 1, 1));
    assert_eq!((log.partition(gone), log.number_of(b"gone")), (None, None));
    assert!(log.retire(gone, 5).is_err());
    // As many again and again as a log could not have at a time.
    for _ in 0..1000 {
        let number = log.define(b"mayfly").unwrap();
        store(&mut log, number, &[1; 100]).unwrap();
        log.retire(number, 5).unwrap();
    }
    let again = log.define(b"gone").unwrap();
    assert!(again > gone);
    acknowledge(&mut log, stays).unwrap();
    log.sync().unwrap();
    storage.lose_power();
    drop(log);
    let log = open(&storage, 8);
    assert_eq!((log.state().partitions.len(), log.state().ledger.held()), (2, 0));
    assert_eq!(log.number_of(b"gone"), Some(again));
}

#[test]
fn a_partition_that_is_in_few_segments_is_found_without_looking_at_all() {
    let storage = SimulatedStorage::new(12);
    let mut log = open(&storage, 256);
    let (busy, quiet) = (log.define(b"busy").unwrap(), log.define(b"quiet").unwrap());
    let numbers: Vec<u32> = (0..50).map(|n: u32| log.define(&n.to_le_bytes()).unwrap()).collect();
    for round in 0..4 {
        store(&mut log, quiet, &[round]).unwrap();
        numbers.iter().for_each(|number| _ = store(&mut log, *number, &[round]).unwrap());
        (0..3000).for_each(|_| _ = store(&mut log, busy, &[7; 1000]).unwrap());
    }
    assert!(log.counters().segments_begun > 150);
    log.sync().unwrap();
    drop(log);
    let mut log = open(&storage, 256);
    assert_eq!(read_all(&mut log, quiet), [[0], [1], [2], [3]]);
    let first = log.counters().indexes_read;
    // Twice: once by the search behind the last record.
    assert!(first < 2 * 256, "{first}");
    for number in numbers {
        assert_eq!(read_all(&mut log, number), [[0], [1], [2], [3]]);
    }
    let each = (log.counters().indexes_read - first) / 50;
    assert!(each <= 8, "{each} indexes for four records");
}

#[test]
fn a_segment_that_somebody_removed_is_missed_once_and_keeps_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let storage = RealStorage::new(directory.path());
    let mut log = open(&storage, 16);
    let partition = log.define(b"p").unwrap();
    (0..200_u64).for_each(|_| _ = store(&mut log, partition, &[7; 1000]).unwrap());
    log.sync().unwrap();
    let mut segments: Vec<String> = storage.list("").unwrap().into_iter().map(|file| file.name).collect();
    segments.retain(|name| name.ends_with(".segment"));
    segments.sort_unstable();
    // The oldest is looked at when others are freed, so its file is open already.
    std::fs::remove_file(directory.path().join(&segments[1])).unwrap();
    let mut cursor = Cursor::new(partition, 0);
    assert!(matches!(log.locate(&mut cursor, 1 << 20), Ok(Next::Runs(_))));
    let error = log.locate(&mut cursor, 1 << 20).err().unwrap().to_string();
    assert!(error.contains("No such file or directory (ENOENT)"), "{error}");
    let Ok(Next::Missing(missing)) = log.locate(&mut cursor, 1 << 20) else { panic!("it is not there") };
    log.append(&[Entry::Dropped { partition, range: missing, reason: REASON_DAMAGED }]).unwrap();
    assert_eq!(read_all(&mut log, partition).len() as u64, 200 - missing.count());
    acknowledge(&mut log, partition).unwrap();
    log.sync().unwrap();
    assert!(log.used_bytes() <= 2 * SEGMENT_BYTES);
}

#[test]
fn a_directory_that_is_not_there_any_more_is_noticed_though_its_files_take_writes() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("backlog");
    std::fs::create_dir(&directory).unwrap();
    let mut log = open(&RealStorage::new(&directory), 8);
    let partition = log.define(b"p").unwrap();
    log.prove(7).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    store(&mut log, partition, b"to nowhere").unwrap();
    log.sync().unwrap();
    let gone = log.prove(7).unwrap_err().to_string();
    assert!(gone.contains("(ENOENT)") && gone.contains("install -d -m 700"), "{gone}");
    std::fs::create_dir(&directory).unwrap();
    let _other = open(&RealStorage::new(&directory), 8);
    let replaced = log.prove(7).unwrap_err();
    assert!(matches!(replaced, LogError::Replaced { .. }), "{replaced}");
}
