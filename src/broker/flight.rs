//! How the batches of one partition fly, and how doubt is settled: a state machine without I/O.
//!
//! In come connections, answers and the time; out come what may be sent next ([`Window::next`]), what is to be found out
//! ([`Question`]) and what has been decided ([`Effect`]). The rules, for a partition:
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
//! meanwhile proves all before it. What follows from a setback is in `settle`; which numbers a batch gets, in
//! [`super::lanes`].

mod exchange;

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::sabotage::{Rule, holds};
use super::verdict::{Action, refuses, verdict};
use crate::queue::ledger::DuplicateCause;
use crate::queue::window::{
    Attempt, Batch, ConnectionId, Flight, LaneState, MAX_BATCHES, Phase, SentNote, Setback, Side, Version, Window,
    comes_before,
};
use crate::record::TimestampMs;
use crate::wire::codes::{KAFKA_STORAGE_ERROR, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION};

pub use exchange::{Answered, Effect, Finding, Next, Question, Terms};

impl Window {
    /// The partition is served by `connection` now. What was in flight on another one, which is closed, is in doubt. After a
    /// pause of `forgotten_after` the broker may have forgotten the producer: what was sent keeps its numbers, the rest gets others.
    pub fn adopt(
        &mut self,
        connection: ConnectionId,
        topic_id: Uuid,
        now: Instant,
        forgotten_after: Duration,
        effects: &mut Vec<Effect>,
    ) {
        // Perhaps the earlier start did not know the id.
        let was_unknown = self.topic_id.is_nil() && self.lane.is_some_and(|lane| lane.inherited);
        let is_another_topic = self.topic_id != topic_id && !was_unknown;
        self.topic_id = topic_id;
        match &self.flight {
            Some(flight) if flight.connection == connection => {
                let paused = now.saturating_duration_since(flight.last_success) > forgotten_after;
                if paused && flight.in_flight.is_empty() {
                    self.forget_lane();
                }
            }
            Some(flight) => {
                self.lost(flight.connection, effects);
                if let Some(flight) = &mut self.flight {
                    flight.connection = connection;
                }
            }
            None => self.flight = Some(Flight::new(connection, now)),
        }
        // Made anew under the same name: its log knows nothing of the lane.
        if is_another_topic {
            self.acknowledged_end = None;
            self.forget_lane();
        }
    }

    /// The broker may know nothing of the lane.
    fn forget_lane(&mut self) {
        self.fly_alone();
        match &mut self.lane {
            Some(lane) if !self.batches.is_empty() => lane.proven = false,
            lane => *lane = None,
        }
    }

