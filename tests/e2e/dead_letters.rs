//! What Kafka refuses for good is kept until somebody decides: it survives the daemon, can be looked at, sent again and thrown away,
//! beside the daemon and without it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::dev_kafka::DevKafka;
use crate::support::balance::settled_ledger;
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles, forebay};
use crate::support::process::{run, stdin_of};

const MESSAGE_TOO_LARGE: i16 = 10;
const TIMEOUT: Duration = Duration::from_secs(60);

fn record(number: u8, bytes: usize) -> Outgoing {
    let headers = vec![(b"n".to_vec(), Some(vec![number]))];
    Outgoing { key: Some(b"k".to_vec()), value: Some(vec![b'a' + number; bytes]), headers, ..Outgoing::default() }
}

/// Files of a daemon with a backlog, and its directory.
fn with_backlog(cluster: &DevKafka, rest: &str) -> DaemonFiles {
    let files = DaemonFiles::new(&cluster.bootstrap(), "");
    let directory = files.path("backlog");
    std::fs::create_dir(&directory).expect("the directory can be written");
    let rest = format!("[backlog]\ndirectory = {directory:?}\n{rest}");
    files.configure(&cluster.bootstrap(), rest.as_str());
    files
}

/// What a command about the dead letters prints. It must succeed.
#[track_caller]
fn dead_letters(files: &DaemonFiles, arguments: &[&str]) -> String {
    let (code, stdout, stderr) = ended(files, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
    stdout
}

fn ended(files: &DaemonFiles, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command: Command = forebay();
    let (name, rest) = arguments.split_first().expect("a command");
    command.args(["dead-letters", name]).arg(files.path("backlog")).args(rest);
    command.env("FOREBAY_ADMIN", files.admin_socket()).env("FOREBAY_SOCKET", files.stream_socket());
    let (status, stdout, stderr) = run(command, stdin_of(b""), TIMEOUT);
    (status.code(), String::from_utf8(stdout).expect("text"), stderr)
}

fn listed(files: &DaemonFiles) -> Value {
    serde_json::from_str(&dead_letters(files, &["list", "--json"])).expect("JSON")
}

/// Five records, of which Kafka refuses the second and the fourth.
fn refuse_two(cluster: &DevKafka, daemon: &Daemon, topic: &str) {
    cluster.set_max_message_bytes(topic, 2000).expect("the topic exists");
    let sizes = [10, 5000, 10, 3000, 10];
    let records: Vec<_> = (0..).zip(sizes).map(|(number, bytes)| record(number, bytes)).collect();
    let answer = daemon.connect().produce(&Produce { partition: 1, ..Produce::new(topic, &records) });
    let codes: Vec<_> = answer.records.iter().map(|record| record.error_code).collect();
    assert_eq!(codes, [0, MESSAGE_TOO_LARGE, 0, MESSAGE_TOO_LARGE, 0]);
}

fn numbers(cluster: &DevKafka, topic: &str) -> Vec<u8> {
    cluster.read_partition(topic, 1).into_iter().map(|record| record.value.expect("a value")[0] - b'a').collect()
}

fn stop(daemon: Daemon) -> DaemonFiles {
    let stopped = daemon.stop();
    assert_eq!(stopped.code(), 0, "{}", stopped.log);
    stopped.files
}

#[test]
fn letters_outlive_the_daemon_and_say_what_they_are_and_why() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start_on(with_backlog(&cluster, ""));
    let topic = new_topic(&cluster, "dead", 2);
    refuse_two(&cluster, &daemon, &topic);
    let ledger = settled_ledger(&daemon, 5);
    assert_eq!(ledger["dead_lettered"], 2, "{ledger}");
    let beside = listed(daemon.files());
    assert_eq!((&beside["records"], &beside["letters"][0]["code"]), (&2.into(), &MESSAGE_TOO_LARGE.into()), "{beside}");
    let files = stop(daemon);
    assert_eq!(listed(&files), beside);
    let page = dead_letters(&files, &["list"]);
    assert!(page.contains("2 dead letters") && page.contains("MESSAGE_TOO_LARGE (10)"), "{page}");
    let shown = dead_letters(&files, &["show", "-n", "1"]);
    assert!(shown.contains(&format!("{topic}/1 ")) && shown.contains("5,000 bytes: bbbb"), "{shown}");
    assert!(shown.contains("1 more"), "{shown}");
    let exported = dead_letters(&files, &["export", "--topic", &topic]);
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let sizes: Vec<_> = lines.iter().map(|line| line["value"].as_str().map(str::len)).collect();
    assert_eq!(sizes, [Some(5000), Some(3000)]);
    assert_eq!((&lines[0]["key"], &lines[0]["reason"]), (&"k".into(), &"MESSAGE_TOO_LARGE".into()));
    assert_eq!(lines[1]["headers"][0]["name"], "n");
    assert_eq!(dead_letters(&files, &["export", "--code", "87"]), "");
}

