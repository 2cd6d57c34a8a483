//! forebay as its users run it: the built binary, a configuration file, sockets in a directory of the test's own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::process::{Output, Process, run};
use super::watch::{Watch, poll};

/// How long the daemon may take until it says `READY=1`.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to end; more than any `drain_timeout` that a test sets.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a command that only asks may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// What ends the thread that listens for notifications; systemd's own never look like this.
const NO_MORE_NOTIFICATIONS: &[u8] = b"";

/// A running forebay.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    files: DaemonFiles,
}

/// What a test wants otherwise than by default, each as TOML for one part of the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// Keys of `[kafka]`.
    pub kafka: &'a str,
    /// Keys of the stream listener.
    pub stream: &'a str,
    /// Keys of the datagram listener.
    pub datagram: &'a str,
    /// Further sections.
    pub rest: &'a str,
}

impl<'a> From<&'a str> for Extra<'a> {
    fn from(rest: &'a str) -> Self {
        Extra { rest, ..Extra::default() }
    }
}

/// Where a daemon's files are. Survives the daemon, so that another can be started on the same files.
#[derive(Debug)]
pub struct DaemonFiles {
    directory: TempDir,
    keep_when_failed: bool,
}

impl Drop for DaemonFiles {
    fn drop(&mut self) {
        if self.keep_when_failed && thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!("the daemon's files are kept in {}", self.directory.path().display());
        }
    }
}

impl DaemonFiles {
    /// A new directory with a configuration: `bootstrap` as Kafka's addresses, a stream and a datagram listener, the
    /// admin socket, and `extra`.
    pub fn new<'a>(bootstrap: &str, extra: impl Into<Extra<'a>>) -> DaemonFiles {
        let directory = TempDir::with_prefix("forebay-").expect("a temporary directory");
        let files = DaemonFiles { directory, keep_when_failed: false };
        files.configure(bootstrap, extra);
        files
    }

    /// Leaves the files where they are, and says where, when the test fails.
    pub fn keep_when_failed(&mut self) {
        self.keep_when_failed = true;
    }

    /// Writes the configuration anew.
    pub fn configure<'a>(&self, bootstrap: &str, extra: impl Into<Extra<'a>>) {
        let Extra { kafka, stream, datagram, rest } = extra.into();
        let servers: Vec<&str> = bootstrap.split(',').collect();
        let config = format!(
            "[kafka]\nbootstrap_servers = {servers:?}\n{kafka}\n\n\
             [[listeners]]\ntype = \"stream\"\npath = {:?}\n{stream}\n\n\
             [[listeners]]\ntype = \"datagram\"\npath = {:?}\n{datagram}\n\n\
             [admin]\npath = {:?}\n\n{rest}\n",
            self.stream_socket(),
            self.datagram_socket(),
            self.admin_socket(),
        );
        fs::write(self.config(), config).expect("the configuration can be written");
    }

    /// Makes them another user's, as whom the daemon is to run.
    pub fn give_to(&self, user: u32) {
        chown(self.directory.path(), Some(user), Some(user)).expect("this is root");
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("forebay.toml")
    }

    /// The stream listener's socket.
    pub fn stream_socket(&self) -> PathBuf {
        self.path("forebay.sock")
    }

    /// The datagram listener's socket.
    pub fn datagram_socket(&self) -> PathBuf {
        self.path("forebay.dgram")
    }

    /// The admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.path("admin.sock")
    }

    /// A file of that name in the daemon's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The binary under test.
pub fn forebay() -> Command {
    Command::new(env!("CARGO_BIN_EXE_forebay"))
}

