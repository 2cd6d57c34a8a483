//! The tests' own tools do what they say: without this, a green end-to-end suite could mean that nobody looked.

mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use support::balance::{Ending, check_read};
use support::client::{Client, Outgoing, Produce, ProduceAnswer, RecordAnswer, TopicAnswer, dory_frame, frame};
use support::daemon::{Daemon, DaemonFiles};
use support::kcat::ReadRecord;
use support::process::{Process, run, stdin_of};
use support::watch::poll;
use support::writer::{Account, By, Way, Writer};

const SOON: Duration = Duration::from_secs(20);

/// Which part this test binary plays when it is started as somebody's child.
const ROLE: &str = "FOREBAY_TEST_ROLE";

/// This test binary as a child that plays `role`.
fn stand_in(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("a test knows its binary"));
    command.args(["--exact", "--nocapture", "stand_ins_play_their_role"]).env(ROLE, role);
    command
}

#[test]
fn stand_ins_play_their_role() {
    match env::var(ROLE).as_deref() {
        Ok("test process") => {
            let process = Process::spawn(sh("exec tail -f /dev/null"), Stdio::null(), None);
            eprintln!("child {};", process.id());
            loop {
                thread::park();
            }
        }
        Ok("daemon") => {
            eprintln!("started");
            let notify = UnixDatagram::unbound().expect("a socket can be made");
            let path = env::var("NOTIFY_SOCKET").expect("the harness names a socket");
            notify.send_to(b"STATUS=up\nREADY=1\n", path).expect("the harness listens");
            loop {
                thread::park();
            }
        }
        _ => {}
    }
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Whether a process of that number is there and not yet a zombie.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|after_name| !after_name.is_empty() && !after_name.starts_with('Z'))
}

#[test]
fn a_child_reads_its_input_and_both_its_streams_are_kept() {
    let (status, stdout, stderr) = run(sh("cat; echo oops >&2; exit 3"), stdin_of(b"a\0b"), SOON);
    assert_eq!((status.code(), &stdout[..], &stderr[..]), (Some(3), &b"a\0b"[..], "oops\n"));
}

