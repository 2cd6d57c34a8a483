use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use tempfile::TempDir;

use super::*;
use crate::config::Listener;
use crate::ingest::bind::BindError;
use crate::ingest::bind_all;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn handed_over<const N: usize>(sockets: [(&str, OwnedFd); N]) -> HandedOver {
    let socket = |(name, fd): (&str, OwnedFd)| Socket { name: name.to_owned(), fd };
    HandedOver { sockets: sockets.map(socket).into() }
}

fn of_systemd(listener: Listener, name: &str) -> Listener {
    Listener { systemd_socket: Some(name.to_owned()), ..listener }
}

/// Why a listener on `path` does not get the socket "s" out of these.
#[track_caller]
fn refused(listener: Listener, handed_over: HandedOver) -> String {
    let error = bind_all(&[of_systemd(listener, "s")], handed_over).unwrap_err();
    assert!(matches!(error, BindError::Activation(_)), "{error}");
    error.to_string()
}

#[tokio::test]
async fn each_listener_takes_the_socket_of_its_name_and_leaves_its_file() {
    let directory = directory();
    let [a, b, c] = ["a", "b", "c"].map(|name| directory.path().join(name));
    let stream = UnixListener::bind(&a).unwrap();
    let datagram = UnixDatagram::bind(&b).unwrap();
    let handed_over = handed_over([("data", datagram.into()), ("s", stream.into())]);
    let early = UnixStream::connect(&a).unwrap();
    let listeners =
        [of_systemd(Listener::stream(&a), "s"), Listener::stream(&c), of_systemd(Listener::datagram(&b), "data")];
    let bound = bind_all(&listeners, handed_over).unwrap();
    assert_eq!(bound.len(), 3);
    drop(early);
    drop(bound);
    assert_eq!([a, b, c].map(|path| path.exists()), [true, true, false], "the daemon removes only what it has made");
}

#[tokio::test]
async fn sockets_of_one_name_are_told_apart_by_their_paths() {
    let directory = directory();
    let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
    let [first, second] = [&a, &b].map(|path| OwnedFd::from(UnixListener::bind(path).unwrap()));
    let handed_over = handed_over([("s", first), ("s", second)]);
    let listeners = [&b, &a].map(|path| of_systemd(Listener::stream(path), "s"));
    assert_eq!(bind_all(&listeners, handed_over).unwrap().len(), 2);
}

#[tokio::test]
async fn a_socket_that_is_not_handed_over_is_named_with_those_that_are() {
    let directory = directory();
    let path = directory.path().join("s");
    let message = refused(Listener::stream(&path), HandedOver::default());
    assert!(message.starts_with(&format!("systemd hands over no socket named \"s\" for {}, ", path.display())));
    assert!(message.contains("only none at all"), "{message}");
    let other = UnixListener::bind(&path).unwrap();
    let message = refused(Listener::stream(&path), handed_over([("stream", other.into())]));
    assert!(message.contains("only \"stream\": start its socket unit"), "{message}");
}

#[tokio::test]
async fn a_socket_at_another_path_is_refused() {
    let directory = directory();
    let path = directory.path().join("elsewhere");
    let socket = UnixListener::bind(&path).unwrap();
    let message = refused(Listener::stream(directory.path().join("s")), handed_over([("s", socket.into())]));
    assert!(message.contains(&format!("lies at {}, and not at ", path.display())), "{message}");
}

#[tokio::test]
async fn a_socket_of_another_type_is_refused() {
    let directory = directory();
    let [a, b, c] = ["a", "b", "c"].map(|name| directory.path().join(name));
    let stream = UnixListener::bind(&a).unwrap();
    let message = refused(Listener::datagram(&a), handed_over([("s", stream.into())]));
    assert!(message.ends_with("is no Unix datagram socket, as ListenDatagram= makes one"), "{message}");

    let datagram = UnixDatagram::bind(&b).unwrap();
    let message = refused(Listener::stream(&b), handed_over([("s", datagram.into())]));
    assert!(message.ends_with("is no Unix stream socket that listens, as ListenStream= makes one"), "{message}");

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let message = refused(Listener::stream(&c), handed_over([("s", tcp.into())]));
    assert!(message.contains("is no Unix stream socket"), "{message}");

    // As Accept=yes hands it over: the connection of one client.
    let _listener = UnixListener::bind(&c).unwrap();
    let client = UnixStream::connect(&c).unwrap();
    let message = refused(Listener::stream(&c), handed_over([("s", client.into())]));
    assert!(message.contains("is no Unix stream socket that listens"), "{message}");

    let file = tempfile::tempfile().unwrap();
    let message = refused(Listener::stream(&c), handed_over([("s", file.into())]));
    assert!(message.contains("is no Unix stream socket that listens"), "{message}");
}

#[tokio::test]
async fn a_socket_that_no_listener_takes_is_refused() {
    let directory = directory();
    let [a, b] = ["a", "b"].map(|name| directory.path().join(name));
    let [first, second] = [&a, &b].map(|path| OwnedFd::from(UnixListener::bind(path).unwrap()));
    let message = refused(Listener::stream(&a), handed_over([("s", first), ("old", second)]));
    assert!(message.contains(&format!("named \"old\" at {} that no listener takes", b.display())), "{message}");
    assert!(message.contains("systemd_socket = \"old\""), "{message}");
}
