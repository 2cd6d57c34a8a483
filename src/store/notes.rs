//! What became of records: notes of the flight go into the log in their order, and what waits for them is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::error;

use super::Shared;
use super::append::Appender;
use super::durable::Waiter;
use crate::backlog::log::append::Ticket;
use crate::backlog::log::engine::Log;
use crate::backlog::log::error::LogError;
use crate::backlog::log::storage::{Storage, StorageFile};
use crate::queue::note::Note;
use crate::queue::stored::{Noting, Told};
use crate::queue::window::Attempt;
use crate::wire::record_batch::Stamp;

/// So many notes go into a frame.
const NOTES_MAX: usize = 512;

impl<F: StorageFile> Appender<F> {
    /// Notes have room of their own in a full log.
    pub(super) fn append_notes<S: Storage<File = F>>(&mut self, log: &mut Log<S>) -> Result<(), LogError> {
        while let Some(next) = self.shared.inbox.next_note() {
            match (self.notes.back_mut(), &next.note) {
                (
                    Some(Noting { partition, note: Note::Acknowledged { possible_duplicates: before, .. }, .. }),
                    Note::Acknowledged { .. },
                ) if Arc::ptr_eq(partition, &next.partition) => {
                    let before = *before;
                    self.notes.pop_back();
                    self.notes.push_back(Noting { note: with_duplicates(next.note, before), ..next });
                }
                _ => self.notes.push_back(next),
            }
        }
        let mut notes_max = NOTES_MAX;
        while !self.notes.is_empty() {
            let count = self.notes.len().min(notes_max);
            let mut entries = Vec::with_capacity(count);
            for Noting { partition, note, .. } in self.notes.range(..count) {
                let number = partition.stored().and_then(|stored| stored.number().get());
                entries.extend(number.and_then(|number| note.entry(*number)));
            }
            match log.append(&entries) {
                Ok(ticket) => self.notes.drain(..count).for_each(|noted| self.shared.noted(noted, ticket)),
                // One of them says what cannot be, by a defect: the others must not wait for it.
                Err(LogError::Refused(cause)) if count == 1 => {
                    error!(cause, note = ?self.notes.pop_front().map(|noting| noting.note), "the log refuses a note; this is a defect of forebay");
                }
                Err(LogError::Refused(_)) => notes_max = 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Shared {
    /// A note is in the log.
    fn noted(&self, Noting { partition, note, given_up }: Noting, ticket: Ticket) {
        if let Some(given_up) = given_up {
            self.waiting.lock().push(ticket, Waiter::GivenUp(given_up));
        }
        match note {
            Note::Sent { count, lane, base_sequence, .. } => {
                let attempt = Attempt { stamp: Stamp { lane, base_sequence }, count };
                self.waiting.lock().push(ticket, Waiter::Sent(partition, attempt));
            }
            Note::Dead { .. } => partition.stored().into_iter().for_each(|stored| stored.tell(Told::Buried)),
            Note::Acknowledged { .. } | Note::Dropped { .. } if self.full_at.load(Ordering::Relaxed) != u64::MAX => {
                self.waiting.lock().push(ticket, Waiter::Room);
            }
            Note::Acknowledged { .. } | Note::Dropped { .. } => {}
        }
    }
}

/// An acknowledgement that stands for an earlier one, too.
fn with_duplicates(note: Note, before: u64) -> Note {
    match note {
        Note::Acknowledged { last_index, offset, leader_epoch, topic_id, possible_duplicates } => {
            let possible_duplicates = possible_duplicates.saturating_add(before);
            Note::Acknowledged { last_index, offset, leader_epoch, topic_id, possible_duplicates }
        }
        other => other,
    }
}
