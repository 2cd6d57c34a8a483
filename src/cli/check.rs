//! `forebay check`: whether a daemon with this configuration could do its work here and now, and what to do if not.
//!
//! The configuration comes in; findings go out, one for each thing that was looked at, in the order in which a daemon needs them:
//! memory, sockets, backlog, Kafka, topics. Nothing is changed, but for one file that is written in the backlog's directory and
//! removed again; no record is sent, no topic is made.

mod cluster;
mod directory;
mod memory;
mod report;
mod sockets;
mod topics;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use nix::unistd::{Uid, User};

use super::exit::{self, Failure};
use super::produce::parse_topic;
use super::{output, run, runtime};
use crate::config::{Config, parse_size};
use report::{Finding, Report};

/// The user that the packages make for the daemon.
const DAEMON_USER: &str = "forebay";

/// Check whether a daemon with this configuration can do its work here.
///
/// Looks at the configuration, memory, the sockets' directories, the backlog's directory, every bootstrap server and every broker
/// that the cluster names, and the topics that the configuration names without a glob or that -t names. Each line says ok, warning
/// or error, and the line below it what to do. Run it as the daemon's user: what root may do says nothing about others.
///
/// Changes nothing: it sends no record and makes no topic. It may run beside the daemon.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}"))]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: PathBuf,
    /// A topic to check, beside those that the configuration names; may be given more than once.
    #[arg(short, long = "topic", value_name = "TOPIC", value_parser = parse_topic)]
    topics: Vec<String>,
    /// Leave Kafka out.
    #[arg(long, conflicts_with = "topics")]
    offline: bool,
    /// A directory to try for the backlog instead of the configuration's.
    #[arg(long, value_name = "DIR")]
    backlog_directory: Option<PathBuf>,
    /// How much the backlog shall hold at most, as in 8GiB.
    #[arg(long, value_name = "SIZE", requires = "backlog_directory", value_parser = parse_limit)]
    backlog_limit: Option<u64>,
    /// Print one JSON object, for scripts.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  sudo -u forebay forebay check -c /etc/forebay/forebay.toml
  forebay check -c forebay.toml -t audit -t orders    # may these be written?
  forebay check -c forebay.toml --offline             # before there is a Kafka
  forebay check -c forebay.toml --json | jq -r '.findings[] | select(.level == \"error\").message'";

const EXIT_STATUS: &str = "\
Exit status:
    0  no error; there may be warnings
   64  wrong arguments
   65  a topic is not there, has no leader, or may not be written
   69  Kafka cannot be reached, is another cluster, or is too old
   73  a socket, or a file of the backlog, cannot be made
   77  this user may not make it
   78  the configuration is wrong, or asks for more than there is
With several errors it is the code of the first.";

fn parse_limit(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| format!("{error}; say 512MiB or 8GiB"))
}

/// Looks, prints, and fails if there is an error among the findings.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let shown = arguments.config.display();
    let config = match run::load(&arguments.config) {
        Ok(config) => config,
        Err(failure) if arguments.json => {
            let remedy = "mend it; forebay config check says the same";
            let finding = Finding::error(exit::CONFIG, "config", &failure.message, remedy);
            return finish(&Report::new(vec![finding]), true);
        }
        Err(failure) => return Err(failure),
    };
    let mut findings = vec![Finding::ok("config", format!("{shown} is valid"))];
    findings.extend(user());
    findings.push(memory::check(config.memory.limit as u64));
    let (sockets, kafka) = runtime::block_on(async {
        let sockets = sockets::check(&config).await;
        let kafka = if arguments.offline { vec![] } else { cluster::check(&config, &topics(arguments, &config)).await };
        Ok((sockets, kafka))
    })?;
    findings.extend(sockets);
    findings.push(backlog(arguments, &config));
    findings.extend(kafka);
    finish(&Report::new(findings), arguments.json)
}

fn finish(report: &Report, json: bool) -> Result<(), Failure> {
    output::print(if json { report.to_json() } else { report.to_text() })?;
    match report.exit_code() {
        exit::OK => Ok(()),
        code => Err(Failure::new(code, format_args!("the check found {}", report.counts()))),
    }
}

/// Root may do everything; that says nothing about the daemon's user.
fn user() -> Option<Finding> {
    let looks_like_the_wrong_one = Uid::effective().is_root() && matches!(User::from_name(DAEMON_USER), Ok(Some(_)));
    looks_like_the_wrong_one.then(|| {
        let message = format!("this is root, who may do what the user {DAEMON_USER} may not");
        Finding::warning("user", message, format!("run it as the daemon's user: sudo -u {DAEMON_USER} forebay check …"))
    })
}

fn backlog(arguments: &Arguments, config: &Config) -> Finding {
    let configured = config.backlog.directory.as_ref().map(|directory| (directory, Some(config.backlog.limit)));
    let tried = arguments.backlog_directory.as_ref().map(|directory| (directory, arguments.backlog_limit));
    match tried.or(configured) {
        Some((directory, limit)) => directory::check(directory, limit, config.backlog.min_free_space),
        None => Finding::warning(
            "backlog",
            "there is none: records are held in memory only, and are lost when the daemon is killed",
            "keep daemon.drain_timeout long enough for a stop, and use acks=all where a loss must be noticed",
        ),
    }
}

/// The topics to look at, each once: those of the arguments, and of the configuration those without a glob.
fn topics(arguments: &Arguments, config: &Config) -> BTreeSet<String> {
    let named = config.topics.iter().map(|(pattern, _)| pattern).filter(|pattern| !pattern.contains(['*', '?']));
    named.map(str::to_owned).chain(arguments.topics.iter().cloned()).collect()
}

/// The user that this process runs as, by name if it has one.
fn user_name() -> String {
    let uid = Uid::effective();
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("{uid}"),
    }
}
