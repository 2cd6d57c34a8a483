//! Frames that are none: the client is told what was wrong with them and loses its connection, and nobody else notices.

use std::os::unix::net::UnixDatagram;

use crate::dev_kafka::DevKafka;
use crate::support::balance::{Ending, check_read, read, settled_ledger};
use crate::support::client::{
    ANY_PARTITION, Client, METADATA, Outgoing, PARTITION_KEY, PRODUCE, Produce, ProduceAnswer, VERSIONS, dory_frame,
    frame, parse_produce_answer, produce_frame,
};
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::{Daemon, Extra};
use crate::support::load::{self, Load};
use crate::support::scenario::SOON;
use crate::support::writer::Writer;

/// What is sent, and what must be answered.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    /// Api key, version and correlation id of the answer.
    head: (i16, i16, i32),
    code: i16,
    /// What the message must hold.
    words: &'static str,
}

/// A Produce request with the correlation id 77, cut or patched.
fn good_produce(records: &[Outgoing]) -> Vec<u8> {
    produce_frame(77, &Produce::new("t", records))
}

/// The body of a frame.
fn body(frame: &[u8]) -> Vec<u8> {
    frame[8..].to_vec()
}

/// A frame with other bytes from `at` on.
fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

fn cases() -> Vec<Case> {
    let one = [Outgoing {
        key: Some(b"k".to_vec()),
        value: Some(b"v".to_vec()),
        headers: vec![(b"h".to_vec(), None)],
        ..Outgoing::default()
    }];
    let two = [one[0].clone(), one[0].clone()];
    let produce = || good_produce(&one);
    let dory = || dory_frame(None, "t", 1, b"k", b"v");
    let keyed = || dory_frame(Some(1), "t", 1, b"k", b"v");
    // Where fields stand: the topic's size is at 28, the partition at 31, the count at 35, the record at 39.
    let (source_at, topic_at, count_at, record_at) = (18, 28, 35, 39);
    let (key_at, header_count_at) = (record_at + 8, record_at + 8 + 5 + 5);
    let end = produce().len();
    let short = |mut bytes: Vec<u8>, cut: usize| {
        bytes.truncate(bytes.len() - cut);
        let size = (bytes.len() as i32).to_be_bytes();
        patched(bytes, 0, &size)
    };
    let longer = |bytes: Vec<u8>| frame(i16::from_be_bytes([bytes[4], bytes[5]]), 0, &[body(&bytes), vec![0]].concat());
    let case = |name, bytes, head, code, words| Case { name, bytes, head, code, words };
    let wrong = |name, bytes, words| Case { name, bytes, head: (PRODUCE, 0, 77), code: 42, words };
    let correlated = |key| frame(key, 0, &77_i32.to_be_bytes());
    vec![
        case("a size below its own", [&4_i32.to_be_bytes()[..], &[2, 0, 0, 0]].concat(), (-1, -1, -1), 42, "4"),
        case("no size at all", vec![0; 8], (-1, -1, -1), 42, "0"),
        case("a negative size", [&(-9_i32).to_be_bytes()[..], &[2, 0, 0, 0]].concat(), (-1, -1, -1), 42, "-9"),
        case(
            "a frame over the limit",
            patched(produce(), 0, &200_000_i32.to_be_bytes()),
            (PRODUCE, 0, 77),
            10,
            "max_frame_size",
        ),
        case("text", b"GET / HTTP/1.1\r\n\r\n".to_vec(), (0x2f20, 0x4854, 0x5450_2f31), 35, "ApiKey"),
        case("an unknown key", correlated(900), (900, 0, 77), 35, "900"),
        case("Kafka's own key", frame(3, 0, &77_i32.to_be_bytes()), (3, 0, -1), 35, "3"),
        case("a later version of Produce", frame(PRODUCE, 1, &body(&produce())), (PRODUCE, 1, 77), 35, "version"),
        case(
            "a later version of Metadata",
            frame(METADATA, 9, &77_i32.to_be_bytes()),
            (METADATA, 9, 77),
            35,
            "version",
        ),
        case(
            "a negative version of Versions",
            frame(VERSIONS, -1, &77_i32.to_be_bytes()),
            (VERSIONS, -1, 77),
            35,
            "version",
        ),
        case("a later version of Dory", frame(ANY_PARTITION, 1, &body(&dory())), (ANY_PARTITION, 1, -1), 35, "version"),
        case("no correlation id", frame(PRODUCE, 0, &[0, 0]), (PRODUCE, 0, -1), 42, "CorrelationId"),
        wrong("an end within acks", frame(PRODUCE, 0, &[0, 0, 0, 77, 0]), "Acks"),
        wrong("a source below null", patched(produce(), source_at, &(-2_i16).to_be_bytes()), "Source"),
        wrong("a topic of negative size", patched(produce(), topic_at, &(-1_i16).to_be_bytes()), "Topic"),
        wrong("a topic longer than the frame", patched(produce(), topic_at, &i16::MAX.to_be_bytes()), "Topic"),
        wrong("a negative count", patched(produce(), count_at, &(-1_i32).to_be_bytes()), "RecordCount"),
        wrong("more records than there are", patched(produce(), count_at, &2_i32.to_be_bytes()), "record 1"),
        wrong("a count that is absurd", patched(produce(), count_at, &i32::MAX.to_be_bytes()), "record"),
        wrong("fewer records than there are", patched(good_produce(&two), count_at, &1_i32.to_be_bytes()), "follow"),
        wrong("a key below null", patched(produce(), key_at, &(-2_i32).to_be_bytes()), "Key"),
        wrong("a key longer than the frame", patched(produce(), key_at, &i32::MAX.to_be_bytes()), "Key"),
        wrong("a value below null", patched(produce(), key_at + 5, &i32::MIN.to_be_bytes()), "Value"),
        wrong(
            "a negative count of headers",
            patched(produce(), header_count_at, &(-1_i16).to_be_bytes()),
            "HeaderCount",
        ),
        wrong("more headers than there are", patched(produce(), header_count_at, &i16::MAX.to_be_bytes()), "header"),
        wrong(
            "a header's name of negative size",
            patched(produce(), header_count_at + 2, &(-1_i16).to_be_bytes()),
            "header",
        ),
        wrong("a header's value below null", patched(produce(), end - 4, &(-2_i32).to_be_bytes()), "header"),
        wrong("an end within a record", short(produce(), 3), "record 0"),
        wrong("a byte too many", longer(produce()), "1 bytes follow"),
        case("a byte too many in Versions", longer(correlated(VERSIONS)), (VERSIONS, 0, 77), 42, "follow"),
        case("no count in Metadata", correlated(METADATA), (METADATA, 0, 77), 42, "TopicCount"),
        case("Dory's flags", patched(dory(), 8, &1_i16.to_be_bytes()), (ANY_PARTITION, 0, -1), 42, "Flags"),
        case("Dory without a topic", frame(ANY_PARTITION, 0, &[0; 20]), (ANY_PARTITION, 0, -1), 42, "Topic"),
        case("Dory's key below empty", patched(dory(), 21, &(-1_i32).to_be_bytes()), (ANY_PARTITION, 0, -1), 42, "Key"),
        case("Dory, cut", short(keyed(), 1), (PARTITION_KEY, 0, -1), 42, "Value"),
        case("Dory, and more", longer(keyed()), (PARTITION_KEY, 0, -1), 42, "follow"),
    ]
}

