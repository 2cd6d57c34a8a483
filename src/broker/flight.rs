//! How the batches of one partition fly, and how doubt is settled: a state machine without I/O.
//!
//! In come connections, answers and the time; out come what may be sent next ([`Window::next`]) and what has been decided
//! ([`Effect`]). The rules, for a partition:
//!
//! 1. A batch is numbered at its first send and frozen from then on: resent with the same records, lane and numbers.
//! 2. At most five batches from the oldest unacknowledged to the newest sent; retries go oldest first.
//! 3. *The first flight goes alone*: one batch in flight until the lane has had a success on this connection. A broker that
//!    knows nothing of a producer accepts any sequence number, so a second batch could be taken after the first was refused.
//! 4. Old batches fly alone, under a producer id of their own: brokers forget a producer by its last batch's timestamp.
//! 5. What is in doubt (sent, and no answer says what became of it) goes again in its own lane with its own numbers.
//! 6. A partition moves to another connection only when nothing of it is in flight on the old one.
//! 7. Nothing new is sent while something is in doubt. After the first resend has succeeded the rest may be pipelined.
//!
//! The first answer of a flight that is no success is acted on when all answers of the flight are in; a success that comes
//! meanwhile proves all before it. Error 45 on the oldest means that something later is there: the batches are probed alone,
//! newest to oldest, and the one that succeeds proves all before it. When every probe answers 45, round after round, Kafka has
//! lost what it had acknowledged, or forgotten the producer: what is in doubt is counted as possibly doubled and sent under a
//! new epoch.

use std::time::Duration;

use tokio::time::Instant;
use tracing::error;
use uuid::Uuid;

use super::verdict::{Action, refuses, verdict};
use crate::backoff::Backoff;
use crate::batch::{BATCH_OVERHEAD_BYTES, split, split_marks};
use crate::queue::receipt::Mark;
use crate::queue::window::{
    Attempt, Batch, Built, ConnectionId, Flight, LaneState, MAX_BATCHES, Parked, Phase, Setback, Side, Window,
};
use crate::wire::codes;
use crate::wire::record_batch::{Lane, SealedBatch, Stamp, next_sequence, restamp};

/// Rounds of probes that may all answer 45 before that is taken as Kafka's loss.
const PROBE_ROUNDS_MAX: u32 = 3;

/// The longest pause between two looks at what only a person can mend.
const PARKED_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The producer ids of this start of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIds {
    /// For fresh batches.
    pub fresh: i64,
    /// For old ones.
    pub old: i64,
}

impl ProducerIds {
    fn of(self, side: Side) -> i64 {
        match side {
            Side::Fresh => self.fresh,
            Side::Old => self.old,
        }
    }
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The batch at this place of the window, again.
    Resend(usize),
    /// A new one.
    New,
    /// Nothing before this moment.
    NotBefore(Instant),
    /// Nothing until an answer comes.
    Nothing,
}

/// What has been decided, to be carried out by the caller.
#[derive(Debug)]
pub enum Effect {
    /// Replicated; −1: proven to be there, offset unknown.
    Delivered(Batch, i64),
    /// Never to be delivered: Kafka's code, and its words.
    DeadLetter(Batch, i16, Option<String>),
    /// So many records may be there twice.
    PossibleDuplicates(u32),
    /// The cluster's metadata may be out of date.
    RefreshMetadata,
    /// The memory charged for the window's batches has changed by so much (they were cut anew).
    Recharged { more: usize, less: usize },
    /// Kafka no longer has what it had acknowledged (an unclean election, a re-created topic).
    KafkaLost,
}

/// An answer to one attempt.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Which.
    pub attempt: Attempt,
    /// Kafka's error code, 0 for success.
    pub code: i16,
    /// The first record's offset, −1 if the broker does not say.
    pub base_offset: i64,
    /// The broker's words.
    pub message: Option<String>,
}

/// How long setbacks are waited for, and when.
pub struct Pace<'a> {
    /// Now.
    pub now: Instant,
    /// From `retry_backoff` to `retry_backoff_max`.
    pub backoff: Backoff,
    /// For the jitter.
    pub random: &'a mut fastrand::Rng,
}

impl Window {
    /// The partition is served by `connection` now. What was in flight on another one, which is closed, is in doubt.
    pub fn adopt(&mut self, connection: ConnectionId, topic_id: Uuid, effects: &mut Vec<Effect>) {
        if self.topic_id != topic_id {
            self.topic_id = topic_id;
            self.acknowledged_end = None;
        }
        match &self.flight {
            Some(flight) if flight.connection == connection => {}
            Some(flight) => {
                self.lost(flight.connection, effects);
                if let Some(flight) = &mut self.flight {
                    flight.connection = connection;
                }
            }
            None => self.flight = Some(Flight::new(connection)),
        }
    }

