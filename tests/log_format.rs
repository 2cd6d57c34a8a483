//! A reader of segments that was written from docs/backlog-format.md alone, beside the log that wrote them; and the commands that read them.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::entry::{Acknowledged, Entry, IndexRange, NO_TAGS, Records, Sent};
use forebay::backlog::log::options::Options;
use forebay::backlog::log::storage::real::RealStorage;
use forebay::backlog::name::PartitionName;
use forebay::record::{Header, Record, Run};

/// What the text says, and nothing of forebay's code.
mod reader {
    use std::collections::BTreeMap;

    /// Partition name and values, by index.
    pub type Partitions = BTreeMap<Vec<u8>, BTreeMap<u64, Vec<u8>>>;

    fn fixed<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
        let (taken, rest) = bytes.split_first_chunk().unwrap();
        *bytes = rest;
        *taken
    }

    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let [byte] = fixed(bytes);
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn zigzag(bytes: &mut &[u8]) -> i64 {
        let n = varint(bytes);
        (n >> 1) as i64 ^ -((n & 1) as i64)
    }

    fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(len);
        *bytes = rest;
        taken
    }

    fn sized<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
        let len = varint(bytes) as usize;
        take(bytes, len)
    }

    /// The bodies of frames of kind 1 and 2, in order. For a segment that was closed in order, or cut at its end.
    fn bodies(segment: &[u8], number: u64) -> Vec<&[u8]> {
        assert_eq!(&segment[..8], b"forebay\n");
        assert_eq!(segment[8..12], [1, 0, 64, 0]);
        assert_eq!(segment[16..24], number.to_le_bytes());
        assert_eq!(segment[24..32], segment[40..48]);
        assert_eq!(crc32c::crc32c(&segment[..60]).to_le_bytes(), segment[60..64]);
        let (mut at, mut found) = (64, vec![]);
        while let Some(frame) = segment.get(at..).filter(|rest| rest.len() >= 28) {
            let len = 28 + u32::from_le_bytes(frame[4..8].try_into().unwrap()) as usize;
            let counts = len <= frame.len()
                && frame[8..16] == segment[24..32]
                && frame[16..20] == (at as u32).to_le_bytes()
                && frame[..4] == crc32c::crc32c(&frame[4..len]).to_le_bytes();
            if !counts {
                break;
            }
            if frame[24] == 2 && !found.is_empty() {
                assert_eq!((at % 4096, found.len()), (0, 1), "the second copy of the checkpoint");
            }
            if frame[24] == 1 || frame[24] == 2 {
                found.push(&frame[28..len]);
            }
            at += len;
        }
        found
    }

    fn values(mut run: &[u8]) -> Vec<Vec<u8>> {
        let mut found = vec![];
        while !run.is_empty() {
            let len = u32::from_le_bytes(fixed(&mut run)) as usize;
            let (_flags, _timestamp): ([u8; 1], [u8; 8]) = (fixed(&mut run), fixed(&mut run));
            let mut suffix = take(&mut run, len);
            let key = zigzag(&mut suffix);
            take(&mut suffix, key.max(0) as usize);
            let value = zigzag(&mut suffix);
            found.push(take(&mut suffix, value.max(0) as usize).to_vec());
        }
        found
    }

    /// All that is held, from segments in the order of their numbers.
    pub fn read(segments: &BTreeMap<u64, Vec<u8>>) -> Partitions {
        let (mut names, mut settled) = (BTreeMap::new(), BTreeMap::new());
        let mut records: BTreeMap<u64, BTreeMap<u64, Vec<u8>>> = BTreeMap::new();
        for (number, segment) in segments {
            for mut body in bodies(segment, *number) {
                while !body.is_empty() {
                    let [kind] = fixed(&mut body);
                    let mut entry = sized(&mut body);
                    match kind {
                        1 | 12 => {
                            let partition = varint(&mut entry);
                            names.insert(partition, sized(&mut entry).to_vec());
                            if kind == 12 {
                                settled.insert(partition, varint(&mut entry));
                            }
                        }
                        2 => {
                            let (partition, first, count) =
                                (varint(&mut entry), varint(&mut entry), varint(&mut entry));
                            let _times = (zigzag(&mut entry), zigzag(&mut entry), zigzag(&mut entry));
                            assert_eq!(fixed(&mut entry), [0], "run form");
                            for _tag in 0..varint(&mut entry) {
                                varint(&mut entry);
                                sized(&mut entry);
                            }
                            let values = values(entry);
                            assert_eq!(values.len() as u64, count);
                            records.entry(partition).or_default().extend((first..).zip(values));
                        }
                        4 => {
                            let (partition, last) = (varint(&mut entry), varint(&mut entry));
                            settled.insert(partition, last + 1);
                        }
                        _ => {}
                    }
                }
            }
        }
        let held = records.into_iter().map(|(partition, mut records)| {
            let held = records.split_off(settled.get(&partition).unwrap_or(&0));
            (names[&partition].clone(), held)
        });
        held.filter(|(_, records)| !records.is_empty()).collect()
    }
}

fn name(topic: &str, partition: i32) -> Vec<u8> {
    PartitionName { topic_id: [7; 16], partition: Some(partition), topic: topic.as_bytes() }.encode()
}

