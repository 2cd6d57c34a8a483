//! `forebay dead-letters export`: all letters as lines of JSON.

use std::io::{self, BufWriter, ErrorKind, Write};

use clap::Args;
use serde_json::{Map, Value};

use super::EXIT_STATUS;
use super::select::{Letters, Selection};
use crate::cli::backlog::decode::{Decoded, each_record};
use crate::cli::backlog::json::put_bytes;
use crate::cli::exit::{self, Failure};
use crate::wire::codes;

/// Print all dead letters, one JSON object a line: topic, partition, timestamp, key, value, headers, and why Kafka has refused it.
///
/// Nothing is changed. What is not UTF-8 is in base64.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
}

const EXAMPLES: &str = "\
Examples:
  forebay dead-letters export /var/lib/forebay > dead.ndjson
  forebay dead-letters export /var/lib/forebay --topic audit | jq -r .value";

/// Reads and prints.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut nobody_reads = false;
    let ended = arguments.selection.each(|letters| match write(&mut out, &letters) {
        _ if nobody_reads => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            nobody_reads = true;
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(Failure::new(exit::DATA, format_args!("a letter of {} cannot be read: {error}", letters.topic)))
        }
        written => written.map_err(unwritten),
    });
    match out.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unwritten(error)),
        _ => ended,
    }
}

fn unwritten(error: io::Error) -> Failure {
    Failure::new(exit::IO, format_args!("cannot write to standard output: {error}"))
}

fn write(out: &mut impl Write, letters: &Letters) -> io::Result<()> {
    let run = letters.run.records();
    let mut next = run.first;
    each_record(&run, |record| {
        let index = next;
        next += 1;
        if !(letters.range.first..=letters.range.last).contains(&index) {
            return Ok(());
        }
        writeln!(out, "{}", to_json(letters, record))
    })
}

fn to_json(letters: &Letters, record: &Decoded<'_>) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), letters.topic.as_str().into());
    object.insert("partition".to_owned(), letters.partition.into());
    object.insert("timestamp".to_owned(), record.timestamp.into());
    put_bytes(&mut object, "key", record.key);
    put_bytes(&mut object, "value", record.value);
    let headers = record.headers.iter().map(|(name, value)| {
        let mut header = Map::new();
        put_bytes(&mut header, "name", Some(name));
        put_bytes(&mut header, "value", *value);
        Value::from(header)
    });
    object.insert("headers".to_owned(), headers.collect());
    object.insert("stored_ms".to_owned(), letters.run.records().stored_at.into());
    if let Some(refusal) = &letters.refusal {
        object.insert("code".to_owned(), refusal.code.into());
        object.insert("reason".to_owned(), codes::name(refusal.code).into());
        object.insert("words".to_owned(), refusal.words.as_str().into());
        object.insert("may_be_delivered".to_owned(), refusal.may_be_delivered.into());
    }
    object.into()
}
