//! What memory cannot keep goes to the log: a partition of a topic that overflows is turned on.
//!
//! All that is in its window goes first, as *one frame*: the records of each batch, and for each that was sent, and each earlier cut of one, its Sent. Records
//! without their Sent would be sent again under other numbers; a batch without those that flew behind it in the same lane would let a later start give their numbers
//! to other records, which brokers would then take for what they have. So all of them are there after a crash, or none. What is not in a batch follows
//! as if it had just been pushed.
//!
//! It happens under the window's lock, so that no answer comes in between; the disk is only touched before.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{debug, error};

use super::append::Appender;
use super::content::Content;
use super::durable::{Waiter, not_stored};
use crate::backlog::log::engine::Log;
use crate::backlog::log::entry::{Entry, IndexRange, Sent};
use crate::backlog::log::error::LogError;
use crate::backlog::log::storage::{Storage, StorageFile};
use crate::queue::partition::Partition;
use crate::queue::receipt::{Mark, Receipt, When};
use crate::queue::window::{Attempt, Built, LaneState, SentNote, Window};
use crate::record::{RUN_RECORD_OVERHEAD, TimestampMs};
use crate::wire::WireError;
use crate::wire::record_batch::{Lane, Stamp, is_compressed};

/// What an entry takes at most beside its records.
const ENTRY_BYTES: usize = 256;

/// Of a batch without numbers.
pub(super) const NO_STAMP: Stamp = Stamp { lane: Lane { producer_id: -1, epoch: -1 }, base_sequence: -1 };

/// What a record takes in run form beyond what it takes in a batch, at most.
const RUN_SURPLUS_BYTES: usize = RUN_RECORD_OVERHEAD - LEAST_OVERHEAD_BYTES;

/// Length, attributes and the two deltas of a record in a batch, at least.
const LEAST_OVERHEAD_BYTES: usize = 4;

/// What came of trying.
enum Tried {
    Done,
    /// What is in its window cannot be written, as long as it is there. In words.
    Impossible(String),
}

