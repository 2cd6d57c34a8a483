//! The ladder: how what is in doubt is settled.
//!
//! Old, and in doubt: looked for in the log before it is sent again. Else it is sent again, alone; a success settles it. Error 45
//! means that something later is there: asked for its last number, or probed newest to oldest; *a success* proves all before it
//! and waits for replication, what the leader says of its producers proves nothing (it shows what is not committed). When every
//! probe answers 45, round after round, Kafka has lost what it had acknowledged, or forgotten the producer.

use crate::broker::flight::{Effect, Finding, Question, Terms, count};
use crate::broker::lanes::ProducerIds;
use crate::broker::sabotage::{Rule, holds};
use crate::broker::verdict::{Action, speaks_of_records, verdict};
use crate::queue::ledger::DuplicateCause;
use crate::queue::window::{Attempt, Parked, Phase, Refusal, Side, Why, Window, comes_before};
use crate::wire::codes;

/// Rounds in which nothing answers anything but 45 before that is taken as Kafka's loss.
const ROUNDS_MAX: u32 = 3;

/// How often in a row a question may fail before it is taken as one that cannot be answered.
const FAILED_INQUIRIES_MAX: u32 = 5;

impl Window {
    /// What is to be found out where [`Window::next`] says [`Next::Inquire`](crate::broker::flight::Next::Inquire), and the
    /// question's number, for [`Window::found`].
    pub fn inquire(&mut self) -> Option<(u32, Question)> {
        let oldest = self.batches.front().map(|batch| batch.stamp.base_sequence);
        let plan = self.batches.iter().map(|batch| batch.attempt());
        let flight = self.flight.as_mut()?;
        if flight.phase == Phase::Go {
            flight.phase = Phase::Scan(Why::Resend);
        }
        let question = match flight.phase {
            Phase::Ask => Question::LastSequence { lane: self.lane?.lane, acknowledged_end: self.acknowledged_end },
            Phase::Scan(_) => {
                let versions = flight.versions.iter().map(|version| version.attempt);
                let sent = versions
                    .chain(plan)
                    .filter(|sent| oldest.is_some_and(|o| !comes_before(sent.stamp.base_sequence, o)));
                Question::Scan { from: self.acknowledged_end, sent: sent.collect() }
            }
            Phase::NewId(_) => Question::ProducerId,
            Phase::Go | Phase::Probe { .. } | Phase::Follow => return None,
        };
        flight.inquiries = flight.inquiries.wrapping_add(1);
        flight.inquiry = Some(flight.inquiries);
        Some((flight.inquiries, question))
    }

