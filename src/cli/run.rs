//! `forebay run`: the daemon itself.

use std::path::PathBuf;
use std::thread;

use clap::Args;

use super::exit::{self, Failure};
use super::{log, runtime};
use crate::config::Config;
use crate::daemon;
use crate::ingest::activation::HandedOver;

/// Threads without a `worker_threads`, on a machine with many cores: the work is moving bytes, and the machine is there for others.
const THREADS_MAX: usize = 4;

/// Run the daemon in the foreground.
///
/// Takes records from local programs and delivers them to Kafka until SIGTERM or SIGINT. Then it takes no more, delivers
/// what it holds for at most daemon.drain_timeout, and ends; a second signal cuts that short. Kafka need not be there when the
/// daemon starts. The log goes to standard error.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_STATUS}\n\n{ENVIRONMENT}"))]
pub(super) struct Arguments {
    /// The configuration file; `forebay config init` writes one to start from.
    #[arg(short, long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: PathBuf,
    /// How a line of the log looks.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: log::Format,
    /// What is logged: error, warn, info, debug or trace; also by module, as in "info,forebay::broker=debug".
    #[arg(long, value_name = "FILTER", env = "FOREBAY_LOG", default_value = "info", value_parser = log::check_filter)]
    log_level: String,
}

const EXAMPLES: &str = "\
Examples:
  forebay run -c /etc/forebay/forebay.toml
  forebay run -c forebay.toml --log-level info,forebay::broker=debug
  forebay run -c forebay.toml --log-format json 2>&1 | jq .message";

const EXIT_STATUS: &str = "\
Exit status:
    0  told to stop, and everything is delivered or stored
    1  a fault in forebay itself; it has stopped in order
   64  wrong arguments
   73  a socket cannot be made: its path, its directory or its group; or the backlog cannot be used
   74  told to stop, and the backlog's disk did not take what was stored last
   75  told to stop, and records were not delivered within daemon.drain_timeout
   78  the configuration is wrong";

const ENVIRONMENT: &str = "\
Environment:
  NO_COLOR       if not empty: no colours in the log
  NOTIFY_SOCKET  set by systemd: where READY=1 and STOPPING=1 go";

/// Returns when the daemon has ended.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    let handed_over = HandedOver::to_this_process().map_err(|error| Failure::new(exit::CONFIG, error))?;
    log::init(arguments.log_format, &arguments.log_level);
    let runtime = runtime::multi_thread(worker_threads(config.daemon.worker_threads))?;
    let ended = runtime.block_on(daemon::run(config, handed_over));
    ended.map(drop).map_err(|failure| Failure::new(failure.exit_code(), failure))
}

/// The configuration; what is wrong with it is printed as it is, place and all.
pub(super) fn load(path: &std::path::Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|error| Failure { code: exit::CONFIG, message: error.to_string() })
}

fn worker_threads(configured: usize) -> usize {
    match configured {
        0 => thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS_MAX)),
        threads => threads,
    }
}
