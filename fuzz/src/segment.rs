//! Target `segment`: files of a backlog's directory.
//!
//! Input: a byte that chooses the form (modulo 2) of the rest.
//! 0: a segment as it is, which checksums protect from getting far.
//! 1: frames, each a kind, the size of its body (2 bytes), what its synced mark is (modulo 3: none, all before it, everything) and its body;
//! headers and checksums are made to fit. The first stands twice, as a checkpoint does.
//!
//! Beyond that nothing panics: a log is opened, or refused because it says that it is newer; memory stays within a multiple of what came; the
//! ledger adds up; everything that is held is read or reported missing, in order; the log takes a record, and has it after it was opened again.

use allocation_counter::measure;
use forebay::backlog::log::checkpoint::{self, SegmentNote};
use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Acknowledged, Entry, IndexRange, NO_TAGS, Placed, PlacedPart, Records, Sent};
use forebay::backlog::log::error::LogError;
use forebay::backlog::log::footer;
use forebay::backlog::log::frame::{self, Kind};
use forebay::backlog::log::header::{HEADER_BYTES, SegmentHeader, segment_name};
use forebay::backlog::log::inspect::Inspection;
use forebay::backlog::log::options::Options;
use forebay::backlog::log::read::{Cursor, Next};
use forebay::backlog::log::state::State;
use forebay::backlog::log::storage::simulated::SimulatedStorage;

/// The file's number.
const NUMBER: u64 = 3;
const GENERATION: u64 = 0x5eed;
/// A segment, spares, and what the simulated disk keeps beside them.
const FIXED_BYTES: usize = 4 << 20;
/// A partition's state is larger than the least entry that makes one, and a checkpoint is held in several forms.
const PER_BYTE: usize = 400;
/// Ranges of what was never there may be of any length; so many pieces of each partition are looked at.
const PIECES_MAX: usize = 200;

fn options() -> Options {
    Options { segment_bytes: 64 << 10, ..Options::with_limit(1 << 20) }
}

/// Panics if anything is wrong with how the input is read.
pub fn check(input: &[u8]) {
    let Some((form, rest)) = input.split_first() else { return };
    let file = if form % 2 == 0 { rest.to_vec() } else { built(rest) };
    let bound = FIXED_BYTES + PER_BYTE * file.len();
    let storage = SimulatedStorage::with_files(1, &[(segment_name(NUMBER), file)].into());
    look_at(&storage);
    let asked = measure(|| open_and_use(&storage));
    assert!(asked.bytes_max <= bound as u64, "{asked:?}, at most {bound}");
}

/// A segment of these frames.
fn built(mut rest: &[u8]) -> Vec<u8> {
    let header = SegmentHeader { number: NUMBER, generation: GENERATION, capacity: 64 << 10 };
    let mut bytes = header.encode().to_vec();
    let mut copies = 2;
    while let [kind, low, high, mark, tail @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (body, tail) = tail.split_at(len);
        for _ in 0..copies {
            let at = frame::begin(&mut bytes);
            bytes.extend_from_slice(body);
            let synced = [0, at as u32, u32::MAX][usize::from(*mark) % 3];
            frame::seal(&mut bytes, at, Kind(*kind), GENERATION, at as u32, synced);
        }
        (rest, copies) = (tail, 1);
    }
    bytes
}

/// As `forebay backlog` does.
fn look_at(storage: &SimulatedStorage) {
    let Ok(inspection) = Inspection::new(storage.clone()) else { return };
    for run in inspection.held_runs().expect("the disk is well").values().flatten() {
        let _ = inspection.read(run);
    }
    inspection.verify().expect("the disk is well");
}

