//! The engine: a log as a state machine. What it is made of, and how it is opened and closed.
//!
//! What it does is in `append`, `roll`, `sync`, `free`, `clean` and `read`, each a part of [`Log`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use super::active::Active;
use super::checkpoint::SegmentNote;
use super::error::LogError;
use super::frame::Kind;
use super::free::Watch;
use super::header::{HEADER_BYTES, segment_name, spare_name};
use super::index::IndexCache;
use super::oldest::Oldest;
use super::options::Options;
use super::recovery::{Damage, Recovered, SegmentFile, recover};
use super::roll::{For, has_room_to_give};
use super::scan::{Extent, SYNCED_TO_ITS_END, Seen, Unreadable, scan};
use super::spare::Spare;
use super::state::{Partition, State};
use super::storage::{LockError, Storage, StorageFile};

/// Of the segment that was the newest, so much may be moved as a whole.
const MOVED_SHARE: u64 = 4;

/// What has happened since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes given to the file system, checkpoints, footers and copies included.
    pub written_bytes: u64,
    /// Bytes of runs that were stored.
    pub stored_bytes: u64,
    /// Bytes that the cleaner copied.
    pub copied_bytes: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Segments given up because a write or a sync failed.
    pub poisoned_segments: u64,
    /// Segments begun.
    pub segments_begun: u64,
    /// Of those: in a file that had been one before.
    pub segments_recycled: u64,
    /// Segments freed.
    pub segments_freed: u64,
    /// Segments emptied by the cleaner.
    pub segments_cleaned: u64,
    /// Segments left out before an older one, which the disk could not read.
    pub segments_left_out: u64,
    /// Indexes of older segments read from their files.
    pub indexes_read: u64,
    /// Damaged places found.
    pub damaged_places: u64,
    /// Bytes copied into quarantine.
    pub quarantined_bytes: u64,
    /// Copies of damaged bytes that could not be put into quarantine.
    pub quarantine_failures: u64,
    /// Attempts to free, prepare or remove a file that failed; they are made again.
    pub housekeeping_failures: u64,
}

/// Frames of an older segment that must be written anew.
#[derive(Debug)]
pub(super) struct Carry {
    pub(super) segment: u64,
    /// Where in the segment they begin.
    pub(super) from: u32,
    pub(super) bodies: Vec<Vec<u8>>,
}

/// 2⁶⁴ by the golden ratio, which spreads small numbers over all bits.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// A log, owned by one thread.
#[derive(Debug)]
pub struct Log<S: Storage> {
    pub(super) storage: S,
    pub(super) options: Options,
    pub(super) random: fastrand::Rng,
    pub(super) state: State,
    pub(super) numbers: HashMap<Vec<u8>, u32>,
    /// See `append`.
    pub(super) named_bytes: usize,
    /// Older segments, by number.
    pub(super) segments: BTreeMap<u64, SegmentFile>,
    /// Bytes of their files.
    pub(super) older_bytes: u64,
    /// Of those: of segments without runs, which the next one leaves behind.
    pub(super) older_bytes_without_runs: u64,
    pub(super) active: Option<Active<S::File>>,
    /// What opening found and does not know to be on disk.
    pub(super) carry: Option<Carry>,
    /// The largest of them, which come first, are the reserve.
    pub(super) spares: Vec<Spare>,
    /// How long each file in reserve should be.
    pub(super) reserve_bytes: u64,
    /// Bytes of notes since the reserve was looked at.
    pub(super) noted_bytes: u64,
    pub(super) next_file: u64,
    pub(super) appended: u64,
    pub(super) synced: u64,
    /// The last frame that may have settled something.
    pub(super) last_note: u64,
    pub(super) syncing: bool,
    pub(super) watch: Option<Watch>,
    /// The oldest segment, when all that it holds was copied by frames up to the second.
    pub(super) cleaned: Option<(u64, u64)>,
    /// See `clean`.
    pub(super) live_bound: Option<u64>,
    pub(super) clean_again_at: u64,
    /// Segments that the disk could not read when they were to be cleaned, and how many had been begun then.
    pub(super) unread: BTreeMap<u64, u64>,
    pub(super) oldest: Oldest,
    pub(super) indexes: IndexCache<S::File>,
    /// See `quarantine`.
    pub(super) damaged: BTreeSet<(u64, u32)>,
    /// How many files lie in the quarantine, and their bytes; `None` while nobody had to know.
    pub(super) quarantined: Option<(usize, u64)>,
    /// Segments of which nothing can be read. They stay until a checkpoint says what follows from that.
    pub(super) set_aside: Vec<u64>,
    pub(super) counters: Counters,
    pub(super) lock: S::Lock,
}

