use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::frame::answer::{AnswerBody, next_answer};
use super::frame::produce::{Acks, ProduceEncoder, ProduceHead};
use super::frame::{Decoded, answer};
use super::*;
use crate::config::{Config, FullPolicy};
use crate::queue::budget::Budget;
use crate::queue::item::Payload;
use crate::queue::ledger::Ledger;
use crate::queue::receipt::{Mark, Outcome, RecordResult};
use crate::queue::topic::{Topic, Topics};
use crate::record::Record;
use crate::wire::codes;

mod answers;
mod crowd;
mod datagrams;
mod frames;
mod memory;
mod sockets;

/// A request for this topic makes its connection's task panic.
pub(super) const PANIC_TOPIC: &str = "panic.in.tests";
/// The wall clock of every test.
const NOW: TimestampMs = 1_700_000_000_000;

/// A listener, and all that is behind it, but for brokers: the test drains the queues.
struct Daemon {
    directory: TempDir,
    router: Arc<Router>,
    ledger: Arc<Ledger>,
    counters: Arc<Counters>,
    closing: CancellationToken,
    stop: CancellationToken,
    tracker: TaskTracker,
}

/// What was taken out of a partition.
#[derive(Debug, Default)]
struct Taken {
    values: Vec<String>,
    timestamps: Vec<TimestampMs>,
    marks: Vec<Mark>,
    charged: usize,
}

/// As `bind`, without systemd.
fn bind(listener: &Listener) -> Result<Bound, BindError> {
    super::bind(listener, &mut HandedOver::default())
}

impl Daemon {
    /// A stream listener, after `change`.
    fn stream(change: impl FnOnce(&mut Config, &mut Listener, &mut StreamLimits)) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let mut listener = Listener::stream(directory.path().join("s"));
        let mut config = Config::default();
        let mut limits = StreamLimits::default();
        change(&mut config, &mut listener, &mut limits);
        listener.kind = ListenerKind::Stream(limits);
        Daemon::start(directory, config, &listener)
    }

    fn start(directory: TempDir, config: Config, listener: &Listener) -> Daemon {
        let config = Arc::new(config);
        let ledger = Arc::new(Ledger::default());
        let budget = Arc::new(Budget::new(config.memory.limit));
        let router = Router::new(Arc::new(Topics::new(config.clone())), budget, ledger.clone());
        let counters = Arc::new(Counters::default());
        let (closing, stop, tracker) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let context = Context {
            router: router.clone(),
            counters: counters.clone(),
            clock: || NOW,
            may_reject: config.may_reject(),
            random: fastrand::Rng::with_seed(7),
        };
        bind(listener).unwrap().run(context, closing.clone(), stop.clone(), &tracker);
        Daemon { directory, router, ledger, counters, closing, stop, tracker }
    }

    /// The topic gets so many partitions, if it has none yet.
    fn place(&self, topic: &str, partitions: usize) -> Arc<Topic> {
        let topics = self.router.topics();
        let topic = topics.find_or_create(topic).unwrap();
        topics.place(&topic, partitions, |held, _| assert!(held.is_empty()));
        topic
    }

    /// What waits in a partition. It stays charged until it is [`let_go`](Daemon::let_go).
    fn take(&self, topic: &str, partition: usize) -> Taken {
        let mut taken = Taken::default();
        let partitions = self.router.topics().find(topic).unwrap().partitions().unwrap();
        while let Some(mut item) = partitions[partition].take_from_intake() {
            let Payload::Records(run) = item.payload() else { panic!("not records") };
            let first = taken.values.len() as u32;
            for record in run.records_from(0) {
                // A key of null, then the value's length: 1 byte, or 2, or 3.
                let value = match record.suffix {
                    [1, length, rest @ ..] if length & 0x80 == 0 => rest,
                    [1, _, length, rest @ ..] if length & 0x80 == 0 => rest,
                    [1, _, _, length, rest @ ..] if length & 0x80 == 0 => rest,
                    other => panic!("not a record of these tests: {other:?}"),
                };
                let value = value.strip_suffix(&[0]).unwrap();
                taken.values.push(String::from_utf8(value.to_vec()).unwrap());
                taken.timestamps.push(record.timestamp);
            }
            let count = item.take_while(|_| true);
            item.take_marks(count, first, &mut taken.marks);
            taken.charged += item.charged_bytes();
        }
        taken
    }

    fn let_go(&self, taken: &mut Taken) {
        self.router.budget().release(std::mem::take(&mut taken.charged));
    }

    /// Waits until so many records are in a partition, takes them and lets go of their memory.
    async fn take_when(&self, topic: &str, partition: usize, count: usize) -> Taken {
        let mut all = Taken::default();
        until(|| {
            let mut taken = self.take(topic, partition);
            self.let_go(&mut taken);
            let base = all.values.len() as u32;
            all.values.extend(taken.values);
            all.timestamps.extend(taken.timestamps);
            all.marks.extend(taken.marks.into_iter().map(|mark| Mark { at: mark.at + base, ..mark }));
            all.values.len() >= count
        })
        .await;
        assert_eq!(all.values.len(), count);
        all
    }

    async fn connect(&self) -> Client {
        Client { stream: UnixStream::connect(self.path()).await.unwrap(), unread: Vec::new() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("s")
    }

    /// Every task has ended, and with them all that connections have been charged.
    async fn ends(&self) {
        self.tracker.close();
        soon(self.tracker.wait()).await;
        assert_eq!(self.counters.connections_open.get(), 0);
    }
}

