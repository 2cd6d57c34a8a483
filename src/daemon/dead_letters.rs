//! Where dead letters are kept.

use std::io;
use std::path::Path;

use tracing::error;

use crate::backlog::letter;
use crate::backlog::log::disk_error::DiskError;
use crate::backlog::log::engine::Log;
use crate::backlog::log::options::Options;
use crate::backlog::log::recovery::Damage;
use crate::backlog::log::storage::Storage;
use crate::backlog::log::storage::real::RealStorage;
use crate::config::Backlog;
use crate::store::dead_letters::{Accounts, DeadLetters, Thread, start};

/// The log of dead letters in `directory`, which is opened, and made, for the first of them.
pub(super) fn open(directory: &Path, config: &Backlog, accounts: Accounts) -> io::Result<(DeadLetters, Thread)> {
    let above = RealStorage::new(directory);
    let path = directory.join(letter::DIRECTORY);
    let limited = Options::with_limit(config.dead_letters_limit);
    let options = Options { free_space_floor_bytes: config.min_free_space, ..limited };
    let open = move || {
        let made = above.create_directory(letter::DIRECTORY).and_then(|()| above.sync_directory(""));
        made.map_err(|error| DiskError::new("make", path.clone(), error))?;
        let (log, damage) = Log::open(RealStorage::new(&path), options, fastrand::u64(..))?;
        if damage != Damage::default() {
            error!(directory = %path.display(), ?damage, "dead letters are damaged; what could be read of them is kept (forebay backlog verify says more)");
        }
        Ok(log)
    };
    start(open, accounts)
}
