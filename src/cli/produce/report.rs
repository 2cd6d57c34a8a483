//! What is said at the end, and with what code. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::input::InputError;
use crate::cli::exit::{self, Failure};
use crate::cli::output;
use crate::cli::signals::Interrupted;
use crate::cli::status::{grouped, span};
use crate::ingest::frame::produce::Acks;
use crate::wire::codes;

/// What became of the records.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The cluster has them; with acks=1, the daemon's disk. With acks=0: they are in requests; the daemon has read them if all ended well.
    pub(super) acknowledged: u64,
    /// They are not in Kafka and will not be.
    pub(super) refused: u64,
    /// Taken by the daemon, and still on their way.
    pub(super) unsettled: u64,
    /// Sent, and nothing is known.
    pub(super) unknown: u64,
    /// The record that stopped the input.
    pub(super) failure: Option<RecordFailure>,
    /// The first record that was not sent, if any may be.
    pub(super) unsent_from: Option<u64>,
    /// Where those are that are acknowledged, by partition.
    pub(super) places: BTreeMap<i32, Place>,
    /// What was asked for.
    pub(super) acks: Acks,
}

/// What one partition has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// How many of our records.
    pub(super) records: u64,
    /// Their first and last offset; records of others may lie between.
    pub(super) offsets: RangeInclusive<i64>,
}

/// What the user calls the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Lines of the only source.
    Lines,
    /// Whatever delimiters part, or lines of several sources, counted through.
    Records,
    /// Each is one of these, whole.
    Files(Vec<PathBuf>),
}

impl Names {
    /// The name of record `number`, from 1.
    fn of(&self, number: u64) -> String {
        let path = |files: &[PathBuf]| files.get(usize::try_from(number.checked_sub(1)?).ok()?).cloned();
        match self {
            Names::Lines => format!("line {}", grouped(number)),
            Names::Files(files) => match path(files) {
                Some(path) if path.as_os_str() == "-" => "standard input".to_owned(),
                Some(path) => path.display().to_string(),
                None => "the end".to_owned(),
            },
            Names::Records => format!("record {}", grouped(number)),
        }
    }
}

/// A record without what was asked for.
#[derive(Debug)]
pub(super) struct RecordFailure {
    /// Its number, from 1.
    pub(super) record: u64,
    /// Kafka's error code.
    pub(super) code: i16,
    /// The daemon's words.
    pub(super) message: Option<String>,
}

/// How it came to an end.
#[derive(Debug)]
pub(super) enum End {
    /// The input is over, or a record has failed, and nothing is under way.
    Complete,
    /// The input could not be read any further.
    Input(InputError),
    /// A record does not fit in a frame.
    TooLong {
        /// Its number, from 1.
        record: u64,
        /// `max_frame_size` of the listener.
        limit: usize,
    },
    /// The connection is no more, or no use.
    Lost(String),
    /// The daemon did not answer in time.
    TimedOut,
    /// A signal came.
    Interrupted(Interrupted),
}

/// What to say when all went well.
///
/// # Errors
/// If a record does not have what was asked for.
pub(super) fn judge(tally: &Tally, end: &End, names: &Names, elapsed: Duration) -> Result<String, Failure> {
    let (code, cause) = match (end, &tally.failure) {
        (End::Interrupted(signal), _) => (signal.exit_code(), "interrupted".to_owned()),
        (_, Some(failure)) => (record_exit_code(failure.code), failed(failure, names)),
        (End::Complete, None) => return Ok(success(tally, elapsed)),
        (End::Input(error), _) => (exit::IO, error.to_string()),
        (End::TooLong { record, limit }, _) => {
            let remedy = match names {
                Names::Files(_) => "with -l each of its lines is a record; or raise the listener's max_frame_size",
                _ => "raise the listener's max_frame_size",
            };
            (
                exit::DATA,
                format!("{} does not fit in a frame of {} bytes; {remedy}", names.of(*record), grouped(*limit as u64)),
            )
        }
        (End::Lost(why), _) => (exit::UNAVAILABLE, why.clone()),
        (End::TimedOut, _) => (exit::TEMPORARY, "the daemon did not answer in time".to_owned()),
    };
    // The daemon's words may be a broker's, and a file may be called anything.
    Err(Failure::new(code, format_args!("{}\n{}", output::plain(&cause), output::plain(&balance(tally, names)))))
}

fn record_exit_code(code: i16) -> u8 {
    match code {
        codes::REQUEST_TIMED_OUT | codes::THROTTLING_QUOTA_EXCEEDED | codes::KAFKA_STORAGE_ERROR => exit::TEMPORARY,
        codes::UNKNOWN_SERVER_ERROR => exit::UNAVAILABLE,
        _ => exit::DATA,
    }
}

fn failed(failure: &RecordFailure, names: &Names) -> String {
    let RecordFailure { record, code, message } = failure;
    let message = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    format!("{}: {} ({code}){message}", names.of(*record), codes::name(*code))
}

/// Where the records are, one line a partition. Nothing if nothing is known.
pub(super) fn places(tally: &Tally) -> String {
    let mut out = String::new();
    for (partition, Place { records, offsets }) in &tally.places {
        let (first, last) = offsets.clone().into_inner();
        let at = if last < 0 {
            // What is stored has no offset yet.
            "stored".to_owned()
        } else if first == last {
            format!("at offset {first}")
        } else {
            format!("at offsets {first} to {last}")
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "partition {partition}: {} {at}", count(*records));
    }
    out
}

