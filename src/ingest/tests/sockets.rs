use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram as StdDatagram, UnixListener as StdListener};

use super::*;
use crate::config::Group;

fn listener_at(path: &std::path::Path) -> [Listener; 2] {
    [Listener::stream(path), Listener::datagram(path)]
}

#[tokio::test]
async fn a_socket_that_nobody_has_open_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    for listener in listener_at(&path) {
        drop(StdListener::bind(&path).unwrap());
        drop(bind(&listener).unwrap());
        drop(StdDatagram::bind(&path).unwrap());
        drop(bind(&listener).unwrap());
        assert!(!path.exists(), "its own file is removed");
    }
}

#[tokio::test]
async fn a_socket_that_somebody_has_open_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    for listener in listener_at(&path) {
        let live = StdListener::bind(&path).unwrap();
        let refused = bind(&listener).unwrap_err();
        assert!(matches!(refused, BindError::InUse { .. }), "{refused}");
        live.set_nonblocking(true).unwrap();
        assert!(live.accept().is_err(), "it has not been connected to");
        std::fs::remove_file(&path).unwrap();
        let live = StdDatagram::bind(&path).unwrap();
        assert!(matches!(bind(&listener).unwrap_err(), BindError::InUse { .. }));
        drop(live);
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    for listener in listener_at(&path) {
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&listener).unwrap_err(), BindError::NotASocket { .. }));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_file(&path).unwrap();
        symlink("elsewhere", &path).unwrap();
        assert!(matches!(bind(&listener).unwrap_err(), BindError::NotASocket { .. }));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(bind(&listener).unwrap_err(), BindError::NotASocket { .. }));
        std::fs::remove_dir(&path).unwrap();
    }
    let nowhere = directory.path().join("missing/s");
    let refused = bind(&Listener::stream(&nowhere)).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("cannot create {}: ", nowhere.display())), "{refused}");
}

#[tokio::test]
async fn the_file_has_the_mode_and_the_group_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    // Only root may give a file to a group that it is not in.
    let group = if nix::unistd::geteuid().is_root() { 12345 } else { nix::unistd::getegid().as_raw() };
    for mut listener in listener_at(&path) {
        // More than the usual umask leaves.
        listener.socket.mode = 0o666;
        listener.socket.group = Some(Group::Id(group));
        let bound = bind(&listener).unwrap();
        let found = std::fs::metadata(&path).unwrap();
        assert_eq!((found.permissions().mode() & 0o777, found.gid()), (0o666, group));
        drop(bound);
        listener.socket.group = Some(Group::Name("no-such-group".to_owned()));
        let refused = bind(&listener).unwrap_err();
        assert!(matches!(refused, BindError::NoSuchGroup { .. }), "{refused}");
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_file_that_another_process_has_put_there_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let bound = bind(&Listener::stream(&path)).unwrap();
    std::fs::rename(&path, directory.path().join("old")).unwrap();
    let _other = StdListener::bind(&path).unwrap();
    drop(bound);
    assert!(path.exists());
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once() {
    let daemon = Daemon::stream(|_, _, limits| limits.max_connections = 2);
    daemon.place("t", 1);
    let (first, mut second) = (daemon.connect().await, daemon.connect().await);
    until(|| daemon.counters.connections_open.get() == 2).await;
    assert_eq!(daemon.connect().await.answer().await, None);
    assert_eq!((daemon.counters.connections_refused.get(), daemon.counters.connections_accepted.get()), (1, 2));
    drop(first);
    until(|| daemon.counters.connections_open.get() == 1).await;
    let mut third = daemon.connect().await;
    for client in [&mut second, &mut third] {
        client.send(&dory("t", "v")).await;
    }
    daemon.take_when("t", 0, 2).await;
}

#[test]
fn every_counter_has_a_name() {
    let counters = Counters::default();
    counters.frames_cut.add(3);
    let by_name = counters.by_name();
    assert_eq!((by_name["frames_cut"], by_name["datagrams_truncated"]), (3, 0));
}
