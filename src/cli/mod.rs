//! The command line: arguments in, an exit code out.
//!
//! One file per subcommand, each with its arguments, its help and its words. What is asked for goes to standard output, all
//! else to standard error. The exit codes are in `exit`.
//!
//! It starts the daemon but holds none of its parts: everything that runs longer than a command is elsewhere.

pub mod exit;

mod backlog;
mod check;
mod completions;
mod config;
mod dead_letters;
mod demo;
mod dev_broker;
mod drain;
mod log;
mod man;
mod output;
mod produce;
mod run;
mod runtime;
mod signals;
mod socket;
mod status;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use exit::Failure;

const EXAMPLES: &str = "\
Examples:
  forebay demo                                       # see it work; needs nothing
  forebay config init /etc/forebay/forebay.toml      # begin a configuration
  forebay check -c /etc/forebay/forebay.toml         # can it work here?
  forebay run -c /etc/forebay/forebay.toml           # the daemon
  date | forebay produce -t test                     # a first record
  forebay status                                     # what became of it";

const FILES: &str = "\
Files:
  /etc/forebay/forebay.toml   the configuration, where the packages put it; any other path will do
  /run/forebay/forebay.sock   the socket that takes records, by default
  /run/forebay/admin.sock     the socket that tells how the daemon is, by default";

const EXIT_STATUS: &str = "\
Exit status:
    0  done
    1  a fault in forebay itself
   64  wrong arguments
   65  records were refused, or would be
   69  the daemon, or Kafka, cannot be reached
   73  a file or socket cannot be created
   74  reading or writing failed
   75  not done in time; it may work later
   77  permission denied
   78  the configuration is wrong
  130  interrupted by SIGINT
  143  interrupted by SIGTERM";

/// A producer daemon for Apache Kafka.
///
/// Local programs hand records to forebay over a Unix socket; forebay delivers them to Kafka, batched and in order, and says
/// so when they are replicated. `forebay run` is the daemon; the other commands are for those who run it.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    max_term_width = 100,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}\n\n{FILES}")
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Produce(produce::Arguments),
    Status(status::Arguments),
    Drain(drain::Arguments),
    Backlog(backlog::Arguments),
    DeadLetters(dead_letters::Arguments),
    Config(config::Arguments),
    Demo(demo::Arguments),
    DevBroker(dev_broker::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    /// Print the version.
    #[command(after_long_help = "Exit status:\n    0  done")]
    Version,
}

/// Does what the arguments say, and returns the exit code. The first argument is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let parsed = parser().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell that the help could not be printed.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit::OK,
                _ => exit::USAGE,
            };
        }
    };
    match execute(cli.command) {
        Ok(()) => exit::OK,
        Err(Failure { code, message }) => {
            let _ = writeln!(io::stderr().lock(), "{message}");
            code
        }
    }
}

/// All arguments, with their help. clap takes the full stop from the end of a help text; where it is of several sentences, it is
/// given back.
fn parser() -> clap::Command {
    fn with_full_stops(command: clap::Command) -> clap::Command {
        let command = command.mut_subcommands(with_full_stops);
        command.mut_args(|argument| {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            if help.contains(". ") && !help.ends_with('.') { argument.help(help + ".") } else { argument }
        })
    }
    with_full_stops(Cli::command())
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Produce(arguments) => produce::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Backlog(arguments) => backlog::run(&arguments),
        Command::DeadLetters(arguments) => dead_letters::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::DevBroker(arguments) => dev_broker::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, &mut parser()),
        Command::Man(arguments) => man::run(&arguments, parser()),
        Command::Version => output::print(concat!("forebay ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

#[cfg(test)]
mod tests;
