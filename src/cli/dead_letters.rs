//! `forebay dead-letters`: what Kafka refuses for good, and what an operator does with it.
//!
//! Looking only reads, so it works beside the daemon that owns the log. Taking letters out is a note in the log, so it is the owner's: the
//! running daemon does it when asked over its admin socket; without one, this process is the owner for a moment.

mod drop;
mod export;
mod list;
mod owner;
mod replay;
mod select;
mod show;

use clap::{Args, Subcommand};

use super::exit::Failure;

/// Look at what Kafka has refused for good, send it again, or throw it away.
///
/// Records that Kafka will never take as they are (too large alone, invalid, refused by a policy) are kept beside the backlog, with the reason,
/// until somebody decides. Their clients were told when they asked for acks=all.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  forebay dead-letters list /var/lib/forebay                  # how many, of what, why
  forebay dead-letters show /var/lib/forebay --topic audit    # the records
  forebay dead-letters export /var/lib/forebay > dead.ndjson  # all of them, for other tools
  forebay dead-letters replay /var/lib/forebay --topic audit  # send them again
  forebay dead-letters drop /var/lib/forebay --code 10        # throw away what is too large";

const EXIT_STATUS: &str = "\
Exit status:
    0  done
   64  wrong arguments
   65  some letters could not be read, or were refused again; or a later version has written there
   69  the daemon cannot be reached
   74  the directory cannot be read or written, or nothing can be printed
   75  not delivered now, and kept: try again later
   77  permission is refused, or the directory is another user's";

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Arguments),
    Show(show::Arguments),
    Export(export::Arguments),
    Replay(replay::Arguments),
    Drop(drop::Arguments),
}

/// Does what is asked for.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::List(arguments) => list::run(arguments),
        Command::Show(arguments) => show::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Drop(arguments) => drop::run(arguments),
    }
}
