//! A directory in memory, on a disk that can lose its power and fail.
//!
//! What is synced survives [`SimulatedStorage::lose_power`]. Of what is not, each write survives wholly, in part or not at all, one apart from
//! the other, and of the changes to the directory a beginning. The n-th call can be made to fail with any error. Everything
//! random comes from a seed.

mod disk;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;
use parking_lot::Mutex;

use super::{Listed, LockError, Storage, StorageFile};
use disk::{Change, Disk};

/// A directory on a simulated disk. Clones share it.
#[derive(Clone, Debug)]
pub struct SimulatedStorage {
    disk: Arc<Mutex<Disk>>,
}

/// Calls that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// So many calls succeed before.
    pub after: u64,
    /// So many fail then.
    pub times: u64,
    /// With this error.
    pub errno: Errno,
}

impl SimulatedStorage {
    /// An empty directory; `seed` decides all that is random.
    pub fn new(seed: u64) -> Self {
        SimulatedStorage { disk: Arc::new(Mutex::new(Disk::new(seed))) }
    }

    /// A directory that holds these files, all of them synced.
    pub fn with_files(seed: u64, files: &BTreeMap<String, Vec<u8>>) -> Self {
        let storage = SimulatedStorage::new(seed);
        storage.disk.lock().put_files(files);
        storage
    }

    /// All files as a reader sees them now.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.disk.lock().files()
    }

    /// The power goes, and comes back. Every lock is free, every file that was open is dead.
    pub fn lose_power(&self) {
        self.disk.lock().lose_power();
    }

    /// The process ends without a word: locks are free, open files are dead, everything written is there.
    pub fn kill(&self) {
        self.disk.lock().kill();
    }

    /// Lets calls fail; replaces what was said before.
    pub fn fail(&self, fault: Option<Fault>) {
        self.disk.lock().fault = fault;
    }

    /// Reads that touch this part of a file fail with EIO, until it is mended or the file is written anew from its beginning.
    pub fn spoil(&self, name: &str, range: Range<u64>) {
        self.disk.lock().spoil(name, range);
    }

    /// Everything can be read again.
    pub fn mend(&self) {
        self.disk.lock().mend();
    }

    /// Whether everything that would change something fails with EROFS.
    pub fn set_read_only(&self, read_only: bool) {
        self.disk.lock().read_only = read_only;
    }

    /// How many bytes the disk has.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.lock().capacity = bytes;
    }

    /// Bytes in files.
    pub fn used_bytes(&self) -> u64 {
        self.disk.lock().used_bytes()
    }
}

/// A lock on the directory.
#[derive(Debug)]
pub struct SimulatedLock {
    disk: Arc<Mutex<Disk>>,
    boot: u64,
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock();
        if disk.boot == self.boot {
            disk.locked = false;
        }
    }
}

/// An open file.
#[derive(Debug)]
pub struct SimulatedFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    boot: u64,
    writable: bool,
}

impl SimulatedFile {
    /// The disk, for a call that may fail.
    fn call(&self, write: bool) -> io::Result<parking_lot::MutexGuard<'_, Disk>> {
        let mut disk = self.disk.lock();
        if disk.boot != self.boot || (write && !self.writable) {
            return Err(Errno::EBADF.into());
        }
        disk.call()?;
        Ok(disk)
    }
}

impl Storage for SimulatedStorage {
    type File = SimulatedFile;
    type Lock = SimulatedLock;

    fn lock(&self) -> Result<SimulatedLock, LockError> {
        let mut disk = self.disk.lock();
        disk.call()?;
        if disk.locked {
            return Err(LockError::Held { pid: Some(std::process::id()) });
        }
        disk.locked = true;
        Ok(SimulatedLock { disk: Arc::clone(&self.disk), boot: disk.boot })
    }

    fn is_in_place(&self, lock: &SimulatedLock) -> io::Result<bool> {
        let mut disk = self.disk.lock();
        disk.call()?;
        Ok(disk.locked && disk.boot == lock.boot)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<Listed>> {
        let mut disk = self.disk.lock();
        disk.call()?;
        Ok(disk.list(directory))
    }

    fn create(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut disk = self.disk.lock();
        disk.call()?;
        let inode = disk.create(name)?;
        Ok(SimulatedFile { disk: Arc::clone(&self.disk), inode, boot: disk.boot, writable: true })
    }

    fn open(&self, name: &str) -> io::Result<SimulatedFile> {
        let mut disk = self.disk.lock();
        disk.call()?;
        let inode = disk.inode(name)?;
        Ok(SimulatedFile { disk: Arc::clone(&self.disk), inode, boot: disk.boot, writable: false })
    }

    fn open_for_writing(&self, name: &str) -> io::Result<SimulatedFile> {
        Ok(SimulatedFile { writable: true, ..self.open(name)? })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.call()?;
        disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.call()?;
        disk.remove(name)
    }

    fn create_directory(&self, _name: &str) -> io::Result<()> {
        self.disk.lock().call()
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.call()?;
        disk.sync_directory(directory);
        Ok(())
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let mut disk = self.disk.lock();
        disk.call()?;
        Ok(disk.capacity.saturating_sub(disk.used_bytes()))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }
}

impl StorageFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.call(true) {
            Ok(mut disk) => disk.change(self.inode, Change::Write(offset, bytes.to_vec())),
            Err(error) => {
                // A part of what failed may be there.
                let mut disk = self.disk.lock();
                if disk.boot == self.boot && self.writable {
                    let len = disk.random.usize(..=bytes.len());
                    let _ = disk.change(self.inode, Change::Write(offset, bytes[..len].to_vec()));
                }
                Err(error)
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.call(false)?;
        disk.read(self.inode, buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.call(true).map(|mut disk| disk.sync(self.inode));
        if synced.is_err() {
            self.disk.lock().forget_unsynced(self.inode);
        }
        synced
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.call(true)?;
        let len = len.max(disk.len(self.inode));
        disk.change(self.inode, Change::SetLen(len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(true)?.change(self.inode, Change::SetLen(len))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.call(false)?.len(self.inode))
    }

    fn will_need(&self, _offset: u64, _len: u64) {}
}

#[cfg(test)]
mod tests;
