//! Making the daemon's sockets: the file with its mode and group, and what to do when something is in the way.
//!
//! Invariants:
//! - At no moment does the file allow more than its configuration says: it is made for its owner alone, then given its
//!   group, then its mode, and a stream socket listens only after that.
//! - Only a socket that nobody has open is replaced. A live one, or a file that is no socket, is an error.
//! - A socket's file is removed when its listener ends ([`SocketGuard`]), but not one that another process has put there since.
//! - Of a socket that systemd has made neither the file nor its permissions are touched.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind as bind_address, connect, setsockopt,
};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::{UnixDatagram, UnixListener};

use super::activation::{ActivationError, HandedOver};
use crate::config::{Group, Listener, SocketFile};

/// Connections that the kernel keeps until they are accepted. It has a limit of its own (`net.core.somaxconn`).
const BACKLOG: i32 = 1024;

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has it open.
    #[error("{} is in use: is forebay running already? stop it, or choose another path", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// There is a file, a directory, anything but a socket.
    #[error("{} is there already and is no socket: remove it, or choose another path", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The system has no such group.
    #[error("there is no group {group:?}, which {} shall belong to", path.display())]
    NoSuchGroup {
        /// The socket.
        path: PathBuf,
        /// As in the configuration.
        group: String,
    },
    /// What systemd hands over does not fit the listeners.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// The operating system refuses.
    #[error("cannot {action} {}: {error}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What was to be done with it.
        action: &'static str,
        /// What the system says. Part of the message, so not a source beside it.
        error: io::Error,
    },
}

/// A listening stream socket and its file.
#[derive(Debug)]
pub struct StreamSocket {
    /// It listens.
    pub listener: UnixListener,
    /// To be kept for as long as it shall.
    pub file: SocketGuard,
}

/// A datagram socket and its file.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    pub socket: UnixDatagram,
    pub file: SocketGuard,
}

/// The stream socket of a listener: taken from those `handed_over` if the listener names one, else made.
pub(super) fn stream_listener(listener: &Listener, handed_over: &mut HandedOver) -> Result<StreamSocket, BindError> {
    let Some(name) = &listener.systemd_socket else { return stream_socket(&listener.socket) };
    let path = &listener.socket.path;
    let fd = handed_over.take(name, path, SockType::Stream)?;
    listening(fd, SocketGuard::of_another(path))
}

/// Makes a stream socket, and listens. Must be called within a tokio runtime.
///
/// # Errors
/// See [`BindError`].
pub fn stream_socket(config: &SocketFile) -> Result<StreamSocket, BindError> {
    let (fd, file) = socket_file(config, SockType::Stream)?;
    let listens = Backlog::new(BACKLOG).and_then(|backlog| socket::listen(&fd, backlog));
    listens.map_err(|error| system(&config.path, "listen on", error))?;
    listening(fd, file)
}

fn listening(fd: OwnedFd, file: SocketGuard) -> Result<StreamSocket, BindError> {
    let listener = std::os::unix::net::UnixListener::from(fd);
    let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    match listener {
        Ok(listener) => Ok(StreamSocket { listener, file }),
        Err(error) => Err(system(file.path(), "listen on", error)),
    }
}

/// The datagram socket of a listener, that is told who sends: taken from those `handed_over` if the listener names one, else made.
/// Must be called within a tokio runtime.
pub(super) fn datagram_listener(
    listener: &Listener,
    handed_over: &mut HandedOver,
) -> Result<DatagramSocket, BindError> {
    let path = &listener.socket.path;
    let (fd, file) = match &listener.systemd_socket {
        Some(name) => (handed_over.take(name, path, SockType::Datagram)?, SocketGuard::of_another(path)),
        None => socket_file(&listener.socket, SockType::Datagram)?,
    };
    setsockopt(&fd, PassCred, &true).map_err(|error| system(path, "receive on", error))?;
    let socket = std::os::unix::net::UnixDatagram::from(fd);
    let socket = socket.set_nonblocking(true).and_then(|()| UnixDatagram::from_std(socket));
    Ok(DatagramSocket { socket: socket.map_err(|error| system(path, "receive on", error))?, file })
}