    /// The answer to question `number`.
    pub fn found(&mut self, number: u32, finding: Finding, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.inquiry == Some(number)) else { return };
        flight.inquiry = None;
        let phase = std::mem::take(&mut flight.phase);
        let finding = match finding {
            Finding::Failed => {
                flight.inquiries_failed += 1;
                if flight.inquiries_failed <= FAILED_INQUIRIES_MAX {
                    // Perhaps somebody else leads: the ladder begins anew.
                    effects.push(Effect::RefreshMetadata);
                    return self.hold(terms, terms.backoff);
                }
                Finding::Unknown
            }
            finding => finding,
        };
        match (phase, finding) {
            (Phase::NewId(side), Finding::ProducerId(id)) => self.use_id(id, side),
            (Phase::Ask | Phase::Scan(_), Finding::Shrunk) => self.kafka_lost(terms, effects),
            (Phase::Ask, Finding::LastSequence(last)) => self.last_sequence_is(last, terms, effects),
            (Phase::Ask, _) => self.probe_all(terms, effects),
            (Phase::Scan(_), Finding::There(attempt, offset)) => self.succeeded(attempt, offset, terms.now, effects),
            (Phase::Scan(why), finding) => self.not_found(why, finding == Finding::Absent, terms, effects),
            (Phase::NewId(_), _) => {
                let message = "all epochs of the producer id are used up, and no broker gives another one".to_owned();
                self.park(Parked { code: codes::INVALID_PRODUCER_EPOCH, message: Some(message) }, terms);
            }
            (Phase::Go | Phase::Probe { .. } | Phase::Follow, _) => {}
        }
    }

    /// What the leader knows of the lane says only what to send: it may not be committed.
    fn last_sequence_is(&mut self, last: Option<i32>, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        let Some(first) = self.batches.front().map(|batch| batch.stamp.base_sequence) else { return };
        match last {
            Some(last) if !comes_before(last, first) => {
                let ends_there = |sent: &Attempt| sent.end().wrapping_sub(1) & i32::MAX == last;
                let list: Vec<Attempt> = self.attempts().into_iter().filter(ends_there).collect();
                if let (false, Some(known)) = (holds(Rule::SuccessProves), list.first()) {
                    return self.succeeded(*known, -1, terms.now, effects);
                }
                self.probe(list, Why::Which { refused: false }, terms, effects);
            }
            Some(last) if last != first.wrapping_sub(1) & i32::MAX => self.kafka_lost(terms, effects),
            // It is no longer there; or again and again, the leader knows the producer in an earlier epoch only.
            _ => self.nothing_succeeded(terms, effects),
        }
    }

    /// Every version of what may still land or be there, in the order of sending.
    fn attempts(&self) -> Vec<Attempt> {
        let versions = self.flight.iter().flat_map(|flight| &flight.versions).map(|version| version.attempt);
        versions.chain(self.batches.iter().map(|batch| batch.attempt())).collect()
    }

    /// Newest to oldest, the oldest once more at the end.
    fn probe_all(&mut self, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        let Some(oldest) = self.batches.front().map(|batch| batch.attempt()) else { return };
        let first = oldest.stamp.base_sequence;
        let mut list = self.attempts();
        list.sort_by_key(|sent| std::cmp::Reverse(sent.end().wrapping_sub(first) & i32::MAX));
        list.push(oldest);
        self.probe(list, Why::Which { refused: false }, terms, effects);
    }

    /// The batches behind the oldest, which is refused and in doubt, and was not found.
    fn probe_behind(&mut self, refusal: Refusal, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        let Some(first) = self.batches.front().map(|batch| batch.stamp.base_sequence) else { return };
        let behind = self.attempts().into_iter().filter(|sent| comes_before(first, sent.stamp.base_sequence)).collect();
        self.probe(behind, Why::Settle(refusal), terms, effects);
    }

    /// In a lane without any success only what starts at its first number: a broker that knows nothing of the lane would
    /// accept any other.
    fn probe(&mut self, mut list: Vec<Attempt>, why: Why, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        if !self.lane.is_some_and(|lane| lane.proven) {
            list.retain(|sent| sent.stamp.base_sequence == 0);
        }
        if list.is_empty() {
            return self.no_probe_succeeded(why, terms, effects);
        }
        self.fly_alone();
        self.set_phase(Phase::Probe { list: list.into(), why });
    }

    pub(in crate::broker) fn probe_failed(
        &mut self,
        code: i16,
        message: Option<String>,
        terms: &mut Terms<'_>,
        effects: &mut Vec<Effect>,
    ) {
        match verdict(code, true, true) {
            Action::Delivered => {}
            Action::Retry => return self.hold(terms, terms.backoff),
            // Another leader: the ladder begins anew.
            Action::RetryElsewhere => {
                self.set_phase(Phase::Go);
                effects.push(Effect::RefreshMetadata);
                return self.hold(terms, terms.backoff);
            }
            Action::Fenced => return self.set_phase(Phase::Scan(Why::Fenced)),
            // It says nothing of this batch: asked again when that is mended.
            Action::Park if !speaks_of_records(code) => return self.park(Parked { code, message }, terms),
            _ => {}
        }
        let Some(flight) = &mut self.flight else { return };
        let Phase::Probe { list, why } = &mut flight.phase else { return };
        list.pop_front();
        if let Why::Which { refused } = why {
            *refused |= speaks_of_records(code);
        }
        if list.is_empty() {
            let why = why.clone();
            self.no_probe_succeeded(why, terms, effects);
        }
    }

    fn no_probe_succeeded(&mut self, why: Why, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        self.set_phase(Phase::Go);
        match why {
            Why::Settle(refusal) => self.may_be_there(refusal, terms, effects),
            Why::Which { refused: true } => self.set_phase(Phase::Scan(why)),
            // All 45.
            Why::Which { refused: false } | Why::Resend => self.nothing_succeeded(terms, effects),
            Why::Follows | Why::Forgotten | Why::Fenced => {
                self.redeliver(DuplicateCause::Unsettled, terms, effects);
            }
        }
    }

    /// Once: what is there changed meanwhile. Again and again: Kafka has lost it.
    fn nothing_succeeded(&mut self, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        let Some(flight) = &mut self.flight else { return };
        flight.rounds += 1;
        if flight.rounds > ROUNDS_MAX {
            return self.kafka_lost(terms, effects);
        }
        self.hold(terms, terms.backoff);
    }

    /// A scan has come to the log's end, or could not be done.
    fn not_found(&mut self, why: Why, is_absent: bool, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        match why {
            Why::Resend => {
                if !is_absent && self.is_held_as_unproven(terms) {
                    return;
                }
                if let Some(flight) = &mut self.flight {
                    flight.scanned = true;
                }
                let oldest = self.batches.front_mut().filter(|_| !is_absent);
                if let Some(oldest) = oldest {
                    count(oldest, self.counted_until, DuplicateCause::Old, effects);
                }
            }
            Why::Settle(refusal) => self.probe_behind(refusal, terms, effects),
            Why::Forgotten => self.redeliver(DuplicateCause::Unsettled, terms, effects),
            Why::Fenced => {
                self.redeliver(DuplicateCause::Fenced, terms, effects);
                self.hold(terms, terms.backoff);
            }
            Why::Which { .. } | Why::Follows if is_absent => self.hold(terms, terms.backoff),
            Why::Which { .. } | Why::Follows => {
                // New records behind all that was sent are accepted only if all before them is there.
                if self.lane.is_some_and(|lane| lane.proven && lane.side == Side::Fresh) {
                    self.set_phase(Phase::Follow);
                } else {
                    self.redeliver(DuplicateCause::Unsettled, terms, effects);
                }
            }
        }
    }

    /// Numbers the batch in `built` where [`Window::next`] says [`Next::Follow`](crate::broker::flight::Next::Follow), if it may
    /// be what proves all before it.
    pub fn seal_follower(&mut self, ids: ProducerIds) -> Option<Attempt> {
        self.built.as_ref().filter(|built| built.side == Side::Fresh)?;
        let attempt = self.seal_built(ids)?;
        self.set_phase(Phase::Probe { list: [attempt].into(), why: Why::Follows });
        Some(attempt)
    }

    /// There is no record that could follow.
    pub fn nothing_follows(&mut self, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        self.set_phase(Phase::Go);
        self.redeliver(DuplicateCause::Unsettled, terms, effects);
    }
}
