//! `forebay produce`: lines become records.
//!
//! ```text
//! input ─► reader thread ─► chunks (bounded) ─► Exchange: Lines ─► requests ─► socket
//!                                                   ▲                             │
//!                                              tally of answers ◄─────────────────┘
//! ```
//!
//! The reader is a thread because reading a terminal or a pipe cannot be given up; it ends with the process. Everything else
//! happens on one task.

mod account;
mod exchange;
mod lines;
mod report;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::exit::{self, Failure};
use super::signals::Signals;
use super::{runtime, socket};
use crate::config::parse_duration;
use crate::ingest::frame::produce;
use crate::ingest::frame::topic::TopicName;
use exchange::{Exchange, Options};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that may wait between the reader and the exchange.
const CHUNKS_MAX: usize = 4;
/// The longest `TimeoutMs` of the protocol.
const TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// Send lines as records.
///
/// Reads standard input, or FILE, and sends each line as one record, without the line feed: empty lines are records with an
/// empty value, and bytes are taken as they are. Ends with 0 only when every record is acknowledged; else it says how many are,
/// and what is wrong with the first that is not. After a failed record no further input is sent.
///
/// Input that comes slowly is sent as it comes; input that is there already, in large requests.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  forebay produce -t audit < audit.log
  dmesg --follow | forebay produce -t kernel -k \"$HOSTNAME\"

Exit codes:
   0  every record is acknowledged
  65  a record was refused
  69  the daemon cannot be reached, or the connection was lost
  74  the input cannot be read
  75  not acknowledged within --timeout, or the daemon's memory is full: try again later
  77  the socket is not for this user
 130, 143  interrupted")]
pub(super) struct Arguments {
    /// The daemon's socket: the path of a stream listener.
    #[arg(short, long, value_name = "PATH", env = "FOREBAY_SOCKET", default_value = "/run/forebay/forebay.sock")]
    socket: PathBuf,
    /// The topic.
    #[arg(short, long, value_parser = parse_topic)]
    topic: String,
    /// The partition. Without it, the key decides; without a key, any.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// The key of every record. Without it, records have none.
    #[arg(short, long)]
    key: Option<OsString>,
    /// When a record counts as done: "all" when the cluster has replicated it, "0" when the daemon has read it.
    #[arg(long, value_enum, value_name = "ACKS", default_value = "all")]
    acks: Acks,
    /// How long a record may wait for its acknowledgement, as in 500ms, 30s, 5min. Without it, as long as it takes.
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    timeout: Option<Duration>,
    /// Say nothing but errors.
    #[arg(short, long)]
    quiet: bool,
    /// The input; standard input if there is none, or if it is "-".
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Acks {
    All,
    #[value(name = "0")]
    None,
}

fn parse_topic(text: &str) -> Result<String, &'static str> {
    match TopicName::new(text.as_bytes()) {
        Some(name) => Ok(name.as_str().to_owned()),
        None => Err("a topic's name is 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and neither '.' nor '..'"),
    }
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(timeout) if timeout.is_zero() => Err("nothing is acknowledged at once".to_owned()),
        Ok(timeout) if timeout > TIMEOUT_MAX => Err("24 days at most; without it, as long as it takes".to_owned()),
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(format!("{error}; say 500ms, 30s, 5min or 1h")),
    }
}

/// Returns when every record is acknowledged.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let input = open_input(arguments)?;
    let started = Instant::now();
    let progress = progress(arguments);
    let (tally, end) = runtime::block_on(async {
        let mut signals = Signals::catch()?;
        let stream = UnixStream::connect(&arguments.socket)
            .await
            .map_err(|error| socket::unreachable(&arguments.socket, &error))?;
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        thread::spawn(move || read_all(input, &sender));
        let exchange = Exchange::new(options(arguments), |count| progress.set_position(count));
        Ok(exchange.run(stream, chunks, signals.next()).await)
    })
    .inspect_err(|_| progress.finish_and_clear())?;
    progress.finish_and_clear();
    let words = report::judge(&tally, &end, started.elapsed())?;
    if !arguments.quiet {
        // Nobody is left to tell that it could not be told.
        let _ = writeln!(io::stderr().lock(), "{words}");
    }
    Ok(())
}

fn options(arguments: &Arguments) -> Options {
    Options {
        topic: arguments.topic.clone(),
        partition: arguments.partition,
        key: arguments.key.as_ref().map(|key| key.as_bytes().to_owned()),
        acks: match arguments.acks {
            Acks::All => produce::Acks::All,
            Acks::None => produce::Acks::None,
        },
        timeout: arguments.timeout,
    }
}

type Input = Box<dyn Read + Send>;

fn open_input(arguments: &Arguments) -> Result<Input, Failure> {
    match &arguments.file {
        Some(path) if path.as_os_str() != "-" => match File::open(path) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(Failure::new(exit::IO, format_args!("cannot open {}: {error}", path.display()))),
        },
        _ => Ok(Box::new(io::stdin())),
    }
}

/// Reads until the end, an error, or nobody wants more.
fn read_all(mut input: impl Read, chunks: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let chunk = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => Ok(buffer.iter().take(read).copied().collect()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = chunk.is_err();
        if chunks.blocking_send(chunk).is_err() || failed {
            return;
        }
    }
}

/// Shown only where somebody can see it, and not among the lines that somebody types.
fn progress(arguments: &Arguments) -> ProgressBar {
    let typed = arguments.file.is_none() && io::stdin().is_terminal();
    if arguments.quiet || typed || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let what = match arguments.acks {
        Acks::All => "acknowledged",
        Acks::None => "sent",
    };
    let template = format!("{{spinner}} {{human_pos}} records {what}, {{per_sec}}");
    let style = ProgressStyle::with_template(&template).expect("the template is well formed");
    ProgressBar::new_spinner().with_style(style)
}
