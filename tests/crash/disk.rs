//! The disk fails in every way that disks do, while records are stored: nobody is told that something is stored which is not, nothing is lost, the status says in words
//! what is wrong and what mends it, and it goes on by itself when that has been done.
//!
//! Needs root, and where a disk is to be full, loop devices.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use forebay::devbroker::At;
use nix::unistd::geteuid;
use serde_json::Value;
use tempfile::TempDir;

use crate::dev_kafka::DevKafka;
use crate::support::client::{Client, Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::crash::stored_in;
use crate::support::daemon::{Daemon, DaemonFiles, Extra, Stopped, forebay};
use crate::support::mount::Mount;
use crate::support::scenario::SOON;

const RECORD_BYTES: usize = 400_000;
/// More than a segment of the smallest log, which is 8 MiB.
const RECORDS_MAX: usize = 100;
/// More than the full disk has room for, less than the limit of the log.
const FULL_RECORDS: usize = 100;
/// `nobody` of most systems; it needs no name.
const NOBODY: u32 = 65_534;

/// A cluster that takes nothing for now, and who writes to a topic of it that is stored.
struct Scene {
    cluster: DevKafka,
    writer: Writer,
}

/// Sends numbered records to one partition.
struct Writer {
    topic: String,
    sent: usize,
}

/// The daemon's files for a backlog there, the smallest.
fn files(cluster: &DevKafka, backlog: &Path) -> DaemonFiles {
    let config = stored_in(backlog, "*").replace("[topics", "limit = \"64MiB\"\nmin_free_space = 0\n[topics");
    let stream = "max_frame_size = \"1MiB\"\nmax_unanswered_size = \"1MiB\"";
    DaemonFiles::new(&cluster.bootstrap(), Extra { stream, rest: &config, ..Extra::default() })
}

impl Writer {
    /// Sends one record, waits for its answer, and returns the error that it says.
    fn send(&mut self, client: &mut Client, acks: i16) -> i16 {
        let mut value = format!("{:08}", self.sent).into_bytes();
        value.resize(RECORD_BYTES, b'.');
        let records = [Outgoing { value: Some(value), ..Outgoing::default() }];
        self.sent += 1;
        let answer = client.produce(&Produce { acks, partition: 0, ..Produce::new(&self.topic, &records) });
        answer.records.first().map_or(answer.error_code, |record| record.error_code)
    }
}

impl Scene {
    fn new() -> Scene {
        let cluster = DevKafka::start(1);
        let topic = new_topic(&cluster, "disk", 1);
        Scene { cluster, writer: Writer { topic, sent: 0 } }
    }

    /// From now on Kafka takes nothing; the topic is known.
    fn begin(&mut self, daemon: &Daemon) -> Client {
        let mut client = daemon.connect();
        assert_eq!(self.writer.send(&mut client, -1), 0);
        self.cluster.hold_requests(At::Anywhere);
        client
    }

    /// Kafka takes everything again: all records come, once and in order.
    #[track_caller]
    fn end(&self, daemon: &Daemon) {
        self.cluster.release_requests();
        daemon.wait_for_status("nothing held", SOON, |status| (status["ledger"]["held"] == 0).then_some(()));
        let number = |value: &[u8]| std::str::from_utf8(&value[..8]).ok()?.parse().ok();
        let read = self.cluster.read(&self.writer.topic);
        let read: Vec<usize> = read.iter().filter_map(|record| number(record.value.as_deref()?)).collect();
        assert_eq!(read, (0..self.writer.sent).collect::<Vec<_>>());
    }
}

/// What the status says of the backlog once it is in that state.
#[track_caller]
fn words(daemon: &Daemon, state: &str) -> String {
    let said = |status: &Value| Some(status["backlog"]["message"].as_str()?.to_owned());
    daemon.wait_for_status(state, SOON, |status| (status["backlog"]["state"] == state).then(|| said(status))?)
}

#[track_caller]
fn assert_says(said: &str, all: &[&str]) {
    for wanted in all {
        assert!(said.contains(wanted), "{wanted:?} is not in {said:?}");
    }
}

/// Whether this is root; else says that the caller is skipped.
fn is_root_or_say() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        assert!(std::env::var_os("FOREBAY_REQUIRE_LOOP").is_none(), "this must be run by root");
        // Past libtest's capture, so that a green run shows what it did not do.
        let _ = writeln!(std::io::stderr(), "skipped: only root can make a disk fail");
    }
    is_root
}

/// Starts a daemon that runs as nobody.
fn start_as_nobody(files: DaemonFiles) -> Daemon {
    let mut command = forebay();
    command.arg("run").arg("--config").arg(files.config()).uid(NOBODY).gid(NOBODY);
    Daemon::start_command(command, files)
}

fn private_directory() -> TempDir {
    let directory = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("it is ours");
    directory
}

fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).expect("root may");
}

/// Records are stored until the disk fails, which `break_it` has made it do; then `mend` mends it.
#[track_caller]
fn fails_and_heals(
    mut scene: Scene,
    mut daemon: Daemon,
    start: impl Fn(DaemonFiles) -> Daemon,
    (break_it, mend): (impl FnOnce(), impl FnOnce()),
    said: &[&str],
) {
    let mut client = scene.begin(&daemon);
    assert_eq!(scene.writer.send(&mut client, 1), 0);
    break_it();
    let refused = (0..RECORDS_MAX).map(|_| scene.writer.send(&mut client, 1)).find(|error| *error != 0);
    assert_eq!(refused, Some(56), "it never fails");
    let message = words(&daemon, "failing");
    assert_says(&message, said);
    assert_says(&message, &["in memory only", "full"]);
    mend();
    words(&daemon, "well");
    assert_eq!(scene.writer.send(&mut client, 1), 0, "it has not healed");
    // Also what was refused is stored by now: it stands before the last one.
    let Stopped { files, .. } = daemon.kill();
    daemon = start(files);
    scene.end(&daemon);
}

