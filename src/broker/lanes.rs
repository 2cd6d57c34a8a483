//! Which numbers a batch gets: lanes, epochs, producer ids. Part of [`super::flight`]'s state machine.
//!
//! The next epoch of the lane's own producer id starts at number 0, and brokers take it without an InitProducerId (KIP-360). It
//! is no fence until its first batch is committed; from then on nothing that was sent before it can come any more. Batches lose
//! their numbers by it and get others when they are sent, one side after the other.

use tokio::time::Instant;

use super::flight::Effect;
use super::sabotage::{Rule, holds};
use crate::queue::receipt::Mark;
use crate::queue::window::{
    Attempt, BATCH_OVERHEAD_BYTES, Batch, Built, LaneState, NO_EPOCH, Phase, SentNote, Side, Window,
};
use crate::wire::record_batch::{Lane, SealedBatch, Stamp, next_sequence};

/// The producer ids of this start of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIds {
    /// For fresh batches.
    pub fresh: i64,
    /// For old ones.
    pub old: i64,
    /// How often the daemon had given up others before it had these.
    pub generation: u32,
}

impl ProducerIds {
    fn of(self, side: Side) -> i64 {
        match side {
            Side::Fresh => self.fresh,
            Side::Old => self.old,
        }
    }
}

impl Window {
    /// The daemon's producer ids are of this generation now: the partition goes over to them as soon as nothing that was sent is unsettled, and no new
    /// epoch is the fence against what was. Epochs are counted on, whichever id they are of: until it goes over, the partition may have been on the
    /// other side, and so have used the new ids already.
    pub(super) fn go_over_to(&mut self, generation: u32) {
        self.ids_wanted = generation;
        let is_fence = self.lane.is_some_and(|lane| lane.inherited || !lane.proven);
        let asks = self.flight.as_ref().is_some_and(|flight| matches!(flight.phase, Phase::NewId(_)));
        if self.ids_of == generation || !self.batches.is_empty() || is_fence || asks {
            return;
        }
        self.ids_of = generation;
        self.lane = None;
        let own_ids = self.flight.iter_mut().flat_map(|flight| &mut flight.own_ids);
        for (own_id, next_epoch) in own_ids.zip(&mut self.next_epoch) {
            if own_id.take().is_some() {
                // It was had because all epochs of the daemon's were used up, and counts its own.
                *next_epoch = NO_EPOCH;
            }
        }
    }

    /// Numbers the batch in `built`, which becomes the newest of the window. None if it needs a new lane and all epochs of the
    /// producer id are used up: it then waits for another id.
    pub fn seal_built(&mut self, ids: ProducerIds) -> Option<Attempt> {
        let side = self.built.as_ref()?.side;
        let lane = match self.lane {
            Some(lane) if lane.side == side => lane,
            // Nothing has been sent in it, and its success is to be the fence against what an earlier start sent before.
            Some(lane) if lane.inherited && self.batches.is_empty() => LaneState { side, ..lane },
            _ => self.open_lane(side, ids)?,
        };
        let Built { sealed, marks, arrived, charged, counted, first_index, .. } = *self.built.take()?;
        if let Some(flight) = &mut self.flight {
            flight.newest_arrived = arrived;
            self.built = flight.renumbered.pop_front();
        }
        self.note_epoch(lane);
        let stamp = Stamp { lane: lane.lane, base_sequence: lane.next_sequence };
        self.lane = Some(LaneState { next_sequence: next_sequence(lane.next_sequence, sealed.count()), ..lane });
        let note = self.first_note();
        let batch = Batch { charged, counted, first_index, note, ..numbered(sealed, marks, stamp, side) };
        let attempt = batch.attempt();
        self.batches.push_back(batch);
        Some(attempt)
    }

