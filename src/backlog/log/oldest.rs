//! The oldest record that is held: how far behind its log's reader is.

use std::sync::Arc;

use super::active::Active;
use super::engine::Log;
use super::error::LogError;
use super::footer::RunRef;
use super::read::RunHandle;
use super::state::Partition;
use super::storage::Storage;

/// Where the last look found the oldest record: what is settled stays so, and older segments get no new records.
#[derive(Debug, Default)]
pub(super) struct Oldest {
    /// Older segments hold nothing.
    from: u64,
    run: Option<RunRef>,
}

impl<S: Storage> Log<S> {
    /// The first run in the log that holds a record. About the oldest: what the cleaner has copied stands among younger ones, and what the disk could
    /// not read is left out. Looks at the runs of each older segment once, and then no more.
    ///
    /// # Errors
    /// If the disk does not say where the runs of a segment are.
    pub fn oldest_run(&mut self) -> Result<Option<RunHandle<S::File>>, LogError> {
        let older = self.segments.range(self.oldest.from..);
        let older: Vec<(u64, u64)> = older.map(|(number, at)| (*number, at.note.generation)).collect();
        for (segment, generation) in older {
            let (index, file) = self.index_of(segment)?;
            let known = self.oldest.run.filter(|run| self.oldest.from == segment && self.lives(run));
            let run = known.or_else(|| {
                let held = index.runs().iter().filter(|run| self.lives(run));
                held.min_by_key(|run| run.position).copied()
            });
            self.oldest = Oldest { from: segment + u64::from(run.is_none()), run };
            if let Some(run) = run {
                return Ok(Some(RunHandle::new(file, segment, generation, run)));
            }
        }
        let Some(active) = &self.active else { return Ok(None) };
        let run = self.first_in_active(active);
        Ok(run.map(|run| RunHandle::new(Arc::clone(&active.file), active.number, active.generation, run)))
    }

    fn first_in_active(&self, active: &Active<S::File>) -> Option<RunRef> {
        // What is gathered, or was left in the file by a write that failed, is younger than this can tell apart.
        let is_held = |run: &&RunRef| run.position < active.synced && self.lives(run);
        let first_of = |(number, partition): (&u32, &Partition)| {
            let held = partition.unsettled()?;
            let before = active.runs.range((*number, 0)..(*number, held.first)).next_back().map(|(_, run)| run);
            let behind = active.runs.range((*number, held.first)..=(*number, held.last)).map(|(_, run)| run);
            before.into_iter().chain(behind).find(is_held).copied()
        };
        self.state.partitions.iter().filter_map(first_of).min_by_key(|run| run.position)
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

    #[test]
    fn a_segment_that_holds_nothing_is_looked_at_once() {
        let options = Options { segment_bytes: 16 << 10, index_bytes_max: 0, ..Options::with_limit(1 << 20) };
        let (mut log, _) = Log::open(SimulatedStorage::new(0), options, 1).unwrap();
        let a = log.define(b"a").unwrap();
        for index in 0..200 {
            store(&mut log, a, index, 100 + index as i64);
        }
        log.sync().unwrap();
        // Nothing is freed before this is on disk.
        acknowledge(&mut log, a, 149);
        let look = |log: &mut Log<SimulatedStorage>| {
            let before = log.counters().indexes_read;
            let run = log.oldest_run().unwrap().unwrap();
            (run.range().first, log.counters().indexes_read - before)
        };
        let (first, read) = look(&mut log);
        assert!(first == 150 && read > 10, "{first}, {read}");
        acknowledge(&mut log, a, 150);
        let (first, read) = look(&mut log);
        assert!(first == 151 && read <= 1, "{first}, {read}");
    }

    fn acknowledge(log: &mut Log<SimulatedStorage>, partition: u32, last: u64) {
        let (offset, leader_epoch, topic_id, possible_duplicates) = (-1, -1, [0; 16], 0);
        let noted = Acknowledged { partition, last, offset, leader_epoch, topic_id, possible_duplicates };
        log.append(&[Entry::Acknowledged(noted)]).unwrap();
    }
}
