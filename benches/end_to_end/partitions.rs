//! What many partitions cost beside one, when both send the same batches.
//!
//! A batch that holds fewer records costs more a record, whatever the number of partitions, and so does a request that holds fewer
//! batches. So here a request holds one batch, and the one partition's batches are cut to what the many have reached.

use anyhow::Result;
use serde::Serialize;

use crate::case::{self, Case, Method, Row};
use crate::load::{Form, Shape};
use crate::sink::Sink;

const PARTITIONS: usize = 10_000;
/// Records a repetition: some batches for each partition, so that the last, which is not full, does not count for much.
const RECORDS: u64 = 3_000_000;
/// Of the many partitions' batches, in bytes.
const BATCH_BYTES: usize = 8 << 10;
/// Of a batch without records.
const BATCH_HEADER_BYTES: f64 = 61.0;
/// Of a record beside its value: length, attributes, timestamp, offset, key, headers, as they are here.
const RECORD_OVERHEAD_BYTES: f64 = 10.0;

/// Both, and how they compare.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub form: Form,
    pub many: Row,
    pub one: Row,
    /// The CPU of a record among many partitions by that of one.
    pub ratio: f64,
}

/// Neighbouring records for neighbouring partitions, which is the worst that a client can do, and 16 for one before the next.
pub fn compare_all(method: &Method, sink: &Sink) -> Result<Vec<Comparison>> {
    let forms = [(Form::Dory, 600), (Form::Produce, 16)];
    let compare = |(form, write)| {
        let case = Case { shape: Shape { size: 100, partitions: 1, write }, clients: 1 };
        compare(case, &Method { form, ..method.clone() }, sink)
    };
    forms.into_iter().map(compare).collect()
}

/// Measures the case with many partitions, then as it is with batches as large.
fn compare(case: Case, method: &Method, sink: &Sink) -> Result<Comparison> {
    let of_many = Case { shape: Shape { partitions: PARTITIONS, ..case.shape }, ..case };
    let many = case::measure(of_many, &limited(method, BATCH_BYTES), sink)?;
    let bytes = BATCH_HEADER_BYTES + many.records_per_batch.round() * (case.shape.size as f64 + RECORD_OVERHEAD_BYTES);
    let one = case::measure(case, &limited(method, bytes as usize), sink)?;
    let ratio = many.cpu_ns_per_record[0] / one.cpu_ns_per_record[0];
    Ok(Comparison { form: method.form, many, one, ratio })
}

/// Batches and requests of at most so many bytes, and a linger that lets them fill.
fn limited(method: &Method, bytes: usize) -> Method {
    Method {
        kafka: format!("max_request_size = {bytes}\n"),
        config: format!("[producer]\nlinger = \"1s\"\nbatch_size = {bytes}\n\n[memory]\nlimit = \"1GiB\"\n"),
        records: Some(method.records.unwrap_or(RECORDS)),
        latency_seconds: 0.0,
        ..method.clone()
    }
}

impl Comparison {
    /// As lines to be read.
    pub fn print(&self) {
        let Comparison { form, many, one, ratio } = self;
        let Row { size, clients, write, .. } = one;
        println!("{form:?}, {size} B, {clients} clients, {write} records a write: {ratio:.2} times\n");
        println!("| partitions | records/s | CPU ns/record [least–most] | records/batch | batches/request |");
        println!("|--:|--:|--:|--:|--:|");
        for row in [one, many] {
            let [cpu, least, most] = row.cpu_ns_per_record;
            println!(
                "| {} | {:.0} k | {cpu:.0} [{least:.0}–{most:.0}] | {:.0} | {:.1} |",
                row.partitions,
                row.records_per_second / 1e3,
                row.records_per_batch,
                row.batches_per_request
            );
        }
        println!();
    }
}
