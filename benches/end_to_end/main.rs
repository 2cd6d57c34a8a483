//! The daemon as a process, measured from its socket to a sink: what a record costs, how long an acknowledgement takes, what
//! memory it needs. `docs/performance.md` says what the figures mean.
//!
//! A record that is lost or doubled on the way fails the bench: the sink counts, the ledger counts, and both must agree with
//! what was sent.

#![expect(clippy::print_stdout, reason = "the tables are what is asked for")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod case;
mod load;
mod meter;
mod options;
mod sink;

use anyhow::{Context, Result};
use clap::Parser;

use case::{Case, Row};
use load::Shape;
use options::{Options, Part};
use sink::Sink;

fn main() -> Result<()> {
    let options = Options::parse();
    let sink = Sink::start()?;
    let mut report = serde_json::Map::new();
    if options.wants(Part::Table) {
        report.insert("table".to_owned(), serde_json::to_value(table(&options, &sink)?)?);
    }
    if options.json {
        println!("{}", serde_json::Value::Object(report));
    }
    Ok(())
}

/// Every combination that was asked for.
fn table(options: &Options, sink: &Sink) -> Result<Vec<Row>> {
    let method = options.method();
    if !options.json {
        println!("{TABLE_HEAD}");
    }
    let mut rows = Vec::new();
    for case in cases(options) {
        let row = case::measure(case, &method, sink).with_context(|| format!("{case:?}"))?;
        if !options.json {
            println!("{}", line(&row));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn cases(options: &Options) -> Vec<Case> {
    let mut cases = Vec::new();
    for &size in &options.size {
        for &clients in &options.clients {
            for &partitions in &options.partitions {
                for &write in &options.write {
                    cases.push(Case { shape: Shape { size, partitions, write }, clients });
                }
            }
        }
    }
    cases
}

const TABLE_HEAD: &str = "\
| B | clients | partitions | write | records/s | CPU ns/record [least–most] | switches/M | records/batch | p50 µs | p99 µs | RSS start, rest, peak MB |
|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

fn line(row: &Row) -> String {
    let [cpu, least, most] = row.cpu_ns_per_record;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "| {} | {} | {} | {} | {:.0} k | {cpu:.0} [{least:.0}–{most:.0}] | {:.0} | {:.0} | {:.0} | {:.0} | {:.0}, {:.0}, {:.0} |",
        row.size,
        row.clients,
        row.partitions,
        row.write,
        row.records_per_second / 1e3,
        row.voluntary_switches_per_million_records,
        row.records_per_batch,
        row.p50_us,
        row.p99_us,
        mb(row.resident_at_start_bytes),
        mb(row.resident_at_rest_bytes),
        mb(row.resident_peak_bytes),
    )
}
