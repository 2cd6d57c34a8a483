//! Standard output, for what a command was asked for.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use super::exit::{self, Failure};

/// Writes all of `text`. A reader that went away, as `head` does, has what it wanted: that is no failure.
pub(super) fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(exit::IO, format_args!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// What came from elsewhere, without anything that a terminal would obey.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) { text.replace(char::is_control, "\u{fffd}").into() } else { text.into() }
}

/// One JSON object for scripts, indented for people, with a line feed at its end.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(exit::FAILURE, error))?;
    Ok(text + "\n")
}
