//! Clients that mean no good, or are broken: they cost little, harm nobody, and what they said in whole frames still counts.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use forebay::devbroker::At;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use crate::dev_kafka::DevKafka;
use crate::support::balance::{Ending, check, check_read, read, settled_ledger};
use crate::support::client::{
    Client, METADATA, Outgoing, PRODUCE, Produce, VERSIONS, dory_frame, frame, produce_frame,
};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, DaemonFiles, Extra, forebay};
use crate::support::load::Load;
use crate::support::scenario::SOON;
use crate::support::writer::{Way, Writer};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// So many idle connections are to be harmless.
const IDLE_CONNECTIONS: u64 = 10_000;
/// What a test process needs beside them: the other tests that run in it.
const OTHER_FILES: u64 = 2_000;
/// A service manager's usual soft limit.
const SOFT_LIMIT: u64 = 1024;
/// What an idle connection may add to the daemon's resident memory; a build without optimisation included.
const IDLE_BYTES: usize = 4 * KIB;

/// Raises this process's limit of open files, and says how many idle connections that allows.
fn idle_connections() -> u64 {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits can be read");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("a soft limit can be raised to the hard one");
    let connections = most.saturating_sub(OTHER_FILES).min(IDLE_CONNECTIONS);
    if connections < IDLE_CONNECTIONS {
        eprintln!("only {connections} connections: the hard limit of open files is {most}");
        assert!(std::env::var_os("FOREBAY_REQUIRE_FILES").is_none(), "FOREBAY_REQUIRE_FILES asks for all of them");
    }
    connections
}

/// Bytes of the daemon's memory that are in use.
fn resident(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process().id())).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says it");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * KIB
}

fn counter(status: &Value, name: &str) -> u64 {
    status["connections"][name].as_u64().unwrap_or_else(|| panic!("{name} is counted: {status:#}"))
}

fn connect(daemon: &Daemon) -> UnixStream {
    UnixStream::connect(daemon.files().stream_socket()).expect("the daemon listens")
}

/// One record, of a value so long.
fn record(value: Vec<u8>) -> [Outgoing; 1] {
    [Outgoing { value: Some(value), ..Outgoing::default() }]
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_harm_nobody() {
    let connections = idle_connections();
    let cluster = DevKafka::start(3);
    let stream = format!("max_connections = {}", connections + 100);
    let files = DaemonFiles::new(&cluster.bootstrap(), Extra { stream: &stream, ..Extra::default() });
    // It begins with a low limit, as under a service manager, and raises it itself.
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -Sn {SOFT_LIMIT} && exec \"$@\"")).arg("sh").arg(forebay().get_program());
    command.arg("run").arg("--config").arg(files.config());
    let daemon = Daemon::start_command(command, files);
    let topic = new_topic(&cluster, "busy", 3);
    let load = Load::start(&daemon, (0..4).map(|id| Writer::new(id, &topic, 3)).collect());
    load.wait_for_each(30);
    let before = resident(&daemon);
    // Each has asked and been answered once, so that it has had what a connection in use has.
    let idle: Vec<Client> = (0..connections)
        .map(|_| {
            let mut client = daemon.connect();
            assert_eq!(client.versions().len(), 5);
            client
        })
        .collect();
    load.wait_for_each(300);
    assert_eq!(counter(&daemon.status(), "connections_open"), connections + 4);
    let each = resident(&daemon).saturating_sub(before) / idle.len();
    assert!(each <= IDLE_BYTES, "{each} bytes for an idle connection");
    drop(idle);
    daemon.wait_for_status("the idle gone", SOON, |status| (counter(status, "connections_open") == 4).then_some(()));
    load.wait_for_each(30);
    check(&cluster, &daemon, &load.finish());
}

#[test]
fn clients_that_write_a_byte_at_a_time_and_never_finish_are_told_and_harm_nobody() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), Extra { stream: "frame_timeout = \"2s\"", ..Extra::default() });
    let topic = new_topic(&cluster, "steady", 3);
    let load = Load::start(&daemon, (0..4).map(|id| Writer::new(id, &topic, 3)).collect());
    let request = produce_frame(1, &Produce::new(&topic, &record(vec![7; 100_000])));
    let mut slow: Vec<UnixStream> = (0..200).map(|_| connect(&daemon)).collect();
    // Nobody waits between two bytes but for what a system call takes, until the daemon has ended each.
    let mut sent = 0;
    while !slow.is_empty() {
        let byte = &request[sent..=sent];
        slow.retain_mut(|stream| stream.write_all(byte).is_ok());
        // A byte short of the end it stays.
        sent = (sent + 1).min(request.len() - 2);
        if sent == request.len() - 2 {
            break;
        }
        if sent % 64 == 0 {
            load.wait_for_each(1);
        }
    }
    for stream in slow {
        let mut client = Client::on(stream);
        let told = client.read_frame().expect("the connection is closed in order").expect("with a word");
        assert_eq!((told.api_key, told.body[4..6].to_vec()), (PRODUCE, vec![0, 7]));
    }
    daemon.wait_for_status("the slow gone", SOON, |status| (counter(status, "connections_open") == 4).then_some(()));
    load.wait_for_each(30);
    check(&cluster, &daemon, &load.finish());
    assert_eq!(counter(&daemon.status(), "frames_timed_out"), 200);
}

