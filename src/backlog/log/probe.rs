//! Proves that the directory can be used, by doing all that the log does: create, write, sync, read back, rename, delete.

use std::io;

use super::disk_error::DiskError;
use super::engine::Log;
use super::error::LogError;
use super::header::probe_name;
use super::storage::{LOCK, Storage, StorageFile};

const CONTENT: &[u8] = b"forebay can write here\n";

impl<S: Storage> Log<S> {
    /// Proves that the log can go on: its directory is still the one that was locked, and can be used. Files that were deleted under an open log
    /// take writes and syncs as if nothing had happened, so nothing else would tell.
    pub fn prove(&self, number: u64) -> Result<(), LogError> {
        match self.storage.is_in_place(&self.lock) {
            Ok(true) => Ok(probe(&self.storage, number)?),
            Ok(false) => Err(LogError::Replaced { path: self.storage.path("") }),
            Err(error) => Err(LogError::io("look at", self.storage.path(LOCK))(error)),
        }
    }
}

/// Tries it with a file of its own; `number` tells those of two probes at a time apart.
pub fn probe(storage: &impl Storage, number: u64) -> Result<(), DiskError> {
    let (first, second) = (probe_name(number), probe_name(number.wrapping_add(1)));
    let fail = |action, name: &str| {
        let path = storage.path(name);
        move |source| DiskError::new(action, path, source)
    };
    // Left over from a probe that was cut short.
    let _ = storage.remove(&first);
    let file = storage.create(&first).map_err(fail("create", &first))?;
    let used = (|| {
        file.write_at(CONTENT, 0).map_err(fail("write", &first))?;
        file.sync().map_err(fail("sync", &first))?;
        let mut read = [0; CONTENT.len()];
        let len = file.read_at(&mut read, 0).map_err(fail("read", &first))?;
        if read[..len] != *CONTENT {
            return Err(fail("read back", &first)(io::Error::other("it holds something else than was written")));
        }
        storage.rename(&first, &second).map_err(fail("rename", &first))
    })();
    if let Err(error) = used {
        let _ = storage.remove(&first);
        return Err(error);
    }
    storage.remove(&second).map_err(fail("remove", &second))?;
    storage.sync_directory("").map_err(fail("sync", ""))
}

#[cfg(test)]
mod tests {
    use super::super::storage::simulated::{Fault, SimulatedStorage};
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn a_good_directory_is_left_as_it_was() {
        let storage = SimulatedStorage::new(0);
        probe(&storage, 7).unwrap();
        assert!(storage.files().is_empty());
    }

    #[test]
    fn whatever_fails_is_named() {
        let mut actions = vec![];
        for after in 0..8 {
            let storage = SimulatedStorage::new(0);
            storage.fail(Some(Fault { after, times: 1, errno: Errno::EACCES }));
            actions.extend(probe(&storage, 0).err().map(|error| error.action));
        }
        assert_eq!(actions, ["create", "write", "sync", "read", "rename", "remove", "sync"]);
    }
}
