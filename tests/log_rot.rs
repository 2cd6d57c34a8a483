//! Every byte of a log is flipped, and every segment cut at every byte: opening never fails, nothing before a cut is lost, a flip loses the
//! damaged frame alone, and no record is invented. What the disk cannot read is not lost at all.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

#[path = "support/log.rs"]
mod fixture;

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Acknowledged, Entry, entries};
use forebay::backlog::log::frame::{self, Found, Kind};
use forebay::backlog::log::header::{HEADER_BYTES, segment_name};
use forebay::backlog::log::inspect::Inspection;
use forebay::backlog::log::options::Options;
use forebay::backlog::log::read::{Cursor, Next, ReadError};
use forebay::backlog::log::storage::simulated::{Fault, SimulatedStorage};

use fixture::records;

const PARTITIONS: u32 = 3;
/// In a debug build only every so-manieth byte.
const STRIDE: usize = if cfg!(debug_assertions) { 41 } else { 1 };

type Files = BTreeMap<String, Vec<u8>>;
/// Partition and index of a record.
type Record = (u32, u64);

fn options() -> Options {
    Options {
        segment_bytes: 16 << 10,
        write_bytes: 1,
        unsynced_bytes_max: 4 << 10,
        runs_max: 1000,
        ..Options::with_limit(1 << 20)
    }
}

fn data(partition: u32, index: u64) -> Vec<u8> {
    format!("record {index} of partition {partition}").into_bytes()
}

/// A frame of the log that is damaged here and there.
struct Place {
    segment: u64,
    from: usize,
    to: usize,
    kind: Kind,
    records: BTreeSet<Record>,
}

/// A log of three segments, its frames, and its records.
struct Whole {
    files: Files,
    places: Vec<Place>,
    records: BTreeSet<Record>,
    newest: u64,
}

fn whole() -> Whole {
    let storage = SimulatedStorage::new(0);
    let (mut log, _) = Log::open(storage.clone(), options(), 1).unwrap();
    for number in 0..PARTITIONS {
        log.define(format!("partition {number}").as_bytes()).unwrap();
    }
    let mut next = [0_u64; PARTITIONS as usize];
    let mut frames = 0_u64;
    while log.counters().segments_begun < 3 || !frames.is_multiple_of(100) {
        let partition = (frames % u64::from(PARTITIONS)) as u32;
        let first = next[partition as usize];
        let data = data(partition, first);
        let records = records(partition, first, &data);
        log.append(&[Entry::Records(records)]).unwrap();
        next[partition as usize] += 1;
        frames += 1;
        if frames.is_multiple_of(5) {
            log.sync().unwrap();
        }
    }
    // Notes that damage can take: everything of the last partition is done with, but for one record.
    let last = next[2] - 2;
    let done =
        Acknowledged { partition: 2, last, offset: 9, leader_epoch: 1, topic_id: [0; 16], possible_duplicates: 0 };
    log.append(&[Entry::Acknowledged(done)]).unwrap();
    log.close().unwrap();
    let mut files = storage.files();
    files.retain(|name, _| name.ends_with(".segment"));
    assert_eq!(files.len(), 3);
    let newest = files.keys().next_back().and_then(|name| name.split('.').next()?.parse().ok()).unwrap();
    let places: Vec<Place> = files.iter().flat_map(|(name, bytes)| places(name, bytes)).collect();
    let records = (0..PARTITIONS).flat_map(|p| (0..next[p as usize]).map(move |index| (p, index))).collect();
    Whole { files, places, records, newest }
}

fn places(name: &str, bytes: &[u8]) -> Vec<Place> {
    let segment: u64 = name.split('.').next().unwrap().parse().unwrap();
    let generation = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
    let mut places = vec![];
    let mut at = HEADER_BYTES;
    while let Found::Frame(frame) = frame::parse(&bytes[at..], at as u32, generation, bytes.len() - at) {
        let records = entries(frame.body).flatten().filter_map(|entry| match entry {
            Entry::Records(records) => Some((records.partition, records.first)),
            _ => None,
        });
        let to = at + frame.len_bytes();
        places.push(Place { segment, from: at, to, kind: frame.kind, records: records.collect() });
        at = to;
    }
    places
}