#[test]
fn a_client_that_has_shut_down_its_writing_side_gets_its_answers() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "half-closed", 1);
    cluster.hold_requests(At::Anywhere);
    let records = record(b"v".to_vec());
    let mut clients: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = daemon.connect();
            for _ in 0..5 {
                client.send_produce(&Produce::new(&topic, &records));
            }
            client.finish_sending();
            client
        })
        .collect();
    daemon.wait_for_status("all accepted", SOON, |status| (status["ledger"]["accepted"] == 100).then_some(()));
    cluster.release_requests();
    for client in &mut clients {
        for _ in 0..5 {
            assert_eq!(client.read_produce_answer().error_code, 0);
        }
        assert_eq!(client.read_frame().expect("it ends in order"), None);
    }
    assert_eq!(cluster.read(&topic).len(), 100);
}

#[test]
fn what_a_client_sends_after_it_has_shut_down_its_reading_side_is_delivered() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "deaf", 1);
    let records = record(b"v".to_vec());
    let mut deaf = connect(&daemon);
    deaf.shutdown(Shutdown::Read).expect("a connected socket can be shut down");
    for sent in 1..=50_u64 {
        deaf.write_all(&produce_frame(1, &Produce::new(&topic, &records))).expect("the daemon reads on");
        // One by one, so that an answer has failed to be written before the next request.
        daemon.wait_for_status("it delivered", SOON, |s| (s["ledger"]["delivered"] == sent).then_some(()));
    }
    drop(deaf);
    daemon.wait_for_status("it gone", SOON, |status| (counter(status, "connections_open") == 0).then_some(()));
    assert_eq!(cluster.read(&topic).len(), 50);
}

#[test]
fn of_clients_that_vanish_in_the_middle_of_a_frame_the_whole_frames_are_delivered() {
    let cluster = DevKafka::start(3);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let (topic, others_topic) = (new_topic(&cluster, "vanish", 3), new_topic(&cluster, "stay", 3));
    let load = Load::start(&daemon, (0..2).map(|id| Writer::new(id, &others_topic, 3)).collect());
    let mut random = fastrand::Rng::with_seed(4);
    let mut expected = Vec::new();
    for number in 0..200_u32 {
        // Some frames are larger than a read, and some than the socket's buffer.
        let size = [10, 1000, 70_000, 300_000][number as usize % 4];
        let value = |part: u8| [&number.to_be_bytes()[..], &[part], &vec![part; size]].concat();
        let frames: Vec<Vec<u8>> = (0..3)
            .map(|part| match number % 3 {
                0 => dory_frame(None, &topic, 5, b"", &value(part)),
                _ => produce_frame(1, &Produce::new(&topic, &record(value(part)))),
            })
            .collect();
        let cut = random.usize(1..frames[2].len());
        let mut client = connect(&daemon);
        client.write_all(&[&frames[0][..], &frames[1], &frames[2][..cut]].concat()).expect("the daemon reads it");
        drop(client);
        expected.extend([value(0), value(1)]);
    }
    load.wait_for_each(30);
    let accounts = load.finish();
    let sent: u64 = accounts.iter().map(|account| u64::from(account.sent)).sum::<u64>() + expected.len() as u64;
    let ledger = settled_ledger(&daemon, sent);
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&sent.into(), &sent.into()), "{ledger}");
    let mut found: Vec<_> = cluster.read(&topic).into_iter().filter_map(|record| record.value).collect();
    found.sort();
    expected.sort();
    assert!(found == expected, "{} found, {} sent", found.len(), expected.len());
    check_read(&read(&cluster, &accounts), &accounts, Ending::Settled);
    daemon.wait_for_status("all memory given back", SOON, |status| {
        (status["memory"]["used_bytes"] == 0 && counter(status, "connections_open") == 0).then_some(())
    });
    assert_eq!(counter(&daemon.status(), "frames_cut"), 200);
}

/// Anything but a request: random, or a sound one of which something was changed.
fn garbage(random: &mut fastrand::Rng, topic: &str) -> Vec<u8> {
    let mut bytes = match random.u8(0..6) {
        0 => vec![],
        1 => produce_frame(1, &Produce::new(topic, &record(vec![7; random.usize(..500)]))),
        2 => dory_frame(Some(1), topic, 5, b"k", b"v"),
        3 => frame(METADATA, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        4 => frame(VERSIONS, 0, &[0, 0, 0, 1]),
        _ => i32::to_be_bytes(random.i32(8..100_000)).to_vec(),
    };
    for _ in 0..random.usize(..9) {
        match bytes.len() {
            0 => {}
            len => bytes[random.usize(..len)] = random.u8(..),
        }
    }
    let more = random.usize(8..300);
    bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(more));
    bytes
}