#[test]
fn a_dropped_child_takes_its_own_children_with_it() {
    let process = Process::spawn(sh("tail -f /dev/null & echo $!; wait"), Stdio::null(), None);
    let pid = process.wait_until("its child's number", SOON, |o| {
        o.stdout.ends_with(b"\n").then(|| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    });
    assert!(is_alive(&pid));
    drop(process);
    assert!(poll(SOON, || (!is_alive(&pid)).then_some(())).is_some(), "{pid} lives on");
}

#[test]
fn a_child_dies_with_the_test_process_even_when_that_is_killed() {
    let mut test_process = Process::spawn(stand_in("test process"), Stdio::null(), None);
    let pid = test_process.wait_until("its child's number", SOON, |o| {
        String::from_utf8_lossy(&o.stderr).split_once("child ")?.1.split_once(';').map(|(pid, _)| pid.to_owned())
    });
    assert!(is_alive(&pid));
    test_process.kill();
    assert!(poll(SOON, || (!is_alive(&pid)).then_some(())).is_some(), "{pid} lives on");
}

#[test]
#[should_panic(expected = "ended before saying \"ready\"")]
fn waiting_for_text_fails_at_once_when_the_child_has_ended() {
    Process::spawn(sh("echo steady"), Stdio::null(), None).wait_for_text("ready", SOON);
}

#[test]
fn a_daemon_is_ready_when_it_has_notified_and_its_end_is_seen() {
    let daemon = Daemon::start_command(stand_in("daemon"), DaemonFiles::new("127.0.0.1:1,127.0.0.1:2", ""));
    assert_eq!(daemon.process().output().update(|o| o.notified.clone()), ["STATUS=up", "READY=1"]);
    let config = fs::read_to_string(daemon.files().config()).expect("the configuration is there");
    assert!(config.contains(r#"bootstrap_servers = ["127.0.0.1:1", "127.0.0.1:2"]"#), "{config}");
    let stopped = daemon.stop();
    assert_eq!(stopped.status.signal(), Some(15), "the stand-in does not handle SIGTERM");
    assert!(stopped.log.contains("started"), "{}", stopped.log);
    assert!(stopped.files.config().exists());
}

#[test]
#[should_panic(expected = "ended before READY=1")]
fn a_daemon_that_ends_before_it_is_ready_fails_the_test() {
    Daemon::start_command(sh("echo no config >&2; exit 78"), DaemonFiles::new("127.0.0.1:1", ""));
}

#[test]
fn the_client_frames_requests_and_reads_answers_as_documented() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).expect("the socket can be bound");
    let mut client = Client::connect(&path);
    let (mut served, _) = listener.accept().expect("the client has connected");

    let record = Outgoing {
        timestamp: None,
        key: None,
        value: Some(b"v".to_vec()),
        headers: vec![(b"h".to_vec(), None), (b"h".to_vec(), Some(vec![]))],
    };
    let id = client.send_produce(&Produce::new("t", std::slice::from_ref(&record)));
    let expected = [
        &[0, 0, 0, 72, 2, 0, 0, 0][..],                    // size, key 512, version 0
        &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // correlation id, acks, no timeout
        &[0xff; 10],                                       // no source, no sequence
        &[0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1], // topic, partition, one record
        &[0xff; 8],                                        // now
        &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, b'v', 0, 2], // null key, value, two headers
        &[0, 1, b'h', 0xff, 0xff, 0xff, 0xff],             // the name with null
        &[0, 1, b'h', 0, 0, 0, 0],                         // and again with an empty value
    ]
    .concat();
    let mut got = vec![0; expected.len()];
    served.read_exact(&mut got).expect("the request arrives");
    assert_eq!(got, expected);

    let answer =
        [&[0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 5][..], &[0, 0, 0, 0, 0, 0, 0, 9]].concat();
    served.write_all(&frame(512, 0, &answer)).expect("the client reads");
    served.write_all(&frame(512, 0, &[0, 0, 0, 2, 0, 42, 0, 2, b'n', b'o'])).expect("the client reads");
    drop(served);
    let records = vec![RecordAnswer { error_code: 0, partition: 5, offset: 9 }];
    let expected = ProduceAnswer { correlation_id: id, error_code: 0, error_message: None, records };
    assert_eq!(client.read_produce_answer(), expected);
    let refusal =
        ProduceAnswer { correlation_id: 2, error_code: 42, error_message: Some("no".into()), records: vec![] };
    assert_eq!(client.read_produce_answer(), refusal);
    assert_eq!(client.read_frame().expect("the connection is closed in order"), None);
}

#[test]
fn the_client_asks_for_topics_and_versions_as_documented() {
    let (ours, mut served) = UnixStream::pair().expect("a pair of sockets can be made");
    let mut client = Client::on(ours);
    let topic = [0, 0, 0, 1, 0, 0, 0, 1, b't', 0, 0, 0, 1, 0, 5, 0, 0, 0, 7];
    let answer = [&[0, 0, 0, 1, 0, 0, 0xff, 0xff][..], &topic].concat();
    served.write_all(&frame(513, 0, &answer)).expect("the client reads");
    let expected = TopicAnswer { error_code: 0, name: "t".into(), partitions: vec![(7, 5)] };
    assert_eq!(client.metadata(&["t"]), [expected]);
    let answer = [0, 0, 0, 2, 0, 0, 0xff, 0xff, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 9];
    served.write_all(&frame(514, 0, &answer)).expect("the client reads");
    assert_eq!(client.versions(), [(512, 0, 3)]);
    client.finish_sending();
    let mut asked = Vec::new();
    served.read_to_end(&mut asked).expect("the client has finished");
    let expected = [frame(513, 0, &[0, 0, 0, 1, 0, 0, 0, 1, 0, 1, b't']), frame(514, 0, &[0, 0, 0, 2])].concat();
    assert_eq!(asked, expected);
}

