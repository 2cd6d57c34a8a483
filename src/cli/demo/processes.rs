//! The demo's daemon and clients: this same program, started again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::input::Share;
use super::{TOPIC, failure};
use crate::cli::exit::{self, Failure};

/// How long anything may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running daemon. Dropped, it is killed.
pub(super) struct Daemon {
    process: Child,
    program: PathBuf,
    socket: PathBuf,
    admin: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Returns when it says that it is ready, in systemd's way.
    pub(super) async fn start(directory: &Path, bootstrap_servers: &[String]) -> Result<Self, Failure> {
        let [config, log, socket, admin, ready] =
            ["forebay.toml", "forebay.log", "forebay.sock", "admin.sock", "ready.sock"]
                .map(|name| directory.join(name));
        // JSON's strings are TOML's, too.
        let text = format!(
            "[kafka]\nbootstrap_servers = {}\n\n[[listeners]]\ntype = \"stream\"\npath = {}\n\n[admin]\npath = {}\n",
            serde_json::json!(bootstrap_servers),
            serde_json::json!(socket),
            serde_json::json!(admin)
        );
        let prepare = || -> io::Result<(PathBuf, File, UnixDatagram)> {
            fs::write(&config, text)?;
            Ok((std::env::current_exe()?, File::create(&log)?, UnixDatagram::bind(&ready)?))
        };
        let (program, log_file, ready_socket) =
            prepare().map_err(|error| failure("cannot prepare the daemon", &error))?;
        let process = Command::new(&program)
            .args(["run", "--config"])
            .arg(&config)
            .env("NOTIFY_SOCKET", &ready)
            .stdin(Stdio::null())
            .stderr(log_file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failure("cannot start the daemon", &error))?;
        let mut daemon = Daemon { process, program, socket, admin, log };
        let mut message = [0; 64];
        let is_ready = tokio::select! {
            received = timeout(PATIENCE, ready_socket.recv(&mut message)) => matches!(received, Ok(Ok(_))),
            _ = daemon.process.wait() => false,
        };
        if is_ready { Ok(daemon) } else { Err(daemon.failed("the daemon did not become ready")) }
    }

    /// Where clients connect.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where its status is asked for.
    pub(super) fn admin(&self) -> &Path {
        &self.admin
    }

    /// Stops it in order, with all that it holds delivered.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let told = pid.is_some_and(|pid| kill(pid, Signal::SIGTERM).is_ok());
        match timeout(PATIENCE, self.process.wait()).await {
            Ok(Ok(status)) if told && status.success() => Ok(()),
            _ => Err(self.failed("the daemon did not stop in order")),
        }
    }

    fn failed(&self, what: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        Failure::new(exit::FAILURE, format_args!("{what}; its log:\n{log}"))
    }
}

/// The clients. Dropped, they are killed.
pub(super) struct Clients(Vec<Child>);

/// One `forebay produce` for each share.
pub(super) fn start_clients(daemon: &Daemon, shares: &[Share]) -> Result<Clients, Failure> {
    let start = |share: &Share| {
        let mut command = Command::new(&daemon.program);
        command.args(["produce", "--quiet", "-t", TOPIC, "--socket"]).arg(&daemon.socket);
        if let Some(key) = &share.key {
            command.args(["-k", key]);
        }
        command.arg("-l").arg(&share.file).stdin(Stdio::null()).kill_on_drop(true).spawn()
    };
    let clients = shares.iter().map(start).collect::<io::Result<_>>();
    clients.map(Clients).map_err(|error| failure("cannot start a client", &error))
}

impl Clients {
    /// Waits until each has all its records acknowledged.
    pub(super) async fn finish(mut self) -> Result<(), Failure> {
        for client in &mut self.0 {
            let status = client.wait().await.map_err(|error| failure("cannot wait for a client", &error))?;
            if !status.success() {
                return Err(Failure::new(exit::FAILURE, format_args!("a client ended with {status}")));
            }
        }
        Ok(())
    }
}
