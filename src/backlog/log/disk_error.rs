//! What to say of a call to the file system that failed: what, on which path, why, who is at fault, and the command that mends it.
//!
//! Whoever reads it at night has the log line and nothing else. So for each way in which disks fail there are words of their own.

use std::fmt::{self, Display, Formatter};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub struct DiskError {
    /// What was tried, as an infinitive.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
    /// Where permission was refused: whose the path was then.
    owner: Option<Owner>,
}

/// Whose a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    /// The path itself, or the nearest directory above it that may be looked at.
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl DiskError {
    /// Looks at the path where that helps to explain.
    pub fn new(action: &'static str, path: PathBuf, source: io::Error) -> Self {
        let owner = if is_refusal(&source) { Owner::of(&path) } else { None };
        DiskError { action, path, source, owner }
    }

    /// What to do about it, a command where there is one; `None` where nothing is known.
    pub fn remedy(&self) -> Option<String> {
        let (uid, gid) = (Uid::effective(), Gid::effective());
        let shown = self.path.display();
        let directory = self.path.parent().unwrap_or(&self.path).display();
        Some(match errno(&self.source)? {
            Errno::EACCES | Errno::EPERM => match &self.owner {
                Some(Owner { path, uid: owner, .. }) if *owner == uid.as_raw() => {
                    format!("chmod u+rwX {} (or security rules forbid it: look at dmesg)", path.display())
                }
                Some(Owner { path, .. }) => format!("chown -R {uid}:{gid} {0} && chmod u+rwX {0}", path.display()),
                None => format!("chown -R {uid}:{gid} {directory}"),
            },
            Errno::ENOENT => format!(
                "if the directory is gone, make it: install -d -m 700 -o {uid} -g {gid} {directory} (systemd: StateDirectory=)"
            ),
            Errno::ENOTDIR => "name a directory".to_owned(),
            Errno::ENOSPC => format!("free some space on its file system: df -h {directory}; df -i {directory}"),
            Errno::EDQUOT => format!("raise the quota of user {uid} on its file system: edquota {uid}"),
            Errno::EROFS => format!(
                "mount its file system for writing: mount -o remount,rw \"$(findmnt -no TARGET -T {directory})\" (systemd: ReadWritePaths=); look at dmesg why it is not"
            ),
            Errno::EIO => "the disk fails: look at dmesg, and move the directory to another disk".to_owned(),
            Errno::EMFILE | Errno::ENFILE => {
                "raise the limit of open files: ulimit -n (systemd: LimitNOFILE=)".to_owned()
            }
            Errno::EFBIG => "raise the limit of a file's size: ulimit -f (systemd: LimitFSIZE=)".to_owned(),
            Errno::EISDIR | Errno::EEXIST => format!("something else has this name: ls -ld {shown}, and move it away"),
            _ => return None,
        })
    }
}

impl Display for DiskError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: ", self.action, self.path.display())?;
        match errno(&self.source) {
            Some(errno) => write!(f, "{} ({errno:?})", errno.desc())?,
            None => write!(f, "{}", self.source)?,
        }
        if is_refusal(&self.source) {
            write!(f, "; forebay runs as user {} and group {}", Uid::effective(), Gid::effective())?;
        }
        if let Some(Owner { path, uid, gid, mode }) = &self.owner {
            write!(f, ", {} belongs to {uid}:{gid} and has mode {mode:04o}", path.display())?;
        }
        self.remedy().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl Owner {
    fn of(path: &Path) -> Option<Owner> {
        path.ancestors().find_map(|path| {
            let found = path.metadata().ok()?;
            Some(Owner { path: path.to_owned(), uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o7777 })
        })
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::EACCES | Errno::EPERM))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(errno: Errno) -> String {
        DiskError::new("create", PathBuf::from("/var/lib/forebay/1.spare"), errno.into()).to_string()
    }

    #[test]
    fn each_way_to_fail_has_its_name_and_its_remedy() {
        let remedies = [
            (Errno::ENOENT, "install -d -m 700 -o "),
            (Errno::ENOSPC, "df -i /var/lib/forebay"),
            (Errno::EDQUOT, "edquota "),
            (Errno::EROFS, "mount -o remount,rw "),
            (Errno::EIO, "dmesg"),
            (Errno::EMFILE, "LimitNOFILE="),
        ];
        for (errno, remedy) in remedies {
            let said = said(errno);
            let begin = format!("cannot create /var/lib/forebay/1.spare: {} ({errno:?})", errno.desc());
            assert!(said.starts_with(&begin) && said.contains(remedy), "{said}");
        }
    }

    #[test]
    fn a_refusal_says_who_asked_whose_the_path_is_and_how_it_becomes_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none/1.spare");
        let refused = DiskError::new("create", path.clone(), Errno::EACCES.into());
        let (uid, gid) = (Uid::effective(), Gid::effective());
        let owner =
            format!("runs as user {uid} and group {gid}, {} belongs to {uid}:{gid}", directory.path().display());
        let said = refused.to_string();
        assert!(said.contains(&owner) && said.contains("; chmod u+rwX "), "{said}");
        let others = Owner { path: directory.path().to_owned(), uid: uid.as_raw() + 1, gid: 0, mode: 0o755 };
        let said = DiskError { owner: Some(others), ..DiskError::new("create", path, Errno::EPERM.into()) }.to_string();
        assert!(said.contains("has mode 0755; chown -R ") && said.contains("(EPERM)"), "{said}");
    }

    #[test]
    fn an_error_that_is_not_the_systems_is_repeated() {
        let error = DiskError::new("read", PathBuf::from("f"), io::Error::other("it holds something else"));
        assert_eq!(error.to_string(), "cannot read f: it holds something else");
    }
}
