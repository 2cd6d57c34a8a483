//! The daemon as a process, measured from its socket to a sink: what a record costs, how long an acknowledgement takes, what
//! memory it needs. `docs/performance.md` says what the figures mean.
//!
//! A record that is lost or doubled on the way fails the bench: the sink counts, the ledger counts, and both must agree with
//! what was sent.

#![expect(clippy::print_stdout, reason = "the tables are what is asked for")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod case;
mod idle;
mod librdkafka;
mod load;
mod meter;
mod options;
mod partitions;
mod read_loop;
mod sink;

use anyhow::{Context, Result};
use clap::Parser;
use serde::Serialize;
use serde_json::{Map, Value};

use case::{Case, Row};
use idle::Idle;
use load::Shape;
use options::{Options, Part};
use partitions::Comparison;
use read_loop::Kind;
use sink::Sink;

/// Of the test at rest.
const IDLE_CONNECTIONS: usize = 1000;
const IDLE_PARTITIONS: usize = 10_000;
const IDLE_SECONDS: f64 = 10.0;

fn main() -> Result<()> {
    read_loop::play()?;
    let options = Options::parse();
    let method = options.method();
    let sink = Sink::start()?;
    let mut report = Report { json: options.json, parts: Map::new() };
    report.part("machine", &meter::machine()?, |machine| println!("{machine}"))?;
    let mut rows = Vec::new();
    if options.wants(Part::Table) {
        report.title("The whole way, each row a daemon of its own");
        rows = table(&options, &sink)?;
        report.keep("table", &rows)?;
    }
    if options.wants(Part::ReadLoop) {
        report.title("The bare read loop");
        report.keep("read_loop", &read_loops(&options, &rows)?)?;
    }
    if options.wants(Part::Partitions) {
        report.title("Many partitions beside one, with equal batches");
        let comparisons = partitions::compare_all(&method, &sink)?;
        report.part("partitions", &comparisons, |all| all.iter().for_each(Comparison::print))?;
    }
    if options.wants(Part::Idle) {
        report.title("At rest");
        let idle = idle::measure(IDLE_CONNECTIONS, IDLE_PARTITIONS, IDLE_SECONDS, &method, &sink)?;
        report.part("idle", &idle, Idle::print)?;
    }
    if options.wants(Part::Librdkafka) {
        report.title("acks=all beside librdkafka");
        let directory = tempfile::tempdir()?;
        match librdkafka::compile(directory.path()) {
            Ok(program) => {
                let rows = librdkafka::compare(&program, &method, &sink)?;
                report.part("librdkafka", &rows, |rows| librdkafka::print(rows))?;
            }
            Err(why) => eprintln!("skipped: {why:#}"),
        }
    }
    report.end();
    Ok(())
}

/// Where the figures go.
struct Report {
    json: bool,
    parts: Map<String, Value>,
}

impl Report {
    fn title(&self, title: &str) {
        if !self.json {
            println!("\n{title}\n");
        }
    }

    /// A part whose lines are printed already, if lines are wanted.
    fn keep(&mut self, name: &str, part: &impl Serialize) -> Result<()> {
        self.parts.insert(name.to_owned(), serde_json::to_value(part)?);
        Ok(())
    }

    fn part<T: Serialize>(&mut self, name: &str, part: &T, print: impl Fn(&T)) -> Result<()> {
        if !self.json {
            print(part);
        }
        self.keep(name, part)
    }

    fn end(self) {
        if self.json {
            println!("{}", Value::Object(self.parts));
        }
    }
}

/// The read loop under every kind of write that was asked for, beside what the daemon took for one partition.
fn read_loops(options: &Options, daemon: &[Row]) -> Result<Vec<read_loop::Row>> {
    let method = options.method();
    if !options.json {
        println!("{}", read_loop::HEAD);
    }
    let mut rows = Vec::new();
    // The partitions make no difference to it.
    let first = options.partitions.first().map_or(1, |partitions| partitions.get());
    for Case { shape, clients } in options.cases().into_iter().filter(|case| case.shape.partitions == first) {
        let shape = Shape { partitions: 1, ..shape };
        let threads = read_loop::measure(shape, clients, Kind::Threads, &method)?;
        let tokio = read_loop::measure(shape, clients, Kind::Tokio, &method)?;
        if !options.json {
            let same = |row: &&Row| {
                (row.size, row.clients, row.write, row.partitions) == (shape.size, clients, shape.write, 1)
            };
            let daemon = daemon.iter().find(same).map(|row| row.cpu_ns_per_record[0]);
            read_loop::print(&threads, &tokio, daemon);
        }
        rows.extend([threads, tokio]);
    }
    Ok(rows)
}

/// Every combination that was asked for.
fn table(options: &Options, sink: &Sink) -> Result<Vec<Row>> {
    let method = options.method();
    if !options.json {
        println!("{TABLE_HEAD}");
    }
    let mut rows = Vec::new();
    for case in options.cases() {
        let row = case::measure(case, &method, sink).with_context(|| format!("{case:?}"))?;
        if !options.json {
            println!("{}", line(&row));
        }
        rows.push(row);
    }
    Ok(rows)
}

const TABLE_HEAD: &str = "\
| B | clients | partitions | write | records/s | CPU ns/record [least–most], system | switches/M | records/batch | p50, p99 µs (answers) | RSS start, rest, peak MB |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

fn line(row: &Row) -> String {
    let [cpu, least, most] = row.cpu_ns_per_record;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    [
        format!("| {} | {} | {} | {} ", row.size, row.clients, row.partitions, row.write),
        format!("| {:.0} k ", row.records_per_second / 1e3),
        format!("| {cpu:.0} [{least:.0}–{most:.0}], {:.0} % ", row.system_share * 100.0),
        format!("| {:.0} ", row.voluntary_switches_per_million_records),
        format!("| {:.0} ", row.records_per_batch),
        format!("| {:.0}, {:.0} ({}) ", row.p50_us, row.p99_us, row.answers),
        format!("| {:.0}, ", mb(row.resident_at_start_bytes)),
        format!("{:.0}, {:.0} |", mb(row.resident_at_rest_bytes), mb(row.resident_peak_bytes)),
    ]
    .concat()
}
