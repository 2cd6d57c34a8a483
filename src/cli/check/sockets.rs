//! Whether the listeners' sockets and the admin socket can be made, and who has them now.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use nix::unistd::{AccessFlags, Gid, Group as SystemGroup, Uid, access, getgroups};

use super::report::Finding;
use super::user_name;
use crate::admin::{Status, client};
use crate::cli::exit;
use crate::cli::status::span;
use crate::config::{Config, Group, Listener, SocketFile};
use crate::ingest::bind::{BindError, SocketUse, socket_use};

const SUBJECT: &str = "socket";

/// One finding a socket.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = config.listeners.iter().map(check_listener).collect();
    findings.push(match socket_use(&config.admin.socket.path) {
        Ok(SocketUse::InUse) => admin(&config.admin.socket.path).await,
        _ => check_one(&config.admin.socket),
    });
    findings.extend(config.admin.metrics_address.map(check_metrics));
    findings
}

fn check_metrics(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(SUBJECT, format!("metrics can be offered at {address}")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let message =
                format!("{address} for metrics is in use: by a daemon that runs already, or by another program");
            Finding::warning(SUBJECT, message, format!("see by whom: ss -ltnp sport = :{}", address.port()))
        }
        Err(error) => {
            let message = format!("metrics cannot be offered at {address}: {error}");
            Finding::error(
                exit::CANNOT_CREATE,
                SUBJECT,
                message,
                "metrics_address of [admin]: choose an address of this machine",
            )
        }
    }
}

fn check_listener(listener: &Listener) -> Finding {
    match &listener.systemd_socket {
        Some(name) => of_systemd(&listener.socket.path, name),
        None => check_one(&listener.socket),
    }
}

/// Whether systemd has made a socket that it is to hand over.
fn of_systemd(path: &Path, name: &str) -> Finding {
    let shown = path.display();
    match socket_use(path) {
        Ok(SocketUse::InUse) => Finding::ok(SUBJECT, format!("{shown} is there, for systemd to hand over as {name:?}")),
        _ => {
            let message = format!("{shown} is not there, and systemd is to hand it over as {name:?}");
            let remedy = format!("start the socket unit with FileDescriptorName={name}, or leave systemd_socket out");
            Finding::warning(SUBJECT, message, remedy)
        }
    }
}

fn check_one(socket: &SocketFile) -> Finding {
    let path = &socket.path;
    let shown = path.display();
    let left_over = match socket_use(path) {
        Ok(SocketUse::InUse) => return Finding::ok(SUBJECT, format!("{shown} is in use: a daemon listens there")),
        Ok(SocketUse::Deserted) => true,
        Err(BindError::NotASocket { .. }) => {
            let remedy = "remove it, or choose another path";
            return Finding::error(exit::CANNOT_CREATE, SUBJECT, format!("{shown} is there and is no socket"), remedy);
        }
        // What is wrong with the directory is said below.
        Err(_) => false,
    };
    if let Some(finding) = directory(path).or_else(|| group(socket)) {
        return finding;
    }
    Finding::ok(
        SUBJECT,
        match left_over {
            true => format!("{shown} is left from a daemon that has ended, and will be replaced"),
            false => format!("{shown} can be made"),
        },
    )
}

/// What is wrong with the directory of a socket.
fn directory(path: &Path) -> Option<Finding> {
    let (directory, user) = (path.parent()?, user_name());
    let shown = directory.display();
    let problem = |code, what: &str, remedy: String| {
        Some(Finding::error(code, SUBJECT, format!("{} cannot be made: {what}", path.display()), remedy))
    };
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => {
            problem(exit::CANNOT_CREATE, &format!("{shown} is no directory"), "choose another path".to_owned())
        }
        Ok(_) => match access(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
            Ok(()) => None,
            Err(error) => {
                let remedy = format!("make {shown} writable for {user}: chown {user} {shown}");
                problem(exit::PERMISSION, &format!("{user} may not write to {shown} ({})", error.desc()), remedy)
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let remedy = format!("make it: install -d -o {user} {shown} (systemd: RuntimeDirectory=forebay)");
            problem(exit::CANNOT_CREATE, &format!("there is no directory {shown}"), remedy)
        }
        Err(error) => {
            let remedy = format!("let {user} enter the directories above {shown}");
            problem(exit::PERMISSION, &format!("{user} cannot look at {shown}: {error}"), remedy)
        }
    }
}

