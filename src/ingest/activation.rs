//! Sockets that systemd has made and hands over when it starts the daemon (`sd_listen_fds(3)`), each with a name.
//!
//! Such a socket outlives the daemon: it was there before, and clients that connect while no daemon runs wait in its backlog for
//! the next. What comes in is the environment and the open file descriptors of the process; what goes out are sockets, by name.
//!
//! Invariants:
//! - A socket goes only to the listener that names it, and only if it is of the listener's type and lies at its path.
//! - All of them are taken: one that is not read would keep its clients waiting for ever.
//!
//! The variables stay in the environment, since to remove them is not safe once there are threads. They speak to one process
//! (`LISTEN_PID`), and the descriptors are closed in every child (`FD_CLOEXEC`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{AcceptConn, SockType as TypeOption};
use nix::sys::socket::{SockType, UnixAddr, getsockname, getsockopt};

/// What `sd_listen_fds_with_names` calls a descriptor without a name.
const NAMELESS: &str = "unknown";

/// Why what systemd hands over does not fit the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The environment speaks of descriptors that are not there, or not in the way that is agreed on.
    #[error("the sockets that systemd hands over cannot be used: {0}")]
    Environment(io::Error),
    /// A listener's socket is not there.
    #[error(
        "systemd hands over no socket named {name:?} for {}, only {others}: start its socket unit and name it in Sockets= of the \
         service, or leave systemd_socket out of the listener",
        path.display()
    )]
    Missing {
        /// `systemd_socket` of the listener.
        name: String,
        /// `path` of the listener.
        path: PathBuf,
        /// The names that there are, or "none at all".
        others: String,
    },
    /// A socket of that name lies elsewhere.
    #[error(
        "the socket that systemd hands over as {name:?} lies at {found}, and not at {}: write the same path in the listener and in the socket unit",
        path.display()
    )]
    OtherPath {
        /// `systemd_socket` of the listener.
        name: String,
        /// `path` of the listener.
        path: PathBuf,
        /// Where the socket is.
        found: String,
    },
    /// It is of another type.
    #[error("what systemd hands over as {name:?} for {} is no {wanted}", path.display())]
    OtherType {
        /// `systemd_socket` of the listener.
        name: String,
        /// `path` of the listener.
        path: PathBuf,
        /// What it should be, and the setting that makes it so.
        wanted: &'static str,
    },
    /// Nobody would read it.
    #[error(
        "systemd hands over a socket named {name:?} at {place} that no listener takes: give a listener systemd_socket = {name:?}, or stop its socket unit"
    )]
    Unclaimed {
        /// What systemd calls it.
        name: String,
        /// Its path.
        place: String,
    },
}

/// Sockets from systemd that no listener has taken yet.
#[derive(Debug, Default)]
pub struct HandedOver {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    name: String,
    fd: OwnedFd,
}

impl HandedOver {
    /// Those of this process; none if systemd has not started it. To be called at most once in a process: what is returned owns the
    /// descriptors.
    ///
    /// # Errors
    /// [`ActivationError::Environment`].
    pub fn to_this_process() -> Result<Self, ActivationError> {
        // The one crate checks that the descriptors are for this process and open, and has them closed in children; only then does
        // the other make them ours. (The former's list of names is an error when it is for another process.)
        if sd_notify::listen_fds().map_err(ActivationError::Environment)?.len() == 0 {
            return Ok(HandedOver::default());
        }
        let owned = sd_listen_fds::get()
            .map_err(|error| ActivationError::Environment(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let socket = |(name, fd): (Option<String>, sd_listen_fds::OwnedFd)| Socket {
            name: name.unwrap_or_else(|| NAMELESS.to_owned()),
            fd: fd.into_std(),
        };
        Ok(HandedOver { sockets: owned.into_iter().map(socket).collect() })
    }

    /// The socket of that name at `path`, if it is one of type `kind`. It blocks or not as systemd has made it.
    pub(super) fn take(&mut self, name: &str, path: &Path, kind: SockType) -> Result<OwnedFd, ActivationError> {
        let named = |socket: &Socket| socket.name == name;
        let Some(first) = self.sockets.iter().find(|socket| named(socket)) else {
            return Err(ActivationError::Missing {
                name: name.to_owned(),
                path: path.to_owned(),
                others: self.names(),
            });
        };
        let at = self.sockets.iter().position(|socket| named(socket) && place(&socket.fd).as_deref() == Some(path));
        let Some(at) = at else {
            // Not a socket of the Unix family, or another one.
            return Err(match place(&first.fd) {
                Some(found) => ActivationError::OtherPath {
                    name: name.to_owned(),
                    path: path.to_owned(),
                    found: found.display().to_string(),
                },
                None => other_type(name, path, kind),
            });
        };
        let Socket { fd, .. } = self.sockets.swap_remove(at);
        if is_of(kind, &fd).unwrap_or(false) { Ok(fd) } else { Err(other_type(name, path, kind)) }
    }

    /// An error if there are any left.
    pub(super) fn refuse_what_is_left(self) -> Result<(), ActivationError> {
        let Some(Socket { name, fd }) = self.sockets.into_iter().next() else { return Ok(()) };
        let place = place(&fd).map_or_else(|| "no path".to_owned(), |path| path.display().to_string());
        Err(ActivationError::Unclaimed { name, place })
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.sockets.iter().map(|socket| format!("{:?}", socket.name)).collect();
        if names.is_empty() { "none at all".to_owned() } else { names.join(", ") }
    }
}

fn other_type(name: &str, path: &Path, kind: SockType) -> ActivationError {
    let wanted = match kind {
        SockType::Datagram => "Unix datagram socket, as ListenDatagram= makes one",
        _ => "Unix stream socket that listens, as ListenStream= makes one",
    };
    ActivationError::OtherType { name: name.to_owned(), path: path.to_owned(), wanted }
}

/// The path of a Unix socket that has one.
fn place(fd: &OwnedFd) -> Option<PathBuf> {
    let address: UnixAddr = getsockname(fd.as_raw_fd()).ok()?;
    address.path().map(Path::to_owned)
}

fn is_of(kind: SockType, fd: &OwnedFd) -> Result<bool, Errno> {
    let listens = getsockopt(fd, AcceptConn)?;
    Ok(getsockopt(fd, TypeOption)? == kind && (listens || kind != SockType::Stream))
}

#[cfg(test)]
mod tests;
