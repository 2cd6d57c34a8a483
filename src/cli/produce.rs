//! `forebay produce`: lines, or whole files, become records.
//!
//! ```text
//! input ─► reader thread ─► chunks (bounded) ─► Exchange: Pieces ─► requests ─► socket
//!                                                   ▲                              │
//!                                              account of answers ◄────────────────┘
//! ```
//!
//! The reader is a thread because reading a terminal or a pipe cannot be given up; it ends with the process. Everything else
//! happens on one task.

mod account;
mod arguments;
mod cut;
mod exchange;
mod input;
mod report;
mod request;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::exit::{self, Failure};
use super::signals::Signals;
use super::status::grouped;
use super::{runtime, socket};
use arguments::Acks;
use exchange::Exchange;
use input::{CHUNKS_MAX, read_all};

pub(super) use arguments::{Arguments, parse_topic};

/// How often the progress is drawn anew at least.
const TICK: Duration = Duration::from_millis(250);

/// Returns when every record is acknowledged.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.check()?;
    let sources = arguments.sources();
    let unreadable = |error| Failure::new(exit::IO, error);
    sources.iter().try_for_each(|source| source.check().map_err(unreadable))?;
    let started = Instant::now();
    let progress = progress(arguments, input::is_typed(&sources));
    let (tally, end) = runtime::block_on(async {
        let mut signals = Signals::catch()?;
        let stream = UnixStream::connect(&arguments.socket)
            .await
            .map_err(|error| socket::unreachable(&arguments.socket, &error))?;
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let copy = arguments.tee.then(|| Box::new(io::stdout()) as input::Copy);
        thread::spawn(move || read_all(&sources, copy, &sender));
        let exchange = Exchange::new(arguments.options(), arguments.cut(), |acknowledged, sent| {
            progress.set_length(sent);
            progress.set_position(acknowledged);
        });
        Ok(exchange.run(stream, chunks, signals.next()).await)
    })
    .inspect_err(|_| progress.finish_and_clear())?;
    progress.finish_and_clear();
    if arguments.verbose {
        say(report::places(&tally));
    }
    let words = report::judge(&tally, &end, &arguments.names(), started.elapsed())?;
    if !arguments.quiet {
        say(words + "\n");
    }
    Ok(())
}

/// Nobody is left to tell that it could not be told.
fn say(words: String) {
    let _ = io::stderr().lock().write_all(words.as_bytes());
}

/// Shown only where somebody can see it, and not among the lines that somebody types or that come back by -T.
fn progress(arguments: &Arguments, typed: bool) -> ProgressBar {
    let copied = arguments.tee && io::stdout().is_terminal();
    if arguments.quiet || typed || copied || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match arguments.acks {
        Acks::All => "{spinner} {done} of {sent} records acknowledged, {rate}, {elapsed}",
        Acks::Stored => "{spinner} {done} of {sent} records stored, {rate}, {elapsed}",
        Acks::None => "{spinner} {done} records sent, {rate}, {elapsed}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        // Writing to a string cannot fail. A rate is never negative, and far below the end of a u64.
        let _ = write!(out, "{}/s", grouped(state.per_sec() as u64));
    };
    let done = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&grouped(state.pos()));
    };
    let sent = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&grouped(state.len().unwrap_or_default()));
    };
    let style = style.with_key("done", done).with_key("sent", sent).with_key("rate", rate);
    let bar = ProgressBar::new(0).with_style(style);
    // The time goes on even when nothing is acknowledged.
    bar.enable_steady_tick(TICK);
    bar
}