    /// `connection` is closed: what was in flight on it is in doubt.
    pub fn lost(&mut self, connection: ConnectionId, effects: &mut Vec<Effect>) {
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.connection == connection) else { return };
        let lost = std::mem::take(&mut flight.in_flight);
        flight.alone = true;
        flight.setback = None;
        flight.phase = Phase::Go;
        flight.not_before = None;
        for attempt in lost {
            self.doubt(attempt, effects);
        }
    }

    /// The next flight goes alone: after a pause in which the broker may have forgotten the producer.
    pub fn fly_alone(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.alone = true;
        }
    }

    /// What may be sent now. [`Next::New`] still depends on what the new batch turns out to be: [`Window::may_send_built`].
    pub fn next(&self, now: Instant) -> Next {
        let Some(flight) = &self.flight else { return Next::New };
        if let Some(moment) = flight.not_before.filter(|moment| *moment > now) {
            return Next::NotBefore(moment);
        }
        let in_flight = flight.in_flight.len();
        if let Phase::Probe(list) = &flight.phase {
            let place = list.front().and_then(|attempt| self.place_of(attempt));
            return if in_flight == 0 { place.map_or(Next::Nothing, Next::Resend) } else { Next::Nothing };
        }
        let others_fly = in_flight > 0;
        if flight.setback.is_some() || others_fly && flight.alone {
            return Next::Nothing;
        }
        let old_flies = self.batches.front().is_some_and(|batch| batch.side == Side::Old) && others_fly;
        match self.batches.get(in_flight) {
            Some(_) if old_flies => Next::Nothing,
            Some(_) => Next::Resend(in_flight),
            None if self.batches.len() >= MAX_BATCHES || old_flies => Next::Nothing,
            None if self.batches.iter().any(|batch| batch.in_doubt) => Next::Nothing,
            None => Next::New,
        }
    }

    /// Whether the batch in `built` may be sent where [`Window::next`] says [`Next::New`]: from one side to the other only when
    /// all before is settled, and nothing flies beside an old batch.
    pub fn may_send_built(&self) -> bool {
        self.built.as_ref().is_some_and(|built| {
            self.batches.is_empty() || built.side == Side::Fresh && self.lane.is_some_and(|l| l.side == Side::Fresh)
        })
    }

    /// Numbers the batch in `built`, which becomes the newest of the window; returns its place.
    pub fn seal_built(&mut self, ids: ProducerIds) -> Option<usize> {
        let Built { sealed, side, marks, .. } = *self.built.take()?;
        let lane = match self.lane {
            Some(lane) if lane.side == side => lane,
            _ => {
                let lane = Lane { producer_id: ids.of(side), epoch: self.next_epoch[side as usize] };
                self.fly_alone();
                LaneState { lane, side, next_sequence: 0, proven: false }
            }
        };
        self.note_epoch(lane);
        let stamp = Stamp { lane: lane.lane, base_sequence: lane.next_sequence };
        let count = sealed.count();
        self.lane = Some(LaneState { next_sequence: next_sequence(lane.next_sequence, count), ..lane });
        self.batches.push_back(piece(sealed, marks, stamp, side));
        Some(self.batches.len() - 1)
    }

    /// The batch at `place` has been handed to the connection.
    pub fn sent(&mut self, place: usize) {
        if let (Some(flight), Some(batch)) = (&mut self.flight, self.batches.get(place)) {
            flight.in_flight.push_back(batch.attempt());
        }
    }

    /// An answer from the connection that serves the partition.
    pub fn answered(&mut self, answer: Answered, pace: &mut Pace<'_>, effects: &mut Vec<Effect>) {
        let Some(flight) = &mut self.flight else { return };
        let Some(place) = flight.in_flight.iter().position(|attempt| *attempt == answer.attempt) else { return };
        flight.in_flight.remove(place);
        let is_success = verdict(answer.code, false, 1) == Action::Delivered;
        if is_success {
            self.succeeded(&answer, effects);
        } else if flight.phase != Phase::Go {
            self.doubt_unless_refused(&answer, effects);
            self.probe_failed(answer.code, pace, effects);
        } else {
            self.doubt_unless_refused(&answer, effects);
            let Answered { attempt, code, message, .. } = answer;
            if let Some(flight) = &mut self.flight {
                flight.setback.get_or_insert(Setback::Refused { attempt, code, message });
            }
        }
        self.act_on_setback(pace, effects);
    }

    fn place_of(&self, attempt: &Attempt) -> Option<usize> {
        self.batches.iter().position(|batch| batch.attempt() == *attempt)
    }

    fn doubt_unless_refused(&mut self, answer: &Answered, effects: &mut Vec<Effect>) {
        if !refuses(answer.code) {
            self.doubt(answer.attempt, effects);
        }
    }

    /// An attempt has no answer that says what became of it.
    fn doubt(&mut self, attempt: Attempt, effects: &mut Vec<Effect>) {
        let Some(batch) = self.batches.iter_mut().find(|batch| batch.attempt() == attempt) else { return };
        batch.in_doubt = true;
        // The broker may forget the producer of an old batch at any time, and then accepts the resend as new.
        if batch.side == Side::Old && !batch.counted {
            batch.counted = true;
            effects.push(Effect::PossibleDuplicates(batch.count));
        }
        self.fly_alone();
    }

    /// A success proves all before it, whatever was answered there.
    fn succeeded(&mut self, answer: &Answered, effects: &mut Vec<Effect>) {
        let Some(place) = self.place_of(&answer.attempt) else { return };
        let shrunk = self.acknowledged_end.is_some_and(|end| (0..end).contains(&answer.base_offset));
        for (i, batch) in self.batches.drain(..=place).enumerate() {
            let base_offset = if i == place { answer.base_offset } else { -1 };
            if base_offset >= 0 {
                self.acknowledged_end = Some(base_offset + i64::from(batch.count));
            }
            effects.push(Effect::Delivered(batch, base_offset));
        }
        if let Some(lane) = &mut self.lane {
            lane.proven = true;
        }
        if let Some(flight) = &mut self.flight {
            flight.alone = false;
            flight.setback = flight.setback.take().filter(|setback| *setback == Setback::LogShrunk);
            flight.phase = Phase::Go;
            flight.rounds = 0;
            flight.attempts = 0;
            flight.not_before = None;
            flight.parked = None;
            if shrunk {
                flight.setback = Some(Setback::LogShrunk);
            }
        }
    }

    /// Acts on the first setback of a flight when all its answers are in.
    fn act_on_setback(&mut self, pace: &mut Pace<'_>, effects: &mut Vec<Effect>) {
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
            Action::Park => {
                let backoff = Backoff { max: PARKED_BACKOFF_MAX, ..pace.backoff };
                self.hold(pace, backoff);
                if let Some(flight) = &mut self.flight {
                    flight.parked = Some(Parked { code, message });
                }
            }
        }
    }

    fn hold(&mut self, pace: &mut Pace<'_>, backoff: Backoff) {
        if let Some(flight) = &mut self.flight {
            flight.attempts = flight.attempts.saturating_add(1);
            flight.not_before = Some(pace.now + backoff.delay(flight.attempts, pace.random));
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

    fn probe_failed(&mut self, code: i16, pace: &mut Pace<'_>, effects: &mut Vec<Effect>) {
        let Some(flight) = &mut self.flight else { return };
        let Phase::Probe(list) = &mut flight.phase else { return };
        match verdict(code, true, 1) {
            Action::Delivered => {}
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
                if list.is_empty() {
                    self.probes_exhausted(pace, effects);
                }
            }
        }
    }

    /// Every probe answered 45. Once: what is there changed meanwhile. Again and again: it is not there.
    fn probes_exhausted(&mut self, pace: &mut Pace<'_>, effects: &mut Vec<Effect>) {
        let Some(flight) = &mut self.flight else { return };
        flight.phase = Phase::Go;
        flight.rounds += 1;
        if flight.rounds > PROBE_ROUNDS_MAX {
            effects.push(Effect::KafkaLost);
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
        let doubtful = self.batches.iter().filter(|batch| batch.in_doubt && !batch.counted);
        let count: u32 = doubtful.map(|batch| batch.count).sum();
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
        flight.alone = true;
        let Some(LaneState { lane, side, .. }) = self.lane else { return };
        let Some(epoch) = lane.epoch.checked_add(1) else {
            let message = Some("all epochs of the producer id are used up; restart forebay".to_owned());
            flight.parked = Some(Parked { code: codes::INVALID_PRODUCER_EPOCH, message });
            flight.not_before = Some(pace.now + PARKED_BACKOFF_MAX);
            return;
        };
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

    fn note_epoch(&mut self, LaneState { lane, side, .. }: LaneState) {
        let next = &mut self.next_epoch[side as usize];
        *next = (*next).max(lane.epoch.saturating_add(1));
    }
}

fn piece(sealed: SealedBatch, marks: Vec<Mark>, stamp: Stamp, side: Side) -> Batch {
    let (count, max_timestamp) = (sealed.count(), sealed.max_timestamp());
    let charged = sealed.len_bytes() + BATCH_OVERHEAD_BYTES;
    let bytes = sealed.stamp(stamp);
    Batch { bytes, stamp, count, side, max_timestamp, marks, charged, in_doubt: false, counted: false }
}

#[cfg(test)]
mod tests;
