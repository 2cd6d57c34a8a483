//! Kills a daemon by a power loss: its backlog lies on a file system of its own, and what was not synced is lost.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::support::daemon::{Daemon, Stopped};
use crate::support::mount::Mount;
use crate::support::scenario::SOON;
use crate::support::watch::poll;

/// Room for the backlog's limit, its reserve and the journal.
const DISK_BYTES: u64 = 1 << 30;

/// A disk in `directory` with a directory for a backlog on it; `None` where the machine allows none, which has been said.
#[track_caller]
pub fn disk_or_say(directory: &Path) -> Option<(Mount, PathBuf)> {
    let disk = Mount::new_or_say(directory, "disk", DISK_BYTES)?;
    let backlog = disk.point.join("backlog");
    fs::create_dir(&backlog).expect("the disk is empty");
    // It is there before the first cut.
    File::open(&disk.point).and_then(|root| root.sync_all()).expect("the disk is well");
    Some((disk, backlog))
}

/// Stops every thread of the daemon where it is, cuts the power, and kills what can do nothing any more: so each answer that it gave
/// was given before the cut. Then the disk comes back as it was.
pub fn lose_power(daemon: Daemon, disk: &Mount) -> Stopped {
    let switch = disk.power_switch();
    let process = daemon.process();
    process.signal(Signal::SIGSTOP);
    let tasks = format!("/proc/{}/task", process.id());
    // A thread in the middle of a sync stops when it comes back from the kernel, before it can say what it heard there.
    let stopped = || {
        let tasks = fs::read_dir(&tasks).expect("it is not waited for yet");
        let mut states = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
        let state = |stat: &String| stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        states.all(|stat| matches!(state(&stat), Some('T' | 'D' | 'Z' | 'X'))).then_some(())
    };
    assert!(poll(SOON, stopped).is_some(), "the daemon does not stop");
    switch.cut();
    let stopped = daemon.kill();
    disk.mount_again();
    stopped
}
