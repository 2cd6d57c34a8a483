//! Syncing: what was gathered is written, made durable, and known to be so.
//!
//! A sync has three steps, so that the second can run on another thread while this one appends: begin, run, finish. What is appended
//! meanwhile is in the next one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::append::Ticket;
use super::engine::Log;
use super::error::LogError;
use super::frame::Kind;
use super::roll::For;
use super::storage::{Storage, StorageFile};

/// A sync to be run.
#[derive(Debug)]
pub struct SyncJob<F> {
    file: Arc<F>,
    outcome: SyncOutcome,
}

/// How a sync ended. [`Log::finish_sync`] must hear of it.
#[derive(Debug)]
pub struct SyncOutcome {
    segment: u64,
    /// Up to where in the segment, and up to which frame.
    to: u32,
    frame: u64,
    path: PathBuf,
    result: io::Result<()>,
}

impl<F: StorageFile> SyncJob<F> {
    /// Makes durable what was written when the job was made. Blocks.
    pub fn run(self) -> SyncOutcome {
        SyncOutcome { result: self.file.sync(), ..self.outcome }
    }
}

impl<S: Storage> Log<S> {
    /// Gives what is gathered to the file system. It stays in force, and gathered, when that fails.
    pub fn write(&mut self) -> Result<(), LogError> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let was_poisoned = active.poisoned;
        let written = active.write();
        self.counters.poisoned_segments += u64::from(active.poisoned && !was_poisoned);
        let path = || self.storage.path(&active.name());
        let written = written.map_err(|source| LogError::io("write", path())(source))?;
        self.counters.written_bytes += written as u64;
        Ok(())
    }

    /// Begins a sync of all that was appended; `None` when all of it is durable. Where the segment cannot be used any more, what it lacks is
    /// made durable in a new one, before this returns.
    pub fn begin_sync(&mut self) -> Result<Option<SyncJob<S::File>>, LogError> {
        if self.syncing {
            return Err(LogError::Busy);
        }
        if self.synced == self.appended {
            return Ok(None);
        }
        let written = self.write();
        if self.carry.is_some() || self.active.as_ref().is_some_and(|active| active.poisoned) {
            self.roll(0, For::Notes)?;
            return Ok(None);
        }
        written?;
        let Some(active) = &self.active else { return Ok(None) };
        self.syncing = true;
        let outcome = SyncOutcome {
            segment: active.number,
            to: active.written,
            frame: self.appended,
            path: self.storage.path(&active.name()),
            result: Ok(()),
        };
        Ok(Some(SyncJob { file: Arc::clone(&active.file), outcome }))
    }

    /// Takes the outcome of a sync into account, and frees what can be freed since. A failure makes the segment unusable; the next sync
    /// writes anew, in another, what this one did not cover.
    pub fn finish_sync(&mut self, outcome: SyncOutcome) -> Result<(), LogError> {
        self.syncing = false;
        let SyncOutcome { segment, to, frame, path, result } = outcome;
        let active = self.active.as_mut().filter(|active| active.number == segment);
        match result {
            Ok(()) => {
                if let Some(active) = active {
                    active.set_synced(to);
                }
                self.synced = self.synced.max(frame);
                self.counters.syncs += 1;
                self.free();
                Ok(())
            }
            Err(source) => {
                if let Some(active) = active {
                    active.poisoned = true;
                    self.counters.poisoned_segments += 1;
                }
                Err(LogError::io("sync", path)(source))
            }
        }
    }

    /// Makes all that was appended durable. When the segment fails, it is made so in a new one.
    pub fn sync(&mut self) -> Result<Ticket, LogError> {
        if let Some(job) = self.begin_sync()? {
            let outcome = job.run();
            if self.finish_sync(outcome).is_err() {
                self.begin_sync()?;
            }
        }
        Ok(self.synced())
    }

    /// When nothing waits to be written, says in the log what is known to be durable, so that damage to its last frames can be told from a torn
    /// end. Costs a few bytes after a sync, and no sync of its own.
    pub fn mark(&mut self) -> Result<(), LogError> {
        match &mut self.active {
            Some(active) if active.wants_mark() => {
                active.put_frame(Kind::MARK, |_| {});
                self.write()
            }
            _ => Ok(()),
        }
    }
}
