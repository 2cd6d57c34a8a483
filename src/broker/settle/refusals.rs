//! What brokers refuse for what it is: too large, invalid, a time out of range, a codec that they do not know.
//!
//! More than one record: cut into pieces *in the same lane with the same numbers*. Whichever of the first piece and the whole
//! lands first makes the other answer 45, so nothing has to be settled before. One record that is in doubt is settled first. A
//! batch with an old record in it is not cut in its lane (a broker could forget a piece, and take the whole after it) but settled
//! like one record, and cut under new numbers.

use tracing::error;

use crate::batch::{measure, split, split_marks, uncompressed, with_time};
use crate::broker::flight::{Effect, Terms};
use crate::broker::lanes::numbered;
use crate::broker::sabotage::{Rule, holds};
use crate::config::InvalidTimestampPolicy;
use crate::queue::ledger::DuplicateCause;
use crate::queue::receipt::Mark;
use crate::queue::window::{BATCH_OVERHEAD_BYTES, Batch, Built, Parked, Phase, Refusal, Side, Version, Why, Window};
use crate::wire::WireError;
use crate::wire::codes;
use crate::wire::record_batch::{Lane, SealedBatch, Stamp, next_sequence};

/// A batch is cut into no more pieces than this at once, and what is behind them.
const PIECES_MAX: usize = 32;

impl Window {
    /// Whether the oldest batch has several records and no old one among them.
    pub(super) fn oldest_can_be_split(&self, terms: &Terms<'_>) -> bool {
        self.batches.front().is_some_and(|batch| {
            let is_young = |(oldest, _)| terms.old_before.is_none_or(|limit| oldest >= limit);
            batch.count > 1 && batch.side == Side::Fresh && measure(&batch.bytes).is_ok_and(is_young)
        })
    }

    /// Whether `records`, which are ascending, name every record of the oldest batch.
    pub(super) fn are_all_at_fault(&self, records: &[u32]) -> bool {
        self.batches.front().is_some_and(|batch| records.iter().copied().eq(0..batch.count))
    }

    /// Cuts the oldest where `records` are at fault, or in half. If it is in doubt, the whole is remembered: it may still land.
    pub(super) fn split_oldest(
        &mut self,
        code: i16,
        records: &[u32],
        terms: &mut Terms<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(whole) = self.batches.front() else { return };
        if let (codes::MESSAGE_TOO_LARGE | codes::RECORD_LIST_TOO_LARGE, Ok((_, bytes))) = (code, measure(&whole.bytes))
        {
            effects.push(Effect::TooLarge(bytes));
        }
        let starts = starts(records, whole.count);
        let pieces = match split(&whole.bytes, &starts, terms.compression_level) {
            Ok(pieces) => pieces,
            Err(cause) => return self.damaged(&cause, terms),
        };
        let Some(whole) = self.batches.pop_front() else { return };
        let mut less = whole.charged;
        if let Some(flight) = self.flight.as_mut().filter(|_| whole.in_doubt) {
            less = 0;
            let (attempt, bytes, charged) = (whole.attempt(), whole.bytes.clone(), whole.charged);
            flight.versions.push(Version { attempt, bytes, charged });
        }
        let Batch { stamp, side, first_sent, counted, lost, restamped, mut first_index, .. } = whole;
        let note = self.first_note();
        let mut sequence = stamp.base_sequence;
        let mut more = 0;
        for (place, (sealed, marks)) in with_marks(pieces, whole.marks).into_iter().enumerate() {
            let stamp = Stamp { base_sequence: sequence, ..stamp };
            sequence = next_sequence(sequence, sealed.count());
            let batch = Batch {
                first_sent,
                counted,
                lost,
                restamped,
                first_index,
                note,
                ..numbered(sealed, marks, stamp, side)
            };
            first_index += u64::from(batch.count);
            more += batch.charged;
            self.batches.insert(place, batch);
        }
        effects.push(Effect::Recharged { more, less });
        if !holds(Rule::SplitsKeepNumbers) {
            self.new_epoch(effects);
        }
    }

    /// It is not there and will not come, or that could not be found out. What can never be taken becomes a dead letter; a batch
    /// of which that is not said is cut under new numbers.
    pub(super) fn give_up(
        &mut self,
        refusal: Refusal,
        may_be_delivered: bool,
        terms: &mut Terms<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Refusal { code, message, of_all } = refusal;
        if let Some(batch) = self.batches.pop_front_if(|batch| batch.count == 1 || of_all) {
            let note = self.bury(&batch, code, may_be_delivered);
            effects.push(Effect::DeadLetter { batch, code, message, may_be_delivered, note });
            return self.new_epoch(effects);
        }
        self.new_epoch(effects);
        self.halve_built(terms, effects);
    }

