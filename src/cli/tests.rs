use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(["forebay"].into_iter().chain(line.split_whitespace())).map(|cli| cli.command)
}

#[test]
fn the_arguments_are_consistent() {
    parser().debug_assert();
}

#[test]
fn every_command_and_every_argument_says_what_it_is_for() {
    fn check(command: &clap::Command) {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about.len() > 10 && !about.ends_with('.'), "{name}: one sentence about itself, not {about:?}");
        let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Exit status:\n"), "{name} does not say how it ends");
        assert!(help.lines().all(|line| line.len() <= 100), "{name}: a line after the options is too long");
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let id = argument.get_id();
            assert!(help.len() > 5 && help.starts_with(|c: char| c.is_uppercase()), "{name}: {id} says {help:?}");
            assert_eq!(help.contains(". "), help.ends_with('.'), "{name}: {id} says {help:?}");
        }
        command.get_subcommands().for_each(check);
    }
    check(&parser());
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
        ("check -c a.toml --offline -t a", ErrorKind::ArgumentConflict),
        ("check -c a.toml -t a/b", ErrorKind::ValueValidation),
        ("check -c a.toml --backlog-limit 8GiB", ErrorKind::MissingRequiredArgument),
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
        "drain --admin a.sock --timeout 5min -q",
        "check -c a.toml",
        "check -c a.toml -t a -t b --json --backlog-directory d --backlog-limit 8GiB",
        "check -c a.toml --offline",
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