fn system(path: &Path, action: &'static str, error: impl Into<io::Error>) -> BindError {
    BindError::System { path: path.to_owned(), action, error: error.into() }
}

/// A bound socket whose file has its owner, group and mode.
fn socket_file(config: &SocketFile, kind: SockType) -> Result<(OwnedFd, SocketGuard), BindError> {
    let path = &config.path;
    let group = config.group.as_ref().map(|group| group_id(group, path)).transpose()?;
    let fail = |action| move |error: Errno| system(path, action, error);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(AddressFamily::Unix, kind, flags, None).map_err(fail("create"))?;
    // On Linux the file takes its mode from the socket (`unix_bind` in net/unix/af_unix.c), less the umask.
    fchmod(&fd, Mode::from_bits_truncate(config.mode & 0o700)).map_err(fail("set the mode of"))?;
    let address = UnixAddr::new(path).map_err(fail("create"))?;
    match bind_address(fd.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) => {
            remove_stale(path)?;
            bind_address(fd.as_raw_fd(), &address).map_err(fail("create"))?;
        }
        bound => bound.map_err(fail("create"))?,
    }
    let file = SocketGuard::of(path).map_err(|error| system(path, "create", error))?;
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(|error| system(path, "set the group of", error))?;
    }
    let mode = std::fs::Permissions::from_mode(config.mode);
    std::fs::set_permissions(path, mode).map_err(|error| system(path, "set the mode of", error))?;
    Ok((fd, file))
}

fn group_id(group: &Group, path: &Path) -> Result<u32, BindError> {
    let name = match group {
        Group::Id(id) => return Ok(*id),
        Group::Name(name) => name,
    };
    match nix::unistd::Group::from_name(name) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        Ok(None) => Err(BindError::NoSuchGroup { path: path.to_owned(), group: name.clone() }),
        Err(error) => Err(system(path, "look up the group of", error)),
    }
}

/// Whether anybody has a socket open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketUse {
    /// Nobody: its file is left from a process that has ended.
    Deserted,
    /// Somebody.
    InUse,
}

/// Finds out whether anybody has the socket at `path` open. Nothing is sent, nobody has to accept anything.
///
/// # Errors
/// [`BindError::NotASocket`]; [`BindError::System`] also if nothing is there.
pub fn socket_use(path: &Path) -> Result<SocketUse, BindError> {
    let found = std::fs::symlink_metadata(path).map_err(|error| system(path, "look at", error))?;
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    // A datagram socket for the question, whatever is asked about: a stream socket that listens answers EPROTOTYPE,
    // and does not have to accept anything.
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None);
    match probe.and_then(|probe| connect(probe.as_fd().as_raw_fd(), &UnixAddr::new(path)?)) {
        Err(Errno::ECONNREFUSED) => Ok(SocketUse::Deserted),
        Ok(()) | Err(Errno::EPROTOTYPE) => Ok(SocketUse::InUse),
        Err(error) => Err(system(path, "find out whether anybody uses", error)),
    }
}

/// Removes the socket file of a process that has ended. Two daemons that start at the same instant may both take a file for
/// stale; the one that binds last has the path.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    match socket_use(path)? {
        SocketUse::Deserted => std::fs::remove_file(path).map_err(|error| system(path, "remove the unused", error)),
        SocketUse::InUse => Err(BindError::InUse { path: path.to_owned() }),
    }
}

/// Removes a socket's file when it is dropped, if the daemon has made it and it is still the same.
#[derive(Debug)]
pub struct SocketGuard {
    path: PathBuf,
    /// `None`: the file is not ours.
    identity: Option<(u64, u64)>,
}

impl SocketGuard {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(SocketGuard { path: path.to_owned(), identity: Some(identity(path)?) })
    }

    fn of_another(path: &Path) -> Self {
        SocketGuard { path: path.to_owned(), identity: None }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        if self.identity.is_some_and(|made| identity(&self.path).is_ok_and(|now| now == made)) {
            // What cannot be removed is stale, and will be replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Device and inode: what tells two files of the same name apart.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
