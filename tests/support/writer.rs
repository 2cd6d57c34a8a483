//! A client that numbers its records: what it writes follows from its id and the number alone, so that whoever reads a
//! record back can say whose it is, which one, and whether it is as it was.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use super::client::{
    Client, Outgoing, PRODUCE, Produce, RecordAnswer, dory_frame, parse_produce_answer, produce_frame,
};
use super::load::{PROGRESS_TIMEOUT, Progress};
use super::watch::Watch;

/// Keys of a writer that writes by key.
const KEYS: u32 = 13;

/// When this run began, in Kafka's milliseconds.
static STARTED_MS: LazyLock<i64> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    i64::try_from(since.as_millis()).expect("the clock is set to this age")
});

/// How records are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Produce with acks=all, and so many requests unanswered at once.
    All(usize),
    /// Produce with acks=0.
    None,
    /// Dory's messages on the stream socket.
    Dory,
    /// Dory's messages as datagrams.
    Datagram,
}

impl Way {
    /// Whether each record gets an answer.
    pub fn is_answered(self) -> bool {
        matches!(self, Way::All(_))
    }

    fn is_dory(self) -> bool {
        matches!(self, Way::Dory | Way::Datagram)
    }
}

/// How records choose their partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By one of a few keys.
    Key,
    /// Each partition in turn, named.
    Partition,
    /// Any will do.
    Any,
}

/// What a client is to do.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Its number, of its own in the scenario.
    pub id: u32,
    /// Where it writes.
    pub topic: String,
    /// How many partitions that has, or will have.
    pub partitions: i32,
    /// How it writes.
    pub way: Way,
    /// And to which partitions.
    pub by: By,
    /// Records in a request, or at once.
    pub burst: u32,
    /// Bytes of a value; the least is what its number needs.
    pub value_bytes: usize,
    /// How many records; `None`: until it is told to stop.
    pub records: Option<u32>,
}

/// What a client has done, and what it was told.
#[derive(Debug)]
pub struct Account {
    /// Who.
    pub writer: Writer,
    /// Records that were sent, all or in part: those with the numbers below this.
    pub sent: u32,
    /// What was answered, by number.
    pub answers: BTreeMap<u32, RecordAnswer>,
}

impl Writer {
    /// Acks=all, five requests of three records unanswered, each partition in turn, until it is told to stop.
    pub fn new(id: u32, topic: &str, partitions: i32) -> Writer {
        let topic = topic.to_owned();
        let (way, by) = (Way::All(5), By::Partition);
        Writer { id, topic, partitions, way, by, burst: 3, value_bytes: 0, records: None }
    }

    /// The record of that number.
    pub fn record(&self, number: u32) -> Outgoing {
        let mut value = format!("{}/{number}/", self.id).into_bytes();
        let filled = self.value_bytes.max(value.len() + (number % 40) as usize);
        value.extend((value.len()..filled).map(|at| (at % 251) as u8));
        let key = (self.by == By::Key).then(|| format!("key {}", number % KEYS).into_bytes());
        let headers = match number % 4 {
            0 if !self.way.is_dory() => {
                vec![(b"n".to_vec(), Some(number.to_be_bytes().to_vec())), (b"n".to_vec(), None)]
            }
            _ => vec![],
        };
        let timestamp = number.is_multiple_of(2).then(|| *STARTED_MS + i64::from(number));
        Outgoing { timestamp, key, value: Some(value), headers }
    }

    /// The partition that it names for that record, if it names any.
    pub fn partition(&self, number: u32) -> Option<i32> {
        // One partition a request, since a request names one.
        let turn = i32::try_from(number / self.burst).expect("a test writes less");
        (self.by == By::Partition).then_some(turn % self.partitions)
    }

    /// Whose record that is, and which, by its value.
    pub fn parse(value: &[u8]) -> Option<(u32, u32)> {
        let mut parts =
            value.splitn(3, |byte| *byte == b'/').take(2).map(|part| std::str::from_utf8(part).ok()?.parse().ok());
        Some((parts.next()??, parts.next()??))
    }

    fn request(&self, correlation_id: i32, first: u32, count: u32) -> Vec<u8> {
        let records: Vec<_> = (first..first + count).map(|number| self.record(number)).collect();
        if !self.way.is_dory() {
            let acks = if self.way.is_answered() { -1 } else { 0 };
            let partition = self.partition(first).unwrap_or(-1);
            let request = Produce { acks, timeout_ms: -1, topic: &self.topic, partition, records: &records };
            return produce_frame(correlation_id, &request);
        }
        (first..).zip(&records).flat_map(|(number, record)| self.message(number, record)).collect()
    }

