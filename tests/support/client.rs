//! A client of forebay's local protocol written from `docs/protocol.md` alone, so that the daemon is not tested against
//! its own encoder. Blocking, one socket, no cleverness; what it sends is as right or as wrong as the test wants it.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take before the test fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Api keys: Dory's two messages, then forebay's own.
pub const ANY_PARTITION: i16 = 256;
pub const PARTITION_KEY: i16 = 257;
pub const PRODUCE: i16 = 512;
pub const METADATA: i16 = 513;
pub const VERSIONS: i16 = 514;

/// A record to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Milliseconds; `None`: forebay gives the time.
    pub timestamp: Option<i64>,
    /// `None` is null.
    pub key: Option<Vec<u8>>,
    /// `None` is null.
    pub value: Option<Vec<u8>>,
    /// Names and values in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A Produce request but for its correlation id.
#[derive(Clone, Debug)]
pub struct Produce<'a> {
    /// 0, 1, or -1 for all.
    pub acks: i16,
    /// -1: none.
    pub timeout_ms: i32,
    /// The topic's name.
    pub topic: &'a str,
    /// -1: forebay chooses.
    pub partition: i32,
    /// In order.
    pub records: &'a [Outgoing],
}

impl<'a> Produce<'a> {
    /// Records for a topic, acknowledged by all replicas, in a partition of forebay's choice.
    pub fn new(topic: &'a str, records: &'a [Outgoing]) -> Self {
        Produce { acks: -1, timeout_ms: -1, topic, partition: -1, records }
    }
}

/// What was answered for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAnswer {
    /// Kafka's code; 0 is success.
    pub error_code: i16,
    /// Where the record is.
    pub partition: i32,
    /// -1 unless acks=all.
    pub offset: i64,
}

/// The answer to a Produce request, and any answer that says why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceAnswer {
    /// That of the request.
    pub correlation_id: i32,
    /// Of the request as a whole.
    pub error_code: i16,
    /// In words, where something is wrong.
    pub error_message: Option<String>,
    /// In the request's order; none when no record was taken.
    pub records: Vec<RecordAnswer>,
}

/// What was answered about one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicAnswer {
    /// 0, or why nothing is known.
    pub error_code: i16,
    /// As asked.
    pub name: String,
    /// Each partition's id and error: 0 when it has a leader.
    pub partitions: Vec<(i32, i16)>,
}

/// A frame without its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which request it belongs to.
    pub api_key: i16,
    /// That of the request.
    pub api_version: i16,
    /// What follows.
    pub body: Vec<u8>,
}

/// A connection to the daemon's stream socket.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    last_correlation_id: i32,
}

impl Client {
    /// Connects.
    #[track_caller]
    pub fn connect(socket: &Path) -> Client {
        let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        Client::on(stream)
    }

    /// A client on a socket that is connected already.
    pub fn on(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("a socket takes a timeout");
        Client { stream, last_correlation_id: 0 }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a Produce request and returns its correlation id; the answer is not waited for.
    #[track_caller]
    pub fn send_produce(&mut self, request: &Produce<'_>) -> i32 {
        self.last_correlation_id += 1;
        self.send(&produce_frame(self.last_correlation_id, request)).expect("the daemon reads the request");
        self.last_correlation_id
    }

    /// Reads the next answer, which must be to a Produce request.
    #[track_caller]
    pub fn read_produce_answer(&mut self) -> ProduceAnswer {
        let frame = self.read_frame().expect("an answer").expect("an answer before the connection ends");
        assert_eq!((frame.api_key, frame.api_version), (PRODUCE, 0), "an answer to another request");
        parse_produce_answer(&frame.body)
    }

    /// Sends records and waits for the answer to them.
    #[track_caller]
    pub fn produce(&mut self, request: &Produce<'_>) -> ProduceAnswer {
        let correlation_id = self.send_produce(request);
        let answer = self.read_produce_answer();
        assert_eq!(answer.correlation_id, correlation_id, "an answer to another request");
        answer
    }

    /// Asks which partitions topics have; no names: about all that are known. No other answer may be under way.
    #[track_caller]
    pub fn metadata(&mut self, topics: &[&str]) -> Vec<TopicAnswer> {
        let mut asked = size_i32(topics.len()).to_be_bytes().to_vec();
        topics.iter().for_each(|topic| put_short(&mut asked, topic.as_bytes()));
        let body = self.ask(METADATA, &asked);
        let mut rest = Fields(&body);
        let topics = rest.repeated(|rest| {
            let error_code = rest.i16();
            let name = rest.nullable_string().expect("a topic has a name");
            let partitions = rest.repeated(|rest| {
                let error_code = rest.i16();
                (rest.i32(), error_code)
            });
            TopicAnswer { error_code, name, partitions }
        });
        rest.end();
        topics
    }

    /// Asks which api keys are served: each with its lowest and highest version. No other answer may be under way.
    #[track_caller]
    pub fn versions(&mut self) -> Vec<(i16, i16, i16)> {
        let body = self.ask(VERSIONS, &[]);
        Fields(&body).repeated(|rest| (rest.i16(), rest.i16(), rest.i16()))
    }

    /// Sends a request that must succeed and returns the body of its answer from behind the error message.
    #[track_caller]
    fn ask(&mut self, api_key: i16, fields: &[u8]) -> Vec<u8> {
        self.last_correlation_id += 1;
        let body = [&self.last_correlation_id.to_be_bytes()[..], fields].concat();
        self.send(&frame(api_key, 0, &body)).expect("the daemon reads the request");
        let answer = self.read_frame().expect("an answer").expect("an answer before the connection ends");
        assert_eq!((answer.api_key, answer.api_version), (api_key, 0), "an answer to another request");
        let mut rest = Fields(&answer.body);
        assert_eq!(rest.i32(), self.last_correlation_id, "an answer to another request");
        let error = (rest.i16(), rest.nullable_string());
        assert_eq!(error, (0, None));
        rest.0.to_vec()
    }

    /// Says that nothing more will be sent; answers can still be read.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a connected socket can be shut down");
    }