fn success(tally: &Tally, elapsed: Duration) -> String {
    let time = match elapsed.as_secs() {
        0..60 => format!("{:.1} s", elapsed.as_secs_f64()),
        _ => span(elapsed),
    };
    let done = match tally.acks {
        Acks::All => "acknowledged",
        Acks::Stored => "stored",
        Acks::None => "sent, unacknowledged,",
    };
    format!("{} {done} in {time}", count(tally.acknowledged))
}

fn count(records: u64) -> String {
    let noun = if records == 1 { "record" } else { "records" };
    format!("{} {noun}", grouped(records))
}

fn balance(tally: &Tally, names: &Names) -> String {
    let mut words = match tally.acks {
        Acks::All => format!("{} acknowledged", count(tally.acknowledged)),
        Acks::Stored => format!("{} stored", count(tally.acknowledged)),
        Acks::None => format!("at most {} sent, unacknowledged", count(tally.acknowledged)),
    };
    for (count, what) in
        [(tally.refused, "refused"), (tally.unsettled, "still on their way"), (tally.unknown, "with an unknown fate")]
    {
        if count > 0 {
            words += &format!(", {} {what}", grouped(count));
        }
    }
    if tally.unsettled + tally.unknown > 0 {
        words += " (to send those again may double them)";
    }
    if let Some(record) = tally.unsent_from {
        words += &format!("; nothing was sent from {} on", names.of(record));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn failed(code: i16) -> Tally {
        let failure = RecordFailure { record: 1234, code, message: Some("no\x1b room".to_owned()) };
        Tally { acknowledged: 1233, failure: Some(failure), unsent_from: Some(1300), ..Tally::default() }
    }

    #[test]
    fn success_is_one_line() {
        let words = |acknowledged, acks, ms| {
            let tally = Tally { acknowledged, acks, ..Tally::default() };
            judge(&tally, &End::Complete, &Names::Lines, Duration::from_millis(ms)).unwrap()
        };
        assert_eq!(words(1000, Acks::All, 420), "1,000 records acknowledged in 0.4 s");
        assert_eq!(words(1, Acks::All, 90_000), "1 record acknowledged in 1 min 30 s");
        assert_eq!(words(2, Acks::Stored, 90_000), "2 records stored in 1 min 30 s");
        assert_eq!(words(0, Acks::None, 0), "0 records sent, unacknowledged, in 0.0 s");
    }

    #[test]
    fn a_failed_record_is_named_and_the_others_are_counted() {
        let tally = Tally { refused: 2, unknown: 1, ..failed(codes::MESSAGE_TOO_LARGE) };
        let failure = judge(&tally, &End::Complete, &Names::Lines, Duration::ZERO).unwrap_err();
        assert_eq!(failure.code, exit::DATA);
        assert_eq!(
            failure.message,
            "forebay: line 1,234: MESSAGE_TOO_LARGE (10): no\u{fffd} room\n\
             1,233 records acknowledged, 2 refused, 1 with an unknown fate (to send those again may double them); \
             nothing was sent from line 1,300 on"
        );
    }

    #[test]
    fn each_end_has_its_code() {
        let code = |tally: &Tally, end: End| judge(tally, &end, &Names::Lines, Duration::ZERO).unwrap_err().code;
        let none = Tally::default();
        assert_eq!(code(&none, End::Lost("gone".to_owned())), 69);
        assert_eq!(code(&none, End::TimedOut), 75);
        assert_eq!(
            code(&none, End::Input(InputError::Read("standard input".to_owned(), io::Error::other("broken")))),
            74
        );
        assert_eq!(code(&none, End::TooLong { record: 1, limit: 10 }), 65);
        assert_eq!(code(&none, End::Interrupted(Interrupted::Interrupt)), 130);
        assert_eq!(code(&failed(3), End::Lost("gone".to_owned())), 65);
        assert_eq!(code(&failed(7), End::Complete), 75);
        assert_eq!(code(&failed(89), End::Complete), 75);
        assert_eq!(code(&failed(-1), End::Lost("gone".to_owned())), 69);
        assert_eq!(code(&failed(3), End::Interrupted(Interrupted::Terminate)), 143);
    }

    #[test]
    fn a_file_that_is_a_record_is_called_by_its_name() {
        let names = Names::Files(vec!["a.json".into(), "-".into()]);
        let tally = Tally { acknowledged: 1, unsent_from: Some(2), ..Tally::default() };
        let end = End::TooLong { record: 1, limit: 1_048_576 };
        let failure = judge(&tally, &end, &names, Duration::ZERO).unwrap_err();
        assert_eq!(
            failure.message,
            "forebay: a.json does not fit in a frame of 1,048,576 bytes; with -l each of its lines is a record; or \
             raise the listener's max_frame_size\n1 record acknowledged; nothing was sent from standard input on"
        );
        assert_eq!(Names::Records.of(1234), "record 1,234");
    }

    #[test]
    fn places_are_told_by_partition() {
        let place = |records, first, last| Place { records, offsets: first..=last };
        let places = BTreeMap::from([(10, place(1, 7, 7)), (2, place(1500, 0, 2000)), (11, place(3, -1, -1))]);
        let tally = Tally { places, ..Tally::default() };
        assert_eq!(
            super::places(&tally),
            "partition 2: 1,500 records at offsets 0 to 2000\npartition 10: 1 record at offset 7\n\
             partition 11: 3 records stored\n"
        );
    }
}
