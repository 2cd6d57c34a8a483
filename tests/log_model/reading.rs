//! Reading back: everything that is held comes, in order, and nothing else.

use forebay::backlog::log::error::LogError;
use forebay::backlog::log::read::{Cursor, Next};

use crate::model::Fate;
use crate::world::{PARTITIONS, World};

/// A log of the model has fewer segments.
const UNREAD_MAX: usize = 100;

impl World {
    pub fn read_some(&mut self) {
        let number = self.random.u32(..PARTITIONS);
        let next = self.model.partitions[&number].next();
        let from = self.random.u64(..=next);
        let bytes_max = self.random.usize(..1000);
        self.read(number, from, bytes_max, false);
    }

    pub fn read_all(&mut self) {
        if self.past.is_empty() {
            return;
        }
        self.heal();
        for number in self.model.partitions.keys().copied().collect::<Vec<_>>() {
            self.read(number, 0, 500, true);
        }
    }

    /// Reads to the end; everything that is held must come, in order.
    fn read(&mut self, number: u32, from: u64, bytes_max: usize, must: bool) {
        let mut cursor = Cursor::new(number, from);
        let mut unread = 0;
        let mut expected = from.max(self.model.partitions[&number].settled);
        loop {
            let handles = match self.log().locate(&mut cursor, bytes_max) {
                Ok(Next::Runs(handles)) => handles,
                Ok(Next::End) => break,
                Err(LogError::Busy) if must => {
                    self.finish_sync();
                    self.log().sync().expect("nothing is in the way");
                    continue;
                }
                // What was found unreadable before is looked at anew by the next try.
                Err(LogError::Disk(error)) if must && unread < UNREAD_MAX && error.to_string().contains("(EIO)") => {
                    unread += 1;
                    continue;
                }
                Err(error) => {
                    assert!(!must, "{error}");
                    return;
                }
                other => panic!("{other:?}"),
            };
            for handle in handles {
                let stored = match handle.read() {
                    Ok(stored) => stored,
                    Err(error) => {
                        assert!(!must, "{error}");
                        return;
                    }
                };
                self.tally.runs_read += 1;
                let records = stored.records();
                let partition = &self.model.partitions[&number];
                let skipped = expected..records.first.max(expected);
                for index in skipped {
                    assert_ne!(partition.fates[index as usize], Fate::Held, "record {index} of {number} is missing");
                }
                let at = partition.runs.binary_search_by_key(&records.first, |run| run.0).expect("it was stored");
                let (_, count, data) = &partition.runs[at];
                assert_eq!((records.count, records.data), (*count, &data[..]));
                expected = expected.max(records.first + u64::from(records.count));
            }
        }
        let partition = &self.model.partitions[&number];
        for index in expected..partition.next() {
            assert_ne!(partition.fates[index as usize], Fate::Held, "record {index} of {number} is missing at the end");
        }
    }
}
