//! What clients write: prepared once, so that a client costs little more than its system calls.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Serialize;
use tokio::time::Instant;

use crate::sink::TOPIC;
use crate::support::client::{Outgoing, Produce, dory_frame, parse_produce_answer, produce_frame};

/// How records are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Dory's PartitionKey message (257): one record a frame, its partition named. Neighbours go to neighbouring partitions.
    Dory,
    /// Dory's AnyPartition message (256): one record a frame, forebay chooses the partition and stays with it for a batch.
    DoryAny,
    /// forebay's Produce (512) with acks=0: all records of a write in one frame, for one partition; the next write is for the next.
    Produce,
}

/// What one write of a client holds.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of a record's value; there is no key, and there are no headers.
    pub size: usize,
    pub partitions: usize,
    /// Records in one write.
    pub write: usize,
}

/// Where the partition stands in a Produce frame for [`TOPIC`]: behind the head (8), CorrelationId, Acks, TimeoutMs, Source,
/// SourceSequence and Topic.
const PRODUCE_PARTITION_AT: usize = 8 + 4 + 2 + 4 + 2 + 8 + 2 + TOPIC.len();
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The bytes of the writes, in turn over the partitions without end.
#[derive(Clone)]
pub enum Writes {
    /// Frames of one record, all of one length, for partition 0, 1, 2 … and some from the start again.
    Frames { bytes: Vec<u8>, frame_bytes: usize, cycle: usize, write: usize },
    /// One frame, to which each write gives another partition.
    Patched { frame: Vec<u8>, partitions: usize },
}

/// Where a client is in its writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position(usize);

impl Writes {
    /// Of that form, with values that look like text.
    pub fn new(form: Form, shape: Shape) -> Writes {
        match form {
            Form::Produce => Writes::patched(shape, 0),
            Form::Dory | Form::DoryAny => {
                let Shape { size, partitions, write } = shape;
                // A multiple of the partitions that is as long as a write at least.
                let cycle = partitions * write.div_ceil(partitions);
                let frames = (0..cycle + write).map(|number| {
                    let key = (form == Form::Dory).then_some((number % partitions) as i32);
                    dory_frame(key, TOPIC, now_ms(), b"", &value(size, number as u64))
                });
                let bytes: Vec<u8> = frames.flatten().collect();
                let frame_bytes = bytes.len() / (cycle + write);
                Writes::Frames { bytes, frame_bytes, cycle, write }
            }
        }
    }

    /// Produce frames.
    pub fn patched(shape: Shape, acks: i16) -> Writes {
        let value = |number| Some(value(shape.size, number as u64));
        let records: Vec<Outgoing> =
            (0..shape.write).map(|number| Outgoing { value: value(number), ..Outgoing::default() }).collect();
        let request = Produce { acks, partition: 0, ..Produce::new(TOPIC, &records) };
        Writes::Patched { frame: produce_frame(1, &request), partitions: shape.partitions }
    }

    /// Writes once.
    fn write_next(&self, stream: &mut UnixStream, position: &mut Position) -> io::Result<()> {
        match self {
            Writes::Frames { bytes, frame_bytes, cycle, write } => {
                let from = position.0 * frame_bytes;
                position.0 = (position.0 + write) % cycle;
                stream.write_all(&bytes[from..from + write * frame_bytes])
            }
            Writes::Patched { frame, partitions } => {
                let (head, rest) = frame.split_at(PRODUCE_PARTITION_AT);
                let partition = (position.0 as i32).to_be_bytes();
                position.0 = (position.0 + 1) % partitions;
                write_all_vectored(stream, [head, &partition, &rest[4..]])
            }
        }
    }
}

fn write_all_vectored(stream: &mut UnixStream, parts: [&[u8]; 3]) -> io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let written = stream.write_vectored(left)?;
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

/// Letters, digits and blanks, another text for each number.
fn value(size: usize, number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut letter = || if random.u8(..6) == 0 { b' ' } else { random.alphanumeric() as u8 };
    (0..size).map(|_| letter()).collect()
}

fn now_ms() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// When a client ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// At a moment.
    Time(Instant),
    /// After so many writes.
    Writes(u64),
}

/// Writes as fast as the socket takes it; returns the number of writes.
pub fn flood(stream: &mut UnixStream, writes: &Writes, position: &mut Position, until: Until) -> io::Result<u64> {
    let mut count = 0;
    loop {
        let over = match until {
            Until::Time(end) => Instant::now() >= end,
            Until::Writes(all) => count >= all,
        };
        if over {
            return Ok(count);
        }
        writes.write_next(stream, position)?;
        count += 1;
    }
}

/// Writes a request, waits for its answer, and so on until `end`; returns how long each took from before the write until
/// the answer was read.
///
/// # Errors
/// If the connection ends, or an answer says anything but that all records are delivered.
pub fn ask(stream: &mut UnixStream, writes: &Writes, position: &mut Position, end: Instant) -> Result<Vec<Duration>> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut took = Vec::new();
    let mut body = Vec::new();
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(took);
        }
        writes.write_next(stream, position)?;
        let mut head = [0; 8];
        stream.read_exact(&mut head).context("no answer came")?;
        let size = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let Some(rest) = usize::try_from(size).ok().and_then(|size| size.checked_sub(head.len())) else {
            bail!("an answer of {size} bytes");
        };
        body.resize(rest, 0);
        stream.read_exact(&mut body)?;
        took.push(begun.elapsed());
        let answer = parse_produce_answer(&body);
        ensure!(answer.error_code == 0, "refused with {}: {:?}", answer.error_code, answer.error_message);
    }
}
