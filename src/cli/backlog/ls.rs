//! `forebay backlog ls`: what is held, partition by partition.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use super::{Directory, topic_and_partition};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::status::{grouped, span};

/// List the partitions that hold records.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  forebay backlog ls /var/lib/forebay
  forebay backlog ls --json /var/lib/forebay | jq '.partitions[] | select(.records > 0)'";

const EXIT_STATUS: &str = "\
Exit status:
    0  the list was printed
   64  wrong arguments
   65  a later version has written there
   74  the directory cannot be read, or nothing can be printed
   77  permission to read it is refused";

#[derive(Debug, Serialize)]
struct Listing {
    segments: usize,
    bytes: u64,
    held: u64,
    partitions: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    topic: String,
    partition: Option<i32>,
    /// Records that are neither delivered nor given up.
    records: u64,
    /// Bytes of the runs that hold them, as they are stored.
    bytes: u64,
    /// When the oldest of them was stored, in ms since 1970-01-01 UTC.
    oldest_stored_ms: Option<i64>,
    /// Records that were sent, or may have been, and are not known to be delivered.
    in_doubt: u64,
}

/// Reads and prints.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let inspection = arguments.directory.inspect()?;
    let held = arguments.directory.held_runs(&inspection)?;
    let recovered = inspection.recovered();
    let mut partitions = Vec::new();
    for (number, partition) in &recovered.state.partitions {
        let runs = held.get(number).map(Vec::as_slice).unwrap_or_default();
        let oldest = runs.first().and_then(|run| inspection.read(run).ok().flatten());
        let (topic, placed) = topic_and_partition(&partition.name);
        let doubt_to = partition.sent.iter().map(|sent| sent.range.last + 1).max().unwrap_or(0).max(partition.unproven);
        partitions.push(Row {
            topic,
            partition: placed,
            records: partition.held(),
            bytes: runs.iter().map(|run| u64::from(run.len_bytes())).sum(),
            oldest_stored_ms: oldest.map(|run| run.records().stored_at),
            in_doubt: doubt_to.saturating_sub(partition.settled).min(partition.held()),
        });
    }
    partitions.retain(|row| row.records > 0);
    partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let bytes = recovered.segments.values().map(|segment| segment.file_bytes).sum();
    let listing =
        Listing { segments: recovered.segments.len(), bytes, held: recovered.state.ledger.held(), partitions };
    output::print(if arguments.json { output::json(&listing)? } else { page(&listing, SystemTime::now()) })
}

fn page(listing: &Listing, now: SystemTime) -> String {
    let mut out = format!(
        "{} records held, {} segments, {} bytes\n",
        grouped(listing.held),
        listing.segments,
        grouped(listing.bytes)
    );
    if listing.partitions.is_empty() {
        return out;
    }
    out += &format!(
        "{:<40} {:>9} {:>14} {:>16} {:>12} {:>9}\n",
        "TOPIC", "PARTITION", "RECORDS", "BYTES", "OLDEST", "IN DOUBT"
    );
    for row in &listing.partitions {
        let topic = output::plain(&row.topic);
        let partition = row.partition.map_or("-".to_owned(), |partition| partition.to_string());
        let stored = row.oldest_stored_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        let oldest =
            stored.map_or("?".to_owned(), |stored| span(now.duration_since(UNIX_EPOCH + stored).unwrap_or_default()));
        let (records, bytes, doubt) = (grouped(row.records), grouped(row.bytes), grouped(row.in_doubt));
        out += &format!("{topic:<40} {partition:>9} {records:>14} {bytes:>16} {oldest:>12} {doubt:>9}\n");
    }
    out
}