/// Reads until the connection ends: the answers to Produce requests that had none yet, and the last frame.
fn last_words(client: &mut Client, name: &str) -> (i16, i16, ProduceAnswer) {
    let mut last = None;
    while let Some(frame) = client.read_frame().unwrap_or_else(|error| panic!("{name}: {error}")) {
        last = Some(frame);
    }
    let last = last.unwrap_or_else(|| panic!("{name}: closed without a word"));
    (last.api_key, last.api_version, parse_produce_answer(&last.body))
}

#[test]
fn a_malformed_frame_is_explained_and_ends_its_connection_alone() {
    let cluster = DevKafka::start(3);
    let extra = Extra { stream: "max_frame_size = \"64KiB\"", ..Extra::default() };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let (topic, others_topic) = (new_topic(&cluster, "before", 1), new_topic(&cluster, "others", 3));
    let others = Load::start(&daemon, vec![Writer::new(0, &others_topic, 3)]);
    let cases = cases();
    for (number, case) in cases.iter().enumerate() {
        let name = case.name;
        let mut client = daemon.connect();
        let before = [Outgoing { value: Some(format!("before {number}").into_bytes()), ..Outgoing::default() }];
        // What stands before it is accepted, what stands behind it is not read.
        let behind = [Outgoing { value: Some(b"behind".to_vec()), ..Outgoing::default() }];
        let good = produce_frame(1, &Produce::new(&topic, &before));
        let unread = produce_frame(2, &Produce { acks: 0, ..Produce::new(&topic, &behind) });
        client.send(&[&good[..], &case.bytes, &unread].concat()).expect("the socket takes it");
        let (key, version, answer) = last_words(&mut client, name);
        assert_eq!((key, version, answer.correlation_id), case.head, "{name}: {answer:?}");
        assert_eq!(answer.error_code, case.code, "{name}: {answer:?}");
        assert!(answer.error_message.as_ref().is_some_and(|m| m.contains(case.words)), "{name}: {answer:?}");
    }
    others.wait_for_each(30);
    let accounts = others.finish();
    let sent = u64::from(accounts[0].sent) + cases.len() as u64;
    let ledger = settled_ledger(&daemon, sent);
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&sent.into(), &sent.into()), "{ledger}");
    let mut found: Vec<_> = cluster.read(&topic).into_iter().filter_map(|record| record.value).collect();
    let mut expected: Vec<_> = (0..cases.len()).map(|number| format!("before {number}").into_bytes()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    check_read(&read(&cluster, &accounts), &accounts, Ending::Settled);
}

