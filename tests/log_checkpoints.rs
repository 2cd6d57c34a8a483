//! What checkpoints may take of a log, and notes of a log that is full.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

#[path = "support/log.rs"]
mod fixture;

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Entry, IndexRange, Origin, Records, tag_origins};
use forebay::backlog::log::error::{FullCause, LogError};
use forebay::backlog::log::storage::simulated::{Fault, SimulatedStorage};

use fixture::{SEGMENT_BYTES, acknowledge, open, records, store};

#[test]
fn a_log_that_holds_more_than_a_lowered_limit_drains() {
    let storage = SimulatedStorage::new(13);
    let mut log = open(&storage, 40);
    let partition = log.define(b"p").unwrap();
    (0..2000).for_each(|_| _ = store(&mut log, partition, &[1; 1000]).unwrap());
    log.close().unwrap();
    let mut log = open(&storage, 8);
    assert!(log.used_bytes() > 3 * 8 * SEGMENT_BYTES, "{}", log.used_bytes());
    let full = store(&mut log, partition, &[1; 1000]).unwrap_err();
    assert!(matches!(full, LogError::Full { cause: FullCause::Limit, .. }), "{full}");
    for _ in 0..10_000 {
        log.define(b"another").expect("notes have their room");
        log.append(&[Entry::Dead { partition, range: IndexRange::new(7, 7).unwrap(), reason: 1 }]).unwrap();
    }
    acknowledge(&mut log, partition).expect("notes have their room");
    log.sync().unwrap();
    assert!(log.used_bytes() <= 2 * SEGMENT_BYTES, "{}", log.used_bytes());
    store(&mut log, partition, &[1; 1000]).expect("there is room again");
}

#[test]
fn a_checkpoint_larger_than_a_segment_neither_blocks_nor_eats_the_log() {
    for segments in 8..20 {
        let storage = SimulatedStorage::new(14);
        let mut log = open(&storage, segments);
        let partition = log.define(b"p").unwrap();
        let records = Records { count: 100_000, ..records(partition, 0, b"") };
        log.append(&[Entry::Records(records)]).unwrap();
        for n in 1..10_000 {
            let range = IndexRange::new(n * 5, n * 5).unwrap();
            log.append(&[Entry::Dead { partition, range, reason: 1 }]).expect("notes have their room");
        }
        log.sync().unwrap();
        // What goes on and on ends here.
        storage.fail(Some(Fault { after: 100_000, times: u64::MAX, errno: nix::errno::Errno::EROFS }));
        let full = loop {
            match store(&mut log, partition, &[1; 1000]) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(full, LogError::Full { cause: FullCause::Limit, .. }), "{full}");
        let written = log.counters().written_bytes;
        (0..100).for_each(|_| assert!(store(&mut log, partition, &[1; 1000]).is_err()));
        assert!(log.counters().written_bytes < written + 4 * SEGMENT_BYTES, "a full log does not write checkpoints");
        acknowledge(&mut log, partition).expect("notes have their room");
        log.sync().unwrap();
        store(&mut log, partition, &[1; 1000]).expect("there is room again");
    }
}

#[test]
fn a_full_disk_has_room_for_notes_behind_large_checkpoints() {
    let storage = SimulatedStorage::new(17);
    let mut log = open(&storage, 40);
    let partition = log.define(b"p").unwrap();
    let run = Records { count: 100_000, ..records(partition, 0, b"") };
    log.append(&[Entry::Records(run)]).unwrap();
    let dead = |log: &mut Log<SimulatedStorage>, n: u64| {
        let range = IndexRange::new(n * 5, n * 5).unwrap();
        log.append(&[Entry::Dead { partition, range, reason: 1 }]).expect("notes have their room");
    };
    // Two copies of what the next one begins with take three segments.
    (1..10_000).for_each(|n| dead(&mut log, n));
    log.sync().unwrap();
    storage.set_capacity(storage.used_bytes());
    for round in 0..12 {
        let begun = log.counters().segments_begun;
        while log.counters().segments_begun < begun + 2 {
            dead(&mut log, 1);
        }
        log.sync().unwrap();
        if round % 3 == 2 {
            storage.lose_power();
            drop(log);
            storage.set_capacity(storage.used_bytes());
            log = open(&storage, 40);
        }
        // Others take what becomes free.
        storage.set_capacity(storage.used_bytes());
    }
    acknowledge(&mut log, partition).expect("notes have their room");
    log.sync().unwrap();
    storage.set_capacity(u64::MAX);
    store(&mut log, partition, &[1; 1000]).expect("there is room again");
    assert!(log.used_bytes() <= 8 * SEGMENT_BYTES, "{}", log.used_bytes());
}

#[test]
fn segments_behind_large_checkpoints_have_room_for_many_frames() {
    let storage = SimulatedStorage::new(15);
    let mut log = open(&storage, 256);
    let partition = log.define(b"p").unwrap();
    (0..16_100).for_each(|_| _ = store(&mut log, partition, &[]).unwrap());
    for n in 1..8000 {
        let range = IndexRange::new(n * 2, n * 2).unwrap();
        log.append(&[Entry::Dead { partition, range, reason: 1 }]).unwrap();
    }
    log.sync().unwrap();
    let (begun, written) = (log.counters().segments_begun, log.counters().written_bytes);
    (0..1000).for_each(|_| _ = store(&mut log, partition, &[1; 1000]).unwrap());
    let (begun, written) = (log.counters().segments_begun - begun, log.counters().written_bytes - written);
    assert!(begun <= 40 && written < 5_000_000, "{begun} segments, {written} bytes");
}

#[test]
fn names_that_no_checkpoint_has_room_for_are_refused() {
    let storage = SimulatedStorage::new(16);
    let mut log = open(&storage, 8);
    let mut defined = 0_u32;
    let refused = loop {
        match log.define(&[&defined.to_le_bytes()[..], &[b'n'; 1000]].concat()) {
            Ok(_) => defined += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LogError::Refused(_)), "{refused}");
    assert!((5..20).contains(&defined), "{defined}");
    let tags = tag_origins(&[Origin { name: &[b'o'; 2000], up_to: 1 }]);
    let partition = 0;
    let records = Records { tags: &tags, ..records(partition, 0, b"") };
    let refused = log.append(&[Entry::Records(records)]).unwrap_err();
    assert!(refused.to_string().contains("too many origins"), "{refused}");
    log.retire(0, 1).unwrap();
    log.retire(1, 1).unwrap();
    log.append(&[Entry::Records(Records { partition: 2, ..records })]).expect("there is room again");
    drop(log);
    assert!(open(&storage, 8).define(&[b'n'; 1500]).is_err());
}
