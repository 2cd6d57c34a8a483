//! `forebay check`: what it finds where all is well, and the code it ends with where something is not.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use forebay::devbroker::Settings;
use nix::unistd::Uid;
use serde_json::Value;

use crate::dev_kafka::DevKafka;
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles, Extra, forebay};
use crate::support::process::run;

/// How long a check may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Somebody who owns nothing.
const NOBODY: u32 = 65534;

/// Its exit code, what it prints, and what it says on standard error.
#[track_caller]
fn check(files: &DaemonFiles, arguments: &[&str]) -> (i32, String, String) {
    let mut command = forebay();
    command.args(["check", "--config"]).arg(files.config()).args(arguments).env_remove("FOREBAY_CONFIG");
    let (status, stdout, stderr) = run(command, Stdio::null(), TIMEOUT);
    (status.code().expect("it ends by itself"), String::from_utf8(stdout).expect("text"), stderr)
}

#[track_caller]
fn has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "no {part:?} in\n{page}");
    }
}

/// Three brokers that keep two copies at least.
fn sound_cluster() -> DevKafka {
    DevKafka::start_as(Settings { brokers: 3, min_insync_replicas: 2, ..Settings::default() })
}

#[test]
fn where_all_is_well_every_line_says_so() {
    let cluster = sound_cluster();
    let topic = new_topic(&cluster, "well", 12);
    let named = format!("[topics.{topic}]\nlinger = \"1ms\"\n[topics.\"{topic}*\"]\nlinger = \"1ms\"\n");
    let files = DaemonFiles::new(&cluster.bootstrap(), named.as_str());
    let (code, page, stderr) = check(&files, &[]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{page}");
    let socket = format!("ok       socket   {} can be made\n", files.stream_socket().display());
    let summary =
        format!("ok       topic    {topic}: 12 partitions, 3 copies each, min.insync.replicas 2, may be written\n");
    let server = format!("ok       kafka    {} answers in ", cluster.bootstrap_servers()[0]);
    has(&page, &["ok       config ", "ok       memory ", &socket, &server, &summary, "no errors and 1 warning\n"]);
    assert!(cluster.topics().iter().all(|(name, _)| *name == topic), "it has made a topic");

    // Beside a running daemon too.
    let daemon = Daemon::start_on(files);
    let (code, page, _) = check(daemon.files(), &["-t", &topic]);
    let admin = format!(
        "{} is in use: forebay {} runs, up ",
        daemon.files().admin_socket().display(),
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(code, 0, "{page}");
    has(
        &page,
        &["forebay.sock is in use: a daemon listens there", "forebay.dgram is in use: a daemon listens there", &admin],
    );
    assert_eq!(page.matches(&summary).count(), 1, "the topic is checked once:\n{page}");
    assert_eq!(daemon.status()["ledger"]["accepted"], 0);
    assert_eq!(daemon.stop().code(), 0);
}

#[test]
fn scripts_get_the_same_as_json_with_levels_and_remedies() {
    let cluster = DevKafka::start(1);
    let topic = new_topic(&cluster, "one-copy", 1);
    let files = DaemonFiles::new(&cluster.bootstrap(), "");
    let directory = files.path("backlog");
    fs::create_dir(&directory).expect("the directory can be written");
    let directory = directory.to_str().expect("a path that is text");
    let (code, json, _) = check(&files, &["--json", "-t", &topic, "--backlog-directory", directory]);
    assert_eq!(code, 0, "{json}");
    let json: Value = serde_json::from_str(&json).expect("one JSON object");
    let of = |subject: &str| {
        let mut findings = json["findings"].as_array().expect("a list").iter();
        findings.find(|finding| finding["subject"] == subject).unwrap_or_else(|| panic!("no {subject} in {json:#}"))
    };
    assert_eq!(of("topic")["level"], "warning");
    assert!(of("topic")["message"].as_str().expect("text").contains("has one copy of each record"), "{json:#}");
    assert!(of("topic")["remedy"].is_string() && of("kafka").get("remedy").is_none(), "{json:#}");
    assert!(of("backlog")["message"].as_str().expect("text").contains("backlog"), "{json:#}");
    assert_eq!((&json["errors"], fs::read_dir(directory).expect("it is there").count()), (&0.into(), 0));

    fs::write(files.config(), "[producer]\nlingr = \"5ms\"\n").expect("the file can be written");
    let (code, json, _) = check(&files, &["--json"]);
    assert_eq!(code, 78);
    let json: Value = serde_json::from_str(&json).expect("one JSON object");
    assert!(json["findings"][0]["message"].as_str().expect("text").contains("lingr"), "{json:#}");
    let (code, page, stderr) = check(&files, &[]);
    assert_eq!((code, page.as_str()), (78, ""));
    assert!(stderr.contains("unknown key \"lingr\""), "{stderr}");
}

#[test]
fn topics_that_cannot_be_written_end_it_with_65() {
    let mut cluster = sound_cluster();
    let topic = new_topic(&cluster, "behind", 3);
    let no_creation = Extra { kafka: "allow_auto_create_topics = false", ..Extra::default() };
    let files = DaemonFiles::new(&cluster.bootstrap(), no_creation);
    let (code, page, stderr) = check(&files, &["-t", "missing", "-t", &topic]);
    assert_eq!(code, 65, "{page}");
    has(
        &page,
        &[
            "error    topic    missing does not exist\n",
            "--create --topic missing",
            &format!("ok       topic    {topic}"),
        ],
    );
    assert_eq!(stderr, "forebay: the check found 1 error and 1 warning\n");

    cluster.stop_broker(3);
    let (code, page, _) = check(&files, &["-t", &topic]);
    assert_eq!(code, 0, "{page}");
    has(
        &page,
        &[
            "warning  kafka ",
            "Connection refused",
            "warning  topic    behind-",
            "3 of 3 partitions lack copies: 0, 1, 2",
        ],
    );
    cluster.stop_broker(2);
    let (code, page, _) = check(&files, &["-t", &topic]);
    assert_eq!(code, 65, "{page}");
    has(
        &page,
        &["3 of 3 partitions have fewer copies in sync than min.insync.replicas (2) and take no records: 0, 1, 2"],
    );
}

#[test]
fn a_cluster_that_cannot_be_reached_ends_it_with_69_and_says_why() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let strange = other.local_addr().expect("an address");
    std::thread::spawn(move || other.incoming().for_each(drop));
    let quick = Extra { kafka: "socket_connection_setup_timeout = \"5s\"", ..Extra::default() };
    let files = DaemonFiles::new(&format!("{closed},{strange},no-such-host.invalid:9092"), quick);
    let (code, page, _) = check(&files, &["-t", "any"]);
    assert_eq!(code, 69, "{page}");
    has(
        &page,
        &[
            &format!("error    kafka    {closed}: it cannot be connected to: Connection refused"),
            "→ start Kafka there, or mend the address in kafka.bootstrap_servers",
            &format!("error    kafka    {strange}: it does not talk as a Kafka broker does"),
            "error    kafka    no-such-host.invalid:9092: its name c",
            "or how this host looks names up",
            "3 errors",
        ],
    );
    let (code, page, _) = check(&files, &["--offline"]);
    assert_eq!(code, 0, "{page}");
    assert!(!page.contains("kafka  "), "{page}");
}

#[test]
fn servers_of_two_clusters_are_told_apart() {
    let one = sound_cluster();
    let another = DevKafka::start_as(Settings { cluster_id: "another".to_owned(), ..Settings::default() });
    let files = DaemonFiles::new(&format!("{},{}", one.bootstrap(), another.bootstrap()), "");
    let (code, page, _) = check(&files, &[]);
    assert_eq!(code, 69, "{page}");
    has(
        &page,
        &["is of the cluster another, a server before it of forebay-dev-broker", "name servers of one cluster only"],
    );
}

#[test]
fn what_the_user_may_not_write_ends_it_with_77() {
    let files = DaemonFiles::new("127.0.0.1:1", "");
    let closed = files.path("closed");
    fs::create_dir(&closed).expect("the directory can be written");
    let config = fs::read_to_string(files.config()).expect("it is there");
    let directory = files.config().parent().expect("it is in a directory").to_owned();
    let moved = config.replace(directory.to_str().expect("text"), closed.to_str().expect("text"));
    fs::write(files.config(), moved).expect("the file can be written");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("it is ours");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
    // A copy, for somebody who may not enter the directory in which the binary was built.
    let binary = files.path("forebay");
    fs::copy(env!("CARGO_BIN_EXE_forebay"), &binary).expect("it can be copied");
    let mut command = Command::new(binary);
    command.args(["check", "--offline", "--config"]).arg(files.config()).arg("--backlog-directory").arg(&closed);
    if Uid::effective().is_root() {
        // Root may write everywhere.
        command.uid(NOBODY).gid(NOBODY);
    }
    let (status, page, stderr) = run(command, Stdio::null(), TIMEOUT);
    let page = String::from_utf8(page).expect("text");
    assert_eq!(status.code(), Some(77), "{page}{stderr}");
    has(
        &page,
        &[
            "forebay.sock cannot be made: ",
            " may not write to ",
            "error    backlog  cannot create a file in ",
            "→ make it ",
        ],
    );
    assert_eq!(page.matches("error    socket ").count(), 3, "{page}");
}
