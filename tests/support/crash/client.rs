//! A client of the crash test: connects, writes numbered records with every kind of acknowledgement on one connection, and
//! keeps what it has sent and what it was told. When its daemon dies it waits for the next one and goes on.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::{PARTITIONS, Plan, SOON, Shared};
use crate::support::client::{Outgoing, PRODUCE, Produce, RecordAnswer, parse_produce_answer, produce_frame};
use crate::support::watch::Watch;

/// Between one look for a daemon and the next.
const LOOK: Duration = Duration::from_millis(2);
/// How long a client listens for answers before it writes the next request.
const PACE_US: std::ops::RangeInclusive<u64> = 100..=8000;
const RECORDS: std::ops::RangeInclusive<u32> = 1..=6;
/// Bytes of a value. Most are small.
const SMALL: std::ops::RangeInclusive<usize> = 10..=200;
const LARGE: std::ops::RangeInclusive<usize> = 200..=20_000;
const KEYS: u8 = 13;
/// `acks=all`.
const ALL: i16 = -1;

/// A record as it was sent, and what its client was told of it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which of the plan's topics.
    pub topic: usize,
    /// The partition that it named.
    pub partition: Option<i32>,
    /// The number of its key.
    pub key: Option<u8>,
    /// What was asked for.
    pub acks: i16,
    /// Of the value.
    pub bytes: usize,
    /// The daemon that it was sent to.
    pub life: u32,
    /// When, from the test's start.
    pub at: Duration,
    /// What was answered, and when.
    pub answer: Option<(RecordAnswer, Duration)>,
}

/// All that a client did: its records by number.
#[derive(Debug)]
pub struct Account {
    /// Who.
    pub client: u32,
    /// In the order in which they were sent.
    pub sent: Vec<Sent>,
}

/// The value of a client's record: whose it is, which one, and as many bytes as it is to have.
pub fn value(client: u32, number: usize, bytes: usize) -> Vec<u8> {
    let mut value = format!("{client}/{number}/").into_bytes();
    value.extend((value.len()..bytes).map(|at| ((at * 7 + number) % 251) as u8));
    value
}

/// Whose record it is, and which one.
pub fn parse(value: &[u8]) -> Option<(u32, usize)> {
    let mut parts = value.splitn(3, |byte| *byte == b'/').map(std::str::from_utf8);
    Some((parts.next()?.ok()?.parse().ok()?, parts.next()?.ok()?.parse().ok()?))
}

/// A key by its number.
pub fn key(number: u8) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

/// See the module.
pub(super) struct Client<'a> {
    plan: &'a Plan,
    socket: &'a Path,
    shared: &'a Watch<Shared>,
    started: Instant,
    random: Rng,
    /// Requests that may be unanswered at once.
    depth: usize,
    account: Account,
    last_correlation_id: i32,
}

/// A connection to one daemon.
struct Connection {
    stream: UnixStream,
    life: u32,
    /// What was read and is not a whole frame yet.
    read: Vec<u8>,
    /// First number and count of the records of each request.
    unanswered: HashMap<i32, (usize, usize)>,
    last_answer: Instant,
    /// Whether the last request gets an answer: that says that all before it were read, too.
    last_is_answered: bool,
}

impl Connection {
    fn is_settled(&self) -> bool {
        self.unanswered.is_empty() && self.last_is_answered
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(
        client: u32,
        plan: &'a Plan,
        socket: &'a Path,
        shared: &'a Watch<Shared>,
        started: Instant,
        mut random: Rng,
    ) -> Client<'a> {
        let depth = random.usize(1..=30);
        let account = Account { client, sent: vec![] };
        Client { plan, socket, shared, started, random, depth, account, last_correlation_id: 0 }
    }

    /// Writes until told to stop and all is answered.
    pub(super) fn run(mut self) -> Account {
        while let Some(mut connection) = self.connect() {
            // Whatever ends it: what was answered before that counts, what was not is in doubt.
            if self.serve(&mut connection).is_err() {
                while matches!(self.listen(&mut connection, SOON), Ok(1..)) {}
            }
        }
        self.account
    }

    /// A connection to the daemon that runs; `None` when it is time to end.
    fn connect(&self) -> Option<Connection> {
        loop {
            let (life, end) = self.shared.update(|s| (s.life, s.stop || s.abandon));
            if end {
                return None;
            }
            // The same daemon before and after: it is the one that was connected to.
            match UnixStream::connect(self.socket) {
                Ok(stream) if self.shared.update(|s| s.life) == life => {
                    let (read, unanswered) = (vec![], HashMap::new());
                    let last_answer = Instant::now();
                    return Some(Connection { stream, life, read, unanswered, last_answer, last_is_answered: true });
                }
                _ => {
                    let _ = self.shared.wait(LOOK, |s| s.abandon.then_some(()));
                }
            }
        }
    }

