//! Sockets that somebody else has made and hands over, as systemd does; `tests/systemd` has the real one.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::dev_kafka::DevKafka;
use crate::support::client::{Client, Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles, Extra};
use crate::support::process::run;
use crate::support::scenario::SOON;

const WRONG_CONFIGURATION: i32 = 78;
/// Nobody listens there; the daemon starts all the same.
const NO_KAFKA: &str = "127.0.0.1:1";

/// The daemon with its standard input as the only socket that is handed over, under that name.
fn activated(files: &DaemonFiles, name: &str) -> Command {
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name} exec {} run --config {} 3<&0 </dev/null",
        env!("CARGO_BIN_EXE_forebay"),
        files.config().display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    command
}

fn files(bootstrap: &str) -> DaemonFiles {
    DaemonFiles::new(bootstrap, Extra { stream: "systemd_socket = \"stream\"", ..Extra::default() })
}

fn handed_over(listener: &UnixListener) -> Stdio {
    OwnedFd::from(listener.try_clone().expect("a socket can be cloned")).into()
}

#[track_caller]
fn refused(command: Command, stdin: Stdio, causes: &[&str]) {
    let (status, _, stderr) = run(command, stdin, SOON);
    assert_eq!(status.code(), Some(WRONG_CONFIGURATION), "{stderr}");
    for cause in causes {
        assert!(stderr.contains(cause), "no {cause:?} in: {stderr}");
    }
}

#[test]
fn clients_that_connect_between_two_daemons_are_served_by_the_second() {
    let cluster = DevKafka::start(1);
    let topic = new_topic(&cluster, "activated", 1);
    let files = files(&cluster.bootstrap());
    let listener = UnixListener::bind(files.stream_socket()).expect("the directory is new");
    let records = [Outgoing { value: Some(b"v".to_vec()), ..Outgoing::default() }];
    let request = Produce::new(&topic, &records);

    let mut early = Client::connect(&files.stream_socket());
    early.send_produce(&request);
    let daemon = Daemon::start_with_stdin(activated(&files, "stream"), handed_over(&listener), files);
    assert_eq!(early.read_produce_answer().records[0].offset, 0);
    let stopped = daemon.stop();
    assert_eq!(stopped.code(), 0, "{}", stopped.log);

    let mut between = Client::connect(&stopped.files.stream_socket());
    between.send_produce(&request);
    let command = activated(&stopped.files, "stream");
    let daemon = Daemon::start_with_stdin(command, handed_over(&listener), stopped.files);
    assert_eq!(between.read_produce_answer().records[0].offset, 1);
    // The first connection ended with its daemon, in order.
    assert_eq!(early.read_frame().expect("the connection is closed in order"), None);
    let killed = daemon.kill();
    UnixStream::connect(killed.files.stream_socket()).expect("the socket outlives every daemon");
}

#[test]
fn what_is_handed_over_to_another_process_is_not_taken() {
    let files = DaemonFiles::new(NO_KAFKA, "");
    let script = format!(
        "LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=stream exec {} run --config {}",
        env!("CARGO_BIN_EXE_forebay"),
        files.config().display()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let daemon = Daemon::start_command(command, files);
    assert_eq!(daemon.connect().versions().len(), 5);
    daemon.process().signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), 0);
}

#[test]
fn what_does_not_fit_the_listeners_is_explained() {
    let files = files(NO_KAFKA);
    let listener = UnixListener::bind(files.stream_socket()).expect("the directory is new");
    let causes = ["no socket named \"stream\" for ", "only \"forebay.socket\": ", "leave systemd_socket out"];
    refused(activated(&files, "forebay.socket"), handed_over(&listener), &causes);
    let file = File::open(files.config()).expect("it is there");
    refused(activated(&files, "stream"), file.into(), &["is no Unix stream socket that listens"]);
    refused(activated(&files, ""), handed_over(&listener), &["only \"unknown\": "]);
    let mut command = Command::new("sh");
    let script = "LISTEN_PID=$$ LISTEN_FDS=many exec \"$0\" run --config \"$1\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_forebay")]).arg(files.config());
    refused(command, Stdio::null(), &["systemd hands over cannot be used: invalid LISTEN_FDS"]);

    let files = DaemonFiles::new(NO_KAFKA, "");
    let other = UnixListener::bind(files.path("other.sock")).expect("the directory is new");
    let causes = ["named \"other\" at ", "other.sock", "that no listener takes"];
    refused(activated(&files, "other"), handed_over(&other), &causes);
    assert!(!files.stream_socket().exists(), "what was made before the refusal is removed");
}