fn open_and_use(storage: &SimulatedStorage) {
    let mut log = match Log::open(storage.clone(), options(), 1) {
        Ok((log, _)) => log,
        Err(LogError::Newer { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let numbers: Vec<u32> = log.state().partitions.keys().copied().take(PIECES_MAX).collect();
    numbers.iter().for_each(|number| read(&mut log, *number));
    let number = match log.define(b"the fuzzer's") {
        Ok(number) => number,
        // It may say that all numbers are used up, or be full of what it says that it holds.
        Err(LogError::Refused(_) | LogError::Full { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let first = log.partition(number).expect("it was defined").next;
    match log.append(&[Entry::Records(records(number, first, 1, b"data"))]) {
        Ok(_) => {}
        Err(LogError::Refused(_) | LogError::Full { .. }) => return,
        Err(error) => panic!("{error}"),
    }
    log.sync().expect("the disk is well");
    let before = log.state().clone();
    drop(log);
    storage.lose_power();
    let (log, _) = Log::open(storage.clone(), options(), 2).expect("it was opened before");
    assert_eq!(log.partition(number).map(|partition| partition.next), Some(first + 1));
    assert_eq!(log.state().ledger, before.ledger);
}

/// Everything comes in order, and comes to an end.
fn read(log: &mut Log<SimulatedStorage>, number: u32) {
    let mut cursor = Cursor::new(number, 0);
    for _ in 0..PIECES_MAX {
        let before = cursor.next;
        match log.locate(&mut cursor, 4096).expect("the disk is well") {
            Next::Runs(runs) => runs.iter().for_each(|run| {
                if run.read().is_err() {
                    log.note_unreadable(run);
                }
            }),
            Next::Placed { .. } | Next::Missing(_) => {}
            Next::End => return,
        }
        assert!(cursor.next > before, "a cursor moves");
    }
}

fn records(partition: u32, first: u64, count: u32, data: &[u8]) -> Records<'_> {
    Records {
        partition,
        first,
        count,
        base_timestamp: 5,
        max_timestamp: 6,
        stored_at: 7,
        codec: 0,
        tags: NO_TAGS,
        data,
    }
}

fn range(first: u64, last: u64) -> IndexRange {
    IndexRange { first, last }
}

/// Inputs to begin with: a segment of every entry there is, as it is and as frames, and one that a log has written.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut state = State::default();
    let topic_id = [7; 16];
    let entries = [
        Entry::Cluster { id: b"cluster" },
        Entry::Partition { number: 0, name: b"a" },
        Entry::Partition { number: 1, name: b"b" },
        Entry::Partition { number: 2, name: b"c" },
        Entry::Records(records(0, 0, 9, b"nine records")),
        Entry::Records(records(1, 0, 4, b"four records")),
        Entry::Sent {
            partition: 0,
            sent: Sent { range: range(0, 3), producer_id: 9, epoch: 1, base_sequence: 5, topic_id },
        },
        Entry::Acknowledged(Acknowledged {
            partition: 0,
            last: 1,
            offset: 8,
            leader_epoch: 2,
            topic_id,
            possible_duplicates: 1,
        }),
        Entry::Dropped { partition: 0, range: range(4, 5), reason: 3 },
        Entry::Dead { partition: 0, range: range(7, 7), reason: 4 },
        Entry::Placed {
            partition: 1,
            placed: Placed {
                range: range(1, 3),
                partition_count: 1,
                parts: vec![PlacedPart { partition: 2, first: 0, count: 3 }],
            },
        },
        Entry::Partition { number: 3, name: b"d" },
        Entry::Retired { partition: 3 },
    ];
    let mut framed = vec![1];
    let mut put = |kind: Kind, body: &[u8]| {
        framed.extend_from_slice(&[kind.0, body.len() as u8, (body.len() >> 8) as u8, 1]);
        framed.extend_from_slice(body);
    };
    let older = SegmentNote { number: 1, generation: 4, end: 4096, footer: 4000, runs: 2 };
    let body = |put_body: &dyn Fn(&mut Vec<u8>)| {
        let mut body = Vec::new();
        put_body(&mut body);
        body
    };
    put(Kind::CHECKPOINT, &body(&|out| checkpoint::encode(out, NUMBER, [older].into_iter(), &state)));
    for entry in &entries {
        put(Kind::ENTRIES, &body(&|out| entry.encode(out)));
    }
    put(Kind::FOOTER, &body(&|out| footer::encode(out, [].iter())));
    put(Kind::MARK, &[]);
    entries.iter().for_each(|entry| state.apply(entry, 2));
    let mut from_checkpoint = vec![1];
    let full = body(&|out| checkpoint::encode(out, NUMBER, [older].into_iter(), &state));
    from_checkpoint.extend_from_slice(&[Kind::CHECKPOINT.0, full.len() as u8, (full.len() >> 8) as u8, 0]);
    from_checkpoint.extend_from_slice(&full);
    let as_it_is = [&[0], built(&framed[1..]).as_slice()].concat();
    assert!(as_it_is.len() > HEADER_BYTES);
    vec![framed, from_checkpoint, as_it_is]
}
