//! The two producers at one pace: forebay by a connection for each partition, with acks=all, and `kcat -P`, whose standard input is
//! written line by line. Each record says who wrote it, which one it is and when it was made.

use std::io::{self, PipeWriter, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay::route::murmur2::key_number;
use tokio::time::Instant;

use crate::support::client::{Outgoing, Produce};
use crate::support::daemon::Daemon;
use crate::support::kcat;
use crate::support::process::Process;

/// Into each partition, from each producer.
pub const RECORDS_PER_SECOND: u32 = 100;
/// Bytes of a value.
const VALUE_BYTES: usize = 100;
/// How long what is held may take after the last record.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    Forebay,
    Librdkafka,
}

impl Producer {
    fn name(self) -> &'static str {
        match self {
            Producer::Forebay => "forebay",
            Producer::Librdkafka => "librdkafka",
        }
    }
}

/// Milliseconds since 1970: what brokers on this machine stamp records with.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    i64::try_from(since.as_millis()).expect("the clock is set to this age")
}

/// A record's number and when it was made, if `producer` wrote it.
pub fn parse(value: &[u8], producer: Producer) -> Option<(u64, i64)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.strip_prefix(producer.name())?.split_whitespace();
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn value(producer: Producer, number: u64) -> Vec<u8> {
    let mut value = format!("{} {number} {} ", producer.name(), now_ms()).into_bytes();
    value.resize(VALUE_BYTES.max(value.len()), b'.');
    value
}

/// Both, at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    forebay: Vec<JoinHandle<u64>>,
    librdkafka: JoinHandle<u64>,
    kcat: Process,
}

impl Load {
    pub fn start(bootstrap: &str, topic: &str, partitions: usize, daemon: &Daemon) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut command = kcat::produce_command(bootstrap, topic);
        // As Java's, so that a key of ours goes where we say; and forebay's linger.
        command.args(["-K", ":", "-X", "partitioner=murmur2_random", "-X", "queue.buffering.max.ms=5"]);
        let (reader, writer) = io::pipe().expect("a pipe can be made");
        let kcat = Process::spawn(command, Stdio::from(reader), None);
        let stopped = Arc::clone(&stop);
        let librdkafka = thread::spawn(move || feed_kcat(writer, partitions, &stopped));
        let forebay = (0..partitions).map(|partition| {
            let (socket, topic, stop) = (daemon.files().stream_socket(), topic.to_owned(), Arc::clone(&stop));
            let partition = i32::try_from(partition).expect("there are few");
            thread::spawn(move || write_partition(&socket, &topic, partition, &stop))
        });
        Load { forebay: forebay.collect(), stop, librdkafka, kcat }
    }

    /// Ends both when all that they wrote is acknowledged; how many records each wrote.
    pub fn finish(mut self) -> [u64; 2] {
        self.stop.store(true, Ordering::Release);
        let forebay = self.forebay.into_iter().map(|writer| writer.join().expect("it wrote")).sum();
        let librdkafka = self.librdkafka.join().expect("it wrote");
        assert!(self.kcat.wait(DRAIN_TIMEOUT).success(), "kcat failed: {}", self.kcat.stderr());
        [forebay, librdkafka]
    }
}

/// Calls `tick` at the pace of one partition until told to stop; how often.
fn at_pace(stop: &AtomicBool, mut tick: impl FnMut(u64)) -> u64 {
    let (started, interval) = (Instant::now(), Duration::from_secs(1) / RECORDS_PER_SECOND);
    let mut ticks = 0;
    while !stop.load(Ordering::Acquire) {
        tick(ticks);
        ticks += 1;
        let next = started + interval * u32::try_from(ticks).expect("a round is short");
        while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            thread::park_timeout(left);
        }
    }
    ticks
}

fn write_partition(socket: &std::path::Path, topic: &str, partition: i32, stop: &AtomicBool) -> u64 {
    let stream = std::os::unix::net::UnixStream::connect(socket).expect("the daemon is up");
    let mut client = crate::support::client::Client::on(stream.try_clone().expect("a socket can be cloned"));
    let mut reader = crate::support::client::Client::on(stream);
    // Answers are read beside, so that a partition that pauses is written on.
    let answers = thread::spawn(move || {
        let mut answered = 0;
        while let Some(frame) = reader.read_frame().expect("an answer within a minute") {
            let answer = crate::support::client::parse_produce_answer(&frame.body);
            assert_eq!(answer.error_code, 0, "{answer:?}");
            answered += 1;
        }
        answered
    });
    let written = at_pace(stop, |number| {
        let record = Outgoing { value: Some(value(Producer::Forebay, number)), ..Outgoing::default() };
        client.send_produce(&Produce { partition, ..Produce::new(topic, &[record]) });
    });
    client.finish_sending();
    assert_eq!(answers.join().expect("all is answered"), written);
    written
}

fn feed_kcat(mut input: PipeWriter, partitions: usize, stop: &AtomicBool) -> u64 {
    let goes_to = |key: &String| key_number(key.as_bytes()) as usize % partitions;
    let keys: Vec<String> = (0..partitions)
        .map(|partition| (0_u32..).map(|n| n.to_string()).find(|key| goes_to(key) == partition).expect("there is one"))
        .collect();
    let ticks = at_pace(stop, |number| {
        let lines: Vec<u8> = keys
            .iter()
            .flat_map(|key| [key.as_bytes(), b":", &value(Producer::Librdkafka, number), b"\n"].concat())
            .collect();
        input.write_all(&lines).expect("kcat reads");
    });
    ticks * partitions as u64
}
