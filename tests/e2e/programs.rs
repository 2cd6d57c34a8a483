//! Programs as people run them: forebay's own commands, and the client that stands in the documentation.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use forebay::devbroker::At;

use crate::dev_kafka::DevKafka;
use crate::support::balance::settled_ledger;
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles, Extra, forebay};
use crate::support::process::{Process, run, stdin_of};
use crate::support::scenario::SOON;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(60);

const DATA_REFUSED: i32 = 65;
const UNAVAILABLE: i32 = 69;

fn produce(files: &DaemonFiles, arguments: &[&str], input: &[u8]) -> (ExitStatus, String) {
    let mut command = forebay();
    command.arg("produce").arg("--socket").arg(files.stream_socket()).args(arguments);
    let (status, _, stderr) = run(command, stdin_of(input), TIMEOUT);
    (status, stderr)
}

/// A text with lines of many lengths, none of them included.
fn text(lines: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let lines: Vec<_> = (0..lines).map(|n| format!("line {n} {}", "x".repeat(n % 200)).into_bytes()).collect();
    (lines.iter().flat_map(|line| [&line[..], b"\n"].concat()).collect(), lines)
}

#[test]
fn produce_sends_lines_and_ends_well_when_all_are_replicated() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "lines", 3);
    let (input, lines) = text(5000);
    let (status, stderr) = produce(daemon.files(), &["-t", &topic, "-p", "2"], &input);
    assert!(status.success(), "{status} {stderr}");
    let found: Vec<_> = cluster.read_partition(&topic, 2).into_iter().map(|r| (r.key, r.value)).collect();
    assert_eq!(found, lines.into_iter().map(|line| (None, Some(line))).collect::<Vec<_>>());
    let (status, stderr) = produce(daemon.files(), &["-t", &topic, "-k", "key"], b"one\ntwo");
    assert!(status.success(), "{status} {stderr}");
    let keyed: Vec<_> = cluster.read(&topic).into_iter().filter(|record| record.key.is_some()).collect();
    assert_eq!(
        keyed.iter().map(|r| r.value.clone()).collect::<Vec<_>>(),
        [Some(b"one".to_vec()), Some(b"two".to_vec())]
    );
    assert!(keyed.iter().all(|record| record.key.as_deref() == Some(b"key")));
    assert_eq!(settled_ledger(&daemon, 5002)["delivered"], 5002);
}

#[test]
fn produce_waits_for_kafka() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "waiting", 1);
    cluster.hold_requests(At::Anywhere);
    let mut command = forebay();
    command.args(["produce", "-t", &topic, "--socket"]).arg(daemon.files().stream_socket());
    let mut process = Process::spawn(command, stdin_of(b"a\nb\n"), None);
    daemon.wait_for_status("lines held", SOON, |status| (status["ledger"]["held"] == 2).then_some(()));
    cluster.release_requests();
    let status = process.wait(TIMEOUT);
    assert!(status.success(), "{status} {}", process.stderr());
    assert_eq!(cluster.read(&topic).len(), 2);
}

#[test]
fn produce_says_by_its_exit_code_what_went_wrong() {
    let cluster = DevKafka::start(1);
    let extra = Extra {
        kafka: "allow_auto_create_topics = false",
        rest: "[producer]\nmax_block = \"200ms\"",
        ..Extra::default()
    };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let (status, stderr) = produce(daemon.files(), &["-t", "no-such-topic"], b"a\n");
    assert_eq!(status.code(), Some(DATA_REFUSED), "{stderr}");
    assert!(stderr.contains("no-such-topic"), "{stderr}");
    let files = daemon.stop().files;
    let (status, stderr) = produce(&files, &["-t", "any"], b"a\n");
    assert_eq!(status.code(), Some(UNAVAILABLE), "{stderr}");
    assert!(stderr.contains("forebay.sock"), "{stderr}");
}

#[test]
fn the_client_of_the_documentation_works_as_it_stands_there() {
    if !Command::new("python3").arg("-V").stdin(Stdio::null()).output().is_ok_and(|o| o.status.success()) {
        let _ = writeln!(io::stderr(), "skipping the documentation's client: python3 is not installed");
        return;
    }
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md")).expect("it is there");
    let marked = document
        .split_once("<!-- client.py begins -->")
        .and_then(|(_, rest)| rest.split_once("<!-- client.py ends -->"));
    let program =
        marked.expect("the client is marked").0.trim().trim_start_matches("```python").trim_end_matches("```");
    let cluster = DevKafka::start(3);
    let extra = Extra {
        kafka: "allow_auto_create_topics = false",
        rest: "[producer]\nmax_block = \"200ms\"",
        ..Extra::default()
    };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let path = daemon.files().path("client.py");
    fs::write(&path, program).expect("the directory can be written");
    let client = |topic: &str, input: &[u8]| {
        let mut python = Command::new("python3");
        python.arg(&path).arg(daemon.files().stream_socket()).arg(topic);
        run(python, stdin_of(input), TIMEOUT)
    };
    let topic = new_topic(&cluster, "documented", 3);
    let (input, mut lines) = text(7000);
    let (status, _, stderr) = client(&topic, &input);
    assert!(status.success(), "{status} {stderr}");
    let mut found: Vec<_> = cluster.read(&topic).into_iter().filter_map(|record| record.value).collect();
    found.sort();
    lines.sort();
    assert_eq!(found, lines);
    let (status, _, stderr) = client("no-such-topic", b"a\n");
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error 3"), "{stderr}");
}
