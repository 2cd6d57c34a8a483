//! `forebay completions`: what a shell needs to complete forebay's arguments.

use clap::{Args, Command};
use clap_complete::Shell;

use super::exit::Failure;
use super::output;

/// Print what a shell needs to complete forebay's commands and options.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    /// For which shell.
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  forebay completions bash > /etc/bash_completion.d/forebay
  forebay completions zsh > \"${fpath[1]}/_forebay\"
  forebay completions fish > ~/.config/fish/completions/forebay.fish";

const EXIT_STATUS: &str = "\
Exit status:
    0  done
   64  wrong arguments
   74  standard output cannot be written";

/// Prints the script.
pub(super) fn run(arguments: &Arguments, command: &mut Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "forebay", &mut script);
    output::print(script)
}
