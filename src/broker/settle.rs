//! What follows from a setback: retry, probe, split, dead letter, a new epoch. The second half of [`super::flight`]'s state
//! machine, without I/O like the first.

use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use super::flight::{Effect, Pace};
use super::verdict::{Action, refuses_records, verdict};
use crate::backoff::Backoff;
use crate::batch::{BATCH_OVERHEAD_BYTES, split, split_marks};
use crate::queue::receipt::Mark;
use crate::queue::window::{Batch, LaneState, Parked, Phase, Setback, Side, Window};
use crate::wire::codes;
use crate::wire::record_batch::{Lane, SealedBatch, Stamp, next_sequence, restamp};

/// Rounds of probes that may all answer 45 before that is taken as Kafka's loss.
const PROBE_ROUNDS_MAX: u32 = 3;

/// The longest pause between two looks at what only a person can mend.
const PARKED_BACKOFF_MAX: Duration = Duration::from_secs(10);

impl Window {
    /// Acts on the first setback of a flight when all its answers are in.
    pub(super) fn act_on_setback(&mut self, pace: &mut Pace<'_>, effects: &mut Vec<Effect>) {
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.in_flight.is_empty()) else { return };
        let (attempt, code, message) = match flight.setback.take() {
            None => return,
            Some(Setback::Refused { attempt, code, message }) => (attempt, code, message),
            Some(Setback::LogShrunk) => {
                effects.push(Effect::KafkaLost);
                return self.redeliver(pace, effects);
            }
        };
        let Some(place) = self.place_of(&attempt) else { return };
        let Some(batch) = self.batches.get(place) else { return };
        let (old, oldest) = (batch.side == Side::Old, place == 0);
        match verdict(code, batch.in_doubt, batch.count) {
            Action::Delivered => {}
            Action::Retry => self.hold(pace, pace.backoff),
            Action::RetryElsewhere => {
                effects.push(Effect::RefreshMetadata);
                self.hold(pace, pace.backoff);
            }
            // Not the oldest: its number comes when those before it are there.
            Action::OutOfSequence | Action::Split | Action::DeadLetter | Action::Park if !oldest => {}
            // Nothing is sent behind an old one: the broker had forgotten, and an earlier attempt came after that.
            Action::OutOfSequence if old => self.redeliver(pace, effects),
            Action::OutOfSequence => self.probe_all(pace, effects),
            Action::Fenced => {
                self.redeliver(pace, effects);
                self.hold(pace, pace.backoff);
            }
            Action::Split => self.split_oldest(pace, effects),
            Action::DeadLetter => {
                if let Some(batch) = self.batches.pop_front() {
                    effects.push(Effect::DeadLetter(batch, code, message));
                }
                self.redeliver(pace, effects);
            }
            Action::Park => self.park(Parked { code, message }, pace),
        }
    }

    fn hold(&mut self, pace: &mut Pace<'_>, backoff: Backoff) {
        if let Some(flight) = &mut self.flight {
            flight.attempts = flight.attempts.saturating_add(1);
            flight.not_before = Some(pace.now + backoff.delay(flight.attempts, pace.random));
        }
    }

    fn park(&mut self, why: Parked, pace: &mut Pace<'_>) {
        self.hold(pace, Backoff { max: PARKED_BACKOFF_MAX, ..pace.backoff });
        if let Some(flight) = &mut self.flight {
            flight.parked = Some(why);
        }
    }

    /// Newest to oldest, the oldest once more at the end. In a lane without any success only what starts at its first number:
    /// a broker that knows nothing of the lane would accept any other.
    fn probe_all(&mut self, pace: &mut Pace<'_>, effects: &mut Vec<Effect>) {
        let proven = self.lane.is_some_and(|lane| lane.proven);
        let newest_first = self.batches.iter().rev().chain(self.batches.front());
        let list = newest_first.filter(|batch| proven || batch.stamp.base_sequence == 0).map(Batch::attempt).collect();
        if let Some(flight) = &mut self.flight {
            flight.phase = Phase::Probe(list);
            flight.alone = true;
            if flight.phase == Phase::Probe(Default::default()) {
                self.probes_exhausted(pace, effects);
            }
        }
    }

    pub(super) fn probe_failed(
        &mut self,
        code: i16,
        message: Option<String>,
        pace: &mut Pace<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(flight) = &mut self.flight else { return };
        let Phase::Probe(list) = &mut flight.phase else { return };
        match verdict(code, true, 1) {
            Action::Delivered => {}
            // It says nothing of this batch: asked again when that is mended.
            Action::Park if !refuses_records(code) => self.park(Parked { code, message }, pace),
            Action::Retry => self.hold(pace, pace.backoff),
            // Another leader: begin anew.
            Action::RetryElsewhere => {
                flight.phase = Phase::Go;
                effects.push(Effect::RefreshMetadata);
                self.hold(pace, pace.backoff);
            }
            Action::Fenced => self.redeliver(pace, effects),
            Action::OutOfSequence | Action::Split | Action::DeadLetter | Action::Park => {
                list.pop_front();
                flight.probe_refused |= refuses_records(code);
                if list.is_empty() {
                    self.probes_exhausted(pace, effects);
                }
            }
        }
    }

    /// No probe succeeded. Once: what is there changed meanwhile. Again and again: it is not there, or if some were refused for
    /// what they are, it cannot be found out.
    fn probes_exhausted(&mut self, pace: &mut Pace<'_>, effects: &mut Vec<Effect>) {
        let Some(flight) = &mut self.flight else { return };
        flight.phase = Phase::Go;
        flight.rounds += 1;
        if flight.rounds > PROBE_ROUNDS_MAX {
            if !flight.probe_refused {
                effects.push(Effect::KafkaLost);
            }
            self.redeliver(pace, effects);
        } else {
            self.hold(pace, pace.backoff);
        }
    }

    /// Two batches with the numbers of one, in the same lane: nothing of it has been appended.
    fn split_oldest(&mut self, pace: &mut Pace<'_>, effects: &mut Vec<Effect>) {
        let Some(whole) = self.batches.pop_front() else { return };
        let first = whole.count / 2;
        let (a, b) = match split(&whole.bytes, first) {
            Ok(parts) => parts,
            Err(cause) => {
                // Our own bytes do not decode: memory is damaged. Kept, so that nothing is lost by it.
                error!(error = %cause, "a batch of ours cannot be split");
                self.batches.push_front(whole);
                return self.hold(pace, Backoff { max: PARKED_BACKOFF_MAX, ..pace.backoff });
            }
        };
        let (marks_a, marks_b) = split_marks(whole.marks, first);
        let rest_sequence = next_sequence(whole.stamp.base_sequence, first);
        let rest = Stamp { base_sequence: rest_sequence, ..whole.stamp };
        let pieces = [piece(b, marks_b, rest, whole.side), piece(a, marks_a, whole.stamp, whole.side)];
        let recharged = pieces.iter().map(|batch| batch.charged).sum();
        for batch in pieces {
            self.batches.push_front(batch);
        }
        effects.push(Effect::Recharged { more: recharged, less: whole.charged });
    }

    /// What is in doubt is counted, and everything sent again under new numbers.
    fn redeliver(&mut self, pace: &mut Pace<'_>, effects: &mut Vec<Effect>) {
        let mut count = 0;
        for batch in self.batches.iter_mut().filter(|batch| batch.in_doubt && !batch.counted) {
            batch.counted = true;
            count += batch.count;
        }
        if count > 0 {
            effects.push(Effect::PossibleDuplicates(count));
        }
        self.acknowledged_end = None;
        self.new_epoch(pace);
    }

    /// The same producer id, the next epoch, numbers from 0: once its first batch is there, nothing that was sent before it can
    /// come any more. No InitProducerId is needed for that (KIP-360).
    fn new_epoch(&mut self, pace: &Pace<'_>) {
        let Some(flight) = &mut self.flight else { return };
        flight.phase = Phase::Go;
        flight.rounds = 0;
        flight.probe_refused = false;
        flight.alone = true;
        let Some(LaneState { lane, side, .. }) = self.lane else { return };
        let Some(epoch) = lane.epoch.checked_add(1) else { return self.park_without_epoch(pace.now) };
        let lane = Lane { epoch, ..lane };
        let mut sequence = 0;
        for batch in &mut self.batches {
            let stamp = Stamp { lane, base_sequence: sequence };
            match restamp(&batch.bytes, stamp) {
                Ok(bytes) => batch.bytes = bytes,
                Err(cause) => error!(error = %cause, "a batch of ours cannot be renumbered"),
            }
            batch.stamp = stamp;
            batch.in_doubt = false;
            sequence = next_sequence(sequence, batch.count);
        }
        let state = LaneState { lane, side, next_sequence: sequence, proven: false };
        self.note_epoch(state);
        self.lane = Some(state);
    }

    /// All epochs are used up. Beginning again with 0, or going on with the last one, brokers could take a batch for one that they
    /// have, and drop it.
    pub(super) fn park_without_epoch(&mut self, now: Instant) {
        if let Some(flight) = &mut self.flight {
            let message = Some("all epochs of the producer id are used up; restart forebay".to_owned());
            flight.parked = Some(Parked { code: codes::INVALID_PRODUCER_EPOCH, message });
            flight.not_before = Some(now + PARKED_BACKOFF_MAX);
        }
    }

    pub(super) fn note_epoch(&mut self, LaneState { lane, side, .. }: LaneState) {
        let next = &mut self.next_epoch[side as usize];
        *next = (*next).max(lane.epoch.unsigned_abs() + 1);
    }
}

/// A batch that has just got its numbers.
pub(super) fn piece(sealed: SealedBatch, marks: Vec<Mark>, stamp: Stamp, side: Side) -> Batch {
    let (count, max_timestamp) = (sealed.count(), sealed.max_timestamp());
    let charged = sealed.len_bytes() + BATCH_OVERHEAD_BYTES;
    let bytes = sealed.stamp(stamp);
    Batch { bytes, stamp, count, side, max_timestamp, marks, charged, in_doubt: false, counted: false }
}
