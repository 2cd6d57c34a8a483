//! The daemon's log on standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

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

/// The same text, once it has proven to be a filter.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn check_filter(text: &str) -> Result<String, String> {
    parse_filter(text).map(|_| text.to_owned())
}
