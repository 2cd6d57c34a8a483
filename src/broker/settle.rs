//! What follows from a setback: the second half of [`super::flight`]'s state machine, without I/O like the first.
//!
//! [`ladder`] settles what is in doubt; [`refusals`] deals with what brokers refuse for what it is. A broker validates before it
//! deduplicates, so a batch that was appended can later be refused: a refusal speaks of one attempt only.

mod ladder;
mod refusals;

use std::time::Duration;

use super::flight::{Effect, Terms};
use super::verdict::{Action, speaks_of_records, verdict};
use crate::backoff::Backoff;
use crate::config::UnprovenPolicy;
use crate::queue::ledger::DuplicateCause;
use crate::queue::window::{Parked, Phase, Refusal, Setback, Side, Why, Window};
use crate::wire::codes;

/// After so many answers that the topic is unknown, it is shown as a reason why a partition makes no progress.
const UNKNOWN_IS_SAID_AFTER: u32 = 5;

/// The longest pause between two looks at what only a person can mend.
const PARKED_BACKOFF_MAX: Duration = Duration::from_secs(10);

impl Window {
    /// Acts on the first setback of a flight when all its answers are in.
    pub(super) fn act_on_setback(&mut self, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.in_flight.is_empty()) else { return };
        let (attempt, code, message, records) = match flight.setback.take() {
            None => return,
            Some(Setback::Refused { attempt, code, message, records }) => (attempt, code, message, records),
            Some(Setback::LogShrunk) => return self.kafka_lost(terms, effects),
        };
        let Some(place) = self.place_of(&attempt) else { return };
        let oldest = place == 0;
        let is_old = self.batches.get(place).is_some_and(|batch| batch.side == Side::Old);
        let of_all = self.are_all_at_fault(&records);
        let can_be_split = oldest && speaks_of_records(code) && !of_all && self.oldest_can_be_split(terms);
        match verdict(code, self.oldest_in_doubt(), can_be_split) {
            Action::Delivered => {}
            Action::Retry => self.hold(terms, terms.backoff),
            Action::RetryElsewhere => {
                effects.push(Effect::RefreshMetadata);
                self.hold(terms, terms.backoff);
                self.say_if_unknown(code, message);
            }
            // Not the oldest: its number comes when those before it are there.
            _ if !oldest => {}
            // Nothing is sent behind an old one: the broker had forgotten, and an earlier attempt came after that.
            Action::OutOfSequence if is_old => self.set_phase(Phase::Scan(Why::Forgotten)),
            Action::OutOfSequence => self.set_phase(Phase::Ask),
            Action::Fenced => self.set_phase(Phase::Scan(Why::Fenced)),
            Action::Split => self.split_oldest(code, &records, terms, effects),
            Action::GiveUp => self.give_up(Refusal { code, message, of_all }, false, terms, effects),
            Action::Settle => self.set_phase(Phase::Scan(Why::Settle(Refusal { code, message, of_all }))),
            Action::Restamp => self.restamp_oldest(Refusal { code, message, of_all }, &records, terms, effects),
            Action::Recompress => self.uncompress_oldest(Parked { code, message }, terms, effects),
            Action::Park => self.park(Parked { code, message }, terms),
        }
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(flight) = &mut self.flight {
            flight.phase = phase;
        }
    }

    fn hold(&mut self, terms: &mut Terms<'_>, backoff: Backoff) {
        if let Some(flight) = &mut self.flight {
            flight.attempts = flight.attempts.saturating_add(1);
            flight.not_before = Some(terms.now + backoff.delay(flight.attempts, terms.random));
        }
    }

    /// A topic that no broker knows for longer than an election takes is shown: perhaps it was deleted.
    fn say_if_unknown(&mut self, code: i16, message: Option<String>) {
        let is_unknown = matches!(code, codes::UNKNOWN_TOPIC_OR_PARTITION | codes::UNKNOWN_TOPIC_ID);
        if let Some(flight) =
            self.flight.as_mut().filter(|flight| is_unknown && flight.attempts >= UNKNOWN_IS_SAID_AFTER)
        {
            flight.parked = Some(Parked { code, message });
        }
    }

    fn park(&mut self, why: Parked, terms: &mut Terms<'_>) {
        self.hold(terms, Backoff { max: PARKED_BACKOFF_MAX, ..terms.backoff });
        if let Some(flight) = &mut self.flight {
            flight.parked = Some(why);
        }
    }

    /// Kafka has lost what it had acknowledged.
    pub(super) fn kafka_lost(&mut self, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        effects.push(Effect::KafkaLost);
        self.acknowledged_end = None;
        self.redeliver(DuplicateCause::Unclean, terms, effects);
    }

    /// What is in doubt is counted, and everything sent again under new numbers.
    fn redeliver(&mut self, cause: DuplicateCause, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        if self.is_held_as_unproven(terms) {
            return;
        }
        self.count_doubt(cause, effects);
        self.new_epoch(effects);
    }

    pub(super) fn count_doubt(&mut self, cause: DuplicateCause, effects: &mut Vec<Effect>) {
        let Some(oldest) = self.batches.front() else { return };
        // A version begins with the oldest, or behind it, and covers whole batches.
        let versions = self.flight.iter().flat_map(|flight| &flight.versions);
        let covered: Vec<_> =
            versions.map(|version| (version.attempt.stamp.base_sequence, version.attempt.end())).collect();
        let first = oldest.stamp.base_sequence;
        let offset = |sequence: i32| sequence.wrapping_sub(first) & i32::MAX;
        let mut count = 0;
        let counted_until = self.counted_until;
        for batch in self.batches.iter_mut().filter(|batch| !batch.counted) {
            let at = offset(batch.stamp.base_sequence);
            if batch.in_doubt || covered.iter().any(|(start, end)| (offset(*start)..offset(*end)).contains(&at)) {
                count += batch.count_rest(counted_until);
            }
        }
        if count > 0 {
            effects.push(Effect::PossibleDuplicates(count, cause));
        }
    }

    /// Whether what cannot be proven is held until it can be; the partition is then parked and the ladder climbed anew.
    fn is_held_as_unproven(&mut self, terms: &mut Terms<'_>) -> bool {
        let in_doubt = self.oldest_in_doubt() || self.batches.iter().any(|batch| batch.in_doubt);
        if terms.on_unproven == UnprovenPolicy::Redeliver || !in_doubt {
            return false;
        }
        self.set_phase(Phase::Go);
        if let Some(flight) = &mut self.flight {
            flight.rounds = 0;
        }
        let message = "it cannot be proven whether what was sent is there (on_unproven = \"hold\")".to_owned();
        self.park(Parked { code: codes::UNKNOWN_SERVER_ERROR, message: Some(message) }, terms);
        true
    }
}