    /// Reads a frame; `None` when the daemon has closed the connection.
    pub fn read_frame(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; 8];
        let first = self.stream.read(&mut head)?;
        if first == 0 {
            return Ok(None);
        }
        self.stream.read_exact(&mut head[first..])?;
        let [s0, s1, s2, s3, k0, k1, v0, v1] = head;
        let size = i32::from_be_bytes([s0, s1, s2, s3]);
        let mut body = vec![0; usize::try_from(size - 8).expect("a frame is as long as its own head at least")];
        self.stream.read_exact(&mut body)?;
        Ok(Some(Frame { api_key: i16::from_be_bytes([k0, k1]), api_version: i16::from_be_bytes([v0, v1]), body }))
    }
}

/// A whole frame: the size, which counts itself, the key, the version and the body.
pub fn frame(api_key: i16, api_version: i16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + body.len());
    out.extend_from_slice(&size_i32(8 + body.len()).to_be_bytes());
    out.extend_from_slice(&api_key.to_be_bytes());
    out.extend_from_slice(&api_version.to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// A Produce request as a whole frame.
pub fn produce_frame(correlation_id: i32, request: &Produce<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&correlation_id.to_be_bytes());
    body.extend_from_slice(&request.acks.to_be_bytes());
    body.extend_from_slice(&request.timeout_ms.to_be_bytes());
    body.extend_from_slice(&(-1_i16).to_be_bytes()); // no source
    body.extend_from_slice(&(-1_i64).to_be_bytes()); // and no sequence of it
    put_short(&mut body, request.topic.as_bytes());
    body.extend_from_slice(&request.partition.to_be_bytes());
    body.extend_from_slice(&size_i32(request.records.len()).to_be_bytes());
    for record in request.records {
        body.extend_from_slice(&record.timestamp.unwrap_or(-1).to_be_bytes());
        put_nullable(&mut body, record.key.as_deref());
        put_nullable(&mut body, record.value.as_deref());
        body.extend_from_slice(&size_i16(record.headers.len()).to_be_bytes());
        for (name, value) in &record.headers {
            put_short(&mut body, name);
            put_nullable(&mut body, value.as_deref());
        }
    }
    frame(PRODUCE, 0, &body)
}

/// Dory's AnyPartition message as a whole frame; with a partition key it is Dory's PartitionKey message.
pub fn dory_frame(partition_key: Option<i32>, topic: &str, timestamp: i64, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut body = 0_i16.to_be_bytes().to_vec(); // flags
    if let Some(partition_key) = partition_key {
        body.extend_from_slice(&partition_key.to_be_bytes());
    }
    put_short(&mut body, topic.as_bytes());
    body.extend_from_slice(&timestamp.to_be_bytes());
    put_nullable(&mut body, Some(key));
    put_nullable(&mut body, Some(value));
    frame(if partition_key.is_some() { PARTITION_KEY } else { ANY_PARTITION }, 0, &body)
}

/// Reads the body of an answer to Produce; all of it must be used. An answer with an error may end after the message.
#[track_caller]
pub fn parse_produce_answer(body: &[u8]) -> ProduceAnswer {
    let mut rest = Fields(body);
    let (correlation_id, error_code) = (rest.i32(), rest.i16());
    let error_message = rest.nullable_string();
    let no_record_taken = error_code != 0 && rest.0.is_empty();
    let records = if no_record_taken { vec![] } else { rest.repeated(Fields::record_answer) };
    rest.end();
    ProduceAnswer { correlation_id, error_code, error_message, records }
}

/// What is left of an answer. Panics where it is shorter than it says: that is what is tested.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("an answer is as long as it says");
        self.0 = rest;
        *head
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    fn nullable_string(&mut self) -> Option<String> {
        let size = usize::try_from(self.i16()).ok()?;
        let (text, rest) = self.0.split_at_checked(size).expect("an answer is as long as it says");
        self.0 = rest;
        Some(String::from_utf8(text.to_vec()).expect("text is UTF-8"))
    }

    fn record_answer(&mut self) -> RecordAnswer {
        RecordAnswer { error_code: self.i16(), partition: self.i32(), offset: i64::from_be_bytes(self.take()) }
    }

    /// A count, and then so many.
    fn repeated<T>(&mut self, one: impl Fn(&mut Self) -> T) -> Vec<T> {
        (0..self.i32()).map(|_| one(self)).collect()
    }

    fn end(&self) {
        assert!(self.0.is_empty(), "{} bytes after the answer", self.0.len());
    }
}

fn put_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&size_i16(bytes.len()).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&size_i32(bytes.len()).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

fn size_i16(size: usize) -> i16 {
    i16::try_from(size).expect("a test's sizes fit")
}

fn size_i32(size: usize) -> i32 {
    i32::try_from(size).expect("a test's sizes fit")
}