#[test]
fn a_directory_that_another_user_owns_is_said_at_the_start_with_the_command_that_mends_it() {
    if !is_root_or_say() {
        return;
    }
    let scene = Scene::new();
    let backlog = private_directory();
    let files = files(&scene.cluster, backlog.path());
    files.give_to(NOBODY);
    let mut command = forebay();
    command.arg("run").arg("--config").arg(files.config()).uid(NOBODY).gid(NOBODY);
    let ended = Daemon::launch_as(command, files).ended();
    assert_eq!(ended.code(), 73, "{}", ended.log);
    let path = backlog.path().display();
    let who = format!("runs as user {NOBODY} and group {NOBODY}, {path} belongs to 0:0 and has mode 0700");
    let remedy = format!("chown -R {NOBODY}:{NOBODY} {path}");
    assert_says(&ended.log, &["(EACCES)", &who, &remedy]);
    give(backlog.path(), NOBODY);
    drop(start_as_nobody(ended.files).kill());
}

#[test]
fn a_directory_that_is_taken_away_from_the_daemon_s_user_heals_when_it_is_given_back() {
    if !is_root_or_say() {
        return;
    }
    let scene = Scene::new();
    let backlog = private_directory();
    let path = backlog.path();
    give(path, NOBODY);
    let files = files(&scene.cluster, path);
    files.give_to(NOBODY);
    let daemon = start_as_nobody(files);
    let who = format!("{} belongs to 0:0 and has mode 0700", path.display());
    let remedy = format!("chown -R {NOBODY}:{NOBODY} {}", path.display());
    let said = ["(EACCES)", &who, &remedy];
    fails_and_heals(scene, daemon, start_as_nobody, (|| give(path, 0), || give(path, NOBODY)), &said);
}

#[test]
fn a_directory_that_vanishes_heals_when_it_is_put_back() {
    let scene = Scene::new();
    let parent = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let (path, away) = (parent.path().join("backlog"), parent.path().join("away"));
    fs::create_dir(&path).expect("a directory can be made");
    let daemon = Daemon::start_on(files(&scene.cluster, &path));
    let vanish = || fs::rename(&path, &away).expect("it can be renamed");
    let return_ = || fs::rename(&away, &path).expect("it can be renamed");
    let said = [path.to_str().expect("UTF-8"), "(ENOENT)", "install -d -m 700"];
    fails_and_heals(scene, daemon, Daemon::start_on, (vanish, return_), &said);
}

#[test]
fn a_disk_that_becomes_read_only_heals_when_it_can_be_written_again() {
    if !is_root_or_say() {
        return;
    }
    let scene = Scene::new();
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let daemon = Daemon::start_on(files(&scene.cluster, backlog.path()));
    let path = backlog.path().to_str().expect("UTF-8");
    // What is open stays writable, as on a disk that forbids nothing but new files.
    let cover = || {
        mount(&["--bind", path, path]);
        mount(&["-o", "remount,bind,ro", path]);
    };
    let said = ["(EROFS)", "mount -o remount,rw"];
    fails_and_heals(scene, daemon, Daemon::start_on, (cover, || uncover(path)), &said);
}

fn uncover(path: &str) {
    assert!(Command::new("umount").arg(path).status().expect("umount is there").success());
}

fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().expect("mount is there").success());
}

/// Something large on a disk that leaves it so little.
fn fill(disk: &Path, left_bytes: u64) -> PathBuf {
    let stat = nix::sys::statvfs::statvfs(disk).expect("it is mounted");
    let free = stat.blocks_available() * stat.fragment_size();
    let ballast = disk.join("ballast");
    let status = Command::new("fallocate").args(["-l", &(free - left_bytes).to_string()]).arg(&ballast).status();
    assert!(status.expect("fallocate is there").success());
    ballast
}

/// On a disk that has room for a part of what is sent; `give_room` makes some while writers wait.
fn full_disk(give_room: impl FnOnce(&DevKafka, &Path)) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let Some(disk) = Mount::new_or_say(directory.path(), "small", 256 << 20) else { return };
    let backlog = disk.point.join("backlog");
    fs::create_dir(&backlog).expect("the disk is empty");
    let mut scene = Scene::new();
    let daemon = Daemon::start_on(files(&scene.cluster, &backlog));
    let mut client = scene.begin(&daemon);
    let ballast = fill(&disk.point, 12 << 20);
    thread::scope(|scope| {
        let writer = &mut scene.writer;
        let writing = scope.spawn(move || (0..FULL_RECORDS).all(|_| writer.send(&mut client, 1) == 0));
        assert_says(&words(&daemon, "full"), &["the file system has no room for more"]);
        assert!(!writing.is_finished(), "more was stored than there is room for");
        give_room(&scene.cluster, &ballast);
        assert!(writing.join().expect("the daemon answers"), "a full disk is no reason to refuse");
    });
    words(&daemon, "well");
    let daemon = Daemon::start_on(daemon.kill().files);
    scene.end(&daemon);
}

#[test]
fn writers_wait_for_a_full_disk_and_go_on_when_somebody_frees_some_of_it() {
    full_disk(|_, ballast| fs::remove_file(ballast).expect("it is there"));
}

#[test]
fn a_full_disk_drains_and_writers_go_on() {
    full_disk(|cluster, _| cluster.release_requests());
}