    /// Writes and reads; an error is the connection's end.
    fn serve(&mut self, connection: &mut Connection) -> io::Result<()> {
        loop {
            let (stop, abandon) = self.shared.update(|s| (s.stop, s.abandon));
            if abandon || (stop && connection.is_settled()) {
                return Ok(());
            }
            if stop && !connection.last_is_answered {
                self.write(connection, Some(ALL))?;
            } else if !stop && connection.unanswered.len() < self.depth {
                self.write(connection, None)?;
            }
            let pace = Duration::from_micros(self.random.u64(PACE_US));
            match self.listen(connection, pace) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            let silent = !connection.unanswered.is_empty() && connection.last_answer.elapsed() > SOON;
            let client = self.account.client;
            assert!(!silent, "client {client}: daemon {} does not answer {:?}", connection.life, connection.unanswered);
        }
    }

    /// Writes the next records; `acks` if it is not to be any.
    fn write(&mut self, connection: &mut Connection, acks: Option<i16>) -> io::Result<()> {
        let random = &mut self.random;
        let topic = random.usize(..self.plan.topics.len());
        let Plan { topics, .. } = self.plan;
        let acks = acks.unwrap_or(topics[topic].acks[random.usize(..topics[topic].acks.len())]);
        let kind = random.u8(..3);
        let partition = (kind == 0).then(|| random.i32(0..PARTITIONS));
        let (first, count) = (self.account.sent.len(), random.u32(RECORDS));
        let mut records = Vec::new();
        for _ in 0..count {
            let bytes = if random.u8(..4) > 0 { random.usize(SMALL) } else { random.usize(LARGE) };
            let key_number = (kind == 1).then(|| random.u8(..KEYS));
            let (life, at) = (connection.life, self.started.elapsed());
            let number = self.account.sent.len();
            let value = Some(value(self.account.client, number, bytes));
            records.push(Outgoing { key: key_number.map(key), value, ..Outgoing::default() });
            self.account.sent.push(Sent { topic, partition, key: key_number, acks, bytes, life, at, answer: None });
        }
        self.last_correlation_id += 1;
        let topic = &topics[topic].name;
        let request = Produce { acks, timeout_ms: -1, topic, partition: partition.unwrap_or(-1), records: &records };
        connection.last_is_answered = acks != 0;
        if acks != 0 {
            if connection.unanswered.is_empty() {
                connection.last_answer = Instant::now();
            }
            connection.unanswered.insert(self.last_correlation_id, (first, records.len()));
        }
        connection.stream.write_all(&produce_frame(self.last_correlation_id, &request))
    }

    /// Takes the answers that come within `time`: how many bytes; 0 is the connection's end.
    fn listen(&mut self, connection: &mut Connection, time: Duration) -> io::Result<usize> {
        connection.stream.set_read_timeout(Some(time))?;
        let mut chunk = [0; 16 << 10];
        let size = connection.stream.read(&mut chunk)?;
        connection.read.extend_from_slice(&chunk[..size]);
        while let Some(frame) = take_frame(&mut connection.read) {
            self.note(connection, &frame);
        }
        Ok(size)
    }

    fn note(&mut self, connection: &mut Connection, frame: &[u8]) {
        assert_eq!(frame[..4], [(PRODUCE >> 8) as u8, PRODUCE as u8, 0, 0], "an answer to another request");
        let answer = parse_produce_answer(&frame[4..]);
        let (first, count) = connection.unanswered.remove(&answer.correlation_id).expect("an answer is to a request");
        let at = self.started.elapsed();
        connection.last_answer = Instant::now();
        let none_taken = RecordAnswer { error_code: answer.error_code, partition: -1, offset: -1 };
        assert!(answer.records.is_empty() || answer.records.len() == count, "{answer:?} to {count} records");
        for (place, sent) in self.account.sent[first..first + count].iter_mut().enumerate() {
            sent.answer = Some((answer.records.get(place).copied().unwrap_or(none_taken), at));
        }
        let (client, life) = (self.account.client as usize, connection.life);
        self.shared.update(|s| {
            if s.life == life {
                s.answered[client] += count as u64;
            }
        });
    }
}

/// The next whole frame of what was read, without its size.
fn take_frame(read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let size = i32::from_be_bytes(*read.first_chunk()?);
    let size = usize::try_from(size).expect("a frame's size is positive");
    let frame = read.get(4..size)?.to_vec();
    read.drain(..size);
    Some(frame)
}
