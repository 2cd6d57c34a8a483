//! The same with power losses: the backlog lies on a file system of its own, and at each kill what was not synced is lost.

use std::fs::{self, File};

use nix::sys::signal::Signal;

use crate::stored::config_or_say;
use crate::support::daemon::{Daemon, Stopped};
use crate::support::mount::Mount;
use crate::support::scenario::SOON;
use crate::support::watch::poll;
use crate::{run_and_end, topic};

/// Room for the backlog's limit, its reserve and the journal.
const DISK_BYTES: u64 = 1 << 30;

/// Stops every thread of the daemon where it is, cuts the power, and kills what can do nothing any more: so each answer that it gave
/// was given before the cut. Then the disk comes back as it was.
fn lose_power(daemon: Daemon, disk: &Mount) -> Stopped {
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

#[test]
fn a_daemon_whose_power_is_cut_again_and_again_keeps_what_it_has_acknowledged() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let Some(disk) = Mount::new_or_say(directory.path(), "disk", DISK_BYTES) else { return };
    let backlog = disk.point.join("backlog");
    fs::create_dir(&backlog).expect("the disk is empty");
    // It is there before the first cut.
    File::open(&disk.point).and_then(|root| root.sync_all()).expect("the disk is well");
    let Some(config) = config_or_say(&backlog, "*") else { return };
    let topics = vec![topic("power", &[-1, 0, 1, 1], true), topic("power", &[1], true)];
    run_and_end(topics, &config, |daemon| lose_power(daemon, &disk));
}
