//! A client of forebay's local protocol written from `docs/protocol.md` alone, so that the daemon is not tested against
//! its own encoder. Blocking, one socket, no cleverness; what it sends is as right or as wrong as the test wants it.

use std::io::{self, Read, Write};
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

/// The answer to a Produce request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceAnswer {
    /// That of the request.
    pub correlation_id: i32,
    /// Of the request as a whole.
    pub error_code: i16,
    /// In words, where something is wrong.
    pub error_message: Option<String>,
    /// In the request's order.
    pub records: Vec<RecordAnswer>,
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

/// Reads the body of an answer to Produce; all of it must be used.
#[track_caller]
pub fn parse_produce_answer(body: &[u8]) -> ProduceAnswer {
    let mut rest = body;
    let correlation_id = i32::from_be_bytes(take(&mut rest));
    let error_code = i16::from_be_bytes(take(&mut rest));
    let message_size = i16::from_be_bytes(take(&mut rest));
    let error_message = usize::try_from(message_size).ok().map(|size| {
        let (message, after) = rest.split_at(size);
        rest = after;
        String::from_utf8(message.to_vec()).expect("an error message is UTF-8")
    });
    let count = i32::from_be_bytes(take(&mut rest));
    let records = (0..count).map(|_| RecordAnswer {
        error_code: i16::from_be_bytes(take(&mut rest)),
        partition: i32::from_be_bytes(take(&mut rest)),
        offset: i64::from_be_bytes(take(&mut rest)),
    });
    let answer = ProduceAnswer { correlation_id, error_code, error_message, records: records.collect() };
    assert!(rest.is_empty(), "{} bytes after the answer", rest.len());
    answer
}

#[track_caller]
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, after) = rest.split_first_chunk().expect("the answer is as long as it says");
    *rest = after;
    *head
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
