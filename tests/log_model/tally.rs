//! What the cases met.

use forebay::backlog::log::engine::Log;
use forebay::backlog::log::storage::simulated::SimulatedStorage;

/// What the cases met, to see that they meet everything.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub frames: u64,
    pub errors: u64,
    pub full: u64,
    pub kills: u64,
    pub power_losses: u64,
    pub lost_frames: u64,
    pub cleaned: u64,
    pub freed: u64,
    pub poisoned: u64,
    pub recycled: u64,
    pub runs_read: u64,
    pub crashes_while_opening: u64,
    pub retired: u64,
    pub spoiled: u64,
    pub left_out: u64,
}

impl Tally {
    pub fn add_counters(&mut self, log: &Log<SimulatedStorage>) {
        let counters = log.counters();
        self.cleaned += counters.segments_cleaned;
        self.left_out += counters.segments_left_out;
        self.freed += counters.segments_freed;
        self.poisoned += counters.poisoned_segments;
        self.recycled += counters.segments_recycled;
    }

    pub fn add(&mut self, other: &Tally) {
        self.frames += other.frames;
        self.errors += other.errors;
        self.full += other.full;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.lost_frames += other.lost_frames;
        self.cleaned += other.cleaned;
        self.freed += other.freed;
        self.poisoned += other.poisoned;
        self.recycled += other.recycled;
        self.runs_read += other.runs_read;
        self.crashes_while_opening += other.crashes_while_opening;
        self.retired += other.retired;
        self.spoiled += other.spoiled;
        self.left_out += other.left_out;
    }
}
