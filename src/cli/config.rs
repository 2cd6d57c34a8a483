//! `forebay config`: a configuration to start from, checked, and as it is in force.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit::Failure;
use super::{output, run};

/// Every key with its default, commented.
const TEMPLATE: &str = include_str!("../../config/forebay.toml");

/// Check, show or begin a configuration.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether a file is a valid configuration.
    ///
    /// Prints `FILE: ok` and ends with 0, or prints every mistake with its place and remedy and ends with 78. Nothing is
    /// started, and nothing of the machine is looked at.
    #[command(after_long_help = "\
Example, before a restart:
  forebay config check /etc/forebay/forebay.toml && systemctl restart forebay")]
    Check(Check),
    /// Print every key with the value in force.
    ///
    /// The output is a configuration file itself, with the same meaning.
    Show(Show),
    /// Print a configuration to start from: every key, its default, and what it does.
    #[command(after_help = "\
Example:
  forebay config init > forebay.toml")]
    Init,
}

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
    #[arg(short, long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: PathBuf,
}

/// Prints what is asked for.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Check(Check { file, config }) => {
            let path = file.as_ref().or(config.as_ref()).expect("one of them is required");
            run::load(path)?;
            output::print(format!("{}: ok\n", path.display()))
        }
        Command::Show(Show { config }) => output::print(run::load(config)?.to_toml()),
        Command::Init => output::print(TEMPLATE),
    }
}
