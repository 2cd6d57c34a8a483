//! `forebay backlog export`: the records themselves.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::decode::each_wanted_record;
use super::json::object_of;
use super::{Directory, topic_and_partition};
use crate::backlog::log::entry::IndexRange;
use crate::backlog::log::read::StoredRun;
use crate::cli::exit::{self, Failure};

/// Print all records that are held, oldest first, partition by partition.
///
/// Nothing is changed: what is exported is still delivered when the daemon runs. Records that cannot be read or are missing are named on
/// standard error, and the exit code is 65.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// Only this topic.
    #[arg(long)]
    topic: Option<String>,
    /// One JSON object a line, or each value as it is with a line feed behind it.
    #[arg(long, value_enum, default_value = "ndjson")]
    format: Format,
}

const EXAMPLES: &str = "\
Examples:
  forebay backlog export /var/lib/forebay > records.ndjson
  forebay backlog export --topic audit --format raw /var/lib/forebay";

const EXIT_STATUS: &str = "\
Exit status:
    0  every record that is held was printed
   64  wrong arguments
   65  some are missing or could not be read: standard error names them; or the format is newer
   74  the directory cannot be read, or nothing can be printed
   77  permission to read it is refused";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// topic, partition, timestamp, key, value, headers; what is not UTF-8 in base64
    Ndjson,
    /// values only
    Raw,
}

/// Where records come from.
struct Source {
    topic: String,
    partition: Option<i32>,
}

/// Reads and prints.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let inspection = arguments.directory.inspect()?;
    let held = arguments.directory.held_runs(&inspection)?;
    let names = &inspection.recovered().state.partitions;
    let source = |number: u32| {
        let name = names.get(&number).map(|partition| partition.name.as_slice()).unwrap_or_default();
        let (topic, partition) = topic_and_partition(name);
        arguments.topic.as_ref().is_none_or(|only| *only == topic).then_some(Source { topic, partition })
    };
    let wanted: Vec<_> = held.iter().filter_map(|(number, runs)| Some((source(*number)?, runs))).collect();
    let progress =
        progress(wanted.iter().flat_map(|(_, runs)| runs.iter()).map(|run| u64::from(run.len_bytes())).sum());
    let mut out = BufWriter::new(io::stdout().lock());
    let mut unread = 0_u64;
    for (source, runs) in wanted {
        for run in runs {
            let written = match inspection.read(run) {
                Ok(None) => Ok(()),
                Ok(Some(stored)) => match write_run(&mut out, arguments.format, &source, run.range, &stored) {
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                    Err(error) if error.kind() != ErrorKind::InvalidData => {
                        return Err(Failure::new(exit::IO, format_args!("cannot write to standard output: {error}")));
                    }
                    written => written.map_err(|error| error.to_string()),
                },
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = written {
                unread += run.range.count();
                progress.suspend(|| say_unread(&source, run.range, &why));
            }
            progress.inc(run.len_bytes().into());
        }
    }
    progress.finish_and_clear();
    for (number, range) in arguments.directory.lost(&inspection, &held)? {
        if let Some(source) = source(number) {
            unread = unread.saturating_add(range.count());
            say_unread(&source, range, "no segment has them");
        }
    }
    match out.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(exit::IO, format_args!("cannot write to standard output: {error}")))
        }
        _ if unread > 0 => Err(Failure::new(exit::DATA, format_args!("{unread} records could not be read"))),
        _ => Ok(()),
    }
}

fn say_unread(source: &Source, range: IndexRange, why: &str) {
    let (topic, partition) = (&source.topic, source.partition.unwrap_or(-1));
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "forebay: records {} to {} of {topic}/{partition}: {why}", range.first, range.last);
}

fn progress(bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    ProgressBar::new(bytes).with_style(style.expect("the template is a constant"))
}

/// Writes the wanted records of a run. What cannot be decoded is [`ErrorKind::InvalidData`].
fn write_run(
    out: &mut impl Write,
    format: Format,
    source: &Source,
    wanted: IndexRange,
    stored: &StoredRun,
) -> io::Result<()> {
    each_wanted_record(&stored.records(), wanted, |record| match format {
        Format::Raw => {
            out.write_all(record.value.unwrap_or_default())?;
            out.write_all(b"\n")
        }
        Format::Ndjson => writeln!(out, "{}", Value::from(object_of(&source.topic, source.partition, record))),
    })
}