    fn halve_built(&mut self, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        let Some(whole) = self.built.take() else { return };
        let stamp = Stamp { lane: Lane { producer_id: -1, epoch: -1 }, base_sequence: -1 };
        let bytes = whole.sealed.clone().stamp(stamp);
        let pieces = match split(&bytes, &[whole.sealed.count() / 2], terms.compression_level) {
            Ok(pieces) => pieces,
            Err(cause) => {
                self.built = Some(whole);
                return self.damaged(&cause, terms);
            }
        };
        let Built { marks, arrived, charged: less, counted, side, first_index, .. } = *whole;
        let mut more = 0;
        let mut end = first_index + u64::from(whole.sealed.count());
        let Some(flight) = &mut self.flight else { return };
        for (sealed, marks) in with_marks(pieces, marks).into_iter().rev() {
            let charged = sealed.len_bytes() + BATCH_OVERHEAD_BYTES;
            more += charged;
            end -= u64::from(sealed.count());
            let first_index = end;
            flight.renumbered.push_front(Box::new(Built {
                sealed,
                side,
                marks,
                arrived,
                charged,
                counted,
                first_index,
            }));
        }
        self.built = flight.renumbered.pop_front();
        effects.push(Effect::Recharged { more, less });
    }

    /// The oldest is refused and in doubt, and nothing could prove whether it is there.
    pub(super) fn may_be_there(&mut self, refusal: Refusal, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        if self.is_held_as_unproven(terms) {
            return;
        }
        if let Some(oldest) = self.batches.front_mut() {
            oldest.in_doubt = true;
        }
        self.count_doubt(DuplicateCause::Refused, effects);
        self.give_up(refusal, true, terms, effects);
    }

    /// A time that Kafka does not take. With another one the batch keeps its records' places, so its numbers and its doubt.
    pub(super) fn restamp_oldest(
        &mut self,
        refusal: Refusal,
        records: &[u32],
        terms: &mut Terms<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(batch) = self.batches.front() else { return };
        match terms.on_invalid_timestamp {
            InvalidTimestampPolicy::Restamp => {}
            InvalidTimestampPolicy::Hold => {
                return self.park(Parked { code: refusal.code, message: refusal.message }, terms);
            }
            InvalidTimestampPolicy::DeadLetter => {
                return match self.oldest_in_doubt() {
                    _ if !refusal.of_all && self.oldest_can_be_split(terms) => {
                        self.split_oldest(refusal.code, records, terms, effects);
                    }
                    false => self.give_up(refusal, false, terms, effects),
                    true => self.set_phase(Phase::Scan(Why::Settle(refusal))),
                };
            }
        }
        // Refused again, our own clock is wrong: tried with what it then says until somebody has mended it.
        let again = batch.restamped;
        let count = if records.is_empty() { batch.count } else { records.len() as u32 };
        match with_time(&batch.bytes, records, terms.wall, terms.compression_level) {
            Ok(sealed) => self.replace_oldest(sealed, effects),
            Err(cause) => return self.damaged(&cause, terms),
        }
        if let Some(batch) = self.batches.front_mut() {
            batch.restamped = true;
        }
        if again {
            return self.park(Parked { code: refusal.code, message: refusal.message }, terms);
        }
        effects.push(Effect::Restamped(count));
    }

    /// A codec that the broker does not know.
    pub(super) fn uncompress_oldest(&mut self, why: Parked, terms: &mut Terms<'_>, effects: &mut Vec<Effect>) {
        let Some(batch) = self.batches.front() else { return };
        effects.push(Effect::CodecRefused);
        match uncompressed(&batch.bytes) {
            Ok(sealed) if sealed.len_bytes() != batch.bytes.len() => self.replace_oldest(sealed, effects),
            // It is not compressed.
            Ok(_) => self.park(why, terms),
            Err(cause) => self.damaged(&cause, terms),
        }
    }

    /// Other bytes for the same records.
    fn replace_oldest(&mut self, sealed: SealedBatch, effects: &mut Vec<Effect>) {
        let Some(batch) = self.batches.front_mut() else { return };
        let less = std::mem::replace(&mut batch.charged, sealed.len_bytes() + BATCH_OVERHEAD_BYTES);
        batch.max_timestamp = sealed.max_timestamp();
        batch.bytes = sealed.stamp(batch.stamp);
        effects.push(Effect::Recharged { more: batch.charged, less });
    }

    /// Our own bytes do not decode: memory is damaged. Kept, so that nothing is lost by it.
    fn damaged(&mut self, cause: &WireError, terms: &mut Terms<'_>) {
        error!(error = %cause, "a batch of ours cannot be read");
        self.park(Parked { code: codes::CORRUPT_MESSAGE, message: Some(cause.to_string()) }, terms);
    }
}

/// Where the pieces of a batch begin, the first one aside: around the records at fault, or in the middle.
fn starts(at_fault: &[u32], count: u32) -> Vec<u32> {
    let is_at_fault = |place: u32| at_fault.binary_search(&place).is_ok();
    let edges = (1..count).filter(|place| is_at_fault(*place) != is_at_fault(place - 1));
    let edges: Vec<u32> = edges.take(PIECES_MAX).collect();
    if edges.is_empty() { vec![count / 2] } else { edges }
}

fn with_marks(pieces: Vec<SealedBatch>, mut marks: Vec<Mark>) -> Vec<(SealedBatch, Vec<Mark>)> {
    let divide = |piece: SealedBatch| {
        let (of_it, rest) = split_marks(std::mem::take(&mut marks), piece.count());
        marks = rest;
        (piece, of_it)
    };
    pieces.into_iter().map(divide).collect()
}
