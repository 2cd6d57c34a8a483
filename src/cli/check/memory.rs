//! Whether `memory.limit` fits the machine, or the part of it that this process may use.

use std::fs;
use std::path::{Path, PathBuf};

use super::report::Finding;
use crate::cli::exit;
use crate::cli::status::size;

/// Where control groups are (version 2).
const CGROUPS: &str = "/sys/fs/cgroup";

/// Compares `limit` bytes with what there is.
pub(super) fn check(limit: u64) -> Finding {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let own = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group(&text));
    let group = own.and_then(|group| group_limit(Path::new(CGROUPS), &group));
    judge(limit, machine, group)
}

fn judge(limit: u64, machine: Option<u64>, group: Option<u64>) -> Finding {
    let (there, whose) = match (machine, group) {
        (machine, Some(group)) if machine.is_none_or(|machine| group < machine) => (group, "this control group"),
        (Some(machine), _) => (machine, "this machine"),
        (None, _) => return Finding::ok("memory", format!("memory.limit is {}", size(limit))),
    };
    let message = format!("memory.limit is {}, {whose} has {}", size(limit), size(there));
    if limit >= there {
        let remedy =
            "lower memory.limit to half of that or less: the kernel would kill the daemon before it is reached";
        return Finding::error(exit::CONFIG, "memory", message, remedy);
    }
    if limit > there / 4 * 3 {
        let remedy = "lower memory.limit, so that there is room for the daemon itself and for the other programs";
        return Finding::warning("memory", message, remedy);
    }
    Finding::ok("memory", message)
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// This process's group, relative to [`CGROUPS`], from /proc/self/cgroup.
fn group(cgroup: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(path))
}

/// The lowest `memory.max` of a group and those above it.
fn group_limit(root: &Path, group: &Path) -> Option<u64> {
    let limit = |group: &Path| fs::read_to_string(root.join(group).join("memory.max")).ok()?.trim().parse().ok();
    group.ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::report::Level;

    #[test]
    fn the_limit_is_compared_with_the_smaller_of_machine_and_group() {
        const GIB: u64 = 1 << 30;
        for (limit, machine, group, level, whose) in [
            (GIB, Some(4 * GIB), None, Level::Ok, "machine"),
            (GIB, Some(4 * GIB), Some(2 * GIB), Level::Ok, "group"),
            (GIB, Some(4 * GIB), Some(GIB + 1), Level::Warning, "group"),
            (GIB, Some(4 * GIB), Some(GIB), Level::Error, "group"),
            (4 * GIB, Some(4 * GIB), Some(8 * GIB), Level::Error, "machine"),
            (GIB, None, None, Level::Ok, "memory.limit is 1.0 GiB"),
        ] {
            let finding = judge(limit, machine, group);
            assert_eq!((finding.level, finding.message.contains(whose)), (level, true), "{finding:?}");
        }
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(group("1:cpu:/x\n0::/system.slice/forebay.service\n"), Some("system.slice/forebay.service".into()));
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("a/memory.max"), "4096\n").unwrap();
        assert_eq!(group_limit(root.path(), Path::new("a/b")), Some(4096));
        assert_eq!(group_limit(root.path(), Path::new("c")), None);
    }
}