impl Taken {
    fn deliver(self, partition: i32, base_offset: i64) {
        for mark in self.marks {
            let base_offset = base_offset + i64::from(mark.at);
            mark.receipt.settle(Outcome::Delivered { partition, base_offset });
        }
    }
}

/// The other end.
struct Client {
    stream: UnixStream,
    unread: Vec<u8>,
}

/// An answer that owns its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    api_key: i16,
    correlation_id: i32,
    error_code: i16,
    message: Option<String>,
    results: Vec<RecordResult>,
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next answer; `None` at the end.
    async fn answer(&mut self) -> Option<Told> {
        loop {
            match next_answer(&self.unread, 1 << 30) {
                Decoded::Frame { frame, len } => {
                    let told = told(&frame);
                    self.unread.drain(..len);
                    return Some(told);
                }
                Decoded::NeedMore { .. } => {}
                Decoded::Malformed(malformed) => panic!("{malformed}"),
            }
            let mut buffer = [0; 4096];
            match soon(self.stream.read(&mut buffer)).await.unwrap() {
                0 => {
                    assert!(self.unread.is_empty(), "the end within an answer");
                    return None;
                }
                count => self.unread.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

fn told(frame: &answer::Answer<'_>) -> Told {
    let results = match &frame.body {
        AnswerBody::Produce(results) => results.iter().collect(),
        _ => Vec::new(),
    };
    let answer::Answer { api_key, correlation_id, error_code, .. } = *frame;
    Told { api_key, correlation_id, error_code, message: frame.message.map(str::to_owned), results }
}

/// A Produce request without keys.
fn request(correlation_id: i32, acks: Acks, topic: &str, values: &[&str]) -> Vec<u8> {
    timed(correlation_id, acks, None, topic, values)
}

fn timed(correlation_id: i32, acks: Acks, timeout: Option<Duration>, topic: &str, values: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let head = ProduceHead { correlation_id, acks, timeout, topic, partition: Some(0) };
    let mut encoder = ProduceEncoder::begin(&mut out, &head).unwrap();
    for value in values {
        let value = Some(value.as_bytes());
        encoder.push(&Record { timestamp: 0, stamped_here: true, key: None, value, headers: &[] }).unwrap();
    }
    encoder.finish().unwrap();
    out
}

fn dory(topic: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame::dory::encode_dory(&mut out, topic, None, 5, b"", value.as_bytes()).unwrap();
    out
}

/// What `future` gives, or a failure if it takes suspiciously long.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens soon")
}

/// Waits for a condition, without sleeping, so that a paused clock stands still.
#[track_caller]
fn until(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let mut looks = 0;
        while !condition() {
            looks += 1;
            assert!(looks < 2_000_000, "waiting in vain at {caller}");
            tokio::task::yield_now().await;
        }
    }
}

/// Lets every task do what it can do now.
async fn settle_down() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
