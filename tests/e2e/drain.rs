//! `forebay drain`: ends when Kafka has everything, or says what it does not have.

use std::process::Stdio;
use std::time::Duration;

use forebay::devbroker::At;
use tempfile::TempDir;

use crate::dev_kafka::DevKafka;
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, forebay};
use crate::support::process::run;
use crate::support::scenario::SOON;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `forebay drain` and returns its exit code and all that it said.
fn drain(admin: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = forebay();
    command.arg("drain").arg("--admin").arg(admin).args(arguments);
    let (status, stdout, stderr) = run(command, Stdio::null(), TIMEOUT);
    (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &stderr)
}

#[test]
fn drain_ends_when_nothing_is_held_and_says_what_is_left_when_time_is_up() {
    let cluster = DevKafka::start(1);
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let config = format!("[backlog]\ndirectory = {:?}\n[producer]\nstore = \"always\"", backlog.path());
    let daemon = Daemon::start(&cluster.bootstrap(), &*config);
    let admin = daemon.files().admin_socket();
    let topic = new_topic(&cluster, "drained", 1);
    let records = [Outgoing { value: Some(b"x".to_vec()), ..Outgoing::default() }];
    let mut client = daemon.connect();
    assert_eq!(client.produce(&Produce::new(&topic, &records)).error_code, 0);
    cluster.hold_requests(At::Anywhere);
    for _ in 0..3 {
        let answer = client.produce(&Produce { acks: 1, ..Produce::new(&topic, &records) });
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }
    let (code, said) = drain(&admin, &["--timeout", "500ms"]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("3 records are still held") && said.contains(&format!("{topic}: 3")), "{said}");
    daemon.wait_for_status("the oldest record's age", SOON, |status| status["backlog"]["oldest_seconds"].as_u64());
    cluster.release_requests();
    let (code, said) = drain(&admin, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("nothing is held, after "), "{said}");
    assert_eq!(drain(&admin, &["--quiet"]), (Some(0), String::new()));
    let status = daemon.status();
    assert_eq!((&status["ledger"]["held"], &status["backlog"]["held_records"]), (&0.into(), &0.into()));
    daemon.wait_for_status("no oldest record", SOON, |status| {
        status["backlog"]["oldest_seconds"].is_null().then_some(())
    });
    let files = daemon.kill().files;
    let (code, said) = drain(&files.admin_socket(), &["--timeout", "1s"]);
    assert_eq!(code, Some(69), "{said}");
}
