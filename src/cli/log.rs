//! The daemon's log on standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends all that is logged from now on to standard error: what `filter` lets through, in colours on a terminal alone.
/// The first call in a process counts.
pub(super) fn init(format: Format, filter: &str) {
    // The arguments were checked, so that the filter is one.
    let filter = parse_filter(filter).unwrap_or_default();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !no_color);
    let _ = match format {
        Format::Text => log.try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
    };
}

/// A filter of tracing-subscriber's.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(text).map_err(|error| error.to_string())
}

/// The same text, once it has proven to be a filter. A lone word must be a level: tracing-subscriber would take a misspelt one for
/// the name of a module, and log nothing else.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn check_filter(text: &str) -> Result<String, String> {
    let lone_words = text.split(',').map(str::trim).filter(|part| !part.contains(['=', ':', '[', ']', '{', '}']));
    for word in lone_words {
        if word.parse::<LevelFilter>().is_err() {
            return Err(format!("{word:?} is no level: say off, error, warn, info, debug, trace, or MODULE=LEVEL"));
        }
    }
    parse_filter(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_are_a_filter_and_misspelt_levels_are_none() {
        for filter in ["info", "WARN", "off", "info,forebay::broker=debug", "forebay::route", "warn,forebay=trace"] {
            assert_eq!(check_filter(filter).as_deref(), Ok(filter));
        }
        for wrong in ["loud", "inof,forebay=debug", "forebay=loud", "a=b=c"] {
            assert!(check_filter(wrong).is_err(), "{wrong}");
        }
    }
}