/// A log of several segments in `directory`, left open; and what it holds.
fn written(directory: &Path) -> (Log<RealStorage>, reader::Partitions) {
    let options = Options { segment_bytes: 32 << 10, write_bytes: 4096, ..Options::with_limit(4 << 20) };
    let (mut log, _) = Log::open(RealStorage::new(directory), options, 7).unwrap();
    let numbers: Vec<u32> = (0..3).map(|partition| log.define(&name("audit", partition)).unwrap()).collect();
    let mut held = reader::Partitions::new();
    for n in 0..600_u64 {
        let at = (n % 3) as usize;
        let value = format!("line {n} ").repeat(n as usize % 40);
        let mut run = Run::default();
        let headers = [Header { name: b"h", value: None }];
        for _ in 0..2 {
            let timestamp = 1_700_000_000_000;
            let value = Some(value.as_bytes());
            run.push(&Record { timestamp, stamped_here: true, key: None, value, headers: &headers });
        }
        let first = log.partition(numbers[at]).unwrap().next;
        let data = run_bytes(&run);
        let records = Records {
            partition: numbers[at],
            first,
            count: 2,
            base_timestamp: 0,
            max_timestamp: 0,
            stored_at: 1_700_000_000_000,
            codec: 0,
            tags: NO_TAGS,
            data: &data,
        };
        let range = IndexRange::new(first, first + 1).unwrap();
        let sent = Sent { range, producer_id: 4000, epoch: 0, base_sequence: first as i32, topic_id: [7; 16] };
        log.append(&[Entry::Records(records), Entry::Sent { partition: numbers[at], sent }]).unwrap();
        let records = held.entry(name("audit", at as i32)).or_default();
        records.extend([(first, value.clone().into_bytes()), (first + 1, value.into_bytes())]);
    }
    let done = Acknowledged {
        partition: numbers[1],
        last: 99,
        offset: 99,
        leader_epoch: 0,
        topic_id: [7; 16],
        possible_duplicates: 0,
    };
    log.append(&[Entry::Acknowledged(done)]).unwrap();
    log.sync().unwrap();
    held.get_mut(&name("audit", 1)).unwrap().retain(|index, _| *index > 99);
    (log, held)
}

/// The run form of a run, as it is stored.
fn run_bytes(run: &Run) -> Vec<u8> {
    let mut bytes = vec![];
    for raw in run.records_from(0) {
        bytes.extend_from_slice(&(raw.suffix.len() as u32).to_le_bytes());
        bytes.push(raw.stamped_here.into());
        bytes.extend_from_slice(&raw.timestamp.to_le_bytes());
        bytes.extend_from_slice(raw.suffix);
    }
    bytes
}

fn segments(directory: &Path) -> BTreeMap<u64, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "segment"));
    segments
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().parse().unwrap(), fs::read(path).unwrap()))
        .collect()
}

fn forebay(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("backlog").args(arguments).arg(directory).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn a_reader_written_from_the_text_reads_what_the_log_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let (log, held) = written(directory.path());
    let files = segments(directory.path());
    assert!(files.len() > 2, "{}", files.len());
    assert_eq!(reader::read(&files), held);
    log.close().unwrap();
    assert_eq!(reader::read(&segments(directory.path())), held);
}

#[test]
fn the_commands_read_a_log_that_is_owned_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let (_owner, held) = written(directory.path());
    let listing = json(&forebay(&["ls", "--json"], directory.path()));
    assert_eq!(listing["held"], 1100);
    let rows = listing["partitions"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["records"].as_u64().unwrap()).collect::<Vec<_>>(), [400, 300, 400]);
    assert_eq!(rows[0]["in_doubt"], 400, "each was sent");
    assert_eq!(rows[0]["oldest_stored_ms"], 1_700_000_000_000_u64);
    let page = String::from_utf8(forebay(&["ls"], directory.path()).stdout).unwrap();
    assert!(page.contains("1,100 records held") && page.contains("audit"), "{page}");

    let verified = forebay(&["verify", "--json"], directory.path());
    assert_eq!((verified.status.code(), &json(&verified)["ok"]), (Some(0), &Value::Bool(true)));
    assert_eq!(json(&verified)["records"], 1200);

    let exported = forebay(&["export"], directory.path());
    assert_eq!(exported.status.code(), Some(0), "{}", String::from_utf8_lossy(&exported.stderr));
    let mut values: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for line in exported.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record: Value = serde_json::from_slice(line).unwrap();
        assert_eq!((&record["topic"], &record["key"]), (&Value::from("audit"), &Value::Null));
        let partition = record["partition"].as_i64().unwrap();
        values.entry(partition).or_default().push(record["value"].as_str().unwrap().to_owned());
    }
    for (partition, values) in values {
        let expected =
            held[&name("audit", partition as i32)].values().map(|value| String::from_utf8(value.clone()).unwrap());
        assert_eq!(values, expected.collect::<Vec<_>>());
    }
    let raw = forebay(&["export", "--format", "raw", "--topic", "other"], directory.path());
    assert_eq!((raw.status.code(), raw.stdout.len()), (Some(0), 0));
}

#[test]
fn damage_is_found_named_and_worked_around() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = written(directory.path());
    log.close().unwrap();
    let path = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let path = path.filter(|path| path.extension().is_some_and(|extension| extension == "segment")).min().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|bytes| bytes == b"line 33 ").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    let verified = forebay(&["verify", "--json"], directory.path());
    assert_eq!(verified.status.code(), Some(65));
    let verdict = json(&verified);
    assert_eq!((&verdict["ok"], &verdict["records"]), (&Value::Bool(false), &Value::from(1198)));
    assert_eq!(verdict["segments"][0]["damage"].as_array().unwrap().len(), 1);
    let exported = forebay(&["export"], directory.path());
    let words = String::from_utf8(exported.stderr).unwrap();
    assert_eq!(exported.status.code(), Some(65), "{words}");
    assert!(words.contains("2 records could not be read"), "{words}");
    let missing = forebay(&["ls"], &directory.path().join("nowhere"));
    assert_eq!(missing.status.code(), Some(74));
}
