use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parse(line: &str) -> Result<Arguments, String> {
    let line = ["produce"].into_iter().chain(line.split_whitespace());
    Line::try_parse_from(line).map(|line| line.arguments).map_err(|error| error.to_string())
}

#[test]
fn arguments_have_defaults_and_are_checked() {
    let arguments = parse("-t audit").unwrap();
    assert_eq!((arguments.acks, arguments.timeout, arguments.key, arguments.quiet), (Acks::All, None, None, false));
    let arguments = parse("-s a.sock -t audit -p 3 -k key --acks 0 --timeout 5min -q lines.txt").unwrap();
    assert_eq!(arguments.socket, PathBuf::from("a.sock"));
    assert_eq!((arguments.partition, arguments.acks), (Some(3), Acks::None));
    assert_eq!((arguments.timeout, arguments.files), (Some(Duration::from_secs(300)), vec!["lines.txt".into()]));
    assert_eq!(parse("-t audit --acks 1").unwrap().acks, Acks::Stored);
    for (wrong, why) in [
        ("", "--topic"),
        ("-t a/b", "a topic's name is"),
        ("-t a -p -2", "-2"),
        ("-t a -q -v", "cannot be used with"),
        ("-t a -H =v", "a header has a name"),
        ("-t a -z zstd", "set compression_type under [producer]"),
        ("-t a -D \\q", "after \\ comes"),
        ("-t a --acks 2", "possible values: all, 1, 0"),
        ("-t a --timeout 30", "no unit; say 500ms, 30s, 5min or 1h"),
        ("-t a --timeout 0s", "nothing is acknowledged at once"),
        ("-t a --timeout 600h", "24 days at most"),
    ] {
        let error = parse(wrong).unwrap_err();
        assert!(error.contains(why), "{wrong}: {error}");
    }
}

#[test]
fn delimiters_are_text_with_escapes() {
    let parse = |text: &str| parse_delimiter(text.as_ref());
    for (text, expected) in [
        (":", &b":"[..]),
        (r"\n", b"\n"),
        (r"\r\n", b"\r\n"),
        (r"a\tb", b"a\tb"),
        (r"\0", b"\0"),
        (r"\x1F\xff", b"\x1f\xff"),
        (r"\\", b"\\"),
    ] {
        assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
    }
    for wrong in ["", r"\", r"\q", r"\x", r"\x1", r"\xg0"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_header_has_a_value_or_an_empty_one_or_none() {
    let parse = |text: &str| parse_header(text.as_ref());
    let header = |name: &str, value: Option<&[u8]>| {
        Ok(OwnedHeader { name: name.to_owned(), value: value.map(<[u8]>::to_owned) })
    };
    assert_eq!(parse("a=1"), header("a", Some(b"1")));
    assert_eq!(parse("a=b=c"), header("a", Some(b"b=c")));
    assert_eq!(parse("a="), header("a", Some(b"")));
    assert_eq!(parse("a"), header("a", None));
    assert!(parse("").is_err() && parse("=v").is_err());
}

#[test]
fn files_are_whole_records_unless_their_lines_are() {
    let shape = |line: &str| {
        let arguments = parse(line).unwrap();
        (arguments.cut(), arguments.names())
    };
    let at = |delimiter: &[u8]| Cut::At(delimiter.to_vec());
    assert_eq!(shape("-t a"), (at(b"\n"), Names::Lines));
    assert_eq!(shape("-t a b c"), (Cut::Whole, Names::Files(vec!["b".into(), "c".into()])));
    assert_eq!(shape("-t a -l b"), (at(b"\n"), Names::Lines));
    assert_eq!(shape("-t a -l b c"), (at(b"\n"), Names::Records));
    assert_eq!(shape("-t a -D ;"), (at(b";"), Names::Records));
    for line in ["-t a -K : b", "-t a -D ; b"] {
        let failure = parse(line).unwrap().check().unwrap_err();
        assert_eq!((failure.code, failure.message.contains("add -l")), (exit::USAGE, true), "{failure}");
        parse(&line.replace(" b", " -l b")).unwrap().check().unwrap();
    }
    assert_eq!(parse("-t a -p -1").unwrap().options().partition, None);
}