    fn message(&self, number: u32, record: &Outgoing) -> Vec<u8> {
        let (key, value) = (record.key.as_deref().unwrap_or_default(), record.value.as_deref().unwrap_or_default());
        dory_frame(self.partition(number), &self.topic, record.timestamp.unwrap_or(-1), key, value)
    }

    /// Writes until it has written all or is told to stop, and waits for the answers. Ends early, and without failing, when
    /// the daemon closes the connection: what was not answered then is missing in the account.
    ///
    /// `place` is its own in `progress`, `pace` those of the clients that it keeps up with while it gets no answers itself.
    pub fn run(
        self,
        stream: PathBuf,
        datagram: PathBuf,
        progress: &Watch<Progress>,
        place: usize,
        pace: Vec<usize>,
    ) -> Account {
        let mut run =
            Run { account: Account { writer: self, sent: 0, answers: BTreeMap::new() }, progress, place, pace };
        match run.account.writer.way {
            Way::Datagram => run.write_datagrams(&datagram),
            _ => run.write_stream(Client::connect(&stream)),
        }
        run.account
    }
}

/// A writer at work.
struct Run<'a> {
    account: Account,
    progress: &'a Watch<Progress>,
    place: usize,
    pace: Vec<usize>,
}

impl Run<'_> {
    /// The numbers of the next records; none when it is time to end.
    fn next(&self) -> Option<(u32, u32)> {
        let Account { writer, sent, .. } = &self.account;
        match writer.records {
            Some(all) => (*sent < all).then(|| (*sent, writer.burst.min(all - *sent))),
            None => (!self.progress.update(|progress| progress.stop)).then_some((*sent, writer.burst)),
        }
    }

    /// Nobody slows a client without answers but those with answers: it goes on when they have.
    fn keep_pace(&self) {
        if self.account.writer.records.is_some() {
            return;
        }
        let total = |progress: &mut Progress| self.pace.iter().map(|place| progress.acknowledged[*place]).sum::<u64>();
        let seen = self.progress.update(total);
        let went_on =
            self.progress.wait(PROGRESS_TIMEOUT, |progress| (progress.stop || total(progress) > seen).then_some(()));
        went_on.expect("the other clients make progress");
    }

    fn write_stream(&mut self, mut client: Client) {
        let mut waiting = HashMap::new();
        let mut correlation_id = 0;
        while let Some((first, count)) = self.next() {
            correlation_id += 1;
            self.account.sent = first + count;
            if client.send(&self.account.writer.request(correlation_id, first, count)).is_err() {
                break;
            }
            match self.account.writer.way {
                Way::All(depth) => {
                    waiting.insert(correlation_id, (first, count));
                    while waiting.len() >= depth && self.read_answer(&mut client, &mut waiting) {}
                    if waiting.len() >= depth {
                        break;
                    }
                }
                _ => self.keep_pace(),
            }
        }
        while !waiting.is_empty() && self.read_answer(&mut client, &mut waiting) {}
    }

    /// False if the connection has ended.
    fn read_answer(&mut self, client: &mut Client, waiting: &mut HashMap<i32, (u32, u32)>) -> bool {
        let frame = match client.read_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return false,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("no answer came to {waiting:?}"),
            Err(_) => return false,
        };
        assert_eq!((frame.api_key, frame.api_version), (PRODUCE, 0), "an answer to another request");
        let answer = parse_produce_answer(&frame.body);
        let (first, count) =
            waiting.remove(&answer.correlation_id).expect("an answer is to a request, and the only one");
        let mut records = answer.records;
        if records.is_empty() {
            let none_taken = RecordAnswer { error_code: answer.error_code, partition: -1, offset: -1 };
            records = vec![none_taken; count as usize];
        }
        assert_eq!(records.len(), count as usize, "an answer has as many records as its request");
        let delivered = records.iter().filter(|record| record.error_code == 0).count() as u64;
        self.account.answers.extend((first..).zip(records));
        self.progress.update(|progress| progress.acknowledged[self.place] += delivered);
        true
    }

    fn write_datagrams(&mut self, path: &std::path::Path) {
        let socket = UnixDatagram::unbound().expect("a socket can be made");
        socket.connect(path).expect("the daemon has a datagram socket");
        while let Some((first, count)) = self.next() {
            for number in first..first + count {
                self.account.sent = number + 1;
                let writer = &self.account.writer;
                if socket.send(&writer.message(number, &writer.record(number))).is_err() {
                    return;
                }
            }
            self.keep_pace();
        }
    }
}
