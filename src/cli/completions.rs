//! `forebay completions`: what a shell needs to complete forebay's arguments.

use clap::{Args, Command};
use clap_complete::Shell;

use super::exit::Failure;
use super::output;

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  forebay completions bash > /etc/bash_completion.d/forebay")]
pub(super) struct Arguments {
    /// Which shell.
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(arguments: &Arguments, command: &mut Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "forebay", &mut script);
    output::print(script)
}
