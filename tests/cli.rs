//! The command line as scripts see it: the built binary, what it prints where, and its exit codes.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use support::daemon::{Daemon, forebay};
use support::process::{Process, is_installed_or_say, run, stdin_of};

/// How long a command may take that has nothing to wait for.
const SOON: Duration = Duration::from_secs(30);

/// What a command ended with and printed: exit code, standard output, standard error.
type Ended = (Option<i32>, String, String);

fn forebay_with(arguments: &[&str]) -> Command {
    let mut command = forebay();
    command.args(arguments);
    for name in ["FOREBAY_CONFIG", "FOREBAY_SOCKET", "FOREBAY_ADMIN", "FOREBAY_LOG"] {
        command.env_remove(name);
    }
    command
}

#[track_caller]
fn ended(arguments: &[&str], stdin: &[u8]) -> Ended {
    let (status, stdout, stderr) = run(forebay_with(arguments), stdin_of(stdin), SOON);
    (status.code(), String::from_utf8(stdout).expect("text"), stderr)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// A file in a directory of its own.
fn file(name: &str, content: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::with_prefix("forebay-").expect("a temporary directory");
    let path = directory.path().join(name);
    fs::write(&path, content).expect("a file can be written");
    (directory, path)
}

#[test]
fn help_and_version_go_to_standard_output_and_are_no_failure() {
    let (code, stdout, stderr) = ended(&["--help"], b"");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("Usage: forebay") && stdout.contains("Exit status:"), "{stdout}");
    let version = format!("forebay {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(ended(&["version"], b""), (Some(0), version.clone(), String::new()));
    assert_eq!(ended(&["--version"], b""), (Some(0), version, String::new()));
}

#[test]
fn wrong_arguments_end_with_64_and_say_why_on_standard_error() {
    for arguments in [&[][..], &["stauts"], &["run", "--confg", "f"], &["produce"], &["produce", "-t", "a/b"]] {
        let (code, stdout, stderr) = ended(arguments, b"");
        assert_eq!((code, stdout.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(stderr.contains("--help"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_codec_for_produce_is_refused_with_the_place_where_it_belongs() {
    let (code, _, stderr) = ended(&["produce", "-t", "t", "-z", "zstd"], b"a\n");
    assert_eq!(code, Some(64));
    assert!(stderr.contains("the daemon compresses") && stderr.contains("compression_type"), "{stderr}");
    let (code, _, stderr) = ended(&["produce", "-t", "t", "-K", ":", "file"], b"");
    assert_eq!(code, Some(64));
    assert!(stderr.contains("add -l"), "{stderr}");
}

#[test]
fn a_wrong_configuration_ends_with_78_and_shows_its_place() {
    let (_directory, path) = file("forebay.toml", "[producer]\nlingr = \"5ms\"\n");
    let mut shown = Vec::new();
    for arguments in [["run", "--config"], ["config", "check"], ["config", "show"]] {
        let mut arguments = arguments.to_vec();
        if arguments == ["config", "show"] {
            arguments.push("-c");
        }
        arguments.push(text(&path));
        let (code, stdout, stderr) = ended(&arguments, b"");
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with(&format!("{}:2:1: ", path.display())), "{stderr}");
        assert!(stderr.contains("lingr = \"5ms\"") && stderr.contains("linger"), "{stderr}");
        shown.push(stderr);
    }
    assert!(shown.iter().all(|stderr| *stderr == shown[0]), "{shown:?}");
}

#[test]
fn a_missing_configuration_ends_with_78() {
    let (code, _, stderr) = ended(&["run", "--config", "/nowhere/forebay.toml"], b"");
    assert_eq!(code, Some(78));
    assert!(stderr.contains("cannot read the configuration /nowhere/forebay.toml"), "{stderr}");
}

#[test]
fn what_config_prints_is_a_configuration() {
    let (code, template, _) = ended(&["config", "init"], b"");
    assert_eq!(code, Some(0));
    let (_directory, path) = file("forebay.toml", &template);
    let ok = format!("{}: ok\n", path.display());
    assert_eq!(ended(&["config", "check", text(&path)], b""), (Some(0), ok.clone(), String::new()));
    assert_eq!(ended(&["config", "check", "-c", text(&path)], b""), (Some(0), ok, String::new()));

    let (code, shown, _) = ended(&["config", "show", "-c", text(&path)], b"");
    assert_eq!(code, Some(0));
    assert_eq!(ended(&["config", "show", "--defaults"], b""), (Some(0), shown.clone(), String::new()));
    let (_directory, again) = file("again.toml", &shown);
    assert_eq!(ended(&["config", "show", "-c", text(&again)], b""), (Some(0), shown, String::new()));
}

#[test]
fn a_configuration_is_begun_only_where_there_is_none() {
    let (directory, path) = file("there.toml", "# mine\n");
    let (code, stdout, stderr) = ended(&["config", "init", text(&path)], b"");
    assert_eq!((code, stdout.as_str()), (Some(73), ""));
    assert!(stderr.contains("there.toml is there already and is left alone"), "{stderr}");
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "# mine\n");
    let new = directory.path().join("new.toml");
    assert_eq!(ended(&["config", "init", text(&new)], b""), (Some(0), String::new(), String::new()));
    let ok = format!("{}: ok\n", new.display());
    assert_eq!(ended(&["config", "check", text(&new)], b""), (Some(0), ok, String::new()));
    let nowhere = directory.path().join("no/new.toml");
    assert_eq!(ended(&["config", "init", text(&nowhere)], b"").0, Some(73));
}

#[test]
fn manual_pages_are_written_and_groff_has_nothing_to_say_against_them() {
    let directory = TempDir::with_prefix("forebay-").expect("a temporary directory");
    let pages = directory.path().join("man1");
    let (code, written, stderr) = ended(&["man", "-d", text(&pages)], b"");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let written: Vec<&Path> = written.lines().map(Path::new).collect();
    for name in ["forebay.1", "forebay-produce.1", "forebay-config-init.1"] {
        assert!(written.contains(&pages.join(name).as_path()), "{name} is not among {written:?}");
    }
    let page = fs::read_to_string(pages.join("forebay-produce.1")).expect("it is there");
    assert_eq!(ended(&["man", "produce"], b""), (Some(0), page, String::new()));
    let (code, _, stderr) = ended(&["man", "prodoce"], b"");
    assert_eq!(code, Some(64));
    assert!(stderr.contains("no command \"prodoce\""), "{stderr}");

    if !is_installed_or_say("groff", "the look at manual pages") {
        return;
    }
    for path in written {
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-P-cbou"]).arg(path);
        let (status, page, stderr) = run(groff, Stdio::null(), SOON);
        assert!(status.success() && stderr.is_empty(), "{}: {stderr}", path.display());
        assert!(String::from_utf8_lossy(&page).contains("SEE ALSO"), "{}", path.display());
    }
}

#[test]
fn without_a_daemon_commands_end_with_69_and_ask_whether_it_runs() {
    let directory = TempDir::with_prefix("forebay-").expect("a temporary directory");
    let missing = directory.path().join("none.sock");
    let deserted = directory.path().join("deserted.sock");
    drop(UnixListener::bind(&deserted).expect("a socket can be bound"));
    for (socket, why) in [(&missing, "is forebay running"), (&deserted, "nobody listens on")] {
        let socket = text(socket);
        for arguments in [&["status", "--admin", socket][..], &["produce", "-t", "t", "--socket", socket]] {
            let (code, stdout, stderr) = ended(arguments, b"a\n");
            assert_eq!((code, stdout.as_str()), (Some(69), ""), "{arguments:?}: {stderr}");
            assert!(stderr.contains(why) && stderr.contains(socket), "{arguments:?}: {stderr}");
        }
    }
}

#[test]
fn an_input_that_cannot_be_read_ends_with_74() {
    let (code, _, stderr) = ended(&["produce", "-t", "t", "/nowhere/lines.txt"], b"");
    assert_eq!(code, Some(74));
    assert!(stderr.contains("cannot open /nowhere/lines.txt: "), "{stderr}");
}

#[test]
fn a_daemon_that_ends_without_an_answer_ends_produce_with_69() {
    let directory = TempDir::with_prefix("forebay-").expect("a temporary directory");
    let socket = directory.path().join("forebay.sock");
    let listener = UnixListener::bind(&socket).expect("a socket can be bound");
    let accepted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut head = [0; 8];
        stream.read_exact(&mut head).expect("a request");
        head
    });
    let (code, _, stderr) = ended(&["produce", "-t", "t", "-s", text(&socket)], b"a\n");
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains("0 records acknowledged; nothing was sent from line 1 on"), "{stderr}");
    assert_eq!(accepted.join().expect("the listener ends"), [0, 0, 0, 12, 2, 2, 0, 0], "it asks for Versions first");
}

#[test]
fn a_signal_ends_produce_as_a_shell_expects() {
    let directory = TempDir::with_prefix("forebay-").expect("a temporary directory");
    let socket = directory.path().join("forebay.sock");
    let listener = UnixListener::bind(&socket).expect("a socket can be bound");
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let command = forebay_with(&["produce", "-t", "t", "-s", text(&socket)]);
        let mut produce = Process::spawn(command, Stdio::null(), None);
        // It catches signals before it connects.
        let (stream, _) = listener.accept().expect("a client");
        produce.signal(signal);
        assert_eq!(produce.wait(SOON).code(), Some(code));
        assert!(produce.stderr().contains("interrupted\n0 records acknowledged"), "{}", produce.stderr());
        drop(stream);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = forebay_with(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("forebay starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn lines_go_through_a_daemon_into_a_dev_broker_and_the_status_counts_them() {
    let command = forebay_with(&["dev-broker", "--port", "0", "--brokers", "2", "--topic", "lines:4"]);
    let mut brokers = Process::spawn(command, Stdio::null(), None);
    let bootstrap = brokers.wait_until("its addresses", SOON, |output| {
        let line = output.stdout.strip_suffix(b"\n")?;
        Some(String::from_utf8(line.to_vec()).expect("text"))
    });
    assert_eq!(bootstrap.split(',').count(), 2, "{bootstrap}");
    let daemon = Daemon::start(&bootstrap, "");
    let socket = daemon.files().stream_socket();
    let admin = daemon.files().admin_socket();

    let lines: String = (1..=1000).map(|line| format!("line {line}\n")).collect();
    let (code, stdout, stderr) = ended(&["produce", "-t", "lines", "-s", text(&socket)], lines.as_bytes());
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.starts_with("1,000 records acknowledged in "), "{stderr}");
    let quiet = ended(&["produce", "-q", "-t", "lines", "-s", text(&socket)], b"one more");
    assert_eq!(quiet, (Some(0), String::new(), String::new()));

    let (code, _, stderr) = ended(&["produce", "-t", "lines", "-p", "99", "-s", text(&socket)], b"a\n");
    assert_eq!(code, Some(65));
    assert!(stderr.contains("line 1: UNKNOWN_TOPIC_OR_PARTITION (3)"), "{stderr}");

    let (code, _, stderr) = ended(&["produce", "-t", "lines", "-s", text(&admin)], b"a\n");
    assert_eq!(code, Some(69));
    assert!(stderr.contains("is it the socket of a stream listener?"), "{stderr}");
    let (code, _, stderr) = ended(&["status", "--admin", text(&socket)], b"");
    assert_eq!(code, Some(69));
    assert!(stderr.contains("is it forebay's admin socket?"), "{stderr}");

    let ledger = &daemon.status()["ledger"];
    assert_eq!((&ledger["delivered"], &ledger["held"]), (&1001.into(), &0.into()), "{ledger}");
    let (code, page, _) = ended(&["status", "--admin", text(&admin)], b"");
    assert_eq!(code, Some(0));
    assert!(page.contains("\nlines           4     0 "), "{page}");

    assert_eq!(daemon.stop().code(), 0);
    brokers.signal(Signal::SIGINT);
    assert_eq!(brokers.wait(SOON).code(), Some(0));
}

#[test]
fn the_log_is_json_when_it_is_asked_for() {
    let (directory, path) = file("forebay.toml", "");
    let sockets = format!(
        "[[listeners]]\ntype = \"stream\"\npath = {:?}\n[admin]\npath = {:?}\n",
        directory.path().join("forebay.sock"),
        directory.path().join("admin.sock"),
    );
    fs::File::create(&path).and_then(|mut file| file.write_all(sockets.as_bytes())).expect("a file can be written");
    let command = forebay_with(&["run", "-c", text(&path), "--log-format", "json"]);
    let mut daemon = Process::spawn(command, Stdio::null(), None);
    daemon.wait_for_text("\"ready\"", SOON);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
    for line in daemon.stderr().lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(json["level"].is_string() && json["message"].is_string(), "{line}");
    }
}

#[test]
fn a_backlog_that_lacks_records_is_neither_whole_nor_wholly_exported() {
    use forebay::backlog::log::engine::Log;
    use forebay::backlog::log::entry::{Entry, NO_TAGS, Records};
    use forebay::backlog::log::options::Options;
    use forebay::backlog::log::storage::real::RealStorage;
    use forebay::backlog::name::PartitionName;

    let directory = TempDir::with_prefix("forebay-").expect("a temporary directory");
    let options = Options::with_limit(64 << 10);
    let (mut log, _) = Log::open(RealStorage::new(directory.path()), options, 1).expect("it is empty");
    let name = PartitionName { topic_id: [0; 16], partition: Some(3), topic: b"audit" };
    let partition = log.define(&name.encode()).expect("there is room");
    // One record in run form: size of the suffix, flags, timestamp, and a suffix of no key, the value "x" and no headers.
    let data = [&4_u32.to_le_bytes()[..], &[0], &5_i64.to_le_bytes(), &[1, 2, b'x', 0]].concat();
    for first in 0..200 {
        let records = Records {
            partition,
            first,
            count: 1,
            base_timestamp: 5,
            max_timestamp: 5,
            stored_at: 5,
            codec: 0,
            tags: NO_TAGS,
            data: &data,
        };
        log.append(&[Entry::Records(records)]).expect("there is room");
    }
    log.close().expect("the disk is well");
    let [verify, export] =
        [["backlog", "verify", text(directory.path())], ["backlog", "export", text(directory.path())]];
    assert_eq!(ended(&verify, b"").0, Some(0));
    let (code, stdout, stderr) = ended(&export, b"");
    assert_eq!((code, stdout.lines().count(), stderr.as_str()), (Some(0), 200, ""));
    let files = fs::read_dir(directory.path()).expect("it is there").flatten().map(|entry| entry.path());
    let oldest =
        files.filter(|path| path.extension().is_some_and(|end| end == "segment")).min().expect("there are some");
    fs::remove_file(oldest).expect("it is ours");
    let (code, stdout, _) = ended(&verify, b"");
    assert!(code == Some(65) && stdout.contains("records are held and in no segment"), "{stdout}");
    let (code, stdout, stderr) = ended(&export, b"");
    assert_eq!(code, Some(65));
    let missing = 200 - stdout.lines().count();
    assert!(
        missing > 0 && stderr.contains(&format!("records 0 to {} of audit/3: no segment has them", missing - 1)),
        "{stderr}"
    );
}
