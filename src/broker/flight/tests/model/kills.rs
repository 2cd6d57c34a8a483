//! The daemon is killed, or its power fails, and it starts again with what its log says: the real notes, read by the log's own rules.

use super::*;
use crate::backlog::log::entry::{Entry, IndexRange, NO_TAGS, Records};
use crate::backlog::log::state::State;
use crate::queue::inherit::Inheritance;
use crate::queue::note::Note;

/// What the log says, all records stored from the start; and the notes that are not on disk yet.
pub(super) struct Disk {
    state: State,
    unsynced: Vec<Note>,
    /// Of dead letters that are not kept elsewhere yet.
    pub(super) unburied: Vec<Note>,
    starts: i64,
}

impl Disk {
    pub(super) fn new() -> Self {
        let mut disk = Disk { state: State::default(), unsynced: vec![], unburied: vec![], starts: 0 };
        disk.state.apply(&Entry::Partition { number: 0, name: b"t-0" }, 1);
        let records = Records {
            partition: 0,
            first: 0,
            count: RECORDS,
            base_timestamp: 0,
            max_timestamp: 0,
            stored_at: 0,
            codec: 0,
            tags: NO_TAGS,
            data: b"",
        };
        disk.state.apply(&Entry::Records(records), 1);
        disk
    }

    pub(super) fn write(&mut self, note: Note) {
        self.unsynced.push(note);
    }
}

impl World {
    pub(super) fn ids(&self) -> ProducerIds {
        ProducerIds {
            fresh: IDS.fresh + 1000 * self.disk.starts,
            old: IDS.old + 1000 * self.disk.starts,
            generation: 0,
        }
    }

    pub(super) fn may_leave(&mut self, attempt: Attempt) -> Result<bool, String> {
        let mut effects = vec![];
        let may_leave = self.window.may_leave(attempt, &mut effects);
        self.carry_out(effects)?;
        Ok(may_leave || self.without == Without::SentIsNotedFirst && self.window.noted(attempt))
    }

    /// All notes are on disk now.
    pub(super) fn sync(&mut self) {
        for note in std::mem::take(&mut self.disk.unsynced) {
            self.apply(&note);
            if let Note::Sent { count, lane, base_sequence, .. } = note {
                self.window.noted(Attempt { stamp: Stamp { lane, base_sequence }, count });
            }
        }
        for note in std::mem::take(&mut self.disk.unburied) {
            self.disk.write(note);
            self.window.buried();
        }
    }

    fn apply(&mut self, note: &Note) {
        let entry = note.entry(0).unwrap();
        let before = self.disk.state.partitions[&0].clone();
        self.disk.state.apply(&entry, 1);
        if self.without == Without::DeadLettersEndTheLane && matches!(note, Note::Dead { .. }) {
            let after = self.disk.state.partitions.get_mut(&0).unwrap();
            let settled = after.settled;
            after.lane = before.lane;
            after.sent = before.sent.into_iter().filter(|sent| sent.range.first >= settled).collect();
        }
    }

    /// Killed, or without power: any suffix of what is not on disk is lost. What is on the connection may still be carried out.
    pub(super) fn kill(&mut self) -> Held {
        let left = self.line.requests.drain(..).map(|(_, batch)| batch).collect();
        self.zombies.push((self.line.to, left));
        let kept = self.random.usize(..=self.disk.unsynced.len());
        self.disk.unsynced.truncate(kept);
        self.disk.unburied.clear();
        self.window = Window::default();
        self.sync();
        self.scan = None;
        self.disk.starts += 1;
        self.start()
    }

    fn start(&mut self) -> Held {
        let ledger = &self.disk.state.ledger;
        let partition = &self.disk.state.partitions[&0];
        let inheritance = Inheritance::of(partition);
        self.settled = partition.settled as u32;
        self.next = inheritance.next_index() as u32;
        self.dead = self.dead.filter(|dead| *dead < self.settled);
        let old = self.old;
        let timestamp = |number: u32| if old[number as usize] { OLD } else { FRESH };
        let build =
            |range: IndexRange| Ok::<_, String>(built_of(range.first as u32..range.last as u32 + 1, timestamp).sealed);
        let inherited = self.window.inherit(inheritance, self.now, build)?;
        self.charged = inherited.charged;
        self.counted = (ledger.possible_duplicates + inherited.possible_duplicates) as u32;
        self.take_away_inherited();
        self.connect()
    }

    /// At the end: the log knows what the window did.
    pub(super) fn check_disk(&self) -> Held {
        let State { ledger, partitions, .. } = &self.disk.state;
        if !self.climate.kills || self.without != Without::Nothing {
            return Ok(());
        }
        let partition = &partitions[&0];
        if (ledger.delivered + ledger.dead, ledger.held(), partition.sent.len()) != (RECORDS.into(), 0, 0) {
            return Err(format!("the log does not know the end: {ledger:?} {partition:?}"));
        }
        if ledger.possible_duplicates != u64::from(self.counted) {
            return Err(format!("{} counted, and {} in the log", self.counted, ledger.possible_duplicates));
        }
        Ok(())
    }

    // What is taken away.

    fn take_away_inherited(&mut self) {
        match self.without {
            Without::InheritedKeepsItsLane => {
                self.window.lane = None;
                self.bump();
            }
            Without::EndedLanesAreFenced if self.window.batches.is_empty() => self.window.lane = None,
            Without::CountsSurvive => {
                self.window.counted_until = 0;
                self.window.batches.iter_mut().for_each(|batch| batch.counted = false);
                self.counted = self.disk.state.ledger.possible_duplicates as u32;
            }
            _ => {}
        }
    }

    pub(super) fn take_away_the_lane_of_followers(&mut self) {
        if self.without == Without::FollowersKeepTheLane && self.window.lane.is_some_and(|lane| lane.inherited) {
            self.window.lane = None;
        }
    }
}
