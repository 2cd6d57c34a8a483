//! Appending: entries are checked, made into a frame, gathered, and taken into account, or nothing is changed.

use super::engine::Log;
use super::entry::{Entry, IndexRange, Origin, is_tagged_section};
use super::error::LogError;
use super::frame::{HEADER_BYTES, Kind};
use super::roll::For;
use super::storage::Storage;

/// Names of partitions are shorter than this.
const NAME_BYTES_MAX: usize = 4096;
/// A checkpoint may take this part of a segment; beyond it no partition and no origin is added.
const CHECKPOINT_SHARE: usize = 4;
/// About what a checkpoint holds for a partition beside its name.
const PARTITION_BYTES: usize = 128;
/// And for an origin.
const ORIGIN_BYTES: usize = 16;

/// Which frame it was, counted from the opening of the log: what it says is durable when [`Log::synced`] has reached it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

impl<S: Storage> Log<S> {
    /// The number of the partition with this name, which is given one if it has none yet.
    pub fn define(&mut self, name: &[u8]) -> Result<u32, LogError> {
        if let Some(number) = self.number_of(name) {
            return Ok(number);
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(LogError::Refused("a partition's name is empty or longer than 4096 bytes"));
        }
        let number = self.state.next_number;
        if number == u32::MAX {
            return Err(LogError::Refused("all numbers of partitions are used up"));
        }
        let entry = Entry::Partition { number, name };
        if self.named_bytes + self.newly_named_bytes(&entry) > self.named_bytes_max() {
            return Err(LogError::Refused("there are too many partitions for segments of this size"));
        }
        self.put(&[entry], For::Notes)?;
        self.numbers.insert(name.to_vec(), number);
        Ok(number)
    }

    /// Ends a partition for good: what it still holds is dropped for this reason of the owner's, and neither memory nor checkpoints hold anything of
    /// it any longer. Its name may be defined again, as another partition.
    pub fn retire(&mut self, number: u32, reason: u32) -> Result<Ticket, LogError> {
        let partition = self.state.partitions.get(&number).ok_or(LogError::Refused("a partition without a number"))?;
        if !partition.placed.is_empty() {
            return Err(LogError::Refused("other partitions' records are read through this one"));
        }
        let name = partition.name.clone();
        let held = partition.unsettled();
        let mut entries = Vec::with_capacity(2);
        entries.extend(held.map(|range| Entry::Dropped { partition: number, range, reason }));
        entries.push(Entry::Retired { partition: number });
        let ticket = self.put(&entries, For::Notes)?;
        self.named_bytes = self.named_bytes.saturating_sub(PARTITION_BYTES + name.len());
        self.numbers.remove(&name);
        Ok(ticket)
    }

