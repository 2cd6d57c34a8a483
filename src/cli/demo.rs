//! `forebay demo`: the whole path, shown and proven, with nothing but this program.
//!
//! Three in-memory brokers in this process; the daemon as a process of its own, with its real sockets in a temporary directory; the
//! clients as processes, too (`forebay produce`). While they write, leaders move, an answer gets lost and a broker is killed. Then
//! every partition is read back and compared with what was sent.

mod audit;
mod input;
mod processes;
mod trouble;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::{self, Failure};
use super::{output, runtime, status::grouped};
use crate::admin::Status;
use crate::admin::client;
use crate::devbroker::{DevCluster, Settings};
use audit::Audit;
use processes::Daemon;

/// The topic that everything goes to.
const TOPIC: &str = "demo";
/// Its partitions.
const PARTITIONS: usize = 12;

/// Show records survive trouble on their way to Kafka, and prove it.
///
/// Starts three in-memory brokers and the daemon, sends a text file from several client processes, moves leaders, loses answers and
/// kills a broker in the middle, reads every partition back, and prints the ledger. Needs nothing, leaves nothing behind, and takes
/// some seconds.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    /// The text to send, line by line; without it this directory's sources, or this program's own documentation.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// How many client processes.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
    clients: u16,
    /// How many records in all; the text is sent over and over until there are so many.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1_000..=5_000_000))]
    records: u32,
}

const EXAMPLES: &str = "\
Examples:
  forebay demo
  forebay demo --input /usr/share/dict/words --clients 16";

const EXIT_STATUS: &str = "\
Exit status:
    0  the balance holds
    1  a record is lost, doubled or out of order, or the demonstration cannot run
   64  wrong arguments";

/// Runs it to its end.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let lines = input::lines(arguments.input.as_deref())?;
    let directory = tempfile::Builder::new().prefix("forebay-demo-").tempdir();
    let directory = directory.map_err(|error| failure("cannot create a temporary directory", &error))?;
    runtime::block_on(show(arguments, &lines, directory.path()))
}

async fn show(arguments: &Arguments, lines: &input::Lines, directory: &Path) -> Result<(), Failure> {
    let settings = Settings { brokers: 3, ..Settings::default() };
    let cluster = DevCluster::start(settings).await.map_err(|error| failure("cannot start the brokers", &error))?;
    cluster.create_topic(TOPIC, PARTITIONS).map_err(|error| failure("cannot create the topic", &error))?;
    say(format!("3 brokers at {}", cluster.bootstrap_servers().join(", ")));

    let daemon = Daemon::start(directory, &cluster.bootstrap_servers()).await?;
    say(format!("the daemon listens on {}", daemon.socket().display()));

    let files = input::write_shares(lines, arguments.clients, arguments.records, directory)?;
    say(format!(
        "{} clients send {} lines of {} to topic {TOPIC}, {PARTITIONS} partitions",
        arguments.clients,
        grouped(arguments.records.into()),
        lines.source
    ));
    let clients = processes::start_clients(&daemon, &files)?;
    let sent = u64::from(arguments.records);
    let (finished, troubles) = tokio::join!(clients.finish(), trouble::make(&cluster, sent));
    finished?;
    troubles.map_err(|error| failure("a broker could not be moved, stopped or started", &error))?;

    let status = client::get(daemon.admin(), "/status").await.map_err(|error| failure("no status", &error))?;
    let status: Status = serde_json::from_slice(&status).map_err(|error| failure("no status", &error))?;
    daemon.stop().await?;

    let audit = Audit::of(&cluster, lines, &files, arguments.records)
        .map_err(|error| failure("cannot read the partitions back", &error))?;
    let duplicates_refused = cluster.counters().duplicates;
    cluster.shutdown().await;
    output::print(page(&status, &audit, duplicates_refused))?;
    verdict(&status, &audit, sent)
}

/// What was found, as a page.
fn page(status: &Status, audit: &Audit, duplicates_refused: u64) -> String {
    let mut page = String::from("\npartition     records   doubled   out of order\n");
    for (id, partition) in audit.partitions.iter().enumerate() {
        let (records, doubled) = (grouped(partition.records), grouped(partition.doubled));
        let _ = writeln!(page, "{id:>9}  {records:>10}  {doubled:>8}  {:>13}", grouped(partition.out_of_order));
    }
    let ledger = &status.ledger;
    let dropped: u64 = ledger.dropped.values().sum();
    let _ = write!(
        page,
        "\naccepted {}  =  delivered {} + held {} + dead-lettered {} + dropped {}\n\
         read back {}   lost {}   doubled {}   out of order {}   changed {}\n\
         resent after lost answers and recognised by the brokers: {} batches\n",
        grouped(ledger.accepted),
        grouped(ledger.delivered),
        grouped(ledger.held),
        grouped(ledger.dead_lettered),
        grouped(dropped),
        grouped(audit.records()),
        grouped(audit.lost),
        grouped(audit.doubled()),
        grouped(audit.out_of_order()),
        grouped(audit.changed),
        grouped(duplicates_refused),
    );
    page
}

fn verdict(status: &Status, audit: &Audit, sent: u64) -> Result<(), Failure> {
    let ledger = &status.ledger;
    let balanced = ledger.accepted == sent && ledger.delivered == sent && ledger.held == 0;
    if !balanced || !audit.is_clean() || audit.records() != sent {
        return Err(Failure::new(exit::FAILURE, "the balance does not hold: this is a defect of forebay"));
    }
    output::print(
        "\nThe balance holds. With a Kafka of your own, or `forebay dev-broker`:\n  \
         forebay config init forebay.toml && forebay run --config forebay.toml\n  \
         date | forebay produce --socket /run/forebay/forebay.sock -t test\n",
    )
}

fn failure(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(exit::FAILURE, format_args!("{what}: {error}"))
}

/// A line of progress. Standard output has the result only.
fn say(line: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", line.as_ref());
}
