//! `forebay dead-letters export`: all letters as lines of JSON.

use std::io::{self, BufWriter, ErrorKind, Write};

use clap::Args;
use serde_json::Value;

use super::EXIT_STATUS;
use super::select::{Letters, Selection};
use crate::cli::backlog::decode::each_wanted_record;
use crate::cli::backlog::json::object_of;
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
    let ended = arguments.selection.each(|letters| {
        if nobody_reads {
            return Ok(());
        }
        match write(&mut out, &letters) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                nobody_reads = true;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(letters.unreadable(&error)),
            written => written.map_err(unwritten),
        }
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
    each_wanted_record(&letters.run.records(), letters.range, |record| {
        let mut object = object_of(&letters.topic, letters.partition, record);
        object.insert("stored_ms".to_owned(), letters.run.records().stored_at.into());
        if let Some(refusal) = &letters.refusal {
            object.insert("code".to_owned(), refusal.code.into());
            object.insert("reason".to_owned(), codes::name(refusal.code).into());
            object.insert("words".to_owned(), refusal.words.as_str().into());
            object.insert("may_be_delivered".to_owned(), refusal.may_be_delivered.into());
        }
        writeln!(out, "{}", Value::from(object))
    })
}