#[test]
fn letters_of_compressed_batches_are_kept_and_sent_again_as_they_were() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start_on(with_backlog(&cluster, "[producer]\ncompression_type = \"zstd\"\n"));
    let topic = new_topic(&cluster, "dead", 2);
    cluster.set_max_message_bytes(&topic, 900).expect("the topic exists");
    // Compresses by a quarter, and is too large all the same.
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..64)).take(4000).collect();
    let large = Outgoing { value: Some(noise.clone()), ..Outgoing::default() };
    let answer = daemon.connect().produce(&Produce { partition: 1, ..Produce::new(&topic, &[large]) });
    assert_eq!(answer.error_code, MESSAGE_TOO_LARGE, "{answer:?}");
    cluster.set_max_message_bytes(&topic, 100_000).expect("the topic exists");
    assert_eq!(dead_letters(daemon.files(), &["replay"]), "1 dead letters delivered\n");
    assert_eq!(cluster.read_partition(&topic, 1)[0].value.as_ref(), Some(&noise));
    assert_eq!(listed(daemon.files())["records"], 0);
}

#[test]
fn what_is_sent_again_once_the_cause_is_mended_is_delivered_and_taken_out() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start_on(with_backlog(&cluster, ""));
    let topic = new_topic(&cluster, "dead", 2);
    refuse_two(&cluster, &daemon, &topic);
    // Refused again: letters again, and as many.
    let (code, stdout, stderr) = ended(daemon.files(), &["replay"]);
    assert_eq!((code, stdout.as_str()), (Some(65), "0 dead letters delivered\n"), "{stderr}");
    assert!(stderr.contains("2 were refused again"), "{stderr}");
    assert_eq!(listed(daemon.files())["records"], 2);
    cluster.set_max_message_bytes(&topic, 100_000).expect("the topic exists");
    assert_eq!(dead_letters(daemon.files(), &["replay", "--topic", &topic]), "2 dead letters delivered\n");
    assert_eq!(numbers(&cluster, &topic), [0, 2, 4, 1, 3]);
    let stored = cluster.read_partition(&topic, 1);
    assert_eq!(
        (stored[3].value.as_ref(), stored[3].key.as_ref()),
        (record(1, 5000).value.as_ref(), Some(&b"k".to_vec()))
    );
    let files = stop(daemon);
    assert_eq!(listed(&files)["records"], 0);
}

#[test]
fn letters_are_thrown_away_by_the_daemon_or_without_it_and_never_by_mistake() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start_on(with_backlog(&cluster, ""));
    let (one, other) = (new_topic(&cluster, "one", 2), new_topic(&cluster, "other", 2));
    refuse_two(&cluster, &daemon, &one);
    refuse_two(&cluster, &daemon, &other);
    let (code, _, stderr) = ended(daemon.files(), &["drop"]);
    assert_eq!(code, Some(64), "{stderr}");
    assert_eq!(dead_letters(daemon.files(), &["drop", "--topic", &one]), "2 dead letters dropped\n");
    let left = listed(daemon.files());
    assert_eq!((&left["records"], &left["letters"][0]["topic"]), (&2.into(), &other.as_str().into()), "{left}");
    let files = stop(daemon);
    assert_eq!(dead_letters(&files, &["drop", "--all"]), "2 dead letters dropped\n");
    assert_eq!(dead_letters(&files, &["list"]), "no dead letters\n");
}

#[test]
fn without_a_letter_there_are_no_files_and_without_a_directory_an_error() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start_on(with_backlog(&cluster, ""));
    assert_eq!(dead_letters(daemon.files(), &["list"]), "no dead letters\n");
    assert_eq!(dead_letters(daemon.files(), &["show"]), "no dead letters\n");
    assert!(!daemon.files().path("backlog/dead-letters").exists());
    let mut command = forebay();
    command.args(["dead-letters", "list"]).arg(Path::new("/nowhere"));
    let (status, _, stderr) = run(command, stdin_of(b""), TIMEOUT);
    assert_eq!(status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("/nowhere"), "{stderr}");
}