#[test]
fn what_is_refused_is_explained_and_the_connection_goes_on() {
    let cluster = DevKafka::start(1);
    let extra = Extra { stream: "max_records_per_request = 5", ..Extra::default() };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let topic = new_topic(&cluster, "good", 1);
    let mut client = daemon.connect();
    let one = [Outgoing { value: Some(b"v".to_vec()), ..Outgoing::default() }];
    let six = vec![one[0].clone(); 6];
    let early = [one[0].clone(), Outgoing { timestamp: Some(-2), ..one[0].clone() }];
    let long_name = "n".repeat(250);
    let good = Produce::new(&topic, &one);
    let refused = [
        (Produce { acks: 1, ..good.clone() }, 21, "not stored"),
        (Produce { acks: 2, ..good.clone() }, 21, "Acks"),
        (Produce { timeout_ms: -2, ..good.clone() }, 42, "TimeoutMs"),
        (Produce { partition: -2, ..good.clone() }, 42, "Partition"),
        (Produce { records: &[], ..good.clone() }, 42, "RecordCount"),
        (Produce { records: &six, ..good.clone() }, 18, "max_records_per_request"),
        (Produce { records: &early, ..good.clone() }, 32, "timestamp"),
        (Produce { topic: "", ..good.clone() }, 17, "name"),
        (Produce { topic: "..", ..good.clone() }, 17, "name"),
        (Produce { topic: "white space", ..good.clone() }, 17, "name"),
        (Produce { topic: "ümlaut", ..good.clone() }, 17, "name"),
        (Produce { topic: &long_name, ..good.clone() }, 17, "name"),
    ];
    for (request, code, words) in &refused {
        let answer = client.produce(request);
        assert_eq!((answer.error_code, answer.records.len()), (*code, 0), "{request:?}: {answer:?}");
        assert!(answer.error_message.as_ref().is_some_and(|m| m.contains(words)), "{request:?}: {answer:?}");
        assert_eq!(client.produce(&good).error_code, 0);
    }
    // A source, which this version cannot keep.
    let mut with_source = produce_frame(4242, &good);
    with_source.splice(18..20, [0, 1, b's']);
    let size = (with_source.len() as i32).to_be_bytes();
    client.send(&patched(with_source, 0, &size)).expect("the socket takes it");
    let answer = client.read_produce_answer();
    assert_eq!((answer.correlation_id, answer.error_code), (4242, 42), "{answer:?}");
    assert_eq!(cluster.read(&topic).len(), refused.len());
    // With acks=0 nothing is answered, whatever is refused.
    client.send_produce(&Produce { acks: 0, topic: "..", ..good.clone() });
    assert_eq!(client.produce(&good).error_code, 0);
}

