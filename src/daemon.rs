//! (to come)

use crate::config::Config;

/// How the daemon ended.
#[derive(Debug)]
pub struct Outcome;

/// Why the daemon failed.
#[derive(Debug, thiserror::Error)]
#[error("the daemon is not wired yet")]
pub struct Failure;

impl Failure {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        1
    }
}

/// Runs until told to stop.
pub async fn run(_config: Config) -> Result<Outcome, Failure> {
    Err(Failure)
}
