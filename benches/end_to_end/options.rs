//! The command line, behind `cargo bench --bench end_to_end --`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::case::{Case, Method};
use crate::load::{Form, Shape};

/// Measures the daemon as a process, from its socket to a sink that costs little.
///
/// Each row is a fresh daemon. Clients write in a closed loop over the socket, without answers, for the time of a repetition; then the
/// sink is waited for. CPU is that of the daemon alone. p50 and p99 are of acks=all: each client has one Produce request
/// of as many records as a write has, from before it is written until its answer is read, linger included.
#[derive(Debug, Parser)]
#[command(name = "end_to_end")]
pub struct Options {
    /// Bytes of a record's value.
    #[arg(long, value_delimiter = ',', default_value = "100,1024")]
    pub size: Vec<usize>,
    /// Connections, each with a thread that writes.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    pub clients: Vec<NonZeroUsize>,
    /// Partitions of the only topic; clients write to them in turn.
    #[arg(long, value_delimiter = ',', default_value = "1,64,10000")]
    pub partitions: Vec<NonZeroUsize>,
    /// Records in one write.
    #[arg(long, value_delimiter = ',', default_value = "1,16,600")]
    pub write: Vec<NonZeroUsize>,
    /// How the records are framed where no answer is wanted.
    #[arg(long, value_enum, default_value = "dory")]
    form: Form,
    /// How long a repetition writes.
    #[arg(long, default_value_t = 0.7)]
    seconds: f64,
    /// Records of a repetition, in place of a time.
    #[arg(long)]
    records: Option<u64>,
    /// The figures are medians over so many.
    #[arg(long, default_value = "3")]
    repetitions: NonZeroUsize,
    /// How long acks=all is measured for each row.
    #[arg(long, default_value_t = 1.0)]
    latency_seconds: f64,
    /// Keys of the daemon's `[kafka]`, as TOML.
    #[arg(long, default_value = "")]
    kafka: String,
    /// Sections of the daemon's configuration, as TOML, such as '[producer]\nlinger = "1ms"'.
    #[arg(long, default_value = "")]
    config: String,
    /// A daemon to measure in place of the one that was built with the bench.
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// What is measured; without it, everything but librdkafka.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// Compare with librdkafka as well: needs a C compiler and librdkafka's headers.
    #[arg(long)]
    librdkafka: bool,
    /// Print one JSON object in place of tables.
    #[arg(long)]
    pub json: bool,
    /// Cargo gives it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Every combination of size, clients, partitions and write.
    Table,
    /// The same writes into a process that only reads.
    ReadLoop,
    /// 10,000 partitions beside one, with as many records in a batch and one batch in a request.
    Partitions,
    /// 1,000 connections and 10,000 partitions at rest.
    Idle,
    /// acks=all beside librdkafka.
    Librdkafka,
}

impl Options {
    /// Every combination of the four.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &size in &self.size {
            for clients in &self.clients {
                for partitions in &self.partitions {
                    for write in &self.write {
                        let shape = Shape { size, partitions: partitions.get(), write: write.get() };
                        cases.push(Case { shape, clients: clients.get() });
                    }
                }
            }
        }
        cases
    }

    /// Whether a part is wanted.
    pub fn wants(&self, part: Part) -> bool {
        match part {
            Part::Librdkafka => self.librdkafka || self.part.contains(&part),
            _ => self.part.is_empty() || self.part.contains(&part),
        }
    }

    /// How cases are measured.
    pub fn method(&self) -> Method {
        Method {
            form: self.form,
            seconds: self.seconds,
            records: self.records,
            repetitions: self.repetitions.get(),
            latency_seconds: self.latency_seconds,
            kafka: self.kafka.replace("\\n", "\n"),
            config: self.config.replace("\\n", "\n"),
            daemon: self.daemon.clone(),
        }
    }
}
