//! `forebay dead-letters drop`: letters that nobody wants.

use std::path::PathBuf;

use clap::Args;

use super::EXIT_STATUS;
use super::owner::Owner;
use super::select::Selection;
use crate::backlog::letter::REASON_DROPPED;
use crate::cli::exit::{self, Failure};
use crate::cli::output;
use crate::cli::status::grouped;

/// Throw dead letters away, for good.
///
/// The running daemon does it when it is asked; without one, this command does. Exporting them first keeps a copy.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Throw all of them away.
    #[arg(long, conflicts_with_all = ["topic", "partition", "code"])]
    all: bool,
    /// The daemon's admin socket: admin.path of its configuration.
    #[arg(long, value_name = "PATH", env = "FOREBAY_ADMIN", default_value = "/run/forebay/admin.sock")]
    admin: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  forebay dead-letters drop /var/lib/forebay --topic audit --code 10
  forebay dead-letters drop /var/lib/forebay --all";

/// Finds them and has them dropped.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.selection.is_everything() && !arguments.all {
        return Err(Failure::new(exit::USAGE, "say which letters: --topic, --code, or --all"));
    }
    let mut owner = Owner::new(arguments.selection.path(), &arguments.admin);
    let mut dropped = 0;
    let ended = arguments.selection.each(|letters| {
        dropped += owner.give_up(letters.number, letters.range, REASON_DROPPED)?;
        Ok(())
    });
    output::print(format!("{} dead letters dropped\n", grouped(dropped)))?;
    ended
}