/// What is left of a log.
struct Left {
    records: BTreeSet<Record>,
    settled: [u64; PARTITIONS as usize],
    unproven: bool,
    damaged_places: u64,
    quarantined: usize,
}

/// Opens a log and reads all of it, from the first record on, whatever its notes say of it.
fn open(files: &Files) -> Left {
    open_on(&SimulatedStorage::with_files(0, files))
}

fn open_on(storage: &SimulatedStorage) -> Left {
    let (mut log, damage) = Log::open(storage.clone(), options(), 2).expect("damage is no error");
    let mut left = Left {
        records: BTreeSet::new(),
        settled: [0; PARTITIONS as usize],
        unproven: damage.notes_lost,
        damaged_places: 0,
        quarantined: 0,
    };
    for partition in 0..PARTITIONS {
        let Some(state) = log.partition(partition) else { continue };
        left.settled[partition as usize] = state.settled;
        let mut cursor = Cursor::new(partition, 0);
        loop {
            let handles = match log.locate(&mut cursor, 500).expect("the disk is well") {
                Next::Runs(handles) => handles,
                Next::Missing(_) => continue,
                Next::End => break,
                Next::Placed { .. } => panic!("nothing was placed"),
            };
            for handle in handles {
                match handle.read() {
                    Ok(stored) => {
                        let records = stored.records();
                        assert_eq!(records.data, data(partition, records.first), "a record is not what it was");
                        left.records.insert((partition, records.first));
                    }
                    Err(ReadError::Damaged) => log.note_unreadable(&handle),
                    Err(ReadError::Io(error)) => panic!("the disk is well: {error}"),
                }
            }
        }
    }
    left.damaged_places = log.counters().damaged_places;
    left.quarantined = storage.files().keys().filter(|name| name.starts_with("quarantine/")).count();
    left
}

/// The records that must still be there: those that are not settled, according to the log that is left, and not in `lost`.
fn expected(whole: &Whole, left: &Left, lost: impl Fn(&Place) -> bool) -> BTreeSet<Record> {
    let lost: BTreeSet<Record> =
        whole.places.iter().filter(|place| lost(place)).flat_map(|place| place.records.clone()).collect();
    let held = whole.records.iter().filter(|(partition, index)| *index >= left.settled[*partition as usize]);
    held.filter(|record| !lost.contains(record)).copied().collect()
}

#[test]
fn an_undamaged_log_has_everything() {
    let whole = whole();
    let left = open(&whole.files);
    assert_eq!(left.records, expected(&whole, &left, |_| false));
    assert!(left.settled[2] > 0);
    assert_eq!((left.damaged_places, left.unproven), (0, false));
    assert!(whole.places.len() > 200, "{}", whole.places.len());
}

#[test]
fn a_flipped_byte_loses_the_damaged_frame_alone() {
    let whole = whole();
    for (name, bytes) in &whole.files {
        let segment: u64 = name.split('.').next().unwrap().parse().unwrap();
        for at in (0..bytes.len()).step_by(STRIDE) {
            let mut files = whole.files.clone();
            files.get_mut(name).unwrap()[at] ^= 0x40;
            let left = open(&files);
            let hit = |place: &Place| place.segment == segment && (place.from..place.to).contains(&at);
            assert_eq!(left.records, expected(&whole, &left, hit), "byte {at} of {name}");
            let Some(place) = whole.places.iter().find(|place| hit(place)) else { continue };
            let was_read = segment == whole.newest || place.kind == Kind::FOOTER || !place.records.is_empty();
            let settled = place.records.iter().all(|(p, index)| *index < left.settled[*p as usize]);
            let last_mark = segment == whole.newest && place.kind == Kind::MARK && place.to == bytes.len();
            if was_read && !last_mark && (segment == whole.newest || !settled || place.kind == Kind::FOOTER) {
                assert!(left.damaged_places > 0 && left.quarantined > 0, "byte {at} of {name} was damaged unseen");
            }
            // A damaged footer cannot be told from damaged notes.
            let note = segment == whole.newest && matches!(place.kind, Kind::ENTRIES | Kind::FOOTER);
            assert_eq!(left.unproven, note, "byte {at} of {name}, a {:?}", place.kind);
        }
    }
}

