//! `forebay check` against real Kafka: what its answers look like is not for devbroker to say.

use std::process::Stdio;
use std::time::Duration;

use crate::cluster::{self, Cluster};
use crate::support::cluster::unique;
use crate::support::daemon::{DaemonFiles, forebay};
use crate::support::process::run;

/// How long a check may take.
const TIMEOUT: Duration = Duration::from_secs(60);

#[track_caller]
fn check(cluster: &Cluster, topics: &[&str]) -> (i32, String) {
    let files = DaemonFiles::new(&cluster.bootstrap(), "");
    let mut command = forebay();
    command.args(["check", "--config"]).arg(files.config());
    topics.iter().for_each(|topic| {
        command.args(["-t", topic]);
    });
    let (status, stdout, _) = run(command, Stdio::null(), TIMEOUT);
    (status.code().expect("it ends by itself"), String::from_utf8(stdout).expect("text"))
}

#[test]
fn the_check_finds_brokers_and_topics_as_they_are() {
    let Some(cluster) = cluster::shared() else { return };
    let (sound, weak, single) = (unique("sound"), unique("weak"), unique("single"));
    cluster.create_topic(&sound, 4, 3, &[]);
    cluster.create_topic(&weak, 1, 3, &[("min.insync.replicas", "1")]);
    cluster.create_topic(&single, 1, 1, &[]);
    cluster.wait_in_sync();
    let (code, page) = check(&cluster, &[&sound, &weak, &single, "no-such-topic-here"]);
    for line in [
        format!("ok       topic    {sound}: 4 partitions, 3 copies each, min.insync.replicas 2, may be written\n"),
        format!("warning  topic    {weak}: min.insync.replicas is 1, "),
        format!("warning  topic    {single} has one copy of each record"),
        "warning  topic    no-such-topic-here does not exist: the first record makes it".to_owned(),
    ] {
        assert!(page.contains(&line), "no {line:?} in\n{page}");
    }
    assert_eq!(page.matches("3 brokers up\n").count(), 3, "{page}");
    // Kafka takes records for a single copy although two are asked for (`Partition.effectiveMinIsr`), so that is no error.
    assert_eq!(code, 0, "{page}");
    let (_, again) = check(&cluster, &["no-such-topic-here"]);
    assert!(again.contains("no-such-topic-here does not exist"), "the check has made it:\n{again}");
}
