//! Looks into a log without owning it: what is held, whether every byte is as it was written, and the records themselves.
//!
//! Writes nothing and takes no lock, so it works beside a live owner. What the owner frees meanwhile is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;

use super::entry::{Entry, IndexRange, entries};
use super::error::LogError;
use super::footer::RunRef;
use super::frame::Kind;
use super::header::{HEADER_BYTES, segment_name};
use super::index::{Loaded, load_index};
use super::read::{ReadError, StoredRun, read_run};
use super::recovery::{Recovered, recover};
use super::scan::{Extent, Gap, Seen, Unreadable, is_unreadable, scan};
use super::storage::Storage;

/// A directory that is being written to may be looked at in the middle of a write; what looks damaged is looked at so often.
const LOOKS: usize = 3;

/// A log as it was at some time.
#[derive(Debug)]
pub struct Inspection<S> {
    storage: S,
    recovered: Recovered,
}

/// Where a held run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldRun {
    segment: u64,
    generation: u64,
    run: RunRef,
    /// The records of it that are held and were not in a run before.
    pub range: IndexRange,
}

impl HeldRun {
    /// Bytes that it takes in its segment.
    pub fn len_bytes(&self) -> u32 {
        self.run.len
    }
}

/// What a segment holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its number.
    pub number: u64,
    /// Bytes that count.
    pub bytes: u64,
    /// Frames that count.
    pub frames: u64,
    /// Records in them, settled ones included.
    pub records: u64,
    /// Damaged bytes.
    pub damage: Vec<Gap>,
    /// Whether the disk could not read all of it: then what is damaged may only be that.
    pub is_unread: bool,
    /// Frames that count but say what cannot be.
    pub invalid_frames: u64,
}