impl Daemon {
    /// Starts a daemon on new files and waits until it is ready.
    #[track_caller]
    pub fn start<'a>(bootstrap: &str, extra: impl Into<Extra<'a>>) -> Daemon {
        Daemon::start_on(DaemonFiles::new(bootstrap, extra))
    }

    /// Starts a daemon on files that are there and waits until it is ready; a failed test when it ends instead.
    #[track_caller]
    pub fn start_on(files: DaemonFiles) -> Daemon {
        let mut command = forebay();
        command.arg("run").arg("--config").arg(files.config());
        Daemon::start_command(command, files)
    }

    /// Starts `command` as the daemon: for a test that gives other arguments or another environment.
    #[track_caller]
    pub fn start_command(command: Command, files: DaemonFiles) -> Daemon {
        Daemon::start_with_stdin(command, Stdio::null(), files)
    }

    /// As `start_command`, with something as standard input.
    #[track_caller]
    pub fn start_with_stdin(command: Command, stdin: Stdio, files: DaemonFiles) -> Daemon {
        let daemon = Daemon::launch_command(command, stdin, files, None);
        daemon.wait_ready();
        daemon
    }

    /// Starts a daemon on files that are there, and does not wait for it. Its log is kept in `daemon.log` beside them, behind those of
    /// the daemons before it.
    #[track_caller]
    pub fn launch(files: DaemonFiles) -> Daemon {
        let mut command = forebay();
        command.arg("run").arg("--config").arg(files.config());
        let log = files.path("daemon.log");
        Daemon::launch_command(command, Stdio::null(), files, Some(&log))
    }

    /// Starts `command` as the daemon and does not wait for it.
    #[track_caller]
    pub fn launch_as(command: Command, files: DaemonFiles) -> Daemon {
        Daemon::launch_command(command, Stdio::null(), files, None)
    }

    #[track_caller]
    fn launch_command(mut command: Command, stdin: Stdio, files: DaemonFiles, log: Option<&Path>) -> Daemon {
        let notify = files.path("notify.sock");
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).expect("the notification socket can be bound");
        // Also for a daemon that runs as another user.
        fs::set_permissions(&notify, Permissions::from_mode(0o777)).expect("it is ours");
        command.env("NOTIFY_SOCKET", &notify);
        let daemon = Daemon { process: Process::spawn(command, stdin, log), files };
        let output = Arc::clone(daemon.process.output());
        thread::spawn(move || keep_notifications(&socket, &output));
        daemon
    }

    /// Waits until it is ready; a failed test when it ends instead.
    #[track_caller]
    pub fn wait_ready(&self) {
        let ready = |o: &Output| o.notified.iter().any(|line| line == "READY=1").then_some(());
        self.process.wait_until("READY=1", START_TIMEOUT, ready);
    }

    /// Where its files are.
    pub fn files(&self) -> &DaemonFiles {
        &self.files
    }

    /// The process itself: its log on standard error, what it notified, signals.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A new connection to its stream socket.
    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(&self.files.stream_socket())
    }

    /// What `forebay status --json` prints.
    #[track_caller]
    pub fn status(&self) -> Value {
        status(&self.files.admin_socket())
    }

    /// Asks for the status until `find` gives something; a failed test with the last status when `timeout` passes.
    #[track_caller]
    pub fn wait_for_status<R>(&self, what: &str, timeout: Duration, find: impl Fn(&Value) -> Option<R>) -> R {
        let mut last = Value::Null;
        let found = poll(timeout, || {
            last = self.status();
            find(&last)
        });
        found
            .unwrap_or_else(|| panic!("no {what} in {timeout:?}; the last status: {last:#}\n{}", self.process.stderr()))
    }

    /// Sends SIGTERM and waits for its end.
    #[track_caller]
    pub fn stop(self) -> Stopped {
        self.process.signal(Signal::SIGTERM);
        self.ended()
    }

    /// Stops it, which it must do well, and starts it again on its files.
    #[track_caller]
    pub fn restart(self) -> Daemon {
        let stopped = self.stop();
        assert_eq!(stopped.code(), 0, "{}", stopped.log);
        Daemon::start_on(stopped.files)
    }

    /// Waits for it to end without being told to.
    #[track_caller]
    pub fn ended(mut self) -> Stopped {
        let status = self.process.wait(STOP_TIMEOUT);
        self.into_stopped(status)
    }

    /// Kills it with -9.
    #[track_caller]
    pub fn kill(mut self) -> Stopped {
        let status = self.process.kill();
        self.into_stopped(status)
    }

    fn into_stopped(self, status: ExitStatus) -> Stopped {
        let log = self.process.stderr();
        let Daemon { process, files } = self;
        drop(process);
        let notify = UnixDatagram::unbound().expect("a socket can be made");
        let _ = notify.send_to(NO_MORE_NOTIFICATIONS, files.path("notify.sock"));
        Stopped { status, log, files }
    }
}

/// A forebay that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// How it ended.
    pub status: ExitStatus,
    /// Its log.
    pub log: String,
    /// Its files, to be looked at or started on again.
    pub files: DaemonFiles,
}

impl Stopped {
    /// Its exit code; a failed test when a signal ended it.
    #[track_caller]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {}\n{}", self.status, self.log))
    }
}

/// What `forebay status --json` prints about the daemon with that admin socket.
#[track_caller]
pub fn status(admin: &Path) -> Value {
    let mut command = forebay();
    command.arg("status").arg("--admin").arg(admin).arg("--json");
    let (exit, stdout, stderr) = run(command, Stdio::null(), ASK_TIMEOUT);
    assert!(exit.success(), "forebay status: {exit}\n{stderr}");
    serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("forebay status printed no JSON object: {error}"))
}

fn keep_notifications(socket: &UnixDatagram, output: &Watch<Output>) {
    let mut datagram = vec![0; 4096];
    while let Ok(size) = socket.recv(&mut datagram) {
        if datagram[..size] == *NO_MORE_NOTIFICATIONS {
            return;
        }
        let text = String::from_utf8_lossy(&datagram[..size]);
        output.update(|o| o.notified.extend(text.lines().map(str::to_owned)));
    }
}
