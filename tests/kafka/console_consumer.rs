//! Kafka's own console consumer, the Java client, as the second independent reader.
//!
//! It writes raw bytes between separators of the caller's choice; these are random enough that no test's data holds
//! them, so what lies between is exact. Only a header's name must not hold a colon, which parts it from its value.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::kcat::ReadRecord;
use crate::support::process::run;

const TIMEOUT: Duration = Duration::from_secs(120);
/// How long it waits for the next record before it gives up; only used when there are fewer than expected.
const IDLE_MS: u32 = 20_000;
const FIELD_END: &str = "~field:5d1c60f3d6b8~";
const HEADER_END: &str = "~header:c1f0a17e2b94~";
const RECORD_END: &str = "~record:b7e2f9403a6d~";
const NULL: &str = "~null:08d7b6a1c35e~";

/// Reads `count` records of a topic: sorted by partition, each partition in the order it was read.
#[track_caller]
pub fn consume(jars: &Path, bootstrap: &str, topic: &str, count: usize) -> Vec<ReadRecord> {
    let mut java = Command::new("java");
    java.args([
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Xmx256m",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
    ]);
    java.arg("-cp").arg(jars.join("*")).arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
    java.args(["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"]);
    java.args(["--max-messages", &count.to_string(), "--timeout-ms", &IDLE_MS.to_string()]);
    // No deserializers: with them it prints what they make as Java's text, without them the bytes.
    let properties = [
        ("print.timestamp", "true"),
        ("print.partition", "true"),
        ("print.offset", "true"),
        ("print.headers", "true"),
        ("print.key", "true"),
        ("print.value", "true"),
        ("key.separator", FIELD_END),
        ("headers.separator", HEADER_END),
        ("line.separator", RECORD_END),
        ("null.literal", NULL),
    ];
    for (name, value) in properties {
        java.arg("--formatter-property").arg(format!("{name}={value}"));
    }
    let (status, stdout, stderr) = run(java, Stdio::null(), TIMEOUT);
    assert!(status.success(), "the console consumer could not read {topic}: {status}\n{stderr}");
    let mut records: Vec<ReadRecord> =
        split(&stdout, RECORD_END).iter().filter(|r| !r.is_empty()).map(|r| parse(r)).collect();
    assert_eq!(records.len(), count, "the console consumer found fewer records than expected\n{stderr}");
    records.sort_by_key(|record| record.partition);
    records
}

#[track_caller]
fn parse(record: &[u8]) -> ReadRecord {
    let shown = || String::from_utf8_lossy(record).into_owned();
    let fields = split(record, FIELD_END);
    let [timestamp, partition, offset, headers, key, value] = fields[..] else {
        panic!("the console consumer printed no record: {}", shown());
    };
    let number = |field: &[u8], name: &str| -> i64 {
        let text = std::str::from_utf8(field).ok().and_then(|text| text.strip_prefix(name));
        text.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no {name} in {}", shown()))
    };
    let headers = if headers == b"NO_HEADERS" { vec![] } else { split(headers, HEADER_END) };
    let headers = headers.into_iter().map(|header| {
        let colon = header.iter().position(|byte| *byte == b':').unwrap_or_else(|| panic!("no header in {}", shown()));
        (header[..colon].to_vec(), nullable(&header[colon + 1..]))
    });
    ReadRecord {
        partition: i32::try_from(number(partition, "Partition:")).expect("a partition's number is an i32"),
        offset: number(offset, "Offset:"),
        timestamp: number(timestamp, "CreateTime:"),
        key: nullable(key),
        value: nullable(value),
        headers: headers.collect(),
    }
}

fn nullable(field: &[u8]) -> Option<Vec<u8>> {
    (field != NULL.as_bytes()).then(|| field.to_vec())
}

/// The parts of `bytes` between the separators.
fn split<'a>(mut bytes: &'a [u8], separator: &str) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(separator.len()).position(|window| window == separator.as_bytes()) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + separator.len()..];
    }
    parts.push(bytes);
    parts
}
