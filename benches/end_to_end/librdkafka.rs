//! acks=all beside librdkafka: the same sink, the same linger, one record of 100 bytes at a time, in turn.
//!
//! librdkafka runs inside its program (`librdkafka.c`, compiled here by `cc`); a client of forebay talks to another
//! process, and that is part of its time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::case::{self, Method, percentile_us, settle};
use crate::load::{Shape, Writes};
use crate::sink::{Sink, TOPIC};
use crate::support::process::run;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/end_to_end/librdkafka.c");
/// What is compared: bytes of a value.
const SIZE: usize = 100;
/// What is compared.
const LINGERS_MS: [u32; 2] = [5, 0];
/// Each side so often, in turn.
const ROUNDS: usize = 3;
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// Both sides at one linger, all rounds together.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub linger_ms: u32,
    pub forebay: Quantiles,
    pub librdkafka: Quantiles,
    pub librdkafka_version: String,
    /// forebay's p50 by librdkafka's.
    pub p50_ratio: f64,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    pub p50_us: f64,
    pub p99_us: f64,
    pub records: usize,
}

impl Quantiles {
    fn of(mut took: Vec<Duration>) -> Quantiles {
        took.sort_unstable();
        let percentile = |part| percentile_us(&took, part);
        Quantiles { p50_us: percentile(0.5), p99_us: percentile(0.99), records: took.len() }
    }
}

/// The program, compiled into `directory`.
///
/// # Errors
/// In words that say what is missing.
pub fn compile(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("librdkafka");
    let mut command = Command::new("cc");
    command.args(["-O2", "-Wall", "-Wextra", "-o"]).arg(&program).args([SOURCE, "-lrdkafka"]);
    let output = command.output().context("there is no C compiler: install cc")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cc failed; Debian has the headers in librdkafka-dev:\n{}", said.trim_end());
    Ok(program)
}

/// Compares at each linger.
pub fn compare(program: &Path, method: &Method, sink: &Sink) -> Result<Vec<Row>> {
    LINGERS_MS.iter().map(|&linger_ms| row(program, method, sink, linger_ms)).collect()
}

fn row(program: &Path, method: &Method, sink: &Sink, linger_ms: u32) -> Result<Row> {
    let config = format!("[producer]\nlinger = \"{linger_ms}ms\"\n");
    let method = Method { config, latency_seconds: method.latency_seconds.max(2.0), ..method.clone() };
    let (mut ours, mut theirs, mut version) = (Vec::new(), Vec::new(), String::new());
    for _ in 0..ROUNDS {
        ours.extend(forebay(&method, sink)?);
        let took = librdkafka(program, &method, sink, linger_ms)?;
        version = took.0;
        theirs.extend(took.1);
    }
    let (forebay, librdkafka) = (Quantiles::of(ours), Quantiles::of(theirs));
    let p50_ratio = forebay.p50_us / librdkafka.p50_us;
    Ok(Row { linger_ms, forebay, librdkafka, librdkafka_version: version, p50_ratio })
}

fn forebay(method: &Method, sink: &Sink) -> Result<Vec<Duration>> {
    sink.reset(1);
    let daemon = case::start(sink, method);
    let mut streams = case::connect(&daemon, 1)?;
    let writes = Writes::patched(Shape { size: SIZE, partitions: 1, write: 1 }, -1);
    // The first waits for metadata and a producer id.
    let first = case::ask_all(&mut streams, &writes, Duration::from_millis(1))?;
    let took = case::ask_all(&mut streams, &writes, Duration::from_secs_f64(method.latency_seconds))?;
    settle(daemon, sink, (first.len() + took.len()) as u64)?;
    Ok(took)
}

fn librdkafka(program: &Path, method: &Method, sink: &Sink, linger_ms: u32) -> Result<(String, Vec<Duration>)> {
    sink.reset(1);
    let mut command = Command::new(program);
    command.args([sink.bootstrap(), TOPIC.to_owned(), SIZE.to_string(), linger_ms.to_string()]);
    command.arg(method.latency_seconds.to_string());
    let (status, stdout, stderr) = run(command, Stdio::null(), RUN_TIMEOUT);
    ensure!(status.success(), "librdkafka's program: {status}\n{stderr}\n{}", sink.fault().unwrap_or_default());
    let stdout = String::from_utf8(stdout)?;
    let (version, numbers) = stdout.split_once('\n').context("librdkafka's program has said nothing")?;
    let took: Vec<Duration> =
        numbers.lines().map(|line| Ok(Duration::from_nanos(line.parse()?))).collect::<Result<_>>()?;
    sink.wait_for(took.len() as u64 + 1, Duration::ZERO)?;
    Ok((version.to_owned(), took))
}

/// One line a linger.
pub fn print(rows: &[Row]) {
    println!(
        "| linger | forebay p50, p99 µs | librdkafka p50, p99 µs | p50: forebay ÷ librdkafka | records | librdkafka |"
    );
    println!("|--:|--:|--:|--:|--:|---|");
    for row in rows {
        let Row { linger_ms, forebay, librdkafka, librdkafka_version, p50_ratio } = row;
        println!(
            "| {linger_ms} ms | {:.0}, {:.0} | {:.0}, {:.0} | {p50_ratio:.2} | {}, {} | {librdkafka_version} |",
            forebay.p50_us, forebay.p99_us, librdkafka.p50_us, librdkafka.p99_us, forebay.records, librdkafka.records
        );
    }
}
