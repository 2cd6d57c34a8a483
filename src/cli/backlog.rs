//! `forebay backlog`: what the backlog on disk holds. Reads only, so it works beside the daemon that owns it, and without one.

pub(super) mod decode;
mod export;
pub(super) mod json;
mod ls;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::exit::{self, Failure};
use crate::backlog::log::entry::IndexRange;
use crate::backlog::log::error::LogError;
use crate::backlog::log::inspect::{HeldRun, Inspection};
use crate::backlog::log::storage::real::RealStorage;
use crate::backlog::name::PartitionName;

/// Look into the backlog, or get the records out of it.
///
/// Only reads, so the daemon may be running or not. The format of the files is in docs/backlog-format.md.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  forebay backlog ls /var/lib/forebay                        # what is held
  forebay backlog verify --json /var/lib/forebay | jq .ok    # is every byte as it was written?
  forebay backlog export /var/lib/forebay > records.ndjson   # the records themselves";

const EXIT_STATUS: &str = "\
Exit status:
    0  done
   64  wrong arguments
   65  something is damaged, or a later version has written there
   74  the directory cannot be read, or nothing can be printed
   77  permission to read it is refused";

#[derive(Debug, Subcommand)]
enum Command {
    Ls(ls::Arguments),
    Verify(verify::Arguments),
    Export(export::Arguments),
}

/// Does what is asked for.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Ls(arguments) => ls::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Export(arguments) => export::run(arguments),
    }
}

#[derive(Debug, Args)]
struct Directory {
    /// The directory that holds the log's segments.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Directory {
    fn inspect(&self) -> Result<Inspection<RealStorage>, Failure> {
        Inspection::new(RealStorage::new(&self.directory)).map_err(|error| failure(&self.directory, &error))
    }

    fn held_runs(&self, inspection: &Inspection<RealStorage>) -> Result<BTreeMap<u32, Vec<HeldRun>>, Failure> {
        inspection.held_runs().map_err(|error| failure(&self.directory, &error))
    }

    /// Records that are held and in no segment. What the owner frees meanwhile is not among them: the second look does not miss it.
    fn lost(
        &self,
        inspection: &Inspection<RealStorage>,
        held: &BTreeMap<u32, Vec<HeldRun>>,
    ) -> Result<BTreeSet<(u32, IndexRange)>, Failure> {
        let mut missing = inspection.missing(held);
        if !missing.is_empty() {
            let again = self.inspect()?;
            let still = again.missing(&self.held_runs(&again)?);
            missing.retain(|range| still.contains(range));
        }
        Ok(missing)
    }
}

pub(super) fn failure(directory: &Path, error: &LogError) -> Failure {
    let code = match error {
        LogError::Disk(error) if error.source.kind() == std::io::ErrorKind::PermissionDenied => exit::PERMISSION,
        LogError::Newer { .. } => exit::DATA,
        _ => exit::IO,
    };
    Failure::new(code, format_args!("cannot read the backlog in {}: {error}", directory.display()))
}

/// Topic and partition, as far as the bytes say; `None` for the partition while it is not chosen.
pub(super) fn topic_and_partition(name: &[u8]) -> (String, Option<i32>) {
    match PartitionName::decode(name) {
        Some(name) => (String::from_utf8_lossy(name.topic).into_owned(), name.partition),
        None => ("?".to_owned(), None),
    }
}