impl<S: Storage> Log<S> {
    /// Locks the directory and reads what is there. Needs no free space. `seed` makes the generations, and is to be as random as can be had.
    ///
    /// A second owner, a newer format and an unreadable directory are errors; damage and torn ends are not: what was found is returned.
    pub fn open(storage: S, options: Options, seed: u64) -> Result<(Log<S>, Damage), LogError> {
        if !options.are_possible() {
            return Err(LogError::Refused(
                "a log has at least four segments of at least 4 KiB, and fewer than 1 GiB each",
            ));
        }
        let lock_path = storage.path(super::storage::LOCK);
        let lock = storage.lock().map_err(|error| match error {
            LockError::Held { pid } => LogError::Owned { path: lock_path, pid },
            LockError::Io(source) => LogError::io("lock", lock_path)(source),
        })?;
        let recovered = recover(&storage, Unreadable::Fail)?;
        let mut log = Log {
            indexes: IndexCache::new(options.index_bytes_max),
            numbers: recovered.state.partitions.iter().map(|(number, p)| (p.name.clone(), *number)).collect(),
            next_file: recovered.number_max.saturating_add(1),
            named_bytes: 0,
            storage,
            options,
            // So that a seed that comes twice, or one next to it, makes no generation twice: what a recycled file held would count again.
            random: fastrand::Rng::with_seed(seed ^ recovered.number_max.wrapping_mul(GOLDEN_RATIO)),
            state: State::default(),
            segments: BTreeMap::new(),
            older_bytes: 0,
            older_bytes_without_runs: 0,
            active: None,
            carry: None,
            spares: Vec::new(),
            reserve_bytes: options.segment_bytes,
            noted_bytes: 0,
            appended: 0,
            synced: 0,
            last_note: 0,
            syncing: false,
            watch: None,
            cleaned: None,
            live_bound: None,
            clean_again_at: 0,
            unread: BTreeMap::new(),
            oldest: Oldest::default(),
            damaged: BTreeSet::new(),
            quarantined: None,
            set_aside: Vec::new(),
            counters: Counters::default(),
            lock,
        };
        let damage = log.take_over(recovered)?;
        log.free();
        log.keep_reserve();
        Ok((log, damage))
    }

