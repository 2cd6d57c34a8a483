//! The real file system.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::sys::statvfs::statvfs;

use super::{LOCK, Listed, LockError, Storage, StorageFile};

/// Only the owner reads what programs hand over.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct RealStorage {
    directory: Arc<PathBuf>,
}

impl RealStorage {
    /// A directory, which exists.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        RealStorage { directory: Arc::new(directory.into()) }
    }
}

impl Storage for RealStorage {
    type File = File;
    type Lock = File;

    fn lock(&self) -> Result<File, LockError> {
        let path = self.path(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        // A link would have us write to somebody else's file.
        let file = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whoever holds it may be writing its id right now; the refusal stands without it.
                let _ = file.take(20).read_to_string(&mut text);
                return Err(LockError::Held { pid: text.trim().parse().ok() });
            }
        }
        // Only tells others whose it is; a disk without room for that must not keep a log closed.
        let pid = format!("{}\n", std::process::id());
        let _ = file.write_all_at(pid.as_bytes(), 0).and_then(|()| file.set_len(pid.len() as u64));
        Ok(file)
    }

    fn is_in_place(&self, lock: &File) -> io::Result<bool> {
        let (named, ours) = (fs::symlink_metadata(self.path(LOCK))?, lock.metadata()?);
        Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino()))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in fs::read_dir(self.path(directory))? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since it was listed, by the owner whom we may be watching.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // Names that are not UTF-8 are not the log's.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                listed.push(Listed { name, len: metadata.len() });
            }
        }
        Ok(listed)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name))
    }

    fn open_for_writing(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn create_directory(&self, name: &str) -> io::Result<()> {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        File::open(self.path(directory))?.sync_all()
    }

    fn available_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(self.directory.as_path())?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl StorageFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let signed = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let allocated = loop {
            match fallocate(self, FallocateFlags::empty(), 0, signed) {
                Err(Errno::EINTR) => {}
                other => break other,
            }
        };
        match allocated {
            // Not every file system can; it grows then as it is written.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) if StorageFile::len(self)? < len => File::set_len(self, len),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn will_need(&self, offset: u64, len: u64) {
        let range = (i64::try_from(offset), i64::try_from(len));
        if let (Ok(offset), Ok(len)) = range {
            // Advice: without it reading is slower, not wrong.
            let _ = posix_fadvise(self, offset, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_with_the_first_ones_process_id() {
        let directory = tempfile::tempdir().unwrap();
        let storage = RealStorage::new(directory.path());
        let lock = storage.lock().unwrap();
        let refused = storage.lock().unwrap_err();
        assert!(matches!(refused, LockError::Held { pid: Some(pid) } if pid == std::process::id()), "{refused}");
        drop(lock);
        storage.lock().unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_lock_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let others = directory.path().join("others");
        fs::write(&others, "precious").unwrap();
        std::os::unix::fs::symlink(&others, directory.path().join(LOCK)).unwrap();
        assert!(RealStorage::new(directory.path()).lock().is_err());
        assert_eq!(fs::read_to_string(&others).unwrap(), "precious");
    }

    #[test]
    fn a_directory_that_was_replaced_is_not_ours() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("backlog");
        fs::create_dir(&directory).unwrap();
        let storage = RealStorage::new(&directory);
        let lock = storage.lock().unwrap();
        assert!(storage.is_in_place(&lock).unwrap());
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(storage.is_in_place(&lock).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::create_dir(&directory).unwrap();
        let _theirs = storage.lock().unwrap();
        assert!(!storage.is_in_place(&lock).unwrap());
    }

    #[test]
    fn a_file_is_created_once_written_anywhere_and_listed() {
        let directory = tempfile::tempdir().unwrap();
        let storage = RealStorage::new(directory.path());
        let file = storage.create("a").unwrap();
        assert_eq!(storage.create("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        file.allocate(100).unwrap();
        StorageFile::write_at(&file, b"xyz", 98).unwrap();
        file.sync().unwrap();
        storage.rename("a", "b").unwrap();
        storage.sync_directory("").unwrap();
        assert_eq!(storage.list("").unwrap(), [Listed { name: "b".to_owned(), len: 101 }]);
        let mut buffer = [9; 8];
        assert_eq!(StorageFile::read_at(&storage.open("b").unwrap(), &mut buffer, 97).unwrap(), 4);
        assert_eq!(buffer[..4], [0, b'x', b'y', b'z']);
        assert!(storage.available_bytes().unwrap() > 0);
        storage.create_directory("q").unwrap();
        storage.create_directory("q").unwrap();
        assert_eq!(storage.list("q").unwrap(), []);
    }
}
