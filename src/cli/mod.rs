//! The command line: arguments in, an exit code out.
//!
//! One file per subcommand, each with its arguments, its help and its words. What is asked for goes to standard output, all
//! else to standard error. The exit codes are in `exit`.
//!
//! It starts the daemon but holds none of its parts: everything that runs longer than a command is elsewhere.

pub mod exit;

mod completions;
mod config;
mod demo;
mod dev_broker;
mod log;
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
use clap::{CommandFactory, Parser, Subcommand};

use exit::Failure;

const EXAMPLES: &str = "\
Try it without a Kafka of your own, in three terminals:
  forebay dev-broker
  forebay run --config forebay.toml     # [kafka] bootstrap_servers = [\"127.0.0.1:19091\"]
  date | forebay produce --socket /run/forebay/forebay.sock -t test";

const EXIT_CODES: &str = "\
Exit codes:
   0  done                            73  a file or socket cannot be created
   1  a fault in forebay itself       74  reading or writing failed
  64  wrong arguments                 75  not done in time; it may work later
  65  records were refused            77  permission denied
  69  the daemon cannot be reached    78  the configuration is wrong
 130, 143  interrupted by SIGINT or SIGTERM";

/// A producer daemon for Apache Kafka.
///
/// Local programs hand records to forebay over a Unix socket; forebay delivers them to Kafka, batched and in order, and says
/// so when they are replicated.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, max_term_width = 100, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Produce(produce::Arguments),
    Status(status::Arguments),
    Config(config::Arguments),
    Demo(demo::Arguments),
    DevBroker(dev_broker::Arguments),
    Completions(completions::Arguments),
    /// Print the version.
    Version,
}

/// Does what the arguments say, and returns the exit code. The first argument is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
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

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Produce(arguments) => produce::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::DevBroker(arguments) => dev_broker::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, &mut Cli::command()),
        Command::Version => output::print(concat!("forebay ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

#[cfg(test)]
mod tests;