    /// All partitions, the ledger and the origins.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// A partition by its number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.state.partitions.get(&number)
    }

    /// The number of the partition with this name.
    pub fn number_of(&self, name: &[u8]) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// What has happened since the log was opened.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How large it may be.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The files that it lies in.
    pub fn storage(&self) -> &S {
        &self.storage
    }

    /// Bytes of all segments. Spares come on top, within the limit.
    pub fn used_bytes(&self) -> u64 {
        let active = self.active.as_ref().map_or(0, |active| active.file_bytes);
        self.older_bytes + active
    }

    /// Of [`Log::used_bytes`], those that are not kept free for what comes next.
    pub fn filled_bytes(&self) -> u64 {
        self.older_bytes + self.active.as_ref().map_or(0, |active| active.end.into())
    }

    /// To be called when a segment was added, removed or shortened.
    pub(super) fn count_older_bytes(&mut self) {
        let all = self.segments.values();
        self.older_bytes = all.clone().map(|segment| segment.file_bytes).sum();
        self.older_bytes_without_runs =
            all.filter(|segment| segment.note.runs == 0).map(|segment| segment.file_bytes).sum();
    }

    /// Makes everything durable, writes the footer, and gives back the room that was not used, unless the disk is nearly full.
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync()?;
        let Some(active) = &mut self.active else { return Ok(()) };
        let path = self.storage.path(&active.name());
        active.close();
        active.write().map_err(LogError::io("write", path.clone()))?;
        if has_room_to_give(&self.storage, &self.options) {
            active.file.set_len(active.end.into()).map_err(LogError::io("shorten", path.clone()))?;
        }
        active.file.sync().map_err(LogError::io("sync", path.clone()))?;
        active.set_synced(active.end);
        // Without it nothing is lost; the next opening writes more anew than it would have to.
        active.put_frame(Kind::MARK, |_| {});
        active.write().map_err(LogError::io("write", path))?;
        Ok(())
    }

    /// Makes what was recovered ours: removes leftovers, puts damaged bytes aside, and writes anew what may not be on disk.
    fn take_over(&mut self, recovered: Recovered) -> Result<Damage, LogError> {
        // Whoever named the newest segment may have been killed before its name was on disk. What follows builds on it.
        self.storage.sync_directory("").map_err(LogError::io("sync", self.storage.path("")))?;
        self.state = recovered.state;
        self.count_named_bytes();
        self.segments = recovered.segments;
        self.count_older_bytes();
        self.reserve_bytes = self.capacity_of_next(0);
        let (spares, of_other_size): (Vec<_>, Vec<_>) =
            recovered.spares.iter().partition(|(_, len)| self.can_be_spare(*len));
        let of_other_size = of_other_size.into_iter().map(|(number, _)| spare_name(number));
        for name in recovered.leftovers.into_iter().chain(of_other_size) {
            self.housekeeping(|log| log.storage.remove(&name));
        }
        let spare = |(number, file_bytes)| Spare { name: spare_name(number), recycled: true, worn: 0, file_bytes };
        self.spares = spares.into_iter().map(spare).collect();
        for (segment, gap) in &recovered.damage.gaps {
            self.note_damage(*segment, *gap);
        }
        for segment in &recovered.damage.unreadable_segments {
            self.counters.damaged_places += 1;
            self.set_aside.push(*segment);
        }
        // Not the newest: when it is left behind, it is recycled as it is.
        for number in self.segments.keys().rev().skip(1).copied().collect::<Vec<_>>() {
            self.shorten(number);
        }
        self.carry_over(recovered.newest_synced)?;
        Ok(recovered.damage)
    }

    /// What was read of the newest segment may be in the system's memory only, and a sync that failed before may have made the system
    /// forget that. So what is not known to be synced is written anew, into the next segment; until then it is held in memory.
    fn carry_over(&mut self, synced: u32) -> Result<(), LogError> {
        let Some((number, segment)) = self.segments.last_key_value().map(|(number, segment)| (*number, *segment))
        else {
            return Ok(());
        };
        let name = segment_name(number);
        let path = self.storage.path(&name);
        let file = self.storage.open(&name).map_err(LogError::io("open", path.clone()))?;
        let SegmentNote { generation, end, .. } = segment.note;
        // One that holds little moves as a whole, so that no number of crashes leaves a number of small segments.
        let from =
            if u64::from(end) <= self.options.segment_bytes / MOVED_SHARE { HEADER_BYTES as u32 } else { synced };
        let mut bodies = Vec::new();
        let extent =
            Extent { generation, from, limit: end, known_synced: SYNCED_TO_ITS_END, unreadable: Unreadable::Fail };
        scan(&file, extent, |seen| {
            match seen {
                Seen::Frame(frame) if frame.kind == Kind::ENTRIES => bodies.push(frame.body.to_vec()),
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .map_err(LogError::io("read", path))?;
        let is_needed = !bodies.is_empty() || !self.set_aside.is_empty();
        if !bodies.is_empty() {
            self.carry = Some(Carry { segment: number, from, bodies });
            self.appended = u64::from(from < end);
        }
        if is_needed {
            // When it cannot be done now, the next append or sync does it.
            let _ = self.roll(0, For::Notes);
        }
        Ok(())
    }

    /// Does what can be done later as well: a failure is counted.
    pub(super) fn housekeeping(&mut self, work: impl FnOnce(&Self) -> std::io::Result<()>) -> bool {
        let done = work(self).is_ok();
        self.counters.housekeeping_failures += u64::from(!done);
        done
    }
}
