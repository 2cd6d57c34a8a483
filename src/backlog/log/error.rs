//! What can go wrong with a log.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::disk_error::DiskError;

/// Why a call failed. After each of them the log is as it was before the call, and usable.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directory is another process's.
    #[error("cannot lock {}: the directory belongs to {}; stop that one, or give this one a directory of its own", path.display(), process(*pid))]
    Owned {
        /// The lock file.
        path: PathBuf,
        /// The other's process id, if it could be read.
        pid: Option<u32>,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The directory is not the one that was locked: what is written now is lost when the process ends.
    #[error(
        "{} was removed or replaced while it was in use; put it back, or stop forebay and start it again: what Kafka does not have is in its memory only",
        path.display()
    )]
    Replaced {
        /// The directory.
        path: PathBuf,
    },
    /// A later version has written here.
    #[error(
        "{} has version {version} of the log's format, and this forebay knows versions up to {}; start the forebay that wrote it, or a later one",
        path.display(), super::header::VERSION
    )]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// There is no room for records; notes still have theirs.
    #[error("the log is full: {used_bytes} of {limit_bytes} bytes are used{cause}")]
    Full {
        /// Bytes of all segments.
        used_bytes: u64,
        /// How many there may be.
        limit_bytes: u64,
        /// What would have to change.
        cause: FullCause,
    },
    /// A sync is under way whose outcome must be known first: finish it and try again.
    #[error("a sync is under way")]
    Busy,
    /// The caller asks for what cannot be.
    #[error("{0}")]
    Refused(&'static str),
}

/// Which bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullCause {
    /// The log's own limit.
    Limit,
    /// The file system has no more room.
    Disk,
    /// More would leave less than so many bytes of the file system to others.
    Floor(u64),
}

impl fmt::Display for FullCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FullCause::Limit => Ok(()),
            FullCause::Disk => f.write_str(", and the file system has no room for more"),
            FullCause::Floor(floor) => {
                write!(f, ", and more would leave less than {floor} bytes of the file system to others")
            }
        }
    }
}

impl LogError {
    /// For `map_err`.
    pub(super) fn io(action: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> LogError {
        move |source| DiskError::new(action, path, source).into()
    }

    /// Whether the disk, or the user's share of it, is full.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            LogError::Full { .. } => true,
            LogError::Disk(error) => is_out_of_space(&error.source),
            _ => false,
        }
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map_or("another process".to_owned(), |pid| format!("process {pid}"))
}

/// Whether an error says that the disk, or the user's share of it, is full.
pub(super) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
