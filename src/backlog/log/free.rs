//! Freeing: the oldest segment, when all of its records are settled by notes that are on disk.

use super::engine::Log;
use super::error::LogError;
use super::header::segment_name;
use super::storage::Storage;

/// What the oldest segment waits for.
#[derive(Debug)]
pub(super) struct Watch {
    segment: u64,
    /// The last index that each of its partitions has there.
    lasts: Vec<(u32, u64)>,
    /// All before this one are settled.
    at: usize,
    /// When all are settled: by frames up to this one.
    settled_by: Option<u64>,
}

impl<S: Storage> Log<S> {
    /// Frees the oldest segments as far as they are not needed. What fails is tried again the next time.
    pub(super) fn free(&mut self) {
        while self.free_oldest() {}
    }

    /// Makes the notes durable that free what is not needed any more, and frees it.
    pub(super) fn sync_and_free(&mut self) -> Result<(), LogError> {
        if let Some(&oldest) = self.segments.keys().next().filter(|oldest| !self.unread.contains_key(oldest)) {
            self.indexes.look_again(oldest, self.counters.syncs);
        }
        if !self.oldest_is_settled() {
            return Ok(());
        }
        self.sync()?;
        self.free();
        Ok(())
    }

    fn free_oldest(&mut self) -> bool {
        // Without a newer segment its checkpoint is the only one.
        if self.active.is_none() || self.carry.is_some() {
            return false;
        }
        let Some((&number, &segment)) = self.segments.first_key_value() else { return false };
        let copied_by = self.cleaned.filter(|(cleaned, _)| *cleaned == number).map(|(_, copied_by)| copied_by);
        let needed_until = match copied_by {
            Some(copied_by) => copied_by,
            None if !self.oldest_is_settled() => return false,
            None => self.watch.as_ref().and_then(|watch| watch.settled_by).unwrap_or(u64::MAX),
        };
        if self.synced < needed_until || !self.give_back(&segment_name(number), segment) {
            return false;
        }
        // So that a power loss leaves no younger segment missing than this one.
        self.housekeeping(|log| log.storage.sync_directory(""));
        self.segments.remove(&number);
        self.count_older_bytes();
        self.indexes.forget(number);
        self.damaged.retain(|(segment, _)| *segment != number);
        self.unread.remove(&number);
        let newest = self.active.as_ref().map_or(0, |active| active.number);
        self.state.forget_retired(self.segments.keys().next().copied().unwrap_or(newest));
        self.watch = None;
        self.cleaned = None;
        self.counters.segments_freed += 1;
        true
    }

    /// Whether everything in the oldest segment is settled, by notes that may not be on disk yet.
    fn oldest_is_settled(&mut self) -> bool {
        let Some(&number) = self.segments.keys().next() else { return false };
        if self.watch.as_ref().is_none_or(|watch| watch.segment != number) {
            // A segment that cannot be read now is looked at again with the next sync. What it holds may be anybody's who holds anything.
            let index = self.index_of(number).ok().filter(|_| !self.indexes.is_partial(number));
            if index.is_none() && self.state.ledger.held() > 0 {
                return false;
            }
            let mut lasts: Vec<(u32, u64)> = Vec::new();
            for run in index.iter().flat_map(|(index, _)| index.runs()) {
                match lasts.last_mut() {
                    Some((partition, last)) if *partition == run.partition => *last = run.last().max(*last),
                    _ => lasts.push((run.partition, run.last())),
                }
            }
            self.watch = Some(Watch { segment: number, lasts, at: 0, settled_by: None });
        }
        let (Some(watch), state) = (&mut self.watch, &self.state) else { return false };
        while let Some((partition, last)) = watch.lasts.get(watch.at) {
            if state.partitions.get(partition).is_some_and(|partition| partition.settled <= *last) {
                return false;
            }
            watch.at += 1;
        }
        watch.settled_by.get_or_insert(self.last_note);
        true
    }
}
