//! `forebay config`: a configuration to start from, checked, and as it is in force.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::exit::{self, Failure};
use super::{output, run};
use crate::config::Config;

/// Every key with its default, commented.
const TEMPLATE: &str = include_str!("../../config/forebay.toml");

/// Check, show or begin a configuration.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  forebay config init forebay.toml      # a file to start from
  forebay config check forebay.toml     # is it valid?
  forebay config show -c forebay.toml   # what does it come to?";

const EXIT_STATUS: &str = "\
Exit status:
    0  the file is valid, or is written
   64  wrong arguments
   73  the file cannot be created, or is there already
   78  the configuration is wrong, or cannot be read";

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether a file is a valid configuration.
    ///
    /// Prints `FILE: ok`, or every mistake with its place and remedy. Nothing is started, and nothing of the machine or of Kafka
    /// is looked at: for that there is `forebay check`.
    #[command(after_help = CHECK_EXAMPLES, after_long_help = format!("{CHECK_EXAMPLES}\n\n{CHECK_EXIT_STATUS}"))]
    Check(Check),
    /// Print every key with the value in force.
    ///
    /// The output is a configuration file itself, with the same meaning.
    #[command(after_help = SHOW_EXAMPLES, after_long_help = format!("{SHOW_EXAMPLES}\n\n{CHECK_EXIT_STATUS}"))]
    Show(Show),
    /// Write a configuration to start from: every key, its default, and what it does.
    #[command(after_help = INIT_EXAMPLES, after_long_help = format!("{INIT_EXAMPLES}\n\n{INIT_EXIT_STATUS}"))]
    Init(Init),
}

const CHECK_EXAMPLES: &str = "\
Examples:
  forebay config check /etc/forebay/forebay.toml && systemctl restart forebay";

const CHECK_EXIT_STATUS: &str = "\
Exit status:
    0  the configuration is valid
   64  wrong arguments
   78  it is wrong, or cannot be read";

const SHOW_EXAMPLES: &str = "\
Examples:
  forebay config show -c forebay.toml
  diff <(forebay config show --defaults) <(forebay config show -c forebay.toml)";

const INIT_EXAMPLES: &str = "\
Examples:
  forebay config init forebay.toml
  forebay config init | less";

const INIT_EXIT_STATUS: &str = "\
Exit status:
    0  written
   64  wrong arguments
   73  the file is there already, or cannot be created
   74  writing failed";

#[derive(Debug, Args)]
struct Check {
    /// The configuration file.
    #[arg(value_name = "FILE", required_unless_present = "config")]
    file: Option<PathBuf>,
    /// The same, as `forebay run` takes it.
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Show {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", env = "FOREBAY_CONFIG", required_unless_present = "defaults")]
    config: Option<PathBuf>,
    /// Print the defaults, whatever a file says.
    #[arg(long)]
    defaults: bool,
}

#[derive(Debug, Args)]
struct Init {
    /// Where to write it; a file that is there is left alone. Without it, standard output.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Prints what is asked for.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Check(Check { file, config }) => {
            let path = file.as_ref().or(config.as_ref()).expect("one of them is required");
            run::load(path)?;
            output::print(format!("{}: ok\n", path.display()))
        }
        Command::Show(Show { config: Some(path), defaults: false }) => output::print(run::load(path)?.to_toml()),
        Command::Show(_) => {
            let defaults = Config::parse("", "the defaults").expect("an empty file is a configuration");
            output::print(defaults.to_toml())
        }
        Command::Init(Init { file: None }) => output::print(TEMPLATE),
        Command::Init(Init { file: Some(path) }) => init(path),
    }
}

/// Writes the template to a file that is not there yet.
fn init(path: &Path) -> Result<(), Failure> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let message = format_args!("{} is there already and is left alone: choose another name", path.display());
            Failure::new(exit::CANNOT_CREATE, message)
        }
        _ => Failure::new(exit::CANNOT_CREATE, format_args!("cannot create {}: {error}", path.display())),
    })?;
    let written = file.write_all(TEMPLATE.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| Failure::new(exit::IO, format_args!("cannot write {}: {error}", path.display())))
}