    fn open_lane(&mut self, side: Side, ids: ProducerIds) -> Option<LaneState> {
        if holds(Rule::AlonePerLane) {
            self.fly_alone();
        }
        let id_of = if holds(Rule::OldHasOwnId) { side } else { Side::Fresh };
        let own_id = self.flight.as_ref().and_then(|flight| flight.own_ids[id_of as usize]);
        match i16::try_from(self.next_epoch[id_of as usize]) {
            Ok(epoch) => {
                let lane = Lane { producer_id: own_id.unwrap_or(ids.of(id_of)), epoch };
                Some(LaneState { lane, side, next_sequence: 0, proven: false, inherited: false })
            }
            // Beginning again with 0, or going on with the last one, brokers could take a batch for one that they have, and drop it.
            Err(_) => {
                if let Some(flight) = &mut self.flight {
                    flight.phase = Phase::NewId(side);
                }
                None
            }
        }
    }

    /// The partition has a producer id of its own from now on.
    pub(super) fn use_id(&mut self, producer_id: i64, side: Side) {
        if let Some(flight) = &mut self.flight {
            flight.own_ids[side as usize] = Some(producer_id);
            flight.phase = Phase::Go;
        }
        self.next_epoch[side as usize] = 0;
        self.lane = self.lane.filter(|lane| lane.side != side);
    }

    /// All that is not settled loses its numbers, and gets others in the next epoch of the lane's own producer id.
    pub(super) fn new_epoch(&mut self, effects: &mut Vec<Effect>) {
        let Some(flight) = &mut self.flight else { return };
        flight.phase = Phase::Go;
        flight.rounds = 0;
        flight.scanned = false;
        flight.alone |= holds(Rule::AlonePerLane);
        let gone: usize = flight.versions.drain(..).map(|version| version.charged).sum();
        effects.push(Effect::Recharged { more: 0, less: gone });
        let newest = flight.newest_arrived;
        let sent = self.batches.drain(..).rev().map(|batch| without_numbers(batch, newest));
        for built in self.built.take().into_iter().chain(sent) {
            flight.renumbered.push_front(built);
        }
        self.built = flight.renumbered.pop_front();
        let Some(state) = self.lane.take() else { return };
        match state.lane.epoch.checked_add(1) {
            Some(epoch) => {
                let lane = Lane { epoch, ..state.lane };
                let state = LaneState { lane, next_sequence: 0, proven: false, ..state };
                self.note_epoch(state);
                self.lane = Some(state);
            }
            None if state.inherited => {}
            None => self.next_epoch[state.side as usize] = NO_EPOCH,
        }
    }

    fn note_epoch(&mut self, LaneState { lane, side, inherited, .. }: LaneState) {
        if inherited {
            return;
        }
        let id_of = if holds(Rule::OldHasOwnId) { side } else { Side::Fresh };
        let next = &mut self.next_epoch[id_of as usize];
        *next = (*next).max(lane.epoch.unsigned_abs() + 1);
    }
}

/// `arrived` is when the newest record of all that was sent was read: none of them is younger.
fn without_numbers(batch: Batch, arrived: Instant) -> Box<Built> {
    let Batch { bytes, side, marks, charged, counted, first_index, .. } = batch;
    Box::new(Built { sealed: SealedBatch::reopen(&bytes), side, marks, arrived, charged, counted, first_index })
}

/// A batch that gets its numbers; it is not of a stored window.
pub(super) fn numbered(sealed: SealedBatch, marks: Vec<Mark>, stamp: Stamp, side: Side) -> Batch {
    let (count, max_timestamp) = (sealed.count(), sealed.max_timestamp());
    let charged = sealed.len_bytes() + BATCH_OVERHEAD_BYTES;
    let bytes = sealed.stamp(stamp);
    Batch {
        bytes,
        stamp,
        count,
        side,
        max_timestamp,
        first_sent: None,
        marks,
        charged,
        in_doubt: false,
        lost: false,
        counted: false,
        restamped: false,
        first_index: 0,
        note: SentNote::Durable,
    }
}