#[test]
fn garbage_ends_its_own_connection_and_nothing_else() {
    let cluster = DevKafka::start(3);
    // A topic's name may be what was changed: nothing waits long for a topic that does not exist.
    let rest = "[producer]\nmax_block = \"500ms\"\n";
    let extra = Extra { stream: "frame_timeout = \"500ms\"", rest, ..Extra::default() };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let (topic, others_topic) = (new_topic(&cluster, "garbage", 3), new_topic(&cluster, "sound", 3));
    let load = Load::start(&daemon, (0..4).map(|id| Writer::new(id, &others_topic, 3)).collect());
    let mut random = fastrand::Rng::with_seed(5);
    let socket = UnixDatagram::unbound().expect("a socket can be made");
    socket.connect(daemon.files().datagram_socket()).expect("the daemon has a datagram socket");
    for _ in 0..500 {
        let mut client = connect(&daemon);
        // The daemon may have closed before all is written; what it says is read to its end, at times.
        let _ = client.write_all(&garbage(&mut random, &topic));
        if random.bool() {
            let mut client = Client::on(client);
            client.finish_sending();
            while client.read_frame().expect("answers are whole, and the connection ends in order").is_some() {}
        }
        socket.send(&garbage(&mut random, &topic)).expect("the daemon takes datagrams");
    }
    load.wait_for_each(30);
    daemon.wait_for_status("all gone", SOON, |status| (counter(status, "connections_open") == 4).then_some(()));
    let accounts = load.finish();
    check_read(&read(&cluster, &accounts), &accounts, Ending::Settled);
    assert_eq!(counter(&daemon.status(), "connections_panicked"), 0, "{}", daemon.process().stderr());
}

/// Writes what the socket takes and no more.
fn write_some(stream: &mut UnixStream, bytes: &mut &[u8]) {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => *bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => *bytes = &[],
        }
    }
}

/// So many connections send `messages` as far as they are read, and read nothing, while good clients write eight thousand
/// records to a daemon that may hold `limit` bytes.
fn besiege(limit: usize, connections: usize, messages: [Vec<u8>; 2]) {
    let cluster = DevKafka::start(3);
    let extra = Extra {
        stream: "max_frame_size = \"1MiB\"\nmax_unanswered_size = \"1MiB\"",
        rest: &format!("[memory]\nlimit = \"{}KiB\"\n", limit / KIB),
        datagram: "max_frame_size = \"64KiB\"",
        ..Extra::default()
    };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let topic = new_topic(&cluster, "good", 3);
    let before = resident(&daemon);
    let mut hostile: Vec<(UnixStream, &[u8])> = (0..connections)
        .map(|number| {
            let stream = connect(&daemon);
            stream.set_nonblocking(true).expect("a socket can be so");
            (stream, &messages[number % 2][..])
        })
        .collect();
    let mut besiege = || hostile.iter_mut().for_each(|(stream, rest)| write_some(stream, rest));
    // All are there before the good ones come.
    (0..3).for_each(|_| besiege());
    let ways = [Way::All(5), Way::All(1), Way::None, Way::Dory];
    let writers = (0..4_u32).map(|id| Writer {
        way: ways[id as usize],
        burst: 10,
        value_bytes: 1000,
        records: Some(2000),
        ..Writer::new(id, &topic, 3)
    });
    let load = Load::start(&daemon, writers.collect());
    let (mut most_used, mut most_resident) = (0, 0);
    while !load.all_ended() {
        besiege();
        let status = daemon.status();
        most_used = most_used.max(status["memory"]["used_bytes"].as_u64().expect("a number") as usize);
        most_resident = most_resident.max(resident(&daemon).saturating_sub(before));
    }
    let accounts = load.join();
    assert_eq!(check_read(&read(&cluster, &accounts), &accounts, Ending::Settled), 4 * 2000);
    assert!(most_used <= limit + MIB, "{most_used} bytes charged");
    assert!(most_resident <= 4 * limit + 16 * MIB, "{most_resident} bytes of memory more than before");
    assert_eq!(daemon.status()["ledger"]["accepted"], 4 * 2000);
    drop(hostile);
    daemon.wait_for_status("all memory given back", SOON, |status| {
        (status["memory"]["used_bytes"] == 0 && counter(status, "connections_open") == 0).then_some(())
    });
}

#[test]
fn half_sent_frames_of_many_connections_fill_no_memory_and_keep_nobody_waiting() {
    // Each lacks its last byte: a hundred MiB of frames that are larger than a read, and thirty of smaller ones.
    let frames = [200_000, 60_000].map(|size| {
        let mut frame = produce_frame(1, &Produce::new("never", &record(vec![7; size])));
        frame.pop();
        frame
    });
    besiege(8 * MIB, 1000, frames);
}

#[test]
fn answers_that_many_connections_do_not_take_fill_no_memory_and_keep_nobody_waiting() {
    let questions = [frame(VERSIONS, 0, &[0, 0, 0, 1]), frame(METADATA, 0, &[0, 0, 0, 1, 0, 0, 0, 0])];
    besiege(2 * MIB, 40, questions.map(|question| question.repeat(100_000)));
}
