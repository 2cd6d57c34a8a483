//! What is said at the end, and with what code. Pure.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::cli::exit::{self, Failure};
use crate::cli::signals::Interrupted;
use crate::cli::status::{grouped, span};
use crate::wire::codes;

/// What became of the records.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The cluster has them. With acks=0: they are in requests; the daemon has read them if all ended well.
    pub(super) acknowledged: u64,
    /// They are not in Kafka and will not be.
    pub(super) refused: u64,
    /// Taken by the daemon, and still on their way.
    pub(super) unsettled: u64,
    /// Sent, and nothing is known.
    pub(super) unknown: u64,
    /// The record that stopped the input.
    pub(super) failure: Option<RecordFailure>,
    /// The first line that was not sent, if any may be.
    pub(super) unsent_from: Option<u64>,
    /// Whether nothing was to be acknowledged.
    pub(super) unanswered: bool,
}

/// A record without what was asked for.
#[derive(Debug)]
pub(super) struct RecordFailure {
    /// Its line, from 1.
    pub(super) line: u64,
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
    Input(io::Error),
    /// A line does not fit in a frame.
    LineTooLong {
        /// Its number, from 1.
        line: u64,
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
pub(super) fn judge(tally: &Tally, end: &End, elapsed: Duration) -> Result<String, Failure> {
    let (code, cause) = match (end, &tally.failure) {
        (End::Interrupted(signal), _) => (signal.exit_code(), "interrupted".to_owned()),
        (_, Some(failure)) => (record_exit_code(failure.code), failure.to_string()),
        (End::Complete, None) => return Ok(success(tally, elapsed)),
        (End::Input(error), _) => (exit::IO, format!("cannot read the input: {error}")),
        (End::LineTooLong { line, limit }, _) => {
            let line = grouped(*line);
            (exit::DATA, format!("line {line} does not fit in a frame of {limit} bytes; see max_frame_size"))
        }
        (End::Lost(why), _) => (exit::UNAVAILABLE, why.clone()),
        (End::TimedOut, _) => (exit::TEMPORARY, "the daemon did not answer in time".to_owned()),
    };
    // The daemon's words may be a broker's.
    let cause = cause.replace(char::is_control, "\u{fffd}");
    Err(Failure::new(code, format_args!("{cause}\n{}", balance(tally))))
}

fn record_exit_code(code: i16) -> u8 {
    match code {
        codes::REQUEST_TIMED_OUT | codes::THROTTLING_QUOTA_EXCEEDED => exit::TEMPORARY,
        codes::UNKNOWN_SERVER_ERROR => exit::UNAVAILABLE,
        _ => exit::DATA,
    }
}

impl fmt::Display for RecordFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordFailure { line, code, message } = self;
        write!(f, "line {}: {} ({code})", grouped(*line), codes::name(*code))?;
        match message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

fn success(tally: &Tally, elapsed: Duration) -> String {
    let time = match elapsed.as_secs() {
        0..60 => format!("{:.1} s", elapsed.as_secs_f64()),
        _ => span(elapsed),
    };
    let done = if tally.unanswered { "sent, unacknowledged," } else { "acknowledged" };
    format!("{} {done} in {time}", records(tally.acknowledged))
}

fn records(count: u64) -> String {
    let noun = if count == 1 { "record" } else { "records" };
    format!("{} {noun}", grouped(count))
}

fn balance(tally: &Tally) -> String {
    let mut words = match tally.unanswered {
        false => format!("{} acknowledged", records(tally.acknowledged)),
        true => format!("at most {} sent, unacknowledged", records(tally.acknowledged)),
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
    if let Some(line) = tally.unsent_from {
        words += &format!("; nothing was sent from line {} on", grouped(line));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i16) -> Tally {
        let failure = RecordFailure { line: 1234, code, message: Some("no\x1b room".to_owned()) };
        Tally { acknowledged: 1233, failure: Some(failure), unsent_from: Some(1300), ..Tally::default() }
    }

    #[test]
    fn success_is_one_line() {
        let words = |acknowledged, unanswered, ms| {
            let tally = Tally { acknowledged, unanswered, ..Tally::default() };
            judge(&tally, &End::Complete, Duration::from_millis(ms)).unwrap()
        };
        assert_eq!(words(1000, false, 420), "1,000 records acknowledged in 0.4 s");
        assert_eq!(words(1, false, 90_000), "1 record acknowledged in 1 min 30 s");
        assert_eq!(words(0, true, 0), "0 records sent, unacknowledged, in 0.0 s");
    }

    #[test]
    fn a_failed_record_is_named_and_the_others_are_counted() {
        let tally = Tally { refused: 2, unknown: 1, ..failed(codes::MESSAGE_TOO_LARGE) };
        let failure = judge(&tally, &End::Complete, Duration::ZERO).unwrap_err();
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
        let code = |tally: &Tally, end: End| judge(tally, &end, Duration::ZERO).unwrap_err().code;
        let none = Tally::default();
        assert_eq!(code(&none, End::Lost("gone".to_owned())), 69);
        assert_eq!(code(&none, End::TimedOut), 75);
        assert_eq!(code(&none, End::Input(io::Error::other("broken"))), 74);
        assert_eq!(code(&none, End::LineTooLong { line: 1, limit: 10 }), 65);
        assert_eq!(code(&none, End::Interrupted(Interrupted::Interrupt)), 130);
        assert_eq!(code(&failed(3), End::Lost("gone".to_owned())), 65);
        assert_eq!(code(&failed(7), End::Complete), 75);
        assert_eq!(code(&failed(89), End::Complete), 75);
        assert_eq!(code(&failed(-1), End::Lost("gone".to_owned())), 69);
        assert_eq!(code(&failed(3), End::Interrupted(Interrupted::Terminate)), 143);
    }
}