#[test]
fn what_the_disk_cannot_read_stays_held_until_it_can() {
    const PAGE: usize = 4096;
    let whole = whole();
    for (name, bytes) in &whole.files {
        let segment: u64 = name.split('.').next().unwrap().parse().unwrap();
        for from in (0..bytes.len()).step_by(512) {
            let storage = SimulatedStorage::with_files(0, &whole.files);
            storage.spoil(name, from as u64..from as u64 + 512);
            if segment == whole.newest {
                // It decides what all others mean, and the next try may read it.
                let refused = Log::open(storage.clone(), options(), 2).unwrap_err().to_string();
                assert!(refused.contains(name) && refused.contains("(EIO)") && refused.contains("dmesg"), "{refused}");
                assert_eq!(storage.files().get(name), Some(bytes));
                // But its records can be got out.
                let held = Inspection::new(storage).unwrap().held_runs().unwrap();
                assert!(!held.is_empty());
                continue;
            }
            let (mut log, _) = Log::open(storage.clone(), options(), 2).unwrap();
            let page = from / PAGE * PAGE..from / PAGE * PAGE + PAGE;
            let hit = |place: &Place| place.segment == segment && place.from < page.end && page.start < place.to;
            let mut read = read_what_can_be_read(&mut log);
            let settled: Vec<u64> = (0..PARTITIONS).map(|number| log.partition(number).unwrap().settled).collect();
            let held: BTreeSet<Record> =
                whole.records.iter().filter(|record| record.1 >= settled[record.0 as usize]).copied().collect();
            let lost: BTreeSet<Record> =
                whole.places.iter().filter(|place| hit(place)).flat_map(|place| place.records.clone()).collect();
            let first_lost = |number| lost.iter().filter(|record| record.0 == number).map(|record| record.1).min();
            let mut before = held.iter().filter(|record| first_lost(record.0).is_none_or(|first| record.1 < first));
            assert!(before.all(|record| read.contains(record)), "byte {from} of {name}");
            assert_eq!((log.counters().damaged_places, log.state().ledger.dropped.len()), (0, 0));
            // The disk recovers. The first try may still meet what is known of it.
            storage.spoil(name, 0..0);
            (0..2).for_each(|_| read.extend(read_what_can_be_read(&mut log)));
            assert_eq!(read, held, "byte {from} of {name}");
        }
    }
}

