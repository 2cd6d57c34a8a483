//! One row of the table: a fresh daemon, its clients, and what that cost.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use tokio::time::Instant;

use crate::load::{self, Form, Position, Shape, Until, Writes};
use crate::meter::Meter;
use crate::sink::Sink;
use crate::support::daemon::{Daemon, DaemonFiles, Extra};

/// How long what was written may take to arrive.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub shape: Shape,
    pub clients: usize,
}

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Method {
    pub form: Form,
    /// How long a repetition writes; so long is written before the first, unmeasured.
    pub seconds: f64,
    /// Instead of a time: records of one repetition.
    pub records: Option<u64>,
    pub repetitions: usize,
    /// How long acks=all is measured.
    pub latency_seconds: f64,
    /// Further keys of `[kafka]`.
    pub kafka: String,
    /// Further sections of the daemon's configuration.
    pub config: String,
    /// A daemon of another build.
    pub daemon: Option<PathBuf>,
}

/// The figures of a case. Times of CPU are of the daemon alone.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub size: usize,
    pub clients: usize,
    pub partitions: usize,
    pub write: usize,
    /// The median of the repetitions.
    pub records_per_second: f64,
    /// Nanoseconds a record, which is the same as milliseconds a million records: median, least, most.
    pub cpu_ns_per_record: [f64; 3],
    /// How much of that the kernel took, from 0 to 1, over all repetitions.
    pub system_share: f64,
    /// The median.
    pub voluntary_switches_per_million_records: f64,
    /// Over all repetitions.
    pub records_per_batch: f64,
    /// Over all repetitions.
    pub batches_per_request: f64,
    /// acks=all, microseconds.
    pub p50_us: f64,
    /// acks=all, microseconds.
    pub p99_us: f64,
    /// How many answers that is.
    pub answers: usize,
    /// Before the first connection.
    pub resident_at_start_bytes: u64,
    /// Connected and idle, when all is delivered.
    pub resident_at_rest_bytes: u64,
    pub resident_peak_bytes: u64,
    /// All records of the case; the sink has counted as many, and the ledger too.
    pub records: u64,
}

/// One repetition.
struct Lap {
    records: u64,
    seconds: f64,
    cpu: Duration,
    ticks: [u64; 2],
    switches: u64,
}

/// Starts a daemon in front of `sink`.
pub fn start(sink: &Sink, method: &Method) -> Daemon {
    let extra = Extra { kafka: &method.kafka, rest: &method.config, ..Extra::default() };
    let files = DaemonFiles::new(&sink.bootstrap(), extra);
    match &method.daemon {
        None => Daemon::start_on(files),
        Some(program) => {
            let mut command = Command::new(program);
            command.arg("run").arg("--config").arg(files.config());
            Daemon::start_command(command, files)
        }
    }
}

/// Connections to the daemon, each with its place in the writes.
pub fn connect(daemon: &Daemon, clients: usize) -> Result<Vec<(UnixStream, Position)>> {
    let connect = |_| Ok((UnixStream::connect(daemon.files().stream_socket())?, Position::default()));
    (0..clients).map(connect).collect()
}

/// Measures a case from the start of a daemon to its end.
///
/// # Errors
/// If a record is lost or doubled, refused, or still not there after a minute.
pub fn measure(case: Case, method: &Method, sink: &Sink) -> Result<Row> {
    let Case { shape, clients } = case;
    sink.reset(shape.partitions);
    let daemon = start(sink, method);
    let meter = Meter::new(daemon.process().id())?;
    let resident_at_start_bytes = meter.resident()?;
    let mut streams = connect(&daemon, clients)?;
    let writes = Writes::new(method.form, shape);

    let mut sent = 0;
    let mut laps = Vec::new();
    let mut warm = None;
    for _ in 0..=method.repetitions {
        let until = |started: Instant| match method.records {
            Some(records) => Until::Writes(records.div_ceil((shape.write * clients) as u64)),
            None => Until::Time(started + Duration::from_secs_f64(method.seconds)),
        };
        let lap = run_lap(&mut streams, &writes, shape, until, &meter, sink, &mut sent)?;
        match warm {
            None => warm = Some(sink.totals()),
            Some(_) => laps.push(lap),
        }
    }
    let (warm, totals) = (warm.unwrap_or_default(), sink.totals());

    let writes = Writes::patched(shape, -1);
    let mut took = ask_all(&mut streams, &writes, Duration::from_secs_f64(method.latency_seconds))?;
    sent += (took.len() * shape.write) as u64;
    took.sort_unstable();
    let resident_at_rest_bytes = meter.resident()?;
    let resident_peak_bytes = meter.peak_resident()?;
    settle(daemon, sink, sent)?;

    let records = (totals.records - warm.records) as f64;
    let batches = (totals.batches - warm.batches) as f64;
    let cpu = sorted(laps.iter().map(|lap| lap.cpu.as_nanos() as f64 / lap.records as f64));
    let [user, system] = [0, 1].map(|which| laps.iter().map(|lap| lap.ticks[which]).sum::<u64>() as f64);
    Ok(Row {
        size: shape.size,
        clients,
        partitions: shape.partitions,
        write: shape.write,
        records_per_second: median(&sorted(laps.iter().map(|lap| lap.records as f64 / lap.seconds))),
        cpu_ns_per_record: [median(&cpu), at(&cpu, 0.0), at(&cpu, 1.0)],
        system_share: system / (user + system),
        voluntary_switches_per_million_records: median(&sorted(
            laps.iter().map(|lap| lap.switches as f64 * 1e6 / lap.records as f64),
        )),
        records_per_batch: records / batches,
        batches_per_request: batches / (totals.requests - warm.requests) as f64,
        p50_us: percentile_us(&took, 0.5),
        p99_us: percentile_us(&took, 0.99),
        answers: took.len(),
        resident_at_start_bytes,
        resident_at_rest_bytes,
        resident_peak_bytes,
        records: sent,
    })
}

