//! The seam to the disk: one directory and its files.
//!
//! Two implementations: `real`, and `simulated`, which loses what was not synced, tears writes, and fails when it is told to. All calls
//! block. Names are relative to the directory; [`QUARANTINE`] is the only directory below it.

pub mod real;
pub mod simulated;

use std::io;
use std::path::PathBuf;

/// The directory for damaged bytes.
pub const QUARANTINE: &str = "quarantine";
/// The file that the owner of a directory keeps locked.
pub const LOCK: &str = "lock";

/// A directory.
pub trait Storage: Clone + Send + Sync + 'static {
    /// An open file of it.
    type File: StorageFile;
    /// Keeps the directory locked while it lives.
    type Lock: Send + 'static;

    /// Locks the directory for this process.
    fn lock(&self) -> Result<Self::Lock, LockError>;
    /// Whether the lock still is the directory's: not when that was removed, replaced, or its lock file was.
    fn is_in_place(&self, lock: &Self::Lock) -> io::Result<bool>;
    /// The files of the directory itself (`""`) or of one below it, in no order.
    fn list(&self, directory: &str) -> io::Result<Vec<Listed>>;
    /// Makes a new file and opens it for reading and writing; fails when there is one of this name.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading and writing.
    fn open_for_writing(&self, name: &str) -> io::Result<Self::File>;
    /// Gives a file another name; a file that has it already is replaced. Durable after [`Storage::sync_directory`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Durable after [`Storage::sync_directory`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes a directory below this one, unless it is there.
    fn create_directory(&self, name: &str) -> io::Result<()>;
    /// Makes what was created, renamed and removed in a directory durable.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;
    /// Bytes that this process may still write on this file system.
    fn available_bytes(&self) -> io::Result<u64>;
    /// Where a file is, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// An open file. Reads and writes name their place, so that threads can share it.
pub trait StorageFile: Send + Sync + 'static {
    /// Writes all of `bytes`. After an error any part of them may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to the end of the buffer or of the file; how many bytes were read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes all that was written durable, as `fdatasync` does. After an error nothing that was written since the last
    /// success can be made durable on this file: the system may have forgotten that it was not.
    fn sync(&self) -> io::Result<()>;
    /// Makes the file at least this long and reserves the room.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes the file this long.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// How long the file is.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Tells the system that this range will be read soon.
    fn will_need(&self, offset: u64, len: u64);
}

/// A file of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// How long it is.
    pub len: u64,
}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the directory belongs to another process{}", pid.map(|pid| format!(", {pid}")).unwrap_or_default())]
    Held {
        /// Its process id, if it could be read.
        pid: Option<u32>,
    },
    /// The lock file cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}