#[test]
fn dorys_messages_are_as_long_as_dory_says() {
    assert_eq!(dory_frame(None, "topic", 1, b"key", b"value").len(), 28 + 5 + 3 + 5);
    assert_eq!(dory_frame(Some(7), "topic", 1, b"key", b"value").len(), 32 + 5 + 3 + 5);
}

/// A client that wrote four records by key to one partition, all answered, and what a reader found; then `change`.
fn balance_of(ending: Ending, change: impl FnOnce(&mut Account, &mut Vec<ReadRecord>)) -> u64 {
    let writer = Writer { by: By::Key, ..Writer::new(3, "t", 1) };
    let answers = (0..4).map(|n| (n, RecordAnswer { error_code: 0, partition: 0, offset: n.into() })).collect();
    let read = |number: u32| {
        let Outgoing { timestamp, key, value, headers } = writer.record(number);
        ReadRecord { partition: 0, offset: number.into(), timestamp: timestamp.unwrap_or(5), key, value, headers }
    };
    let mut records = (0..4).map(read).collect();
    let mut account = Account { writer, sent: 4, answers };
    change(&mut account, &mut records);
    check_read(&BTreeMap::from([("t".to_owned(), records)]), &[account], ending)
}

#[test]
fn a_balance_that_holds_is_accepted() {
    assert_eq!(balance_of(Ending::Settled, |_, _| {}), 4);
    // Proven to be there, and not where.
    let unplaced = |account: &mut Account, _: &mut Vec<ReadRecord>| account.answers.get_mut(&1).unwrap().offset = -1;
    assert_eq!(balance_of(Ending::Settled, unplaced), 4);
    let unanswered = |account: &mut Account, records: &mut Vec<ReadRecord>| {
        account.answers.remove(&3);
        records.pop();
    };
    assert_eq!(balance_of(Ending::Cut, unanswered), 3);
}

#[test]
#[should_panic(expected = "client 3 record 2 is lost")]
fn a_balance_sees_a_lost_record() {
    balance_of(Ending::Cut, |_, records| drop(records.remove(2)));
}

#[test]
#[should_panic(expected = "client 3 record 3 is lost")]
fn a_balance_sees_a_lost_record_that_nobody_was_told_of() {
    balance_of(Ending::Settled, |account, records| {
        account.writer.way = Way::None;
        account.answers.clear();
        records.pop();
    });
}

#[test]
#[should_panic(expected = "client 3 record 1: twice, first at (0, 1)")]
fn a_balance_sees_a_doubled_record() {
    balance_of(Ending::Cut, |_, records| records.push(ReadRecord { offset: 4, ..records[1].clone() }));
}

#[test]
#[should_panic(expected = "client 3 record 1: behind its record Some(2)")]
fn a_balance_sees_records_out_of_order() {
    balance_of(Ending::Cut, |_, records| {
        let value = records[1].value.clone();
        records[1].value = std::mem::replace(&mut records[2].value, value);
    });
}

#[test]
#[should_panic(expected = "client 3 record 3 is at (0, 9), and was said to be at")]
fn a_balance_sees_a_wrong_answer() {
    balance_of(Ending::Settled, |_, records| records[3].offset = 9);
}

#[test]
#[should_panic(expected = "client 3 record 0: changed")]
fn a_balance_sees_a_changed_byte() {
    balance_of(Ending::Settled, |_, records| records[0].value.as_mut().unwrap().push(b'!'));
}

#[test]
#[should_panic(expected = "nobody sent")]
fn a_balance_sees_what_nobody_sent() {
    balance_of(Ending::Settled, |_, records| records[0].value = Some(b"stray".to_vec()));
}

#[test]
#[should_panic(expected = "client 3 record 2 was not answered")]
fn a_balance_sees_an_answer_that_never_came() {
    balance_of(Ending::Settled, |account, _| {
        account.answers.remove(&2);
    });
}