    /// Appends entries as one frame: after a crash all of them are there, or none. Runs must begin where their partition's last ended.
    ///
    /// What is appended is gathered and in force at once; it is durable after a sync. An error changes nothing.
    pub fn append(&mut self, entries: &[Entry<'_>]) -> Result<Ticket, LogError> {
        self.check(entries)?;
        let holds_records = entries.iter().any(|entry| matches!(entry, Entry::Records(_)));
        self.put(entries, if holds_records { For::Records } else { For::Notes })
    }

    /// Makes room for a frame of `records_bytes` with `runs` runs, header and all, so that [`Log::append_reserved`] takes it. Nothing else may be
    /// appended in between.
    pub fn reserve(&mut self, records_bytes: usize, runs: usize) -> Result<(), LogError> {
        self.check_size(records_bytes, runs)?;
        self.make_room(records_bytes, runs, For::Records)
    }

    /// As [`Log::append`], but touches no file: for callers that hold a lock.
    ///
    /// # Errors
    /// [`LogError::Busy`] without [`Log::reserve`]. An error changes nothing.
    pub fn append_reserved(&mut self, entries: &[Entry<'_>]) -> Result<Ticket, LogError> {
        self.check(entries)?;
        let (len, runs) = size_of_frame(entries);
        if !self.has_room(len, runs) {
            return Err(LogError::Busy);
        }
        self.gather(entries, runs)
    }

    /// The last frame that is durable.
    pub fn synced(&self) -> Ticket {
        Ticket(self.synced)
    }

    /// The last frame that was appended.
    pub fn appended(&self) -> Ticket {
        Ticket(self.appended)
    }

    /// Bytes that are not known to be on disk.
    pub fn unsynced_bytes(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.unsynced_bytes())
    }

    /// Whether appending these entries must wait for the outcome of the sync that is under way.
    pub fn must_wait(&self, entries: &[Entry<'_>]) -> bool {
        let (len, runs) = size_of_frame(entries);
        let grows = runs == 0 || self.may_grow(For::Records);
        self.syncing && !(grows && self.has_room(len, runs))
    }

    /// Whether a frame of `len` bytes with `runs` runs goes into the newest segment without a sync before.
    fn has_room(&self, len: usize, runs: usize) -> bool {
        let fits = |active: &super::active::Active<S::File>| active.fits(len, runs, self.options.runs_max);
        !self.over_unsynced_limit(len) && self.active.as_ref().is_some_and(fits)
    }

    fn check_size(&self, len: usize, runs: usize) -> Result<(), LogError> {
        if len > self.options.frame_bytes_max() || runs > self.options.runs_max {
            return Err(LogError::Refused("a frame is larger than half a segment"));
        }
        Ok(())
    }

    pub(super) fn put(&mut self, entries: &[Entry<'_>], room_for: For) -> Result<Ticket, LogError> {
        let (len, runs) = size_of_frame(entries);
        self.check_size(len, runs)?;
        self.make_room(len, runs, room_for)?;
        let ticket = self.gather(entries, runs)?;
        if self.active.as_ref().is_some_and(|active| active.pending_bytes() >= self.options.write_bytes) {
            // It stays gathered, and whoever waits for the sync hears of it.
            let _ = self.write();
        }
        Ok(ticket)
    }

    fn gather(&mut self, entries: &[Entry<'_>], runs: usize) -> Result<Ticket, LogError> {
        let active = self.active.as_mut().ok_or(LogError::Refused("there is no segment"))?;
        let (position, len) = active.put_frame(Kind::ENTRIES, |out| entries.iter().for_each(|entry| entry.encode(out)));
        active.note_runs(entries, position, len);
        let number = active.number;
        self.appended += 1;
        self.noted_bytes += if runs == 0 { u64::from(len) } else { 0 };
        for entry in entries {
            self.named_bytes += self.newly_named_bytes(entry);
            self.state.apply(entry, number);
            match entry {
                Entry::Records(_) => {
                    self.counters.stored_bytes += u64::from(len);
                    self.live_bound = self.live_bound.map(|bound| bound + u64::from(len));
                }
                Entry::Acknowledged(_) | Entry::Dropped { .. } | Entry::Dead { .. } | Entry::Retired { .. } => {
                    self.last_note = self.appended;
                }
                _ => {}
            }
        }
        Ok(Ticket(self.appended))
    }

    fn make_room(&mut self, len: usize, runs: usize, room_for: For) -> Result<(), LogError> {
        if self.over_unsynced_limit(len) {
            self.sync()?;
        }
        let runs_max = self.options.runs_max;
        // One round through the log: where it frees nothing in the end, another would not either.
        let mut cleanable = self.segments.len();
        let frames_len = len + runs * super::footer::RUN_BYTES;
        // A segment that did not help is not followed by another.
        let mut rolled = false;
        loop {
            match &self.active {
                Some(active) if active.fits(len, runs, runs_max) && self.may_grow(room_for) => return Ok(()),
                _ => {}
            }
            let full = if !rolled && self.room_for_segment(room_for, frames_len) {
                match self.roll(frames_len, room_for) {
                    Ok(()) => {
                        rolled = true;
                        continue;
                    }
                    Err(full @ LogError::Full { .. }) => full,
                    Err(error) => return Err(error),
                }
            } else {
                self.full(super::error::FullCause::Limit)
            };
            let freed = self.counters.segments_freed;
            self.sync_and_free()?;
            if self.counters.segments_freed > freed {
                rolled = false;
                continue;
            }
            if room_for == For::Records && (self.could_leave_all_behind() || self.older_bytes_without_runs > 0) {
                self.roll(0, For::Notes)?;
                continue;
            }
            if room_for != For::Records || cleanable == 0 || !self.clean()? {
                if cleanable == 0 {
                    self.clean_later();
                }
                return Err(full);
            }
            cleanable -= 1;
            rolled = false;
        }
    }

    /// Whether nothing is held, and the newest segment, which is larger than others are, is all that is in the way.
    fn could_leave_all_behind(&self) -> bool {
        let holds_runs = self.active.as_ref().is_some_and(|active| !active.runs.is_empty());
        holds_runs && self.segments.is_empty() && self.state.ledger.held() == 0
    }

    pub(super) fn full(&self, cause: super::error::FullCause) -> LogError {
        LogError::Full { used_bytes: self.used_bytes(), limit_bytes: self.options.limit_bytes, cause }
    }

    fn over_unsynced_limit(&self, len: usize) -> bool {
        // Of frames: what says that all of them are synced is written when nothing else is, and waits for the next sync.
        let holds_frames = self.appended > self.synced;
        holds_frames && self.unsynced_bytes() + len > self.options.unsynced_bytes_max
    }

    /// Refuses what would make the log say something that cannot be.
    fn check(&self, entries: &[Entry<'_>]) -> Result<(), LogError> {
        if entries.is_empty() {
            return Err(LogError::Refused("a frame without entries"));
        }
        // Partitions whose next index moves within this frame.
        let mut moved: Vec<(u32, u64)> = Vec::new();
        self.check_origins(entries)?;
        // What this frame acknowledges, and what it takes from partitions that hold it.
        let mut acknowledged: Vec<(u32, u64)> = Vec::new();
        let mut taken: Vec<(u32, IndexRange)> = Vec::new();
        let mut placed_here: Vec<(u32, IndexRange)> = Vec::new();
        for entry in entries {
            let next_of = |number: u32| -> Result<u64, LogError> {
                let known = self.state.partitions.get(&number).map(|partition| partition.next);
                let moved = moved.iter().rev().find(|(other, _)| *other == number).map(|(_, next)| *next);
                moved.or(known).ok_or(LogError::Refused("a partition without a number"))
            };
            let within = |number: u32, last: u64| match next_of(number)? {
                next if last < next => Ok(()),
                _ => Err(LogError::Refused("a note names records that were not stored")),
            };
            match entry {
                Entry::Retired { .. } => return Err(LogError::Refused("a partition is retired by its own call")),
                Entry::Partition { .. } => return Err(LogError::Refused("partitions are numbered by the log")),
                Entry::Cluster { .. } => {}
                Entry::Records(records) => {
                    let range = records.range().ok_or(LogError::Refused("a run without records"))?;
                    if range.first != next_of(records.partition)? {
                        return Err(LogError::Refused("a run does not begin where the last one ended"));
                    }
                    if !is_tagged_section(records.tags) {
                        return Err(LogError::Refused("a run's tags are not valid"));
                    }
                    moved.push((records.partition, range.last + 1));
                }
                Entry::Sent { partition, sent } => within(*partition, sent.range.last)?,
                Entry::Acknowledged(done) => {
                    within(done.partition, done.last)?;
                    let range = IndexRange { first: 0, last: done.last };
                    self.check_settles(done.partition, range, &acknowledged, &placed_here)?;
                    acknowledged.push((done.partition, done.last));
                }
                Entry::Dropped { partition, range, .. } | Entry::Dead { partition, range, .. } => {
                    within(*partition, range.last)?;
                    self.check_settles(*partition, *range, &acknowledged, &placed_here)?;
                    taken.push((*partition, *range));
                }
                Entry::Placed { partition, placed } => {
                    within(*partition, placed.range.last)?;
                    let known = self.state.partitions.get(partition);
                    let held = known.is_some_and(|known| known.holds_all(placed.range));
                    let gone_here =
                        taken.iter().any(|(other, range)| other == partition && overlap(*range, placed.range));
                    let done_here =
                        acknowledged.iter().any(|(other, last)| other == partition && *last >= placed.range.first);
                    if !held || gone_here || done_here {
                        return Err(LogError::Refused("records are placed that are settled, gone or placed already"));
                    }
                    taken.push((*partition, placed.range));
                    placed_here.push((*partition, placed.range));
                    let placed_records: u64 = placed.parts.iter().map(|part| part.count).fold(0, u64::saturating_add);
                    if placed_records != placed.range.count() {
                        return Err(LogError::Refused("not as many records are placed as there are"));
                    }
                    let mut parts = Vec::new();
                    for part in &placed.parts {
                        let range = part.range().ok_or(LogError::Refused("a part without records"))?;
                        if part.partition == *partition || range.first != next_of(part.partition)? {
                            return Err(LogError::Refused("a part does not begin where its partition ended"));
                        }
                        if parts.iter().any(|(other, _)| *other == part.partition) {
                            return Err(LogError::Refused("two parts of one partition"));
                        }
                        parts.push((part.partition, range.last + 1));
                    }
                    moved.extend(parts);
                }
            }
        }
        Ok(())
    }

    /// Refuses to settle records of a partition that others hold as theirs: it would free what these read.
    fn check_settles(
        &self,
        number: u32,
        range: IndexRange,
        acknowledged: &[(u32, u64)],
        placed_here: &[(u32, IndexRange)],
    ) -> Result<(), LogError> {
        if placed_here.iter().any(|(other, placed)| *other == number && overlap(*placed, range)) {
            return Err(LogError::Refused("records are placed and settled at once"));
        }
        let placed = self.state.partitions.get(&number).map_or(&[][..], |partition| &partition.placed[..]);
        let parts = placed.iter().filter(|placed| overlap(placed.range, range)).flat_map(|placed| &placed.parts);
        for part in parts {
            let Some(part_range) = part.range() else { continue };
            let target = self.state.partitions.get(&part.partition);
            let is_held = target.is_some_and(|target| target.settled <= part_range.last);
            let done_here =
                acknowledged.iter().any(|(other, last)| *other == part.partition && *last >= part_range.last);
            if is_held && !done_here {
                return Err(LogError::Refused("other partitions hold these records, and have not settled them"));
            }
        }
        Ok(())
    }

    fn check_origins(&self, entries: &[Entry<'_>]) -> Result<(), LogError> {
        let new: usize = entries.iter().map(|entry| self.new_origins(entry).count()).sum();
        let bytes: usize = entries.iter().map(|entry| self.newly_named_bytes(entry)).sum();
        let too_many = self.state.origins.len() + new > self.options.origins_max;
        if new > 0 && (too_many || self.named_bytes + bytes > self.named_bytes_max()) {
            return Err(LogError::Refused("there are too many origins"));
        }
        Ok(())
    }

    fn new_origins<'e>(&self, entry: &Entry<'e>) -> impl Iterator<Item = Origin<'e>> {
        let records = match entry {
            Entry::Records(records) => Some(*records),
            _ => None,
        };
        records
            .into_iter()
            .flat_map(|records| records.origins())
            .filter(|new| !self.state.origins.contains_key(new.name))
    }

    /// What partitions and origins take in a checkpoint because of their names, in bytes.
    pub(super) fn count_named_bytes(&mut self) {
        let partitions = self.state.partitions.values().map(|partition| PARTITION_BYTES + partition.name.len());
        let origins = self.state.origins.keys().map(|name| ORIGIN_BYTES + name.len());
        self.named_bytes = partitions.chain(origins).sum();
    }

    /// What an entry adds to that.
    fn newly_named_bytes(&self, entry: &Entry<'_>) -> usize {
        let partition = match entry {
            Entry::Partition { name, .. } => PARTITION_BYTES + name.len(),
            _ => 0,
        };
        partition + self.new_origins(entry).map(|origin| ORIGIN_BYTES + origin.name.len()).sum::<usize>()
    }

    fn named_bytes_max(&self) -> usize {
        self.options.segment_bytes as usize / CHECKPOINT_SHARE
    }
}

fn overlap(one: IndexRange, other: IndexRange) -> bool {
    one.first <= other.last && other.first <= one.last
}

/// At most so many bytes, and so many runs.
fn size_of_frame(entries: &[Entry<'_>]) -> (usize, usize) {
    let len = HEADER_BYTES + entries.iter().map(Entry::len_max).sum::<usize>();
    (len, entries.iter().filter(|entry| matches!(entry, Entry::Records(_))).count())
}
