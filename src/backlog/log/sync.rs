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
        let Some(active) = &mut self.active else { return Ok(None) };
        self.counters.written_bytes += active.write_ahead() as u64;
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
                self.look_after_reserve();
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

#[cfg(test)]
mod tests {
    use super::super::entry::{Acknowledged, Entry, NO_TAGS, Records};
    use super::super::options::Options;
    use super::super::storage::simulated::SimulatedStorage;
    use super::*;

    fn store_and_sync(log: &mut Log<SimulatedStorage>, partition: u32, data: &[u8]) {
        let first = log.partition(partition).unwrap().next;
        let (count, base_timestamp, max_timestamp, stored_at, codec, tags) = (1, 0, 0, 0, 0, NO_TAGS);
        let records = Records { partition, first, count, base_timestamp, max_timestamp, stored_at, codec, tags, data };
        log.append(&[Entry::Records(records)]).unwrap();
        log.sync().unwrap();
    }

    fn written_by(log: &mut Log<SimulatedStorage>, work: impl FnOnce(&mut Log<SimulatedStorage>)) -> usize {
        let before = log.counters().written_bytes;
        work(log);
        (log.counters().written_bytes - before) as usize
    }

    #[test]
    fn small_syncs_write_to_their_blocks_beforehand_and_large_ones_and_those_in_recycled_files_do_not() {
        // 128 KiB ahead, in segments of 8 MiB.
        let (mut log, _) = Log::open(SimulatedStorage::new(0), Options::with_limit(64 << 20), 1).unwrap();
        let p = log.define(b"p").unwrap();
        log.sync().unwrap();
        // Behind what was written to for the definition.
        store_and_sync(&mut log, p, &[1; 200_000]);
        let small = |log: &mut Log<_>| (0..200).for_each(|_| store_and_sync(log, p, &[1; 100]));
        let written = written_by(&mut log, small);
        assert!((128 << 10..200 << 10).contains(&written), "once for all of them: {written}");
        let written = written_by(&mut log, |log| (0..5).for_each(|_| store_and_sync(log, p, &[1; 200_000])));
        assert!(written < 1_001_000, "{written}");
        while log.counters().segments_recycled == 0 {
            store_and_sync(&mut log, p, &[1; 200_000]);
            let last = log.partition(p).unwrap().next - 1;
            let (offset, leader_epoch, topic_id, possible_duplicates) = (-1, -1, [0; 16], 0);
            let done = Acknowledged { partition: p, last, offset, leader_epoch, topic_id, possible_duplicates };
            log.append(&[Entry::Acknowledged(done)]).unwrap();
            log.sync().unwrap();
        }
        let written = written_by(&mut log, small);
        assert!(written < 128 << 10, "{written}");
    }
}
