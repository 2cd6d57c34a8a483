//! What of a flight goes into the log, where the partition is stored. Part of [`super::flight`]'s state machine.
//!
//! No byte of a batch leaves before the log has on disk which records it is made of and which numbers they have, and so for each
//! piece of a batch that was cut. What was sent can then be sent again by a later start as the same batch, so that it is not doubled;
//! and what no note names was never sent.

use super::flight::Effect;
use super::letter::Body;
use crate::queue::note::{Note, REASON_DELIVERY_TIMEOUT};
use crate::queue::window::{Attempt, Batch, SentNote, Window};

impl Window {
    /// What a batch begins with when it gets numbers that no attempt had before.
    pub(super) fn first_note(&self) -> SentNote {
        if self.is_stored { SentNote::Missing } else { SentNote::Durable }
    }

    /// Whether bytes of `attempt` may leave now. If the log has not been told of it, it is: then not before [`Window::noted`], and
    /// [`Window::next`] says nothing of it meanwhile.
    pub fn may_leave(&mut self, attempt: Attempt, effects: &mut Vec<Effect>) -> bool {
        let topic_id = self.topic_id;
        // An earlier cut of it has been sent before.
        let Some(batch) = self.batches.iter_mut().find(|batch| batch.attempt() == attempt) else { return true };
        if batch.note == SentNote::Missing {
            batch.note = SentNote::Written;
            effects.push(Effect::Note(Note::Sent {
                first_index: batch.first_index,
                count: batch.count,
                lane: batch.stamp.lane,
                base_sequence: batch.stamp.base_sequence,
                topic_id,
            }));
        }
        batch.note == SentNote::Durable
    }

    pub(super) fn waits_for_note(&self, attempt: &Attempt) -> bool {
        self.batches.iter().any(|batch| batch.note == SentNote::Written && batch.attempt() == *attempt)
    }

    /// The batches that `effects` deliver, from place `from` on, are done with.
    pub(super) fn note_acknowledged(&self, from: usize, effects: &mut Vec<Effect>) {
        if !self.is_stored {
            return;
        }
        let delivered = effects.iter().skip(from).filter_map(|effect| match effect {
            Effect::Delivered(batch, offset) => Some((batch, *offset)),
            _ => None,
        });
        let mut possible_duplicates = 0;
        let mut last = None;
        for (batch, offset) in delivered {
            possible_duplicates += u64::from(batch.counted_records(self.counted_until));
            let behind = u64::from(batch.count) - 1;
            let offset = if offset < 0 { -1 } else { offset.saturating_add_unsigned(behind) };
            last = Some((batch.first_index + behind, offset));
        }
        let Some((last_index, offset)) = last else { return };
        let topic_id = self.topic_id;
        effects.push(Effect::Note(Note::Acknowledged {
            last_index,
            offset,
            leader_epoch: -1,
            topic_id,
            possible_duplicates,
        }));
    }

    /// The note that records are dead letters. They may also be there when they were counted under numbers that they had before.
    pub(super) fn bury(&mut self, batch: &Batch, code: i16, may_be_delivered: bool) -> Option<Note> {
        let may_be_delivered = may_be_delivered || batch.counted_records(self.counted_until) > 0;
        self.note_dead(batch.first_index, batch.count, code, may_be_delivered)
    }

    /// The same of records that were taken out.
    pub(super) fn bury_taken(&mut self, body: &Body, code: i16) -> Option<Note> {
        self.note_dead(body.first_index, body.count, code, self.is_counted(body))
    }

    fn note_dead(&mut self, first_index: u64, count: u32, code: i16, may_be_delivered: bool) -> Option<Note> {
        self.unburied += u32::from(self.is_stored);
        self.is_stored.then_some(Note::Dead { first_index, count, code, may_be_delivered })
    }

    /// The note that records have waited for too long.
    pub(super) fn drop_late(&self, body: &Body) -> Option<Note> {
        let (first_index, count) = (body.first_index, body.count);
        let (reason, may_be_delivered) = (REASON_DELIVERY_TIMEOUT, self.is_counted(body));
        self.is_stored.then_some(Note::Dropped { first_index, count, reason, may_be_delivered })
    }

    /// Whether something of it was counted as a possible duplicate, by an earlier start or by this one.
    pub(super) fn is_counted(&self, body: &Body) -> bool {
        body.counted || self.is_stored && body.first_index < self.counted_until
    }
}
