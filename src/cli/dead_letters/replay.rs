//! `forebay dead-letters replay`: letters are handed to the daemon again.
//!
//! A run of letters goes in requests of its own, one at a time, acks=all; when all of the run is answered for, it is taken out. So whatever
//! ends this early, no letter is lost; those of the run that was under way may be delivered twice by the next replay.

use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::Args;

use super::EXIT_STATUS;
use super::owner::Owner;
use super::select::{Letters, Selection};
use crate::backlog::letter::REASON_REPLAYED;
use crate::broker::verdict::refuses;
use crate::cli::backlog::decode::{Decoded, each_wanted_record};
use crate::cli::exit::{self, Failure};
use crate::cli::produce::parse_topic;
use crate::cli::status::grouped;
use crate::cli::{output, socket};
use crate::ingest::frame;
use crate::ingest::frame::answer::{AnswerBody, next_answer};
use crate::ingest::frame::produce::{Acks, ProduceEncoder, ProduceHead};
use crate::record::{Header, Record, Run};

/// Records of one request, and about how many bytes.
const REQUEST_RECORDS_MAX: u32 = 500;
const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the largest answer: many more than one about that many records has.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Hand dead letters to the running daemon again, and take out those that Kafka has taken.
///
/// Each goes to its topic and partition, with its own timestamp and headers. What Kafka refuses again becomes a dead letter again. After an
/// interruption some may be delivered twice.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// The daemon's socket: the path of a stream listener.
    #[arg(short, long, value_name = "PATH", env = "FOREBAY_SOCKET", default_value = "/run/forebay/forebay.sock")]
    socket: PathBuf,
    /// The daemon's admin socket: admin.path of its configuration.
    #[arg(long, value_name = "PATH", env = "FOREBAY_ADMIN", default_value = "/run/forebay/admin.sock")]
    admin: PathBuf,
    /// Send them to this topic instead, to the partitions that their keys choose.
    #[arg(long, value_name = "TOPIC", value_parser = parse_topic)]
    to: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  forebay dead-letters replay /var/lib/forebay --topic audit
  forebay dead-letters replay /var/lib/forebay --code 10 --to audit-large";

#[derive(Debug, Default)]
struct Tally {
    delivered: u64,
    refused_again: u64,
}

/// Sends, and takes out what was delivered.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut owner = Owner::new(arguments.selection.path(), &arguments.admin);
    let mut connection = None;
    let mut tally = Tally::default();
    let ended = arguments.selection.each(|letters| {
        let connection = match &mut connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(&arguments.socket)?),
        };
        send(connection, &letters, arguments.to.as_deref(), &mut tally)?;
        owner.give_up(letters.number, letters.range, REASON_REPLAYED).map(|_| ())
    });
    output::print(format!("{} dead letters delivered\n", grouped(tally.delivered)))?;
    ended?;
    if tally.refused_again > 0 {
        let words = format!("{} were refused again, and are dead letters again", grouped(tally.refused_again));
        return Err(Failure::new(exit::DATA, words));
    }
    Ok(())
}

/// Sends the letters of a run; returns when every one of them is delivered, or a dead letter again.
fn send(connection: &mut Connection, letters: &Letters, to: Option<&str>, tally: &mut Tally) -> Result<(), Failure> {
    let topic = to.unwrap_or(&letters.topic);
    let partition = letters.partition.filter(|_| to.is_none());
    let mut pending = Run::default();
    let mut failure = None;
    let read = each_wanted_record(&letters.run.records(), letters.range, |decoded| {
        if failure.is_some() {
            return Ok(());
        }
        let headers = headers(decoded);
        let record = record(decoded, &headers);
        let is_full =
            pending.count() >= REQUEST_RECORDS_MAX || pending.len_bytes() + Run::room_for(&record) > REQUEST_BYTES_MAX;
        if is_full {
            failure = connection.send(topic, partition, &std::mem::take(&mut pending), tally).err();
        }
        pending.push(&record);
        Ok(())
    });
    read.map_err(|error| letters.unreadable(&error))?;
    failure.map_or_else(|| connection.send(topic, partition, &pending, tally), Err)
}

