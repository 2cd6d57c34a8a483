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
use uuid::Uuid;

use super::settle::piece;
use super::verdict::{Action, refuses, verdict};
use crate::backoff::Backoff;
use crate::queue::window::{
    Attempt, Batch, Built, ConnectionId, Flight, LaneState, MAX_BATCHES, Phase, Setback, Side, Window,
};
use crate::wire::record_batch::{Lane, Stamp, next_sequence};

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
    Recharged {
        /// Bytes to charge.
        more: usize,
        /// Bytes to give back.
        less: usize,
    },
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
    /// The partition is served by `connection` now. What was in flight on another one, which is closed, is in doubt. After a
    /// pause of `forgotten_after`, in which the broker may have forgotten the producer, the next batch flies alone.
    pub fn adopt(
        &mut self,
        connection: ConnectionId,
        topic_id: Uuid,
        now: Instant,
        forgotten_after: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let is_another_topic = self.topic_id != topic_id;
        self.topic_id = topic_id;
        match &self.flight {
            Some(flight) if flight.connection == connection => {
                let paused = now.saturating_duration_since(flight.last_success) > forgotten_after;
                if paused && flight.in_flight.is_empty() {
                    self.fly_alone();
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
            self.fly_alone();
            if let Some(lane) = &mut self.lane {
                lane.proven = false;
            }
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
            // A batch that was cut in two may have made more of them.
            Some(_) if in_flight >= MAX_BATCHES => Next::Nothing,
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

    /// Numbers the batch in `built`, which becomes the newest of the window; returns its place. None, and the partition is parked,
    /// if it needs a new lane and all epochs are used up.
    pub fn seal_built(&mut self, ids: ProducerIds, now: Instant) -> Option<usize> {
        let built = self.built.take()?;
        let side = built.side;
        let lane = match self.lane {
            Some(lane) if lane.side == side => lane,
            _ => {
                let Ok(epoch) = i16::try_from(self.next_epoch[side as usize]) else {
                    self.built = Some(built);
                    self.park_without_epoch(now);
                    return None;
                };
                let lane = Lane { producer_id: ids.of(side), epoch };
                self.fly_alone();
                LaneState { lane, side, next_sequence: 0, proven: false }
            }
        };
        let Built { sealed, marks, .. } = *built;
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
        // What it says is what holds now.
        flight.parked = None;
        let is_success = verdict(answer.code, false, 1) == Action::Delivered;
        if is_success {
            self.succeeded(&answer, pace.now, effects);
        } else if flight.phase != Phase::Go {
            self.doubt_unless_refused(&answer, effects);
            self.probe_failed(answer.code, answer.message, pace, effects);
        } else {
            self.doubt_unless_refused(&answer, effects);
            let Answered { attempt, code, message, .. } = answer;
            if let Some(flight) = &mut self.flight {
                flight.setback.get_or_insert(Setback::Refused { attempt, code, message });
            }
        }
        self.act_on_setback(pace, effects);
    }

    pub(super) fn place_of(&self, attempt: &Attempt) -> Option<usize> {
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

    fn fly_alone(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.alone = true;
        }
    }

    /// A success proves all before it, whatever was answered there.
    fn succeeded(&mut self, answer: &Answered, now: Instant, effects: &mut Vec<Effect>) {
        let Some(place) = self.place_of(&answer.attempt) else { return };
        let shrunk = self.acknowledged_end.is_some_and(|end| (0..end).contains(&answer.base_offset));
        for (i, batch) in self.batches.drain(..=place).enumerate() {
            let base_offset = if i == place { answer.base_offset } else { -1 };
            if base_offset >= 0 {
                self.acknowledged_end = Some(base_offset.saturating_add(batch.count.into()));
            }
            effects.push(Effect::Delivered(batch, base_offset));
        }
        if let Some(lane) = &mut self.lane {
            lane.proven = true;
        }
        if let Some(flight) = &mut self.flight {
            flight.alone = false;
            flight.last_success = now;
            flight.setback = flight.setback.take().filter(|setback| *setback == Setback::LogShrunk);
            flight.phase = Phase::Go;
            flight.rounds = 0;
            flight.probe_refused = false;
            flight.attempts = 0;
            flight.not_before = None;
            if shrunk {
                flight.setback = Some(Setback::LogShrunk);
            }
        }
    }
}

#[cfg(test)]
mod tests;