#[test]
fn half_a_frame_is_dropped_with_its_connection_and_whole_ones_before_it_are_kept() {
    let cluster = DevKafka::start(1);
    let extra = Extra { stream: "frame_timeout = \"200ms\"", ..Extra::default() };
    let daemon = Daemon::start(&cluster.bootstrap(), extra);
    let topic = new_topic(&cluster, "half", 1);
    let record = [Outgoing { value: Some(b"whole".to_vec()), ..Outgoing::default() }];
    let whole = produce_frame(1, &Produce::new(&topic, &record));
    for cut in [1, 4, 7, 8, 20, whole.len() - 1] {
        // The client ends in the middle, or keeps the rest for itself.
        for ends in [true, false] {
            let mut client = daemon.connect();
            client.send(&[&whole[..], &whole[..cut]].concat()).expect("the socket takes it");
            if ends {
                client.finish_sending();
            }
            assert_eq!(client.read_produce_answer().error_code, 0);
            while client.read_frame().expect("the connection is closed in order").is_some() {}
        }
    }
    assert_eq!(cluster.read(&topic).len(), 12);
    assert_eq!(settled_ledger(&daemon, 12)["delivered"], 12);
}

#[test]
fn a_datagram_that_is_no_message_is_dropped_and_counted() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let topic = new_topic(&cluster, "datagrams", 2);
    let socket = UnixDatagram::unbound().expect("a socket can be made");
    socket.connect(daemon.files().datagram_socket()).expect("the daemon has a datagram socket");
    let good = |number: i32| dory_frame(Some(number), &topic, 5, b"k", &number.to_be_bytes());
    let bad = [
        vec![],
        vec![0, 0, 0],
        b"not a message at all".to_vec(),
        good(1)[..20].to_vec(),
        [good(1), vec![0]].concat(),
        [good(1), good(2)].concat(),
        patched(good(1), 8, &[0, 1]),
        good_produce(&[Outgoing::default()]),
        dory_frame(None, "no such name", 5, b"", b"v"),
    ];
    for (number, bad) in (0..).zip(&bad) {
        socket.send(&good(number)).expect("the socket takes it");
        socket.send(bad).expect("the socket takes it");
    }
    let whole = bad.len() as u64;
    let status = daemon.wait_for_status("all datagrams", SOON, |status| {
        (status["ledger"]["delivered"].as_u64()? >= whole).then(|| status.clone())
    });
    assert_eq!(status["ledger"]["delivered"], whole, "{status:#}");
    assert_eq!(cluster.read(&topic).len() as u64, whole);
    let counters = status["connections"].as_object().expect("counters have names");
    let counted: u64 =
        counters.iter().filter(|(name, _)| name.contains("malformed")).filter_map(|(_, n)| n.as_u64()).sum();
    assert!(counted >= bad.len() as u64 - 2, "malformed datagrams are counted: {status:#}");
    // The daemon goes on with streams as with datagrams.
    let writers = vec![Writer { records: Some(30), ..Writer::new(0, &new_topic(&cluster, "after", 1), 1) }];
    let accounts = load::run(&daemon, writers);
    assert_eq!(accounts[0].answers.len(), 30);
}
