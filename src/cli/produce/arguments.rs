//! The arguments of `forebay produce`: kcat's letters where there are some, checked before anything is opened.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::cut::Cut;
use super::input::Source;
use super::report::Names;
use super::request::{Options, OwnedHeader};
use crate::cli::exit::{self, Failure};
use crate::config::parse_duration;
use crate::ingest::frame::produce;
use crate::ingest::frame::topic::TopicName;

/// The longest `TimeoutMs` of the protocol.
const TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);
/// The longest name of a header, and the most headers, that the protocol can say.
const HEADERS_MAX: usize = i16::MAX as usize;

/// Send records: lines of standard input or of files, or whole files.
///
/// Without FILE, each line of standard input is a record. With FILEs, each FILE is one record, whole; with -l, each of
/// its lines is. Line feeds are not part of records, empty lines are records with an empty value, and bytes are taken as
/// they are. Input that comes slowly is sent as it comes.
///
/// Ends with 0 only when every record is acknowledged. Otherwise no further input is sent, and it says what is wrong with the
/// first record that failed, how many are acknowledged, refused or of unknown fate, and from where on nothing was sent.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(in crate::cli) struct Arguments {
    /// The daemon's socket: the path of a stream listener.
    #[arg(short, long, value_name = "PATH", env = "FOREBAY_SOCKET", default_value = "/run/forebay/forebay.sock")]
    pub(super) socket: PathBuf,
    /// The topic.
    #[arg(short, long, value_parser = parse_topic)]
    pub(super) topic: String,
    /// The partition. Without it, or with -1, the key decides; without a key, any.
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..))]
    pub(super) partition: Option<i32>,
    /// The key of every record that brings none of its own by -K. Without it, such records have none.
    #[arg(short, long)]
    pub(super) key: Option<OsString>,
    /// What parts the key from the value in each line, written as for -D. The first one counts; a line without one is all
    /// value.
    #[arg(short = 'K', long, value_name = "DELIMITER", value_parser = OsStringValueParser::new().try_map(|d| parse_delimiter(&d)))]
    pub(super) key_delimiter: Option<Bytes>,
    /// What ends a record instead of a line feed: any text, with \n, \r, \t, \0, \\ and \xNN for bytes.
    #[arg(short = 'D', long, value_name = "DELIMITER", value_parser = OsStringValueParser::new().try_map(|d| parse_delimiter(&d)))]
    pub(super) delimiter: Option<Bytes>,
    /// A header of every record; may be given more than once, also with the same name. "NAME=" is an empty value, "NAME"
    /// alone is null.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(|h| parse_header(&h)))]
    pub(super) headers: Vec<OwnedHeader>,
    /// Make empty values null (tombstones), and empty keys of -K too.
    #[arg(short = 'Z', long)]
    pub(super) null: bool,
    /// Take each line of FILE for a record, not FILE as a whole.
    #[arg(short, long)]
    pub(super) lines: bool,
    /// Copy the input to standard output, as tee does.
    #[arg(short = 'T', long)]
    pub(super) tee: bool,
    /// Refused: the daemon compresses, with compression_type of its configuration, for all clients alike.
    #[arg(short = 'z', long = "compression", value_name = "CODEC", value_parser = refuse_codec)]
    _compression: Option<String>,
    /// When a record counts as done: "all" when the cluster has replicated it, "1" when it is on the daemon's disk (the topic
    /// must be stored), "0" when the daemon has read it.
    #[arg(long, value_enum, value_name = "ACKS", default_value = "all")]
    pub(super) acks: Acks,
    /// How long a record may wait for its acknowledgement, as in 500ms, 30s, 5min. Without it, as long as it takes.
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    pub(super) timeout: Option<Duration>,
    /// Say nothing but errors.
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Say at the end which offsets of which partitions the records have.
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// The input; "-" is standard input.
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  dmesg --follow | forebay produce -t kernel -k \"$HOSTNAME\"   # lines, as they come
  forebay produce -t audit -l audit.log                       # the lines of a file
  date | forebay produce -t audit --acks 1                    # done when it is on disk
  forebay produce -t orders -K : -H source=till -l orders.txt # KEY:VALUE, with a header
  forebay produce -t pictures *.jpg                           # each file is one record
  find / -xdev -print0 | forebay produce -t files -D '\\0'     # records end with a zero byte";