impl<F: StorageFile> Appender<F> {
    /// Turns on what was asked for. Who cannot be turned on now is tried again after the others.
    pub(super) fn spill<S: Storage<File = F>>(&mut self, log: &mut Log<S>) -> Result<(), LogError> {
        for _ in 0..self.unspilled.len() {
            let Some(partition) = self.unspilled.pop_front() else { break };
            let tried = match self.turn_on(log, &partition) {
                Err(LogError::Refused(cause)) => Ok(Tried::Impossible(cause.to_owned())),
                tried => tried,
            };
            match tried {
                Ok(Tried::Done) => {}
                Ok(Tried::Impossible(cause)) => {
                    self.is_impossible(&partition, &cause);
                    self.try_again(partition);
                }
                Err(error) => {
                    self.try_again(partition);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Once, though it may have been asked for anew meanwhile.
    fn try_again(&mut self, partition: Arc<Partition>) {
        if partition.stored().is_some_and(|stored| stored.raise_ask()) {
            self.unspilled.push_back(partition);
        }
    }

    fn turn_on<S: Storage<File = F>>(
        &mut self,
        log: &mut Log<S>,
        partition: &Arc<Partition>,
    ) -> Result<Tried, LogError> {
        let Some(stored) = partition.stored() else { return Ok(Tried::Done) };
        stored.lower_ask();
        if stored.is_on() || partition.held_records() == 0 {
            return Ok(Tried::Done);
        }
        let number = self.number(log, partition)?;
        let mut reserved = (0, 0);
        let (mut window, bytes, runs) = loop {
            let window = partition.window();
            let (bytes, runs) = frame_size(&window);
            if bytes <= reserved.0 && runs <= reserved.1 {
                break (window, bytes, runs);
            }
            drop(window);
            if bytes > log.options().frame_bytes_max() {
                return Ok(Tried::Impossible("what is in flight is too large for a frame of the log".to_owned()));
            }
            log.reserve(bytes, runs)?;
            reserved = (bytes, runs);
        };
        let first = log.partition(number).map_or(0, |known| known.next);
        let mut ticket = log.appended();
        if runs > 0 {
            let frame = match Frame::of(&window, number, first, (self.shared.clock)()) {
                Ok(frame) => frame,
                Err(cause) => return Ok(Tried::Impossible(cause.to_string())),
            };
            ticket = log.append_reserved(&frame.entries())?;
            let topic = partition.topic();
            topic.spilled.records.fetch_add(frame.count(), Ordering::Relaxed);
            topic.spilled.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        let receipts = enter(&mut window, first);
        if let Some(item) = window.front.pop_front() {
            let before = item.charged_bytes();
            let rest = item.into_rest();
            self.shared.budget.charge(rest.charged_bytes());
            self.shared.budget.release(before);
            window.front.push_front(rest);
        }
        stored.turn_on(&mut window);
        drop(window);
        if !receipts.is_empty() {
            self.shared.waiting.lock().push(ticket, Waiter::Stored(partition.id(), receipts));
        }
        debug!(topic = %partition.topic().name, partition = partition.id(), "held in memory no longer, but in the log");
        self.enqueue(partition.clone());
        Ok(Tried::Done)
    }

    fn is_impossible(&self, partition: &Arc<Partition>, cause: &str) {
        if let Some(events) = self.shared.said.admit() {
            let (topic, id) = (&partition.topic().name, partition.id());
            error!(%topic, partition = id, events, %cause, "what is in memory cannot be stored: it stays there until Kafka has taken some of it");
        }
        not_stored(partition.id(), refuse_stored(partition), cause);
    }
}

/// Who wants to know that something of a partition that is off is stored, which it will not be for now. What was pushed waits in the window from now on.
pub(super) fn refuse_stored(partition: &Arc<Partition>) -> Vec<Receipt> {
    let mut window = partition.window();
    if partition.stored().is_none_or(|stored| stored.is_on()) {
        return Vec::new();
    }
    while let Some(item) = partition.take_from_intake() {
        window.front.push_back(item);
    }
    let mut receipts = batched_receipts(&mut window);
    receipts.extend(window.front.iter_mut().flat_map(|item| item.take_stored_receipts()));
    receipts
}

/// Takes out who wants to know that records are stored that are in a batch.
fn batched_receipts(window: &mut Window) -> Vec<Receipt> {
    let batches = window.batches.iter_mut().map(|batch| &mut batch.marks);
    let renumbered = window.flight.iter_mut().flat_map(|flight| &mut flight.renumbered);
    let unnumbered = window.built.iter_mut().chain(renumbered).map(|built| &mut built.marks);
    let wants = |mark: &mut Mark| mark.receipt.when() == When::Stored;
    batches.chain(unnumbered).flat_map(|marks| marks.extract_if(.., wants)).map(|mark| mark.receipt).collect()
}

/// At most so many bytes, in so many runs.
fn frame_size(window: &Window) -> (usize, usize) {
    let batches = window.batches.iter().map(|batch| run_size(&batch.bytes, batch.count));
    let built = window.unnumbered().map(|built| run_size(built.sealed.as_bytes(), built.sealed.count()));
    let versions = window.flight.iter().map(|flight| flight.versions.len() * ENTRY_BYTES);
    let bytes = batches.chain(built).chain(versions).sum();
    (bytes, window.batches.len() + window.unnumbered().count())
}

/// The bytes of a batch in the log, at most: records that are compressed stay as they are, others are written in run form.
pub(super) fn run_size(batch: &[u8], count: u32) -> usize {
    let surplus = if is_compressed(batch) { 0 } else { count as usize * RUN_SURPLUS_BYTES };
    batch.len() + surplus + 2 * ENTRY_BYTES
}

/// All that is in a window, for the log.
struct Frame {
    number: u32,
    stored_at: TimestampMs,
    runs: Vec<(u64, Content)>,
    sent: Vec<Sent>,
}

impl Frame {
    /// Indexes begin with `first`.
    fn of(window: &Window, number: u32, first: u64, stored_at: TimestampMs) -> Result<Frame, WireError> {
        let mut frame = Frame { number, stored_at, runs: Vec::new(), sent: Vec::new() };
        let topic_id = window.topic_id.into_bytes();
        let sent = |first: u64, attempt: Attempt| {
            let Attempt { stamp: Stamp { lane, base_sequence }, count } = attempt;
            let range = IndexRange::new(first, first + u64::from(count.max(1)) - 1)?;
            Some(Sent { range, producer_id: lane.producer_id, epoch: lane.epoch, base_sequence, topic_id })
        };
        if let Some(oldest) = window.batches.front().map(|batch| batch.stamp.base_sequence) {
            let batched: u64 = window.batches.iter().map(|batch| u64::from(batch.count)).sum();
            // They were sent earlier. None begins before the oldest, or ends behind the newest.
            for attempt in window.flight.iter().flat_map(|flight| &flight.versions).map(|version| version.attempt) {
                let behind = u64::from((attempt.stamp.base_sequence.wrapping_sub(oldest) & i32::MAX).unsigned_abs());
                if behind + u64::from(attempt.count) <= batched {
                    frame.sent.extend(sent(first + behind, attempt));
                }
            }
        }
        let mut next = first;
        for batch in &window.batches {
            frame.sent.extend(sent(next, batch.attempt()));
            frame.runs.push((next, Content::of(&batch.bytes, batch.count)?));
            next += u64::from(batch.count);
        }
        for (place, built) in window.unnumbered().enumerate() {
            let count = built.sealed.count();
            // The next epoch of a lane is the fence against what was sent before: a later start must go on with it, so it counts as sent.
            if let (0, Some(lane)) = (place, window.lane.filter(|lane| is_fence(lane, window, built))) {
                frame.sent.extend(sent(next, Attempt { stamp: Stamp { lane: lane.lane, base_sequence: 0 }, count }));
            }
            frame.runs.push((next, Content::of(&built.sealed.clone().stamp(NO_STAMP), count)?));
            next += u64::from(count);
        }
        Ok(frame)
    }

    fn count(&self) -> u64 {
        self.runs.iter().map(|(_, content)| u64::from(content.count)).sum()
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        let records = |(first, content)| Entry::Records(Content::records(content, self.number, first, self.stored_at));
        let runs = self.runs.iter().map(|(first, content)| records((*first, content)));
        runs.chain(self.sent.iter().map(|sent| Entry::Sent { partition: self.number, sent: *sent })).collect()
    }
}

fn is_fence(lane: &LaneState, window: &Window, built: &Built) -> bool {
    window.batches.is_empty() && lane.next_sequence == 0 && !lane.proven && (lane.side == built.side || lane.inherited)
}

/// All in the window is in the log now, from index `first` on. Who wants to know that something of it is stored.
fn enter(window: &mut Window, first: u64) -> Vec<Receipt> {
    let mut next = first;
    for batch in &mut window.batches {
        batch.first_index = next;
        // It goes on under the numbers that it had before it was stored, and they are in the same frame.
        batch.note = SentNote::Durable;
        next += u64::from(batch.count);
    }
    let renumbered = window.flight.iter_mut().flat_map(|flight| &mut flight.renumbered);
    for built in window.built.iter_mut().chain(renumbered) {
        built.first_index = next;
        next += u64::from(built.sealed.count());
    }
    batched_receipts(window)
}
