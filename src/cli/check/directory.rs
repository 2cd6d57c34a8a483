//! Whether a directory can hold the backlog: proven by doing there what the backlog does, as the user that runs this.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use super::report::Finding;
use super::user_name;
use crate::cli::exit;
use crate::cli::status::size;

/// What is written and read back: more than one page, no page like another.
const PROOF_BYTES: usize = 64 * 1024;

/// What could not be done there, and why.
#[derive(Debug)]
struct Trouble {
    action: &'static str,
    error: io::Error,
}

/// Proves that files can be created, written, synced, read back, renamed and deleted in `directory`, and that it has room for
/// `limit` bytes and the `floor` that is left to others.
pub(super) fn check(directory: &Path, limit: Option<u64>, floor: u64) -> Finding {
    let shown = directory.display();
    if let Err(trouble) = prove(directory) {
        let message = format!("cannot {} in {shown}: {}", trouble.action, trouble.error);
        return Finding::error(exit_code(&trouble.error), "backlog", message, remedy(directory, &trouble.error));
    }
    let free = statvfs(directory).map(|fs| fs.blocks_available() * fs.fragment_size()).ok();
    if statfs(directory).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC) {
        let message = format!("{shown} is in memory (tmpfs): what is stored there is lost with the machine's power");
        return Finding::warning("backlog", message, "choose a directory on a disk");
    }
    match (free, limit) {
        (Some(free), _) if free < floor => {
            let message = format!(
                "{shown} has {} free, less than min_free_space, {}: nothing can be stored",
                size(free),
                size(floor)
            );
            Finding::warning(
                "backlog",
                message,
                "free some, lower backlog.min_free_space, or choose another file system",
            )
        }
        (Some(free), Some(limit)) if free < limit.saturating_add(floor) => {
            let message = format!(
                "{shown} has {} free, less than the limit of {} and min_free_space, {}",
                size(free),
                size(limit),
                size(floor)
            );
            Finding::warning("backlog", message, "free some, lower the limit, or choose another file system")
        }
        (Some(free), _) => Finding::ok("backlog", format!("{shown} can be used, {} free", size(free))),
        (None, _) => Finding::ok("backlog", format!("{shown} can be used")),
    }
}

/// Removes what the proof has made, however it ends.
struct Remains([PathBuf; 2]);

impl Drop for Remains {
    fn drop(&mut self) {
        for path in &self.0 {
            // Usually it is gone already.
            let _ = fs::remove_file(path);
        }
    }
}

fn prove(directory: &Path) -> Result<(), Trouble> {
    let failed = |action| move |error| Trouble { action, error };
    let name = |suffix: &str| directory.join(format!(".forebay-check-{}{suffix}", process::id()));
    let (first, second) = (name(""), name(".renamed"));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&first).map_err(failed("create a file"))?;
    let _remains = Remains([first.clone(), second.clone()]);
    let proof: Vec<u8> = (0..PROOF_BYTES).map(|at| (at / 251 + at) as u8).collect();
    file.write_all(&proof).map_err(failed("write a file"))?;
    file.sync_all().map_err(failed("sync a file"))?;
    drop(file);
    fs::rename(&first, &second).map_err(failed("rename a file"))?;
    let mut read = Vec::new();
    let read_back = File::open(&second).and_then(|file| file.take(PROOF_BYTES as u64 + 1).read_to_end(&mut read));
    read_back.map_err(failed("read a file"))?;
    if read != proof {
        let error = io::Error::new(io::ErrorKind::InvalidData, "what is read is not what was written");
        return Err(Trouble { action: "trust a file", error });
    }
    fs::remove_file(&second).map_err(failed("delete a file"))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync the directory"))
}

fn exit_code(error: &io::Error) -> u8 {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => exit::PERMISSION,
        _ => exit::CANNOT_CREATE,
    }
}

fn remedy(directory: &Path, error: &io::Error) -> String {
    let (user, shown) = (user_name(), directory.display());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => format!("make it {user}'s: chown {user} {shown} && chmod 700 {shown}"),
        Some(Errno::ENOENT) => {
            format!("make it: install -d -m 700 -o {user} {shown} (systemd: StateDirectory=forebay)")
        }
        Some(Errno::ENOTDIR) => "name a directory".to_owned(),
        Some(Errno::ENOSPC) => "free some space on its file system, and look at its inodes too: df -i".to_owned(),
        Some(Errno::EDQUOT) => format!("raise the quota of {user} on its file system"),
        Some(Errno::EROFS) => "mount its file system for writing (systemd: ReadWritePaths=)".to_owned(),
        Some(Errno::EIO) => "the disk fails: look at dmesg, and choose another one".to_owned(),
        _ => "choose another directory".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::report::Level;

    #[test]
    fn a_directory_that_can_be_used_is_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let enough = check(directory.path(), Some(1), 0);
        let too_little = check(directory.path(), Some(u64::MAX), 0);
        let for_others = check(directory.path(), Some(1), u64::MAX);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        // Temporary directories are in memory on some machines.
        if !enough.message.contains("tmpfs") {
            assert_eq!((enough.level, enough.message.ends_with(" free")), (Level::Ok, true), "{enough:?}");
            assert_eq!(too_little.level, Level::Warning, "{too_little:?}");
            assert!(too_little.message.contains("less than the limit of"), "{too_little:?}");
            assert!(for_others.message.ends_with("nothing can be stored"), "{for_others:?}");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_used_has_its_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let finding = check(&directory.path().join("none"), None, 0);
        assert!(finding.message.starts_with("cannot create a file in "), "{finding:?}");
        assert!(finding.remedy.unwrap().starts_with("make it: install -d"));
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(check(&file, None, 0).remedy.as_deref(), Some("name a directory"));
        // Nobody may create a file there, not even root.
        let finding = check(Path::new("/proc"), None, 0);
        assert_eq!(finding.level, Level::Error, "{finding:?}");
    }

    #[test]
    fn each_failure_of_a_disk_has_its_own_words() {
        let remedies = [Errno::EACCES, Errno::ENOENT, Errno::ENOSPC, Errno::EDQUOT, Errno::EROFS, Errno::EIO]
            .map(|errno| remedy(Path::new("d"), &errno.into()));
        for (at, remedy) in remedies.iter().enumerate() {
            assert!(!remedies[..at].contains(remedy), "{remedy}");
        }
        assert_eq!(exit_code(&Errno::EACCES.into()), exit::PERMISSION);
        assert_eq!(exit_code(&Errno::ENOSPC.into()), exit::CANNOT_CREATE);
    }
}
