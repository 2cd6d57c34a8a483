//! The oldest record that is held: how far behind its log's reader is.

use std::sync::Arc;

use super::engine::Log;
use super::entry::IndexRange;
use super::error::LogError;
use super::footer::RunRef;
use super::read::RunHandle;
use super::storage::Storage;

impl<S: Storage> Log<S> {
    /// The first run in the log that holds a record. About the oldest: what the cleaner has copied stands among younger ones. Looks at all runs of
    /// the oldest segment that holds any, so it is not for every record.
    ///
    /// # Errors
    /// If the disk does not say where the runs of a segment are.
    pub fn oldest_run(&mut self) -> Result<Option<RunHandle<S::File>>, LogError> {
        let older: Vec<(u64, u64)> = self.segments.iter().map(|(number, at)| (*number, at.note.generation)).collect();
        for (segment, generation) in older {
            let (index, file) = self.index_of(segment)?;
            if let Some(run) = self.first_held(index.runs().iter()) {
                return Ok(Some(RunHandle::new(file, segment, generation, run)));
            }
        }
        let Some(active) = &self.active else { return Ok(None) };
        // What is gathered, or was left in the file by a write that failed, is younger than this can tell apart.
        let readable = active.runs.values().filter(|run| run.position < active.synced);
        let run = self.first_held(readable);
        Ok(run.map(|run| RunHandle::new(Arc::clone(&active.file), active.number, active.generation, run)))
    }

    fn first_held<'a>(&self, runs: impl Iterator<Item = &'a RunRef>) -> Option<RunRef> {
        let is_held = |run: &&RunRef| {
            let partition = self.state.partitions.get(&run.partition);
            partition.is_some_and(|partition| partition.needs(IndexRange { first: run.first, last: run.last() }))
        };
        runs.filter(is_held).min_by_key(|run| run.position).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Acknowledged, Entry, NO_TAGS, Records};
    use super::super::options::Options;
    use super::super::storage::simulated::SimulatedStorage;
    use super::*;

    fn store(log: &mut Log<SimulatedStorage>, partition: u32, first: u64, stored_at: i64) {
        let records = Records {
            partition,
            first,
            count: 1,
            base_timestamp: 0,
            max_timestamp: 0,
            stored_at,
            codec: 0,
            tags: NO_TAGS,
            data: &[7; 2000],
        };
        log.append(&[Entry::Records(records)]).unwrap();
    }

    fn oldest(log: &mut Log<SimulatedStorage>) -> Option<i64> {
        log.sync().unwrap();
        let run = log.oldest_run().unwrap()?;
        Some(run.read().unwrap().records().stored_at)
    }

    #[test]
    fn the_oldest_run_is_the_first_that_is_not_acknowledged() {
        let options = Options { segment_bytes: 16 << 10, ..Options::with_limit(256 << 10) };
        let (mut log, _) = Log::open(SimulatedStorage::new(0), options, 1).unwrap();
        let (a, b) = (log.define(b"a").unwrap(), log.define(b"b").unwrap());
        assert_eq!(oldest(&mut log), None);
        // Over some segments.
        for index in 0..30 {
            store(&mut log, a, index, 100 + index as i64);
        }
        store(&mut log, b, 0, 200);
        assert_eq!(oldest(&mut log), Some(100));
        acknowledge(&mut log, a, 19);
        assert_eq!(oldest(&mut log), Some(120));
        acknowledge(&mut log, a, 29);
        assert_eq!(oldest(&mut log), Some(200));
        acknowledge(&mut log, b, 0);
        assert_eq!(oldest(&mut log), None);
    }

    fn acknowledge(log: &mut Log<SimulatedStorage>, partition: u32, last: u64) {
        let (offset, leader_epoch, topic_id, possible_duplicates) = (-1, -1, [0; 16], 0);
        let noted = Acknowledged { partition, last, offset, leader_epoch, topic_id, possible_duplicates };
        log.append(&[Entry::Acknowledged(noted)]).unwrap();
    }
}
