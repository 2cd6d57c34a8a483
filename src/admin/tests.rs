use std::io::{Read, Write};
use std::path::PathBuf;

use super::client::{ClientError, get};
use super::status::{Broker, Cluster, Ledger, Topic};
use super::*;
use crate::queue::ledger::{Balance, DropReason, DuplicateCause};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server on a socket in a directory of its own, stopped when dropped.
struct Server {
    directory: tempfile::TempDir,
    _stop: DropGuard,
}

impl Server {
    fn start(status: impl Fn() -> Status + Send + Sync + 'static) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("admin.sock")).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve(Door::Admin(listener), status, None, stop.clone()));
        Server { directory, _stop: stop.drop_guard() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    /// Sends `request` as it stands and returns all that comes until the server closes.
    async fn exchange(&self, request: &str) -> String {
        let (path, request) = (self.path(), request.to_owned());
        let exchange = tokio::task::spawn_blocking(move || {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            // A server that refuses a request answers and closes without reading the rest of it.
            let _ = stream.write_all(request.as_bytes());
            let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
            loop {
                match stream.read(&mut chunk) {
                    Ok(0) => return String::from_utf8(answer).unwrap(),
                    Ok(read) => answer.extend_from_slice(&chunk[..read]),
                    // It closed with bytes of ours unread.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        exchange.await.unwrap()
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        uptime_seconds: 5,
        cluster: Cluster {
            id: Some("c".to_owned()),
            brokers: vec![Broker { id: 1, address: "[::1]:9092".to_owned() }],
            as_of_seconds: Some(2),
        },
        topics: vec![Topic { name: "t".to_owned(), partitions: 3, ..Topic::default() }],
        ..Status::default()
    }
}

#[tokio::test]
async fn a_client_gets_the_status_that_the_daemon_has() {
    let server = Server::start(status);
    let body = get(&server.path(), "/status").await.unwrap();
    assert_eq!(serde_json::from_slice::<Status>(&body).unwrap(), status());
}

#[tokio::test]
async fn a_status_of_many_topics_comes_whole() {
    let topics: Vec<_> = (0..20_000).map(|n| Topic { name: format!("topic-{n}"), ..Topic::default() }).collect();
    let large = Status { topics, ..Status::default() };
    let expected = large.clone();
    let server = Server::start(move || large.clone());
    let body = get(&server.path(), "/status").await.unwrap();
    assert!(serde_json::from_slice::<Status>(&body).unwrap() == expected, "{} bytes came", body.len());
}

#[tokio::test]
async fn health_is_a_word() {
    let server = Server::start(status);
    assert_eq!(get(&server.path(), "/healthz").await.unwrap(), "ok\n");
}

#[tokio::test]
async fn metrics_come_in_the_form_that_they_are_called() {
    let server = Server::start(status);
    let answer = server.exchange("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("forebay_topic_partitions{topic=\"t\"} 3\n") && body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn over_tcp_there_are_metrics_and_health_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(serve(Door::Public(listener), status, None, stop));
    for (request, answer) in [
        ("GET /metrics", "HTTP/1.1 200"),
        ("GET /healthz", "HTTP/1.1 200"),
        ("GET /status", "HTTP/1.1 404"),
        ("POST /dead-letters/give-up?partition=0&first=0&last=1&reason=1", "HTTP/1.1 404"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answered = String::new();
        stream.read_to_string(&mut answered).await.unwrap();
        assert!(answered.starts_with(answer), "{request}{answered}");
    }
}

#[tokio::test]
async fn other_paths_methods_and_bytes_are_refused() {
    let server = Server::start(status);
    let error = get(&server.path(), "/other").await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { status, .. } if status == 404), "{error}");
    let answer = server.exchange("POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET\r\n"), "{answer}");
    let answer = server.exchange("\0\0\0\x3e\x02\0\0\0 what is this\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let endless = format!("GET /status HTTP/1.1\r\nx: {}\r\n", "y".repeat(20 * 1024));
    let answer = server.exchange(&endless).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_panic_while_the_status_is_taken_ends_that_connection_alone() {
    let server = Server::start(|| panic!("on purpose"));
    let error = get(&server.path(), "/status").await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    assert_eq!(get(&server.path(), "/healthz").await.unwrap(), "ok\n");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_make_room_for_others_after_a_while() {
    let server = Server::start(status);
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        idle.push(tokio::net::UnixStream::connect(server.path()).await.unwrap());
    }
    // The first question waits behind them for longer than its client does; with time they are closed.
    let error = get(&server.path(), "/healthz").await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    tokio::time::sleep(CONNECTION_TIME_MAX).await;
    assert_eq!(get(&server.path(), "/healthz").await.unwrap(), "ok\n");
}

#[tokio::test]
async fn without_a_daemon_the_error_is_the_systems() {
    let directory = tempfile::tempdir().unwrap();
    let error = get(&directory.path().join("none.sock"), "/status").await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { error, .. } if error.kind() == std::io::ErrorKind::NotFound));
}

#[test]
fn a_balance_becomes_a_ledger_by_the_reasons_names() {
    let dropped = vec![(DropReason::UnknownTopic, 2), (DropReason::Stopped, 1)];
    let balance = Balance { accepted: 9, delivered: 5, held: 1, dropped, ..Balance::default() };
    let ledger = Ledger::from(balance);
    assert_eq!(
        serde_json::to_string(&ledger).unwrap(),
        r#"{"accepted":9,"delivered":5,"held":1,"dead_lettered":0,"dropped":{"stopped":1,"unknown_topic":2},"possible_duplicates":0}"#
    );
}

#[test]
fn what_may_be_doubled_and_what_was_given_up_is_told_by_its_cause() {
    let balance = Balance {
        possible_duplicates: 7,
        duplicate_causes: vec![(DuplicateCause::Old, 5), (DuplicateCause::Unclean, 2)],
        dead_lettered: 4,
        dead_letters: vec![(10, 1), (i16::MAX - 1, 1), (i16::MAX, 2)],
        restamped: 3,
        ..Balance::default()
    };
    let ledger = serde_json::to_value(Ledger::from(balance)).unwrap();
    assert_eq!(ledger["possible_duplicates_by_cause"], serde_json::json!({"old": 5, "unclean": 2}));
    let errors = serde_json::json!({"MESSAGE_TOO_LARGE": 1, "UNKNOWN_ERROR_CODE": 3});
    assert_eq!((&ledger["dead_lettered_by_error"], &ledger["restamped"]), (&errors, &3.into()));
}

#[test]
fn a_status_is_read_although_a_later_version_says_more() {
    let mut json = serde_json::to_value(status()).unwrap();
    json["weather"] = serde_json::json!({"degrees": 1});
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status());
}