/// All clients write at once; the lap ends when the sink has everything.
fn run_lap(
    streams: &mut [(UnixStream, Position)],
    writes: &Writes,
    shape: Shape,
    until: impl Fn(Instant) -> Until + Sync,
    meter: &Meter,
    sink: &Sink,
    sent: &mut u64,
) -> Result<Lap> {
    let barrier = Barrier::new(streams.len() + 1);
    let client = |(stream, position): &mut (UnixStream, Position)| {
        barrier.wait();
        load::flood(stream, writes, position, until(Instant::now()))
    };
    let client = &client;
    let (before, started, count) = thread::scope(|scope| -> Result<_> {
        let clients: Vec<_> = streams.iter_mut().map(|one| scope.spawn(move || client(one))).collect();
        let before = meter.read();
        let started = Instant::now();
        barrier.wait();
        let mut count = 0;
        for client in clients {
            count += client.join().map_err(|_| anyhow!("a client panicked"))?.context("a client cannot write")?;
        }
        Ok((before?, started, count))
    })?;
    let records = count * shape.write as u64;
    *sent += records;
    sink.wait_for(*sent, DELIVERY_TIMEOUT)?;
    let seconds = started.elapsed().as_secs_f64();
    let after = meter.read()?;
    ensure!(records > 0, "nothing was written");
    // Those of a thread that has ended are gone.
    let switches = after.voluntary_switches.saturating_sub(before.voluntary_switches);
    let ticks = [after.ticks[0] - before.ticks[0], after.ticks[1] - before.ticks[1]];
    Ok(Lap { records, seconds, cpu: after.cpu - before.cpu, ticks, switches })
}

/// Each client has one request unanswered at a time; returns how long each took.
pub fn ask_all(streams: &mut [(UnixStream, Position)], writes: &Writes, time: Duration) -> Result<Vec<Duration>> {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        let clients: Vec<_> = streams
            .iter_mut()
            .map(|(stream, _)| scope.spawn(move || load::ask(stream, writes, &mut Position::default(), end)))
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(all)
    })
}

/// Ends the daemon, and checks what was sent against what the sink has counted and what the ledger says.
pub fn settle(daemon: Daemon, sink: &Sink, sent: u64) -> Result<()> {
    sink.wait_for(sent, DELIVERY_TIMEOUT)?;
    daemon.wait_for_status("ledger that is settled", DELIVERY_TIMEOUT, |status| {
        (status["ledger"]["held"] == 0).then_some(())
    });
    let ledger = &daemon.status()["ledger"];
    let expected = serde_json::json!({
        "accepted": sent, "delivered": sent, "held": 0, "dead_lettered": 0, "dropped": {}, "possible_duplicates": 0,
    });
    ensure!(*ledger == expected, "{sent} records were sent, and the ledger says {ledger}");
    let stopped = daemon.stop();
    ensure!(stopped.status.success(), "the daemon ended with {}:\n{}", stopped.status, stopped.log);
    sink.wait_for(sent, Duration::ZERO)?;
    Ok(())
}

/// In ascending order.
pub fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

pub fn median(sorted: &[f64]) -> f64 {
    at(sorted, 0.5)
}

/// The value at that part of the way from the least to the most; NaN where there is none.
fn at(sorted: &[f64], part: f64) -> f64 {
    let index = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// In microseconds; NaN where there is no answer.
pub fn percentile_us(sorted: &[Duration], part: f64) -> f64 {
    let index = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
    sorted.get(index).map_or(f64::NAN, |took| took.as_secs_f64() * 1e6)
}
