use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(["forebay"].into_iter().chain(line.split_whitespace())).map(|cli| cli.command)
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_a_line_about_it_and_every_argument_too() {
    fn check(command: &clap::Command) {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name} says nothing about itself");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name}: {} says nothing about itself", argument.get_id());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Cli::command());
}

#[test]
fn what_is_wrong_with_arguments_is_said() {
    for (line, kind) in [
        ("run --config f.toml --log-level loud", ErrorKind::ValueValidation),
        ("run --config f.toml --log-format xml", ErrorKind::InvalidValue),
        ("config check", ErrorKind::MissingRequiredArgument),
        ("config check a.toml --config b.toml", ErrorKind::ArgumentConflict),
        ("dev-broker --topic a:none", ErrorKind::ValueValidation),
        ("dev-broker --brokers 0", ErrorKind::ValueValidation),
        ("completions cmd", ErrorKind::InvalidValue),
        ("stauts", ErrorKind::InvalidSubcommand),
    ] {
        let error = parse(line).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), kind, "{line}: {error}");
    }
}

#[test]
fn sound_arguments_are_taken() {
    for line in [
        "run -c f.toml --log-format json --log-level warn,forebay::broker=trace",
        "status --admin a.sock --json",
        "config check a.toml",
        "config check -c a.toml",
        "config show --config a.toml",
        "config init",
        "dev-broker --brokers 1 --port 0 --topic a:12 --topic b --partitions 6",
        "completions zsh",
        "version",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}