const EXIT_STATUS: &str = "\
Exit status:
    0  every record is acknowledged, as --acks says
   64  wrong arguments
   65  a record was refused, or is too large
   69  the daemon cannot be reached, or the connection was lost
   74  the input cannot be read, or not be copied
   75  not done within --timeout, or the daemon's memory is full, or its disk fails: try later
   77  the socket is not for this user
  130  interrupted by SIGINT
  143  interrupted by SIGTERM";

/// Bytes that the user wrote.
pub(super) type Bytes = std::sync::Arc<[u8]>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Acks {
    All,
    #[value(name = "1")]
    Stored,
    #[value(name = "0")]
    None,
}

impl Arguments {
    /// Refuses what each argument allows but all together do not.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.whole_files() && (self.delimiter.is_some() || self.key_delimiter.is_some()) {
            let message = "-D and -K cut lines, and each FILE is one record, whole: add -l to take FILE line by line";
            return Err(Failure::new(exit::USAGE, message));
        }
        if self.headers.len() > HEADERS_MAX {
            return Err(Failure::new(exit::USAGE, format_args!("a record has at most {HEADERS_MAX} headers")));
        }
        Ok(())
    }

    fn whole_files(&self) -> bool {
        !self.lines && !self.files.is_empty()
    }

    pub(super) fn sources(&self) -> Vec<Source> {
        Source::of(&self.files)
    }

    pub(super) fn cut(&self) -> Cut {
        match &self.delimiter {
            _ if self.whole_files() => Cut::Whole,
            Some(delimiter) => Cut::At(delimiter.to_vec()),
            None => Cut::At(b"\n".to_vec()),
        }
    }

    /// How records are called in messages.
    pub(super) fn names(&self) -> Names {
        match &self.delimiter {
            _ if self.whole_files() => Names::Files(self.files.clone()),
            None if self.files.len() <= 1 => Names::Lines,
            _ => Names::Records,
        }
    }

    pub(super) fn options(&self) -> Options {
        Options {
            topic: self.topic.clone(),
            partition: self.partition.filter(|partition| *partition >= 0),
            key: self.key.as_ref().map(|key| key.as_bytes().to_owned()),
            key_delimiter: self.key_delimiter.as_ref().map(|delimiter| delimiter.to_vec()),
            empty_is_null: self.null,
            headers: self.headers.clone(),
            acks: match self.acks {
                Acks::All => produce::Acks::All,
                Acks::Stored => produce::Acks::Stored,
                Acks::None => produce::Acks::None,
            },
            timeout: self.timeout,
        }
    }
}

/// A name that Kafka allows.
pub(in crate::cli) fn parse_topic(text: &str) -> Result<String, &'static str> {
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

/// Text with escapes, as bytes.
fn parse_delimiter(text: &OsStr) -> Result<Bytes, String> {
    let mut bytes = text.as_bytes().iter().copied();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    hexadecimal(bytes.next(), bytes.next()).ok_or("\\x needs two hexadecimal digits, as in \\x1f")?
                }
                _ => return Err("after \\ comes n, r, t, 0, xNN or another \\".to_owned()),
            },
            byte => byte,
        });
    }
    if out.is_empty() { Err("it must not be empty".to_owned()) } else { Ok(out.into()) }
}

fn hexadecimal(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// `NAME=VALUE`, `NAME=` or `NAME`.
fn parse_header(text: &OsStr) -> Result<OwnedHeader, String> {
    let bytes = text.as_bytes();
    let (name, value) = match bytes.iter().position(|byte| *byte == b'=').and_then(|at| bytes.split_at_checked(at)) {
        Some((name, rest)) => (name, rest.get(1..).map(<[u8]>::to_owned)),
        None => (bytes, None),
    };
    match std::str::from_utf8(name) {
        Ok("") => Err("a header has a name: NAME=VALUE, NAME= or NAME".to_owned()),
        Ok(name) if name.len() > HEADERS_MAX => Err(format!("the name of a header has at most {HEADERS_MAX} bytes")),
        Ok(name) => Ok(OwnedHeader { name: name.to_owned(), value }),
        Err(_) => Err("the name of a header is UTF-8".to_owned()),
    }
}

fn refuse_codec(_: &str) -> Result<String, &'static str> {
    Err("the daemon compresses, not its clients: set compression_type under [producer] or [topics.\"NAME\"] in its \
         configuration, and leave -z out here")
}

#[cfg(test)]
mod tests;
