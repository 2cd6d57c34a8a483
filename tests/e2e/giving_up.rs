//! What is given up by a topic's rules where its records are stored: it does not come back after a kill, the balance in the log is right, and dead
//! letters are kept, wherever they come from.

use std::process::Command;
use std::time::Duration;

use forebay::devbroker::At;
use serde_json::{Value, json};

use crate::dev_kafka::DevKafka;
use crate::support::balance::settled_ledger;
use crate::support::client::{Client, Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles, Extra, forebay};
use crate::support::process::{run, stdin_of};
use crate::support::scenario::SOON;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const REQUEST_TIMED_OUT: i16 = 7;

/// Writes the configuration of a daemon whose topics have these rules, with a backlog that outlives it.
fn configure(files: &DaemonFiles, cluster: &DevKafka, rules: &str) {
    let directory = files.path("backlog");
    std::fs::create_dir_all(&directory).expect("the directory can be written");
    let kafka = "allow_auto_create_topics = false\nrequest_timeout = \"100ms\"\nretry_backoff = \"10ms\"\nretry_backoff_max = \"50ms\"";
    let rest = format!("[backlog]\ndirectory = {directory:?}\n[producer]\n{rules}");
    files.configure(&cluster.bootstrap(), Extra { kafka, rest: &rest, ..Extra::default() });
}

fn daemon_with(cluster: &DevKafka, rules: &str) -> Daemon {
    let files = DaemonFiles::new(&cluster.bootstrap(), "");
    configure(&files, cluster, rules);
    Daemon::start_on(files)
}

/// Kills the daemon, and starts another one on its files, with other rules.
fn killed(daemon: Daemon, cluster: &DevKafka, rules: &str) -> Daemon {
    let files = daemon.kill().files;
    configure(&files, cluster, rules);
    Daemon::start_on(files)
}

/// Sends one record to partition 0. What its client is told: the error and the words.
fn send(client: &mut Client, topic: &str, acks: i16, number: u8) -> (i16, Option<String>) {
    let record = [Outgoing { value: Some(vec![number]), ..Outgoing::default() }];
    let answer = client.produce(&Produce { acks, partition: 0, ..Produce::new(topic, &record) });
    (answer.error_code, answer.error_message)
}

fn values(cluster: &DevKafka, topic: &str) -> Vec<u8> {
    cluster.read(topic).into_iter().map(|record| record.value.expect("a value")[0]).collect()
}

/// What the log has counted since it began, once it holds nothing.
fn balance_of_log(daemon: &Daemon) -> [u64; 4] {
    daemon.wait_for_status("nothing held in the log", SOON, |status| {
        let backlog = &status["backlog"];
        let figures = ["accepted", "delivered", "dead_lettered", "dropped"].map(|name| backlog[name].as_u64());
        (backlog["held_records"] == json!(0)).then(|| figures.map(|figure| figure.expect("a number")))
    })
}

#[test]
fn what_a_stored_topic_gave_up_does_not_come_back_after_a_kill() {
    // What overflows is stored because a client asks for it; before and after that it is held in memory.
    for (store, balance) in [("always", [4, 2, 0, 2]), ("overflow", [2, 0, 0, 2])] {
        give_up_what_is_stored(&format!("store = {store:?}"), balance);
    }
}

fn give_up_what_is_stored(rules: &str, balance: [u64; 4]) {
    let mut cluster = DevKafka::start(1);
    let topic = new_topic(&cluster, "timely", 1);
    let daemon = daemon_with(&cluster, &format!("{rules}\ndelivery_timeout = \"500ms\""));
    let mut client = daemon.connect();
    assert_eq!(send(&mut client, &topic, -1, 0).0, 0);
    cluster.kill_broker(1);
    assert_eq!(send(&mut client, &topic, 1, 1).0, 0, "it is stored");
    let (code, words) = send(&mut client, &topic, -1, 2);
    assert_eq!(code, REQUEST_TIMED_OUT, "{words:?}");
    assert!(words.is_some_and(|words| words.contains("delivery_timeout")));
    // Told, so on disk.
    let daemon = killed(daemon, &cluster, rules);
    assert_eq!(daemon.status()["ledger"]["held"], json!(0));
    cluster.start_broker(1);
    assert_eq!(send(&mut daemon.connect(), &topic, -1, 3).0, 0);
    assert_eq!(balance_of_log(&daemon), balance);
    assert_eq!(values(&cluster, &topic), [0, 3]);
}

