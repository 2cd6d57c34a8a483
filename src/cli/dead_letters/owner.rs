//! Takes letters out: by asking the daemon that owns their log, or as its owner for a moment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use serde::Deserialize;

use crate::admin::client;
use crate::backlog::log::engine::Log;
use crate::backlog::log::entry::IndexRange;
use crate::backlog::log::error::LogError;
use crate::backlog::log::options::Options;
use crate::backlog::log::storage::real::RealStorage;
use crate::cli::exit::{self, Failure};
use crate::cli::{backlog, runtime, status};
use crate::config::Config;
use crate::store::dead_letters::{GivenUp, give_up};

/// See the module.
pub(super) struct Owner<'a> {
    directory: PathBuf,
    admin: &'a Path,
    taken: Option<Taken>,
}

enum Taken {
    ByUs(Box<Log<RealStorage>>),
    ByTheDaemon,
}

#[derive(Debug, Deserialize)]
struct Answer {
    records: u64,
}

impl<'a> Owner<'a> {
    /// Of the log in `directory`; nothing is opened before the first letter is taken out.
    pub(super) fn new(directory: PathBuf, admin: &'a Path) -> Self {
        Owner { directory, admin, taken: None }
    }

    /// Takes letters out for good, and returns how many.
    pub(super) fn give_up(&mut self, partition: u32, range: IndexRange, reason: u32) -> Result<u64, Failure> {
        let what = GivenUp { partition, range, reason };
        if self.taken.is_none() {
            self.taken = Some(self.take()?);
        }
        match &mut self.taken {
            Some(Taken::ByUs(log)) => give_up(log, what)
                .map_err(|error| Failure::new(exit::IO, format_args!("nothing was taken out: {error}"))),
            _ => self.ask(what),
        }
    }

    fn take(&self) -> Result<Taken, Failure> {
        self.check_user()?;
        let limit = Config::default().backlog.dead_letters_limit;
        match Log::open(RealStorage::new(&self.directory), Options::with_limit(limit), fastrand::u64(..)) {
            Ok((log, _)) => Ok(Taken::ByUs(Box::new(log))),
            Err(LogError::Owned { .. }) => Ok(Taken::ByTheDaemon),
            Err(error) => Err(backlog::failure(&self.directory, &error)),
        }
    }

    /// Files that another user makes here are files that the daemon may not touch.
    fn check_user(&self) -> Result<(), Failure> {
        let owner = fs::metadata(&self.directory).map(|found| Uid::from_raw(found.uid())).ok();
        match owner.filter(|owner| *owner != Uid::effective()) {
            None => Ok(()),
            Some(owner) => {
                let name =
                    nix::unistd::User::from_uid(owner).ok().flatten().map_or(owner.to_string(), |user| user.name);
                let shown = self.directory.display();
                let words = format!(
                    "{shown} is user {name}'s, and so must be what is written there; run it as {name}: sudo -u {name} forebay …"
                );
                Err(Failure::new(exit::PERMISSION, words))
            }
        }
    }

    fn ask(&self, GivenUp { partition, range, reason }: GivenUp) -> Result<u64, Failure> {
        let IndexRange { first, last } = range;
        let target = format!("/dead-letters/give-up?partition={partition}&first={first}&last={last}&reason={reason}");
        let body = runtime::block_on(async { client::post(self.admin, &target).await.map_err(status::failure) })?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            Failure::new(exit::UNAVAILABLE, format_args!("the daemon's answer cannot be read: {error}"))
        })?;
        Ok(answer.records)
    }
}
