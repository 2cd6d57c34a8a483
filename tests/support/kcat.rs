//! kcat, librdkafka's own tool, as the independent reader of what reached Kafka.
//!
//! It reads with checksums verified and prints JSON, whose strings carry the bytes of keys, values and headers
//! unchanged but for JSON's own escapes, and in which null and empty differ. So the strings are read here as bytes,
//! which need not be UTF-8.

use std::fmt;
use std::io::{self, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::process::{run, stdin_of};

/// How long kcat may take for one errand.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A record as an independent reader saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadRecord {
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// Names and values in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Whether kcat is installed.
pub fn is_installed() -> bool {
    Command::new("kcat").arg("-V").stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}

/// Whether kcat is installed; if not, says on standard error that the caller skips what needs it.
pub fn is_installed_or_say(skipped: &str) -> bool {
    let installed = is_installed();
    if !installed {
        // Past libtest's capture, so that a green run shows what it did not do.
        let _ = writeln!(io::stderr(), "skipping {skipped}: kcat is not installed");
    }
    installed
}

/// Reads all of a topic that is there now: sorted by partition, each partition in the order it was read.
#[track_caller]
pub fn consume(bootstrap: &str, topic: &str) -> Vec<ReadRecord> {
    let (status, stdout, stderr) = run(consume_command(bootstrap, topic), Stdio::null(), TIMEOUT);
    assert!(status.success(), "kcat could not read {topic}: {status}\n{stderr}");
    let mut records = parse(&stdout);
    records.sort_by_key(|record| record.partition);
    records
}

/// How kcat ends, and what it says, when it tries to read a topic that it may not be allowed to.
#[track_caller]
pub fn try_consume(bootstrap: &str, topic: &str) -> (ExitStatus, String) {
    let (status, _, stderr) = run(consume_command(bootstrap, topic), Stdio::null(), TIMEOUT);
    (status, stderr)
}

fn consume_command(bootstrap: &str, topic: &str) -> Command {
    let mut kcat = Command::new("kcat");
    kcat.args(["-C", "-e", "-q", "-J", "-o", "beginning", "-X", "check.crcs=true", "-b", bootstrap, "-t", topic]);
    kcat
}

/// Produces a record for each line, without a key, and waits until all are acknowledged.
#[track_caller]
pub fn produce(bootstrap: &str, topic: &str, lines: &[u8]) {
    let (status, _, stderr) = run(produce_command(bootstrap, topic), stdin_of(lines), TIMEOUT);
    assert!(status.success(), "kcat could not write {topic}: {status}\n{stderr}");
}

/// The command that [`produce`] runs, for those who let it run beside something else.
pub fn produce_command(bootstrap: &str, topic: &str) -> Command {
    let mut kcat = Command::new("kcat");
    kcat.args(["-P", "-q", "-X", "enable.idempotence=true", "-b", bootstrap, "-t", topic]);
    kcat
}

/// Reads what `kcat -J` printed.
#[track_caller]
fn parse(json: &[u8]) -> Vec<ReadRecord> {
    // kcat parts records by line feeds, which JSON escapes inside of strings.
    let lines = json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let printed: Printed = serde_json::from_slice(line)
                .unwrap_or_else(|error| panic!("kcat printed no record, {error}: {}", String::from_utf8_lossy(line)));
            let mut fields = printed.headers.into_iter();
            let mut headers = Vec::new();
            while let Some(name) = fields.next() {
                let value = fields.next().expect("kcat prints a value after each header's name");
                headers.push((name.expect("a header's name is never null").0, value.map(|value| value.0)));
            }
            ReadRecord {
                partition: printed.partition,
                offset: printed.offset,
                timestamp: printed.ts,
                key: printed.key.map(|key| key.0),
                value: printed.payload.map(|payload| payload.0),
                headers,
            }
        })
        .collect()
}

#[derive(serde::Deserialize)]
struct Printed {
    partition: i32,
    offset: i64,
    ts: i64,
    #[serde(default)]
    headers: Vec<Option<JsonBytes>>,
    key: Option<JsonBytes>,
    payload: Option<JsonBytes>,
}

/// A JSON string whose bytes need not be UTF-8.
struct JsonBytes(Vec<u8>);

impl<'de> Deserialize<'de> for JsonBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = JsonBytes;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<JsonBytes, E> {
                Ok(JsonBytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(BytesVisitor)
    }
}
