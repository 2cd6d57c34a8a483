//! `forebay produce` with kcat's habits: what kcat makes of the same arguments, and what is told when the daemon goes away.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use forebay::devbroker::At;

use crate::dev_kafka::DevKafka;
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, forebay};
use crate::support::kcat::{ReadRecord, is_installed_or_say};
use crate::support::process::{self, Process, run, stdin_of};
use crate::support::scenario::SOON;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Key, value, headers.
type Content = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn content(records: Vec<ReadRecord>) -> Vec<Content> {
    records.into_iter().map(|record| (record.key, record.value, record.headers)).collect()
}

fn produce(socket: &Path, topic: &str, arguments: &[&str]) -> Command {
    let mut command = forebay();
    command.args(["produce", "-t", topic, "--socket"]).arg(socket).args(arguments);
    command
}

#[test]
fn the_same_arguments_send_what_kcat_sends() {
    if !is_installed_or_say("the comparison of produce with kcat") {
        return;
    }
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let file = |name: &str, content: &[u8]| {
        let path = daemon.files().path(name);
        fs::write(&path, content).expect("the directory can be written");
        path.into_os_string().into_string().expect("a path that is text")
    };
    let (lines, other) = (file("lines", b"one\ntwo\n\xffthree"), file("other", b"\n\nx\n"));
    let cases: &[(&[&str], &[u8])] = &[
        (&["-p", "0"], b"a\nb"),
        (&["-K", ":", "-p", "0"], b"k:v\n:v\nk:\nnone\na:b:c\n"),
        (&["-K", "::", "-Z", "-k", "fixed", "-p", "0"], b"k::v\n::v\nk::\nnone\n::\n"),
        (&["-H", "a=1", "-H", "a=", "-H", "b", "-H", "c=d=e", "-p", "0"], b"x\n"),
        (&["-D", "XY", "-p", "0"], b"aXYbXcXY"),
        (&["-D", r"\t", "-K", r"\x3d", "-p", "0"], b"a=1\tb=2\n"),
        (&["-k", "", "-p", "0"], b"empty key\n"),
        (&["-l", "-p", "0", &lines], b""),
        (&["-p", "0", "-k", "key", &lines, &other], b""),
        (&["-p", "-1"], b"anywhere\n"),
    ];
    for (arguments, input) in cases {
        let (ours, theirs) = (new_topic(&cluster, "ours", 1), new_topic(&cluster, "theirs", 1));
        let (status, _, stderr) =
            run(produce(&daemon.files().stream_socket(), &ours, arguments), stdin_of(input), TIMEOUT);
        assert!(status.success(), "{arguments:?}: {status} {stderr}");
        let mut kcat = Command::new("kcat");
        kcat.args(["-P", "-b", &cluster.bootstrap(), "-t", &theirs]).args(*arguments);
        let (status, _, stderr) = run(kcat, stdin_of(input), TIMEOUT);
        assert!(status.success(), "kcat {arguments:?}: {status} {stderr}");
        let sent = content(cluster.read(&ours));
        assert!(!sent.is_empty(), "{arguments:?}");
        assert_eq!(sent, content(cluster.read(&theirs)), "{arguments:?}");
    }
}

#[test]
fn files_of_lines_are_sent_one_after_the_other_and_copied_and_their_places_are_told() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "files", 2);
    let (a, b) = (daemon.files().path("a"), daemon.files().path("b"));
    fs::write(&a, b"1\n2").expect("the directory can be written");
    fs::write(&b, b"3\n").expect("the directory can be written");
    let mut command = produce(&daemon.files().stream_socket(), &topic, &["-l", "-T", "-v", "-p", "1"]);
    command.args([&a, Path::new("-"), &b]);
    let (status, stdout, stderr) = run(command, stdin_of(b"in\n"), TIMEOUT);
    assert!(status.success(), "{status} {stderr}");
    assert_eq!(stdout, b"1\n2in\n3\n");
    assert!(stderr.starts_with("partition 1: 4 records at offsets 0 to 3\n4 records acknowledged in "), "{stderr}");
    let values: Vec<_> = cluster.read(&topic).into_iter().map(|record| record.value.expect("a value")).collect();
    assert_eq!(values, [&b"1"[..], b"2", b"in", b"3"]);
}

#[test]
fn a_daemon_that_is_killed_leaves_an_exact_account() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "killed", 1);
    let (reader, mut writer) = io::pipe().expect("a pipe can be made");
    let command = produce(&daemon.files().stream_socket(), &topic, &[]);
    let mut process = Process::spawn(command, Stdio::from(reader), None);
    writer.write_all(b"1\n2\n3\n").expect("it reads");
    daemon.wait_for_status("delivery", SOON, |status| (status["ledger"]["delivered"] == 3).then_some(()));
    cluster.hold_requests(At::Anywhere);
    writer.write_all(b"4\n5\n").expect("it reads");
    daemon.wait_for_status("records held", SOON, |status| (status["ledger"]["held"] == 2).then_some(()));
    daemon.kill();
    let status = process.wait(TIMEOUT);
    let stderr = process.stderr();
    assert_eq!(status.code(), Some(69), "{stderr}");
    let account = "3 records acknowledged, 2 with an unknown fate (to send those again may double them); \
                   nothing was sent from line 6 on\n";
    assert!(stderr.ends_with(account), "{stderr}");
    drop(writer);
}

#[test]
fn records_that_are_late_are_told_apart_from_those_that_are_refused() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "late", 1);
    cluster.hold_requests(At::Anywhere);
    let command = produce(&daemon.files().stream_socket(), &topic, &["--timeout", "200ms"]);
    let (status, _, stderr) = run(command, stdin_of(b"a\nb\n"), TIMEOUT);
    assert_eq!(status.code(), Some(75), "{stderr}");
    assert!(stderr.contains("line 1: REQUEST_TIMED_OUT (7)"), "{stderr}");
    assert!(stderr.contains("\n0 records acknowledged, 2 still on their way (to send those again"), "{stderr}");
    cluster.release_requests();
}

#[test]
fn progress_is_shown_on_a_terminal_only() {
    if !process::is_installed_or_say("script", "progress on a terminal") {
        return;
    }
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "progress", 1);
    let input = daemon.files().path("input");
    let lines: String = (0..200_000).map(|line| format!("line {line}\n")).collect();
    fs::write(&input, lines).expect("the directory can be written");
    let shown = |redirect: &str| {
        let program = env!("CARGO_BIN_EXE_forebay");
        let socket = daemon.files().stream_socket();
        let line =
            format!("'{program}' produce -t {topic} -s '{}' -l '{}' {redirect}", socket.display(), input.display());
        let mut script = Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
        let (status, stdout, stderr) = run(script, Stdio::null(), TIMEOUT);
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        assert!(status.success(), "{status} {stdout} {stderr}");
        stdout
    };
    let terminal = shown("");
    assert!(terminal.contains(" records acknowledged, ") && terminal.contains("/s, "), "{terminal}");
    let redirected = shown("2>&1 | cat");
    assert!(redirected.starts_with("200,000 records acknowledged in "), "{redirected}");
}
