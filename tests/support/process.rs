//! A child process that cannot outlive the test, however the test ends.
//!
//! Each child runs in a process group whose first member is a shell that waits for the end of a pipe which only the test
//! process holds. When the test drops the [`Process`], panics, exits with it in a static or is killed with -9, the pipe
//! closes and the shell kills the group. As long as the shell lives, the kernel gives the group's number to nobody else.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::watch::Watch;

/// How much of what a child has said is shown when the test fails.
const LAST_WORDS_BYTES: usize = 16 << 10;

/// What a child has said so far.
#[derive(Debug, Default)]
pub struct Output {
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    /// What it told through `NOTIFY_SOCKET`, where it was given one.
    pub notified: Vec<String>,
    /// Which of the two streams are still open; when neither is, the child has ended or is about to.
    open_streams: usize,
}

/// A running child, killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    leash: Child,
    output: Arc<Watch<Output>>,
}

/// Whether `program` is installed; if not, says on standard error that the caller skips what needs it, or fails if
/// `FOREBAY_REQUIRE_TOOLS` is set.
#[track_caller]
pub fn is_installed_or_say(program: &str, skipped: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdin(Stdio::null()).output();
    let installed = asked.is_ok_and(|output| output.status.success());
    if !installed {
        assert!(std::env::var_os("FOREBAY_REQUIRE_TOOLS").is_none(), "{program} is not installed, but is required");
        // Past libtest's capture, so that a green run shows what it did not do.
        let _ = writeln!(io::stderr(), "skipping {skipped}: {program} is not installed");
    }
    installed
}

/// Standard input that holds `bytes` and then ends.
pub fn stdin_of(bytes: &[u8]) -> Stdio {
    let mut file = tempfile::tempfile().expect("a temporary file can be made");
    file.write_all(bytes).expect("a temporary file can be written");
    file.rewind().expect("a file can be rewound");
    Stdio::from(file)
}

/// Runs `command` to its end and returns what it said; a failed test when that takes longer than `timeout`.
#[track_caller]
pub fn run(command: Command, stdin: Stdio, timeout: Duration) -> (ExitStatus, Vec<u8>, String) {
    let mut process = Process::spawn(command, stdin, None);
    let status = process.wait(timeout);
    let (stdout, stderr) = process.output.update(|o| (std::mem::take(&mut o.stdout), std::mem::take(&mut o.stderr)));
    (status, stdout, String::from_utf8_lossy(&stderr).into_owned())
}

impl Process {
    /// Starts `command`; both of its output streams are kept, and copied to the file `log` where one is named.
    #[track_caller]
    pub fn spawn(mut command: Command, stdin: Stdio, log: Option<&Path>) -> Process {
        let name = command.get_program().to_string_lossy().into_owned();
        let leash = Command::new("sh")
            .args(["-c", "read -r _; kill -KILL 0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        let spawned = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(leash.id().cast_signed())
            .spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let output = Arc::new(Watch::default());
        output.update(|o: &mut Output| o.open_streams = 2);
        let log = log.map(|path| File::options().create(true).append(true).open(path).expect("the log can be opened"));
        let clone = |log: &Option<File>| log.as_ref().map(|file| file.try_clone().expect("a file can be cloned"));
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        keep(stdout, clone(&log), Arc::clone(&output), |o| &mut o.stdout);
        keep(stderr, log, Arc::clone(&output), |o| &mut o.stderr);
        Process { name, child, leash, output }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said; to be waited on.
    pub fn output(&self) -> &Arc<Watch<Output>> {
        &self.output
    }

    /// All of its standard error so far.
    pub fn stderr(&self) -> String {
        self.output.update(|o| String::from_utf8_lossy(&o.stderr).into_owned())
    }

    /// Waits until `find` gives something; a failed test when the child ends first or `timeout` passes.
    #[track_caller]
    pub fn wait_until<R>(&self, what: &str, timeout: Duration, mut find: impl FnMut(&Output) -> Option<R>) -> R {
        let found = self.output.wait(timeout, |o| match find(o) {
            Some(found) => Some(Some(found)),
            None if o.open_streams == 0 => Some(None),
            None => None,
        });
        match found {
            Some(Some(found)) => found,
            Some(None) => panic!("{} ended before {what}:\n{}", self.name, self.stderr()),
            None => panic!("{} did not get to {what} in {timeout:?}:\n{}", self.name, self.stderr()),
        }
    }

    /// Waits until standard output or standard error holds `text`.
    #[track_caller]
    pub fn wait_for_text(&self, text: &str, timeout: Duration) {
        self.wait_until(&format!("saying {text:?}"), timeout, |o| {
            (holds(&o.stderr, text) || holds(&o.stdout, text)).then_some(())
        });
    }

    /// Sends a signal to the child alone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("an unreaped child can be signalled");
    }

    /// Waits for its end; a failed test when `timeout` passes first.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let ended = self.output.wait(timeout, |o| (o.open_streams == 0).then_some(()));
        assert!(ended.is_some(), "{} did not end in {timeout:?}:\n{}", self.name, self.stderr());
        self.child.wait().expect("a child can be waited for")
    }

    /// Kills it with -9 and waits for its end.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let said = self.stderr();
            let tail = said.len().saturating_sub(LAST_WORDS_BYTES);
            eprintln!("{} said at last:\n{}", self.name, said.get(tail..).unwrap_or(&said));
        }
        // The shell has not been waited for, so the group's number is still its own. Errors are left alone: a panic here
        // would hide the one that the test failed with.
        let _ = killpg(Pid::from_raw(self.leash.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
        let _ = self.leash.wait();
    }
}

/// Copies a stream into the output, and into the log, until its end.
fn keep(
    mut stream: impl Read + Send + 'static,
    mut log: Option<File>,
    output: Arc<Watch<Output>>,
    field: fn(&mut Output) -> &mut Vec<u8>,
) {
    thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        loop {
            let read = match stream.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            if let Some(log) = &mut log {
                log.write_all(&chunk[..read]).expect("the log can be written");
            }
            output.update(|o| field(o).extend_from_slice(&chunk[..read]));
        }
        output.update(|o| o.open_streams -= 1);
    });
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
