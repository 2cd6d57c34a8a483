//! The tokio runtimes of the commands.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use super::exit::{self, Failure};

/// Runs a command that needs no more than the thread it is on.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    build(&mut Builder::new_current_thread())?.block_on(command)
}

/// A runtime on `threads` threads for the daemon.
pub(super) fn multi_thread(threads: usize) -> Result<Runtime, Failure> {
    build(Builder::new_multi_thread().worker_threads(threads).thread_name("forebay-worker"))
}

fn build(builder: &mut Builder) -> Result<Runtime, Failure> {
    let runtime = builder.enable_all().build();
    runtime.map_err(|error| Failure::new(exit::UNAVAILABLE, format_args!("cannot start the runtime: {error}")))
}
