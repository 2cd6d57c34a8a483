//! The command line, behind `cargo bench --bench end_to_end --`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::case::Method;
use crate::load::Form;

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
    pub clients: Vec<usize>,
    /// Partitions of the only topic; clients write to them in turn.
    #[arg(long, value_delimiter = ',', default_value = "1,64,10000")]
    pub partitions: Vec<usize>,
    /// Records in one write.
    #[arg(long, value_delimiter = ',', default_value = "1,16,600")]
    pub write: Vec<usize>,
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
    #[arg(long, default_value_t = 3)]
    repetitions: usize,
    /// How long acks=all is measured for each row.
    #[arg(long, default_value_t = 1.0)]
    latency_seconds: f64,
    /// TOML for the daemon's configuration, such as '[producer]\nlinger = "1ms"'.
    #[arg(long, default_value = "")]
    config: String,
    /// A daemon to measure in place of the one that was built with the bench.
    #[arg(long)]
    daemon: Option<PathBuf>,
    /// What is measured; without it, everything but librdkafka.
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
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
}

impl Options {
    /// Whether a part is wanted.
    pub fn wants(&self, part: Part) -> bool {
        self.part.is_empty() || self.part.contains(&part)
    }

    /// How cases are measured.
    pub fn method(&self) -> Method {
        Method {
            form: self.form,
            seconds: self.seconds,
            records: self.records,
            repetitions: self.repetitions,
            latency_seconds: self.latency_seconds,
            // What is not held by the shell's quotes.
            config: self.config.replace("\\n", "\n"),
            daemon: self.daemon.clone(),
        }
    }
}