#[test]
fn what_a_stored_topic_gave_up_in_doubt_is_counted_and_not_sent_again_after_a_kill() {
    let cluster = DevKafka::start(1);
    let topic = new_topic(&cluster, "doubted", 1);
    let daemon = daemon_with(&cluster, "store = \"always\"\ndelivery_timeout = \"500ms\"");
    let mut client = daemon.connect();
    assert_eq!(send(&mut client, &topic, -1, 0).0, 0);
    cluster.hold_answers(At::Anywhere);
    assert_eq!(send(&mut client, &topic, -1, 1).0, REQUEST_TIMED_OUT);
    let daemon = killed(daemon, &cluster, "store = \"always\"");
    cluster.release_answers();
    assert_eq!(daemon.status()["ledger"]["held"], json!(0));
    assert_eq!(send(&mut daemon.connect(), &topic, -1, 2).0, 0);
    assert_eq!(balance_of_log(&daemon), [3, 2, 0, 1]);
    assert_eq!(daemon.status()["backlog"]["possible_duplicates"], json!(1));
    assert_eq!(values(&cluster, &topic), [0, 1, 2], "it was appended, and its answer lost");
}

#[test]
fn what_only_the_log_has_is_given_up_though_no_broker_can_be_reached() {
    const RECORDS: u8 = 50;
    let mut cluster = DevKafka::start(1);
    let topic = new_topic(&cluster, "waits", 1);
    let daemon = daemon_with(&cluster, "store = \"always\"");
    let mut client = daemon.connect();
    assert_eq!(send(&mut client, &topic, -1, 0).0, 0);
    cluster.kill_broker(1);
    for number in 1..=RECORDS {
        assert_eq!(send(&mut client, &topic, 1, number).0, 0);
    }
    let daemon = killed(daemon, &cluster, "store = \"always\"\ndelivery_timeout = \"100ms\"");
    let ledger = settled_ledger(&daemon, RECORDS.into());
    assert_eq!(ledger["dropped"]["delivery_timeout"], json!(RECORDS), "{ledger}");
    cluster.start_broker(1);
    let daemon = killed(daemon, &cluster, "store = \"always\"");
    assert_eq!(send(&mut daemon.connect(), &topic, -1, RECORDS + 1).0, 0);
    assert_eq!(balance_of_log(&daemon), [u64::from(RECORDS) + 2, 2, 0, RECORDS.into()]);
    assert_eq!(values(&cluster, &topic), [0, RECORDS + 1]);
}

/// What `forebay dead-letters` says of the letters, in JSON: all of them, and the values one by one.
fn letters(daemon: &Daemon) -> (Value, Vec<Value>) {
    let said = |name: &str, more: &[&str]| {
        let mut command: Command = forebay();
        command.args(["dead-letters", name]).arg(daemon.files().path("backlog")).args(more);
        command.env("FOREBAY_ADMIN", daemon.files().admin_socket());
        let (status, stdout, stderr) = run(command, stdin_of(b""), Duration::from_secs(60));
        assert_eq!(status.code(), Some(0), "{stderr}");
        String::from_utf8(stdout).expect("text")
    };
    let exported = said("export", &[]);
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (serde_json::from_str(&said("list", &["--json"])).expect("JSON"), lines)
}

#[test]
fn dead_letters_of_partitions_that_are_gone_are_kept_whether_their_topic_is_stored_or_not() {
    for store in ["never", "overflow", "always"] {
        let cluster = DevKafka::start(2);
        let rules = format!(
            "store = {store:?}\nmax_block = \"300ms\"\non_missing_partition = \"dead_letter\"\nlinger = \"0ms\""
        );
        let daemon = daemon_with(&cluster, &rules);
        let topic = new_topic(&cluster, "gone", 1);
        let mut client = daemon.connect();
        assert_eq!(send(&mut client, &topic, -1, 0).0, 0);
        cluster.delete_topic(&topic).expect("it exists");
        for number in [b'a', b'b'] {
            let (code, words) = send(&mut client, &topic, -1, number);
            assert_eq!(code, UNKNOWN_TOPIC_OR_PARTITION, "{words:?}");
        }
        let ledger = settled_ledger(&daemon, 3);
        assert_eq!((&ledger["delivered"], &ledger["dead_lettered"]), (&json!(1), &json!(2)), "{ledger}");
        if store == "always" {
            assert_eq!(balance_of_log(&daemon), [3, 1, 2, 0]);
            // What is stored later is on disk, and so is all before it.
            assert_eq!(send(&mut client, &new_topic(&cluster, "other", 1), 1, 0).0, 0);
        }
        let daemon = killed(daemon, &cluster, &rules);
        let (list, exported) = letters(&daemon);
        assert_eq!((&list["records"], &list["letters"][0]["code"]), (&json!(2), &json!(3)), "{list}");
        assert!(list["letters"][0]["words"].as_str().is_none_or(|words| words.contains("no partition 0 any more")));
        let kept: Vec<_> = exported.iter().map(|line| line["value"].as_str()).collect();
        assert_eq!(kept, [Some("a"), Some("b")], "store = {store}");
        // It comes back, and is written to as if nothing had been.
        cluster.create_topic(&topic, 1);
        daemon.wait_for_status("a record there", SOON, |_| {
            (send(&mut daemon.connect(), &topic, -1, 9).0 == 0).then_some(())
        });
        assert!(values(&cluster, &topic).ends_with(&[9]));
    }
}
