//! `forebay status`: how the running daemon is, as a page for people or as JSON for scripts.

mod render;

pub(super) use render::size;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::de::IgnoredAny;

use super::exit::{self, Failure};
use super::{output, runtime, socket};
use crate::admin::Status;
use crate::admin::client::{self, ClientError};

/// Show how the running daemon is: its ledger, Kafka, memory, topics.
///
/// Every record that was accepted is delivered, held, dead-lettered or dropped. A partition is parked when Kafka refuses it for a
/// reason that only a person can mend: its records are kept and tried again now and then.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    /// The daemon's admin socket: admin.path of its configuration.
    #[arg(long, value_name = "PATH", env = "FOREBAY_ADMIN", default_value = "/run/forebay/admin.sock")]
    admin: PathBuf,
    /// Print one JSON object, for scripts.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  forebay status
  watch forebay status                      # as it changes
  forebay status --json | jq .ledger.held   # records that Kafka does not have yet";

const EXIT_STATUS: &str = "\
Exit status:
    0  the daemon has answered
   64  wrong arguments
   69  the daemon cannot be reached
   77  the admin socket is not for this user";

/// Asks and prints.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let body = runtime::block_on(async { client::get(&arguments.admin, "/status").await.map_err(failure) })?;
    let unreadable = |error: serde_json::Error| {
        let message = format_args!("{} gave no status that this version can read: {error}", arguments.admin.display());
        Failure::new(exit::UNAVAILABLE, message)
    };
    if arguments.json {
        // As the daemon says it: another version may say more than this one knows.
        serde_json::from_slice::<IgnoredAny>(&body).map_err(unreadable)?;
        return output::print([&body[..], b"\n"].concat());
    }
    let status: Status = serde_json::from_slice(&body).map_err(unreadable)?;
    output::print(render::page(&status))
}

pub(super) fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Connect { path, error } => socket::unreachable(&path, &error),
        other => Failure::new(exit::UNAVAILABLE, other),
    }
}

/// A number with its thousands apart: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time that is over, as people say it: its two largest units.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