impl<S: Storage> Inspection<S> {
    /// Looks at a directory.
    pub fn new(storage: S) -> Result<Inspection<S>, LogError> {
        let mut looks = 0;
        loop {
            looks += 1;
            match recover(&storage, Unreadable::IsDamage) {
                Ok(recovered) if looks >= LOOKS || recovered.damage == Default::default() => {
                    return Ok(Inspection { storage, recovered });
                }
                Err(error) if looks >= LOOKS || !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
    }

    /// What its notes mean, and what is damaged.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The held runs of every partition, in order. Takes memory for each: 64 bytes.
    pub fn held_runs(&self) -> Result<BTreeMap<u32, Vec<HeldRun>>, LogError> {
        let mut found: BTreeMap<u32, Vec<HeldRun>> = BTreeMap::new();
        for (number, segment) in &self.recovered.segments {
            let path = self.storage.path(&segment_name(*number));
            let index = match self.storage.open(&segment_name(*number)).and_then(|file| load_index(&file, segment.note))
            {
                Ok(Loaded { index, .. }) => index,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(LogError::io("read", path)(source)),
            };
            for run in index.runs() {
                let range = IndexRange { first: run.first, last: run.last() };
                let partition = self.recovered.state.partitions.get(&run.partition);
                let retired = self.recovered.state.retired.contains_key(&run.partition);
                if !retired && partition.is_none_or(|partition| partition.needs(range)) {
                    let settled = partition.map_or(0, |partition| partition.settled);
                    let range = IndexRange { first: range.first.max(settled), ..range };
                    let held = HeldRun { segment: *number, generation: segment.note.generation, run: *run, range };
                    found.entry(run.partition).or_default().push(held);
                }
            }
        }
        for runs in found.values_mut() {
            // The later copy holds; both are alike.
            runs.sort_by_key(|held| (held.range.first, std::cmp::Reverse(held.segment)));
            let mut next = 0;
            runs.retain_mut(|held| {
                held.range.first = held.range.first.max(next);
                next = next.max(held.range.last.saturating_add(1));
                held.range.first <= held.range.last
            });
        }
        Ok(found)
    }

    /// Held records that none of these runs has: damage took them, or a live owner has settled and freed them meanwhile. What a second inspection
    /// misses as well is lost.
    pub fn missing(&self, held: &BTreeMap<u32, Vec<HeldRun>>) -> BTreeSet<(u32, IndexRange)> {
        let partitions = &self.recovered.state.partitions;
        let mut there: BTreeMap<u32, Vec<IndexRange>> = BTreeMap::new();
        for (number, runs) in held {
            there.entry(*number).or_default().extend(runs.iter().map(|run| run.range));
        }
        // What was placed is read where it came from.
        for part in partitions.values().flat_map(|partition| &partition.placed).flat_map(|placed| &placed.parts) {
            there.entry(part.partition).or_default().extend(part.range());
        }
        let mut missing = BTreeSet::new();
        for (number, partition) in partitions {
            let Some(unsettled) = partition.unsettled() else { continue };
            let mut there = there.remove(number).unwrap_or_default();
            there.extend(partition.gone.values().map(|gone| gone.range));
            there.sort_unstable();
            let mut next = unsettled.first;
            for range in there {
                let before = range.first.checked_sub(1).and_then(|last| IndexRange::new(next, last));
                missing.extend(before.map(|before| (*number, before)));
                next = next.max(range.last + 1);
            }
            missing.extend(IndexRange::new(next, unsettled.last).map(|rest| (*number, rest)));
        }
        missing
    }

    /// Reads a run; `None` when it was freed meanwhile.
    pub fn read(&self, held: &HeldRun) -> Result<Option<StoredRun>, ReadError> {
        let name = segment_name(held.segment);
        let read = self
            .storage
            .open(&name)
            .map_err(ReadError::from)
            .and_then(|file| read_run(&file, held.generation, &held.run));
        match read {
            Err(_) if self.was_freed(held.segment) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Reads every byte of every segment.
    pub fn verify(&self) -> Result<Vec<SegmentReport>, LogError> {
        let mut reports = Vec::new();
        for (number, segment) in &self.recovered.segments {
            match self.verify_segment(*number, segment.note.generation, segment.note.end) {
                Ok(report) => reports.push(report),
                Err(_) if self.was_freed(*number) => {}
                Err(source) => {
                    let path = self.storage.path(&segment_name(*number));
                    return Err(LogError::io("read", path)(source));
                }
            }
        }
        Ok(reports)
    }

    fn verify_segment(&self, number: u64, generation: u64, end: u32) -> io::Result<SegmentReport> {
        let file = self.storage.open(&segment_name(number))?;
        let mut report = SegmentReport { number, bytes: end.into(), ..SegmentReport::default() };
        let (from, unreadable) = (HEADER_BYTES as u32, Unreadable::IsDamage);
        let extent = Extent { generation, from, limit: end, known_synced: end, unreadable };
        scan(&file, extent, |seen| {
            match seen {
                Seen::Gap(gap) => report.damage.push(gap),
                Seen::Frame(frame) => {
                    report.frames += 1;
                    if frame.kind == Kind::ENTRIES {
                        let mut valid = true;
                        for entry in entries(frame.body) {
                            valid &= entry.is_ok();
                            if let Ok(Entry::Records(records)) = entry {
                                report.records += u64::from(records.count);
                            }
                        }
                        report.invalid_frames += u64::from(!valid);
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        if !report.damage.is_empty() {
            let all = Extent { unreadable: Unreadable::Fail, ..extent };
            let read = scan(&file, all, |_| ControlFlow::Continue(()));
            report.is_unread = read.is_err_and(|error| is_unreadable(&error));
        }
        // Freed and overwritten while it was read.
        if !report.damage.is_empty() && self.was_freed(number) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(report)
    }

    fn was_freed(&self, number: u64) -> bool {
        self.storage.open(&segment_name(number)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }
}

fn is_gone(error: &LogError) -> bool {
    matches!(error, LogError::Disk(error) if error.source.kind() == io::ErrorKind::NotFound)
}
