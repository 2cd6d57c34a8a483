//! `forebay dead-letters list`: how many, of what, and why.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use super::EXIT_STATUS;
use super::select::Selection;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::cli::status::{grouped, span};
use crate::wire::codes;

/// Count the dead letters by topic, partition and reason.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  forebay dead-letters list /var/lib/forebay
  forebay dead-letters list --json /var/lib/forebay | jq .records";

#[derive(Debug, Default, Serialize)]
struct Listing {
    records: u64,
    letters: Vec<Row>,
}

#[derive(Debug, Default, Serialize)]
struct Row {
    topic: String,
    partition: Option<i32>,
    /// Kafka's error code; null when a later version has written it in its own way.
    code: Option<i16>,
    name: Option<&'static str>,
    records: u64,
    /// Of those, how many an earlier attempt may have delivered.
    may_be_delivered: u64,
    /// When they were stored, in ms since 1970-01-01 UTC.
    oldest_stored_ms: i64,
    newest_stored_ms: i64,
    /// What was said of the newest.
    words: Option<String>,
}

/// Reads and prints.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut rows: BTreeMap<(String, Option<i32>, Option<i16>), Row> = BTreeMap::new();
    let ended = arguments.selection.each(|letters| {
        let code = letters.refusal.as_ref().map(|refusal| refusal.code);
        let stored = letters.run.records().stored_at;
        let row = rows.entry((letters.topic.clone(), letters.partition, code)).or_insert_with(|| Row {
            topic: letters.topic,
            partition: letters.partition,
            code,
            name: code.map(codes::name),
            oldest_stored_ms: stored,
            newest_stored_ms: stored,
            ..Row::default()
        });
        let records = letters.range.count();
        row.records += records;
        row.oldest_stored_ms = row.oldest_stored_ms.min(stored);
        row.newest_stored_ms = row.newest_stored_ms.max(stored);
        if let Some(refusal) = letters.refusal {
            row.may_be_delivered += if refusal.may_be_delivered { records } else { 0 };
            row.words = Some(refusal.words);
        }
        Ok(())
    });
    let letters: Vec<Row> = rows.into_values().collect();
    let listing = Listing { records: letters.iter().map(|row| row.records).sum(), letters };
    output::print(if arguments.json { output::json(&listing)? } else { page(&listing, SystemTime::now()) })?;
    ended
}

fn page(listing: &Listing, now: SystemTime) -> String {
    if listing.letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut out = format!("{} dead letters\n", grouped(listing.records));
    out += &format!("{:<30} {:>9} {:>12} {:>14} {:<28} WORDS\n", "TOPIC", "PARTITION", "RECORDS", "OLDEST", "REASON");
    for row in &listing.letters {
        let partition = row.partition.map_or("-".to_owned(), |partition| partition.to_string());
        let stored = u64::try_from(row.oldest_stored_ms).map(Duration::from_millis).unwrap_or_default();
        let oldest = span(now.duration_since(UNIX_EPOCH + stored).unwrap_or_default());
        let reason = match (row.name, row.code) {
            (Some(name), Some(code)) => format!("{name} ({code})"),
            _ => "?".to_owned(),
        };
        let (topic, words) = (output::plain(&row.topic), output::plain(row.words.as_deref().unwrap_or_default()));
        let records = grouped(row.records);
        out += &format!("{topic:<30} {partition:>9} {records:>12} {oldest:>14} {reason:<28} {words}\n");
    }
    out
}
