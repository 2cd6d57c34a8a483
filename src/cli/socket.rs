//! Why one of the daemon's sockets cannot be connected to, and what to do about it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group};

use super::exit::{self, Failure};

/// The failure for a connection to `path` that gave `error`.
pub(super) fn unreachable(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => Failure::new(
            exit::UNAVAILABLE,
            format_args!(
                "cannot reach the daemon: there is no socket {shown}; is forebay running, and is this its path?"
            ),
        ),
        ErrorKind::ConnectionRefused => Failure::new(
            exit::UNAVAILABLE,
            format_args!("cannot reach the daemon: nobody listens on {shown}; forebay has ended or was killed"),
        ),
        ErrorKind::PermissionDenied => Failure::new(
            exit::PERMISSION,
            format_args!("cannot reach the daemon: permission denied for {shown}; {}", who_may(path)),
        ),
        _ => Failure::new(exit::UNAVAILABLE, format_args!("cannot reach the daemon at {shown}: {error}")),
    }
}

/// Who may use the socket, as far as its file can be seen.
fn who_may(path: &Path) -> String {
    let Ok(file) = fs::metadata(path) else {
        return "its directory may not be entered".to_owned();
    };
    let group = match Group::from_gid(Gid::from_raw(file.gid())) {
        Ok(Some(group)) => group.name,
        _ => file.gid().to_string(),
    };
    let mode = file.mode() & 0o777;
    // To connect is to write.
    if mode & 0o020 == 0 {
        return format!("its mode is {mode:04o}, so only its owner may use it");
    }
    format!("it is for members of the group {group} (mode {mode:04o}): join it, and log in again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_cause_has_its_remedy_and_its_code() {
        let path = Path::new("/nowhere/forebay.sock");
        let failure = |kind: ErrorKind| unreachable(path, &io::Error::from(kind));
        let missing = failure(ErrorKind::NotFound);
        assert_eq!(missing.code, exit::UNAVAILABLE);
        assert!(missing.message.contains("there is no socket /nowhere/forebay.sock; is forebay running"), "{missing}");
        assert!(failure(ErrorKind::ConnectionRefused).message.contains("nobody listens"));
        let denied = failure(ErrorKind::PermissionDenied);
        assert_eq!(denied.code, exit::PERMISSION);
        assert!(denied.message.ends_with("its directory may not be entered"), "{denied}");
    }

    #[test]
    fn who_is_denied_is_told_which_group_to_join() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let gid = file.as_file().metadata().unwrap().gid();
        let group = Group::from_gid(Gid::from_raw(gid)).unwrap().map_or(gid.to_string(), |group| group.name);
        let denied = |mode| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            unreachable(file.path(), &io::Error::from(ErrorKind::PermissionDenied)).message
        };
        let message = denied(0o660);
        assert!(message.ends_with(&format!("the group {group} (mode 0660): join it, and log in again")), "{message}");
        assert!(denied(0o600).ends_with("its mode is 0600, so only its owner may use it"));
    }
}
