//! The sockets as files: who may use them, and what happens to those that are there already.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::support::daemon::{Daemon, DaemonFiles, Extra, forebay};
use crate::support::process::run;

const CANNOT_CREATE: i32 = 73;
/// Nobody listens there; the daemon starts all the same.
const NO_KAFKA: &str = "127.0.0.1:1";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the socket is there").permissions().mode() & 0o777
}

/// A daemon that must end at once: its exit code and what it said.
fn refused(files: &DaemonFiles) -> (Option<i32>, String) {
    let mut command = forebay();
    command.arg("run").arg("--config").arg(files.config());
    let (status, _, stderr) = run(command, Stdio::null(), Duration::from_secs(30));
    (status.code(), stderr)
}

#[test]
fn sockets_have_the_modes_that_the_configuration_gives() {
    let daemon = Daemon::start(NO_KAFKA, "");
    let files = daemon.files();
    let modes = [files.stream_socket(), files.datagram_socket(), files.admin_socket()].map(|path| mode(&path));
    assert_eq!(modes, [0o660, 0o220, 0o660]);
    let extra = Extra { stream: "mode = \"0600\"", datagram: "mode = \"0222\"", ..Extra::default() };
    let daemon = Daemon::start(NO_KAFKA, extra);
    let files = daemon.files();
    assert_eq!([mode(&files.stream_socket()), mode(&files.datagram_socket())], [0o600, 0o222]);
}

#[test]
fn metrics_are_offered_over_tcp_where_the_configuration_says_or_the_daemon_does_not_start() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("it is bound");
    // What comes first stands in [admin].
    let files =
        DaemonFiles::new(NO_KAFKA, Extra { rest: &format!("metrics_address = \"{address}\""), ..Extra::default() });
    let (code, stderr) = refused(&files);
    assert_eq!(code, Some(CANNOT_CREATE), "{stderr}");
    assert!(stderr.contains(&format!("{address}, metrics_address of [admin]: Address already in use")), "{stderr}");
    drop(other);
    let _daemon = Daemon::start_on(files);
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers in text");
    assert!(answer.contains("\nforebay_records_accepted_total 0\n"), "{answer}");
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let daemon = Daemon::start(NO_KAFKA, "");
    let killed = daemon.kill();
    for path in [killed.files.stream_socket(), killed.files.datagram_socket(), killed.files.admin_socket()] {
        let left = fs::metadata(&path).expect("a killed daemon leaves its sockets");
        assert!(left.file_type().is_socket());
    }
    let daemon = Daemon::start_on(killed.files);
    assert_eq!(daemon.connect().versions().len(), 5);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_alone() {
    let daemon = Daemon::start(NO_KAFKA, "");
    let (code, stderr) = refused(daemon.files());
    assert_eq!(code, Some(CANNOT_CREATE), "{stderr}");
    assert!(stderr.contains("forebay.sock"), "{stderr}");
    assert_eq!(daemon.connect().versions().len(), 5);

    let files = DaemonFiles::new(NO_KAFKA, "");
    let _admin = UnixListener::bind(files.admin_socket()).expect("the directory is new");
    let (code, stderr) = refused(&files);
    assert_eq!(code, Some(CANNOT_CREATE), "{stderr}");
    assert!(stderr.contains("admin.sock"), "{stderr}");
}

#[test]
fn what_is_not_a_socket_is_never_removed() {
    let files = DaemonFiles::new(NO_KAFKA, "");
    fs::write(files.stream_socket(), "precious").expect("the directory can be written");
    let (code, stderr) = refused(&files);
    assert_eq!(code, Some(CANNOT_CREATE), "{stderr}");
    assert!(stderr.contains("forebay.sock"), "{stderr}");
    assert_eq!(fs::read(files.stream_socket()).expect("it is there"), b"precious");
}

#[test]
fn a_socket_in_a_directory_that_is_not_there_is_explained() {
    let files = DaemonFiles::new(NO_KAFKA, "");
    let text = fs::read_to_string(files.config()).expect("it is there");
    fs::write(files.config(), text.replace("forebay.sock", "missing/forebay.sock")).expect("it can be written");
    let (code, stderr) = refused(&files);
    assert_eq!(code, Some(CANNOT_CREATE), "{stderr}");
    assert!(stderr.contains("missing"), "{stderr}");
}

#[test]
fn the_daemon_takes_its_sockets_away_when_it_ends() {
    let stopped = Daemon::start(NO_KAFKA, "").stop();
    assert_eq!(stopped.code(), 0, "{}", stopped.log);
    for path in [stopped.files.stream_socket(), stopped.files.datagram_socket(), stopped.files.admin_socket()] {
        assert!(!path.exists(), "{} is left", path.display());
    }
}
