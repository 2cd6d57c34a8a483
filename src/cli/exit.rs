//! How a command ends when it does not end well: a code for scripts, words for people.
//!
//! The codes are those of `sysexits.h`, so that a supervisor can tell what a new start may heal (69, 74, 75) from what it cannot
//! (64, 78).

/// Done.
pub const OK: u8 = 0;
/// A fault in forebay itself.
pub const FAILURE: u8 = 1;
/// EX_USAGE: wrong arguments.
pub const USAGE: u8 = 64;
/// EX_DATAERR: records were refused, or would be.
pub const DATA: u8 = 65;
/// EX_UNAVAILABLE: the daemon, Kafka, or what else a command needs, cannot be reached.
pub const UNAVAILABLE: u8 = 69;
/// EX_CANTCREAT: a file or socket cannot be created.
pub const CANNOT_CREATE: u8 = 73;
/// EX_IOERR: reading or writing failed.
pub const IO: u8 = 74;
/// EX_TEMPFAIL: not done in time; the same may work later.
pub const TEMPORARY: u8 = 75;
/// EX_NOPERM: permission denied.
pub const PERMISSION: u8 = 77;
/// EX_CONFIG: the configuration is wrong.
pub const CONFIG: u8 = 78;

/// Why a command did not do what it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the process ends with.
    pub code: u8,
    /// What is printed to standard error, without a line feed at its end.
    pub message: String,
}

impl Failure {
    /// A failure that names the program first, as is the custom: `forebay: …`.
    pub fn new(code: u8, message: impl std::fmt::Display) -> Self {
        Failure { code, message: format!("forebay: {message}") }
    }
}
