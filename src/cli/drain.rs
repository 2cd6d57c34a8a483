//! `forebay drain`: waits until Kafka has everything, for whoever is about to take the machine, or the cluster, away.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, sleep, timeout_at};

use super::exit::{self, Failure};
use super::output::{self, plain};
use super::runtime;
use super::signals::Signals;
use super::status::{failure, grouped, span};
use crate::admin::Status;
use crate::admin::client::{self, ClientError};
use crate::config::parse_duration;

/// Between one look and the next.
const LOOK: Duration = Duration::from_millis(200);
/// Topics, and parked partitions, that are named when time is up.
const NAMED_MAX: usize = 10;
/// Longer than any machine runs.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Wait until the daemon holds no record: Kafka has them all, or they are dead letters on disk.
///
/// The daemon goes on as it is, and takes records meanwhile: stop those who write first, or it may never end. What is stored need not be
/// waited for before the daemon is stopped: it is still there at the next start.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    /// The daemon's admin socket: admin.path of its configuration.
    #[arg(long, value_name = "PATH", env = "FOREBAY_ADMIN", default_value = "/run/forebay/admin.sock")]
    admin: PathBuf,
    /// How long to wait, as in 30s, 5min. Without it, as long as it takes.
    #[arg(long, value_name = "DURATION", value_parser = |text: &str| parse_duration(text))]
    timeout: Option<Duration>,
    /// Say nothing but errors.
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  forebay drain                                            # until nothing is held
  forebay drain --timeout 5min && systemctl stop forebay   # before the machine is given up";

const EXIT_STATUS: &str = "\
Exit status:
    0  nothing is held
   64  wrong arguments
   69  the daemon cannot be reached, or has ended meanwhile
   75  something is still held after --timeout; it says what and why
   77  the admin socket is not for this user
  130  interrupted by SIGINT
  143  interrupted by SIGTERM";

/// Asks again and again.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let progress = progress(arguments.quiet);
    let started = Instant::now();
    let waited = runtime::block_on(async {
        let mut signals = Signals::catch()?;
        tokio::select! {
            waited = wait(arguments, started, &progress) => waited,
            signal = signals.next() => Err(Failure::new(signal.exit_code(), "interrupted; the daemon goes on")),
        }
    });
    progress.finish_and_clear();
    waited?;
    if !arguments.quiet {
        output::print(format!("nothing is held, after {}\n", span(started.elapsed())))?;
    }
    Ok(())
}

async fn wait(arguments: &Arguments, started: Instant, progress: &ProgressBar) -> Result<(), Failure> {
    let deadline = started + arguments.timeout.unwrap_or(FOREVER);
    let mut last = None;
    loop {
        let asked = client::get(&arguments.admin, "/status");
        match timeout_at(deadline, asked).await {
            Ok(Ok(body)) => {
                let unreadable =
                    |error| Failure::new(exit::UNAVAILABLE, format_args!("the status cannot be read: {error}"));
                let status: Status = serde_json::from_slice(&body).map_err(unreadable)?;
                if held(&status) == 0 {
                    return Ok(());
                }
                progress.set_message(grouped(held(&status)));
                last = Some(status);
            }
            // One that has much to do may be late.
            Ok(Err(ClientError::Timeout { .. })) | Err(_) => {}
            Ok(Err(error)) => return Err(failure(error)),
        }
        if Instant::now() + LOOK >= deadline {
            let what = last.map_or_else(|| "the daemon did not say what it holds".to_owned(), |status| left(&status));
            return Err(Failure::new(exit::TEMPORARY, what));
        }
        sleep(LOOK).await;
    }
}

/// Records that are not settled, or that the log does not know to be.
fn held(status: &Status) -> u64 {
    status.ledger.held.max(status.backlog.as_ref().map_or(0, |backlog| backlog.held_records))
}

/// What is held and why, as far as the daemon knows.
fn left(status: &Status) -> String {
    let mut out = format!("{} records are still held", grouped(held(status)));
    // Writing to a string cannot fail.
    let mut holding: Vec<_> = status.topics.iter().filter(|topic| topic.held_records > 0).collect();
    holding.sort_by_key(|topic| std::cmp::Reverse(topic.held_records));
    for topic in holding.iter().take(NAMED_MAX) {
        let _ = write!(out, "\n  {}: {}", plain(&topic.name), grouped(topic.held_records));
        if topic.without_leader > 0 {
            let _ = write!(out, ", {} partitions have no leader", topic.without_leader);
        }
    }
    if holding.len() > NAMED_MAX {
        let _ = write!(out, "\n  and {} more topics", holding.len() - NAMED_MAX);
    }
    let parked = status.topics.iter().flat_map(|topic| topic.parked.iter().map(move |parked| (topic, parked)));
    for (topic, parked) in parked.take(NAMED_MAX) {
        let (name, message) = (plain(&parked.name), plain(&parked.message));
        let _ =
            write!(out, "\nparked: {}-{}: {name} ({}): {message}", plain(&topic.name), parked.partition, parked.code);
    }
    let troubles = [
        status.backlog.as_ref().map(|backlog| ("the backlog", &backlog.message)),
        status.dead_letters.as_ref().map(|letters| ("dead letters", &letters.message)),
    ];
    for (what, message) in troubles.into_iter().flatten().filter(|(_, message)| !message.is_empty()) {
        let _ = write!(out, "\n{what}: {}", plain(message));
    }
    if status.cluster.as_of_seconds.is_none() {
        out.push_str("\nKafka has not been reached yet");
    }
    out
}

/// Shown only where somebody can see it.
fn progress(quiet: bool) -> ProgressBar {
    if quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} records held, {elapsed}");
    let bar = ProgressBar::new_spinner().with_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(LOOK);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::{Backlog, Cluster, DeadLetters, Ledger, Parked, Topic};

    #[test]
    fn what_is_left_is_told_with_what_keeps_it() {
        let parked = Parked {
            partition: 2,
            code: 29,
            name: "TOPIC_AUTHORIZATION_FAILED".to_owned(),
            message: "may not".to_owned(),
        };
        let topic = |name: &str, held_records| Topic { name: name.to_owned(), held_records, ..Topic::default() };
        let status = Status {
            ledger: Ledger { held: 1200, ..Ledger::default() },
            topics: vec![
                topic("few", 200),
                topic("none", 0),
                Topic { parked: vec![parked], without_leader: 1, ..topic("many", 1000) },
            ],
            backlog: Some(Backlog { message: "no room".to_owned(), held_records: 7, ..Backlog::default() }),
            dead_letters: Some(DeadLetters::default()),
            ..Status::default()
        };
        assert_eq!(
            left(&status),
            "1,200 records are still held\n  many: 1,000, 1 partitions have no leader\n  few: 200\n\
             parked: many-2: TOPIC_AUTHORIZATION_FAILED (29): may not\nthe backlog: no room\nKafka has not been reached yet"
        );
    }

    #[test]
    fn what_the_log_does_not_know_to_be_delivered_is_held() {
        let cluster = Cluster { as_of_seconds: Some(1), ..Cluster::default() };
        let status =
            Status { cluster, backlog: Some(Backlog { held_records: 3, ..Backlog::default() }), ..Status::default() };
        assert_eq!((held(&status), left(&status)), (3, "3 records are still held".to_owned()));
        assert_eq!(held(&Status::default()), 0);
    }
}
