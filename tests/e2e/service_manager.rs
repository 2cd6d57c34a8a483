//! What the service manager is told.

use nix::sys::signal::Signal;

use forebay::devbroker::At;

use crate::dev_kafka::DevKafka;
use crate::support::client::{Outgoing, Produce};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles, forebay};
use crate::support::scenario::SOON;

#[track_caller]
fn wait_for(daemon: &Daemon, what: &str, found: impl Fn(&str) -> bool) {
    daemon.process().wait_until(what, SOON, |o| o.notified.iter().any(|line| found(line)).then_some(()));
}

#[test]
fn the_watchdog_is_fed_and_told_how_it_goes() {
    let cluster = DevKafka::start(2);
    let files = DaemonFiles::new(&cluster.bootstrap(), "");
    let mut command = forebay();
    command.arg("run").arg("--config").arg(files.config()).env("WATCHDOG_USEC", "150000");
    let daemon = Daemon::start_command(command, files);
    wait_for(&daemon, "the brokers", |line| line == "STATUS=0 records held, 2 brokers");
    let pings = |notified: &[String]| notified.iter().filter(|line| *line == "WATCHDOG=1").count();
    daemon.process().wait_until("three pings", SOON, |o| (pings(&o.notified) >= 3).then_some(()));
}

#[test]
fn a_long_drain_asks_for_time_and_says_what_is_left() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "[daemon]\ndrain_timeout = \"2h\"");
    let topic = new_topic(&cluster, "slow", 1);
    cluster.hold_requests(At::Anywhere);
    let mut client = daemon.connect();
    client.send_produce(&Produce::new(&topic, &[Outgoing::default(), Outgoing::default()]));
    daemon.wait_for_status("both held", SOON, |status| (status["ledger"]["held"] == 2).then_some(()));
    daemon.process().signal(Signal::SIGTERM);
    wait_for(&daemon, "STOPPING=1", |line| line == "STOPPING=1");
    wait_for(&daemon, "time for the drain", |line| line == "EXTEND_TIMEOUT_USEC=7210000000");
    wait_for(&daemon, "what is left", |line| line == "STATUS=stopping: 2 records held, 1 broker");
    cluster.release_requests();
    assert_eq!(client.read_produce_answer().error_code, 0);
    let no_watchdog = daemon.process().output().update(|o| o.notified.iter().all(|line| line != "WATCHDOG=1"));
    assert!(no_watchdog, "nobody has asked for pings");
    assert_eq!(daemon.ended().code(), 0);
}
