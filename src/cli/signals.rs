//! The signals that end a command which runs until it is told to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{self, Failure};

/// What a shell says of a program that a signal has ended: 128 and the signal's number.
const CODE_BASE: u8 = 128;

/// SIGINT and SIGTERM, caught from now on.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupted {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Interrupted {
    /// What a command that was cut short ends with.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Interrupted::Interrupt => CODE_BASE + 2,
            Interrupted::Terminate => CODE_BASE + 15,
        }
    }
}

impl Signals {
    /// Catches them, within a runtime.
    pub(super) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind).map_err(|error| Failure::new(exit::FAILURE, format_args!("cannot catch signals: {error}")))
        };
        Ok(Signals { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// The next one. Dropped before it comes, it loses none.
    pub(super) async fn next(&mut self) -> Interrupted {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupted::Interrupt,
            _ = self.terminate.recv() => Interrupted::Terminate,
        }
    }
}