/// What is wrong with the group that a socket shall belong to.
fn group(socket: &SocketFile) -> Option<Finding> {
    let shown = socket.path.display();
    let (name, gid) = match socket.group.as_ref()? {
        Group::Id(id) => (id.to_string(), Gid::from_raw(*id)),
        Group::Name(name) => match SystemGroup::from_name(name) {
            Ok(Some(group)) => (name.clone(), group.gid),
            _ => {
                let message = format!("{shown} cannot be made: there is no group {name}");
                let remedy = format!("make it: groupadd --system {name}; or mend the socket's group");
                return Some(Finding::error(exit::CANNOT_CREATE, SUBJECT, message, remedy));
            }
        },
    };
    let is_member = Gid::effective() == gid || getgroups().is_ok_and(|groups| groups.contains(&gid));
    (!is_member && !Uid::effective().is_root()).then(|| {
        let user = user_name();
        let message = format!("{shown} cannot be given to the group {name}: {user} is no member of it");
        Finding::error(exit::PERMISSION, SUBJECT, message, format!("add {user} to it: usermod -a -G {name} {user}"))
    })
}

/// Who has the admin socket open.
async fn admin(path: &Path) -> Finding {
    let shown = path.display();
    let status = match client::get(path, "/status").await {
        Ok(body) => serde_json::from_slice::<Status>(&body).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match status {
        Ok(Status { version, uptime_seconds, .. }) => {
            let uptime = span(Duration::from_secs(uptime_seconds));
            Finding::ok(SUBJECT, format!("{shown} is in use: forebay {version} runs, up {uptime}"))
        }
        Err(error) => {
            let message = format!("{shown} is in use, but not as a forebay of this version: {error}");
            Finding::warning(SUBJECT, message, "stop what has it open, or choose another path")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;
    use crate::cli::check::report::Level;

    fn look(path: PathBuf, group: Option<Group>) -> (Level, String) {
        let Finding { level, message, remedy, .. } = check_one(&SocketFile { path, mode: 0o660, group });
        (level, message + &remedy.map(|remedy| format!(" → {remedy}")).unwrap_or_default())
    }

    #[test]
    fn free_stale_and_live_sockets_are_told_apart_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let expect = |level, words: &str| {
            let (found, message) = look(path.clone(), None);
            assert!(found == level && message.contains(words), "{found:?} {message}, not {words}");
        };
        expect(Level::Ok, "a.sock can be made");
        let listener = UnixListener::bind(&path).unwrap();
        expect(Level::Ok, "a.sock is in use: a daemon listens there");
        drop(listener);
        expect(Level::Ok, "a.sock is left from a daemon that has ended");
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        expect(Level::Error, "a.sock is there and is no socket → remove it");
    }

    #[test]
    fn a_socket_that_systemd_makes_is_there_or_its_unit_is_to_be_started() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let listener = Listener { systemd_socket: Some("stream".to_owned()), ..Listener::stream(&path) };
        let found = check_listener(&listener);
        assert!(found.level == Level::Warning && found.message.contains("hand it over as \"stream\""), "{found:?}");
        assert!(found.remedy.unwrap().contains("FileDescriptorName=stream"));
        let _made = UnixListener::bind(&path).unwrap();
        assert!(check_listener(&listener).level == Level::Ok);
    }

    #[test]
    fn a_directory_or_group_that_is_not_there_is_told_with_its_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let (level, message) = look(directory.path().join("none/a.sock"), None);
        assert!(level == Level::Error && message.contains("there is no directory"), "{message}");
        assert!(message.contains("install -d"), "{message}");
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let (level, message) = look(file.join("a.sock"), None);
        assert!(level == Level::Error && message.contains("is no directory"), "{message}");
        let nobody = Some(Group::Name("no-such-group-here".to_owned()));
        let (level, message) = look(directory.path().join("a.sock"), nobody);
        assert!(level == Level::Error && message.contains("groupadd --system no-such-group-here"), "{message}");
    }
}