fn headers<'a>(decoded: &Decoded<'a>) -> Vec<Header<'a>> {
    decoded.headers.iter().map(|(name, value)| Header { name, value: *value }).collect()
}

fn record<'a>(decoded: &Decoded<'a>, headers: &'a [Header<'a>]) -> Record<'a> {
    let Decoded { timestamp, key, value, .. } = *decoded;
    Record { timestamp, stamped_here: false, key, value, headers }
}

/// A connection to the daemon, on which one request is answered before the next is sent.
struct Connection {
    stream: UnixStream,
    path: PathBuf,
    requests: i32,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(path: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path).map_err(|error| socket::unreachable(path, &error))?;
        Ok(Connection { stream, path: path.to_owned(), requests: 0, buffer: Vec::new() })
    }

    /// Sends these records in one request, if there are any, and waits for its answer, however long Kafka takes.
    fn send(&mut self, topic: &str, partition: Option<i32>, run: &Run, tally: &mut Tally) -> Result<(), Failure> {
        if run.is_empty() {
            return Ok(());
        }
        let unsendable =
            |error: &dyn Display| Failure::new(exit::DATA, format_args!("a letter cannot be sent: {error}"));
        self.requests = self.requests.wrapping_add(1);
        let head = ProduceHead { correlation_id: self.requests, acks: Acks::All, timeout: None, topic, partition };
        let mut frame = Vec::new();
        let mut request = ProduceEncoder::begin(&mut frame, &head).map_err(|error| unsendable(&error))?;
        for raw in run.records_from(0) {
            let decoded = Decoded::of_raw(&raw).map_err(|error| unsendable(&error))?;
            request.push(&record(&decoded, &headers(&decoded))).map_err(|error| unsendable(&error))?;
        }
        request.finish().map_err(|error| unsendable(&error))?;
        self.exchange(&frame, tally)
    }

    fn exchange(&mut self, frame: &[u8], tally: &mut Tally) -> Result<(), Failure> {
        let path = self.path.clone();
        let broken = |why: &dyn Display| {
            let words =
                format_args!("the connection to {} broke: {why}; the letters under way are kept", path.display());
            Failure::new(exit::UNAVAILABLE, words)
        };
        self.stream.write_all(frame).map_err(|error| broken(&error))?;
        loop {
            match next_answer(&self.buffer, ANSWER_BYTES_MAX) {
                frame::Decoded::Frame { frame, len } => {
                    let judged = judge(frame.error_code, frame.message, &frame.body, tally);
                    self.buffer.drain(..len);
                    return judged;
                }
                frame::Decoded::Malformed(malformed) => return Err(broken(&malformed)),
                frame::Decoded::NeedMore { .. } => {
                    let mut bytes = [0; 16 * 1024];
                    match self.stream.read(&mut bytes) {
                        Ok(0) => return Err(broken(&"the daemon closed it")),
                        Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(broken(&error)),
                    }
                }
            }
        }
    }
}

/// What an answer says. What Kafka has refused for good is a letter again already; any other error keeps the letters.
fn judge(code: i16, message: Option<&str>, body: &AnswerBody<'_>, tally: &mut Tally) -> Result<(), Failure> {
    let kept = |code: i16| {
        let words = message.unwrap_or("no reason given");
        Failure::new(exit::TEMPORARY, format_args!("not delivered, and kept: error {code}: {words}"))
    };
    let AnswerBody::Produce(results) = body else { return Err(kept(code)) };
    let (mut delivered, mut refused) = (0, 0);
    for result in results.iter() {
        match result.error_code {
            0 => delivered += 1,
            code if refuses(code) => refused += 1,
            code => return Err(kept(code)),
        }
    }
    tally.delivered += delivered;
    tally.refused_again += refused;
    Ok(())
}