    /// `connection` is closed: what was in flight on it is in doubt, and the ladder begins anew.
    pub fn lost(&mut self, connection: ConnectionId, effects: &mut Vec<Effect>) {
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.connection == connection) else { return };
        let lost = std::mem::take(&mut flight.in_flight);
        flight.alone = true;
        flight.setback = None;
        flight.phase = Phase::Go;
        flight.scanned = false;
        flight.inquiry = None;
        flight.not_before = None;
        for attempt in lost {
            self.doubt(attempt, true, effects);
        }
        if !holds(Rule::DoubtKeepsItsLane) {
            self.new_epoch(effects);
        }
    }

    /// Looks at the clocks. A batch with nothing newer than `old_before` is old. Where brokers stamp what they append, no record is old; but what was
    /// sent before `forgotten_before` and is in doubt since may be there with a stamp as old, and its producer be forgotten. To be called before each send.
    pub fn age(
        &mut self,
        old_before: Option<TimestampMs>,
        forgotten_before: Option<TimestampMs>,
        effects: &mut Vec<Effect>,
    ) {
        let is_old = |newest: TimestampMs| old_before.is_some_and(|limit| newest < limit);
        let is_forgotten = |batch: &Batch| {
            let sent = batch.first_sent.unwrap_or(batch.max_timestamp);
            batch.in_doubt && forgotten_before.is_some_and(|limit| sent < limit)
        };
        if let Some(built) = &mut self.built {
            built.side = if is_old(built.sealed.max_timestamp()) { Side::Old } else { Side::Fresh };
        }
        let counted_until = self.counted_until;
        let is_too_old = |batch: &&mut Batch| is_old(batch.max_timestamp) || is_forgotten(batch);
        for batch in self.batches.iter_mut().filter(|batch| batch.side == Side::Fresh).filter(is_too_old) {
            batch.side = Side::Old;
            if batch.lost {
                count(batch, counted_until, DuplicateCause::Old, effects);
            }
        }
        // The notes do not say which of the two ids it was.
        if let (Some(lane), Some(oldest)) = (self.lane.as_mut().filter(|lane| lane.inherited), self.batches.front()) {
            lane.side = oldest.side;
        }
    }

    /// What may be sent now. [`Next::New`] still depends on what the new batch turns out to be: [`Window::may_send_built`].
    pub fn next(&self, now: Instant) -> Next {
        if self.unburied > 0 {
            return Next::Nothing;
        }
        let Some(flight) = &self.flight else { return Next::New };
        if let Some(moment) = flight.not_before.filter(|moment| *moment > now) {
            return Next::NotBefore(moment);
        }
        let in_flight = flight.in_flight.len();
        match &flight.phase {
            Phase::Go => {}
            _ if in_flight > 0 || flight.inquiry.is_some() => return Next::Nothing,
            Phase::Probe { list, .. } => {
                return list
                    .front()
                    .filter(|attempt| !self.waits_for_note(attempt))
                    .copied()
                    .map_or(Next::Nothing, Next::Resend);
            }
            Phase::Follow => return Next::Follow,
            Phase::Ask | Phase::Scan(_) | Phase::NewId(_) => return Next::Inquire,
        }
        let others_fly = in_flight > 0;
        if flight.setback.is_some() || others_fly && flight.alone && holds(Rule::FirstFlightAlone) {
            return Next::Nothing;
        }
        let oldest_is_old = self.batches.front().is_some_and(|batch| batch.side == Side::Old);
        if oldest_is_old && !others_fly && !flight.scanned && self.oldest_in_doubt() {
            return Next::Inquire;
        }
        let next =
            if holds(Rule::OldestFirst) { Some(in_flight) } else { self.batches.len().checked_sub(in_flight + 1) };
        match next.and_then(|next| self.batches.get(next)) {
            // A batch that was cut in two may have made more of them.
            Some(_) if in_flight >= MAX_BATCHES => Next::Nothing,
            Some(batch) if others_fly && (oldest_is_old || batch.side == Side::Old) => Next::Nothing,
            Some(batch) if batch.note == SentNote::Written => Next::Nothing,
            Some(batch) => Next::Resend(batch.attempt()),
            None if self.batches.len() >= MAX_BATCHES || others_fly && oldest_is_old => Next::Nothing,
            None if self.is_in_doubt() => Next::Nothing,
            // New producer ids are wanted, for which the window is to become empty.
            None if !self.batches.is_empty() && self.ids_of != self.ids_wanted => Next::Nothing,
            None => Next::New,
        }
    }

    /// Whether the batch in `built` may be sent where [`Window::next`] says [`Next::New`]: from one side to the other only when
    /// all before is settled, and nothing flies beside an old batch.
    pub fn may_send_built(&self) -> bool {
        self.built.as_ref().is_some_and(|built| {
            self.batches.is_empty()
                || built.side == Side::Fresh
                    && !self.lane.is_some_and(|lane| lane.inherited)
                    && self.lane.is_some_and(|lane| lane.side == Side::Fresh)
                    && self.batches.iter().all(|batch| batch.side == Side::Fresh)
        })
    }

    /// The bytes of an attempt.
    pub fn bytes_of(&self, attempt: &Attempt) -> Option<&bytes::Bytes> {
        let batch = self.batches.iter().find(|batch| batch.attempt() == *attempt);
        batch.map(|batch| &batch.bytes).or_else(|| {
            let versions = self.flight.iter().flat_map(|flight| &flight.versions);
            versions.into_iter().find(|version| version.attempt == *attempt).map(|version| &version.bytes)
        })
    }

    /// It has been handed to the connection, at `wall` by the wall clock.
    pub fn sent(&mut self, attempt: Attempt, wall: TimestampMs) {
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.attempt() == attempt) {
            batch.first_sent.get_or_insert(wall);
        }
        if let Some(flight) = &mut self.flight {
            flight.in_flight.push_back(attempt);
            flight.scanned = false;
        }
    }

    /// An answer from the connection that serves the partition.
    pub fn answered(&mut self, answer: Answered, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        let Some(flight) = &mut self.flight else { return };
        let Some(place) = flight.in_flight.iter().position(|attempt| *attempt == answer.attempt) else { return };
        flight.in_flight.remove(place);
        // What it says is what holds now.
        flight.parked = None;
        let is_probe = matches!(flight.phase, Phase::Probe { .. });
        let is_success = verdict(answer.code, false, false) == Action::Delivered;
        let is_moved = matches!(answer.code, UNKNOWN_TOPIC_OR_PARTITION | NOT_LEADER_OR_FOLLOWER | KAFKA_STORAGE_ERROR);
        if !is_success && !refuses(answer.code) && (holds(Rule::MovedIsDoubt) || !is_moved) {
            self.doubt(answer.attempt, false, effects);
        }
        match (is_success, is_probe) {
            (true, true) if self.has_shrunk(answer.base_offset) => self.kafka_lost(terms, effects),
            (true, _) if self.has_shrunk(answer.base_offset) => {
                self.succeeded_in_a_shrunk_log(&answer, terms.now, effects)
            }
            (true, _) => self.succeeded(answer.attempt, answer.base_offset, terms.now, effects),
            (false, true) => self.probe_failed(answer.code, answer.message, terms, effects),
            (false, false) => {
                let Answered { attempt, code, message, records, .. } = answer;
                if let Some(flight) = &mut self.flight {
                    flight.setback.get_or_insert(Setback::Refused { attempt, code, message, records });
                }
            }
        }
        self.act_on_setback(terms, effects);
    }

    pub(super) fn place_of(&self, attempt: &Attempt) -> Option<usize> {
        self.batches.iter().position(|batch| batch.attempt() == *attempt)
    }

    /// An attempt has no answer that says what became of it.
    fn doubt(&mut self, attempt: Attempt, is_lost: bool, effects: &mut Vec<Effect>) {
        self.fly_alone();
        let Some(batch) = self.batches.iter_mut().find(|batch| batch.attempt() == attempt) else { return };
        batch.in_doubt = true;
        batch.lost |= is_lost;
        // It may be carried out after the broker has forgotten the producer, whatever is found before.
        if batch.side == Side::Old && batch.lost {
            count(batch, self.counted_until, DuplicateCause::Old, effects);
        }
    }

    pub(super) fn fly_alone(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.alone = true;
        }
    }

    fn versions(&self) -> &[Version] {
        self.flight.as_ref().map_or(&[], |flight| &flight.versions)
    }

    fn is_in_doubt(&self) -> bool {
        self.batches.iter().any(|batch| batch.in_doubt) || !self.versions().is_empty()
    }

    /// Could the oldest be there, or still land, in any version?
    pub(super) fn oldest_in_doubt(&self) -> bool {
        self.batches.front().is_some_and(|oldest| {
            let same_start = |version: &Version| version.attempt.stamp.base_sequence == oldest.stamp.base_sequence;
            oldest.in_doubt || self.versions().iter().any(same_start)
        })
    }

    /// A success at an offset that was acknowledged before: the log was longer then.
    fn has_shrunk(&self, base_offset: i64) -> bool {
        self.acknowledged_end.is_some_and(|end| (0..end).contains(&base_offset))
    }

    /// It proves nothing of what is before it.
    fn succeeded_in_a_shrunk_log(&mut self, answer: &Answered, now: Instant, effects: &mut Vec<Effect>) {
        let is_oldest = self.place_of(&answer.attempt) == Some(0);
        if is_oldest {
            self.succeeded(answer.attempt, answer.base_offset, now, effects);
        } else {
            self.doubt(answer.attempt, false, effects);
        }
        if let Some(flight) = &mut self.flight {
            flight.setback = Some(Setback::LogShrunk);
        }
    }

    /// A success proves all before it, whatever was answered there.
    pub(super) fn succeeded(&mut self, attempt: Attempt, base_offset: i64, now: Instant, effects: &mut Vec<Effect>) {
        let (start, end) = (attempt.stamp.base_sequence, attempt.end());
        let mut last_side = Side::Fresh;
        let acknowledged = effects.len();
        while let Some(batch) = self.batches.pop_front_if(|batch| !comes_before(end, batch.attempt().end())) {
            last_side = batch.side;
            let first = batch.stamp.base_sequence;
            let is_part = base_offset >= 0 && !comes_before(first, start);
            let delta = i64::from(first.wrapping_sub(start) & i32::MAX);
            effects.push(Effect::Delivered(batch, if is_part { base_offset.saturating_add(delta) } else { -1 }));
        }
        if base_offset >= 0 {
            self.acknowledged_end = Some(base_offset.saturating_add(attempt.count.into()));
        }
        self.note_acknowledged(acknowledged, effects);
        if let Some(lane) = &mut self.lane {
            lane.proven = true;
        }
        // An old batch in the fresh lane: the broker may forget that lane now, so the next one is another. And what an earlier start
        // has left goes in its lane, the rest in one of this start's.
        let is_done_with = |lane: LaneState| lane.inherited || last_side == Side::Old && lane.side == Side::Fresh;
        if self.batches.is_empty() && self.lane.is_some_and(is_done_with) {
            self.lane = None;
        }
        let Some(flight) = &mut self.flight else { return };
        if !flight.versions.is_empty() {
            // What begins before can no longer land: its place is taken.
            let gone = flight.versions.extract_if(.., |version| comes_before(version.attempt.stamp.base_sequence, end));
            effects.push(Effect::Recharged { more: 0, less: gone.map(|version| version.charged).sum() });
        }
        flight.alone = last_side == Side::Old;
        flight.last_success = now;
        flight.setback = flight.setback.take().filter(|setback| *setback == Setback::LogShrunk);
        flight.phase = Phase::Go;
        flight.rounds = 0;
        flight.inquiries_failed = 0;
        flight.attempts = 0;
        flight.not_before = None;
    }
}

/// Counts what of a batch has not been counted as a possible duplicate.
pub(super) fn count(batch: &mut Batch, counted_until: u64, cause: DuplicateCause, effects: &mut Vec<Effect>) {
    let records = batch.count_rest(counted_until);
    if records > 0 {
        effects.push(Effect::PossibleDuplicates(records, cause));
    }
}

#[cfg(test)]
mod tests;