/// Reads each partition up to what the disk cannot read.
fn read_what_can_be_read(log: &mut Log<SimulatedStorage>) -> BTreeSet<Record> {
    let mut found = BTreeSet::new();
    for partition in 0..PARTITIONS {
        let mut cursor = Cursor::new(partition, 0);
        loop {
            let handles = match log.locate(&mut cursor, 500) {
                Ok(Next::Runs(handles)) => handles,
                Ok(Next::End) => break,
                Ok(other) => panic!("nothing is missing, and nothing was placed: {other:?}"),
                Err(error) => {
                    assert!(error.to_string().contains("(EIO)"), "{error}");
                    break;
                }
            };
            for handle in handles {
                match handle.read() {
                    Ok(stored) => _ = found.insert((partition, stored.records().first)),
                    Err(ReadError::Io(_)) => log.note_unreadable(&handle),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    found
}

#[test]
fn names_that_are_not_the_logs_own_are_left_alone() {
    let mut whole = whole();
    let foreign = ["18446744073709551615.segment", "18446744073709551615.spare", "9.segment", "README", "segment"];
    for name in foreign {
        whole.files.insert(name.to_owned(), b"somebody's".to_vec());
    }
    // A copy of an older segment under a later name.
    let copy = segment_name(whole.newest + 5);
    let oldest = whole.files.values().find(|bytes| bytes.len() > 100).unwrap().clone();
    whole.files.insert(copy.clone(), oldest.clone());
    let storage = SimulatedStorage::with_files(0, &whole.files);
    let left = open_on(&storage);
    assert_eq!(left.records, expected(&whole, &left, |_| false));
    let files = storage.files();
    assert!(foreign.iter().all(|name| files.get(*name).is_some_and(|bytes| bytes == b"somebody's")));
    assert_eq!(files.get(&format!("quarantine/{copy}")), Some(&oldest), "it is put aside, not removed");
}

#[test]
fn a_cut_loses_nothing_before_it() {
    let whole = whole();
    for (name, bytes) in &whole.files {
        let segment: u64 = name.split('.').next().unwrap().parse().unwrap();
        for len in (0..bytes.len()).step_by(STRIDE) {
            let mut files = whole.files.clone();
            files.get_mut(name).unwrap().truncate(len);
            let left = open(&files);
            let cut = |place: &Place| place.segment == segment && place.to > len;
            assert_eq!(left.records, expected(&whole, &left, cut), "{name} cut at {len}");
        }
    }
}

#[test]
fn a_missing_segment_loses_its_own_records_alone() {
    let whole = whole();
    for name in whole.files.keys() {
        let mut files = whole.files.clone();
        files.remove(name);
        let left = open(&files);
        let gone = |place: &Place| segment_name(place.segment) == *name;
        assert_eq!(left.records, expected(&whole, &left, gone), "{name}");
    }
}

#[test]
fn two_damaged_checkpoints_cost_notes_and_no_records() {
    let whole = whole();
    let name = segment_name(whole.newest);
    let mut files = whole.files.clone();
    let checkpoints =
        whole.places.iter().filter(|place| place.segment == whole.newest && place.kind == Kind::CHECKPOINT);
    for place in checkpoints {
        files.get_mut(&name).unwrap()[place.from + 40] ^= 1;
    }
    let left = open(&files);
    assert!(left.unproven);
    assert_eq!(left.records, expected(&whole, &left, |_| false));
    let (log, _) = Log::open(SimulatedStorage::with_files(0, &files), options(), 2).unwrap();
    let held_before = |partition: u32| {
        let older = whole.places.iter().filter(|place| place.segment != whole.newest);
        let records = older.flat_map(|place| &place.records).filter(|(number, _)| *number == partition);
        records.map(|(_, index)| index + 1).max().unwrap()
    };
    for number in 0..2 {
        let partition = log.partition(number).unwrap();
        assert_eq!(partition.unproven, held_before(number), "what was sent may have been said by notes that are lost");
    }
}

#[test]
fn the_first_page_of_a_segment_may_be_lost_without_a_record_and_without_a_note() {
    let whole = whole();
    for len in [512, 4096] {
        for (name, bytes) in &whole.files {
            let mut files = whole.files.clone();
            files.insert(name.clone(), [&vec![0x5a; len][..], &bytes[len..]].concat());
            let left = open(&files);
            assert_eq!(left.records, expected(&whole, &left, |_| false), "{len} bytes of {name}");
            assert!(!left.unproven && left.settled[2] > 0);
        }
    }
}

#[test]
fn a_newest_segment_that_cannot_be_read_leaves_all_that_is_held_in_doubt_and_a_crash_does_not_hide_it() {
    let whole = whole();
    for calls in 0..60 {
        let mut files = whole.files.clone();
        files.get_mut(&segment_name(whole.newest)).unwrap().fill(0);
        let storage = SimulatedStorage::with_files(calls, &files);
        storage.fail(Some(Fault { after: calls, times: u64::MAX, errno: Errno::EROFS }));
        let opened = Log::open(storage.clone(), options(), 2);
        drop(opened);
        storage.kill();
        storage.fail(None);
        let (log, _) = Log::open(storage, options(), 3).unwrap();
        for number in 0..PARTITIONS {
            let partition = log.partition(number).unwrap();
            assert!(partition.settled < partition.next);
            assert_eq!(partition.unproven, partition.next, "{calls} calls before the crash");
        }
    }
}
