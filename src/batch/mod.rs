//! Makes batches of what waits in a partition: merges small bursts, cuts large ones, compresses.
//!
//! A batch is cut at the moment when it can be sent, so a partition whose connection has no room gets fuller batches, up to
//! the largest that a request may carry. It has no sequence numbers yet: those are given at its first send.

mod split;

use std::collections::VecDeque;
use std::hint::black_box;
use std::iter;

use tracing::warn;

use crate::queue::budget::Budget;
use crate::queue::compressibility::Compressibility;
use crate::queue::item::{Item, Payload};
use crate::queue::partition::Partition;
use crate::queue::window::{BATCH_OVERHEAD_BYTES, Built, Side, Window};
use crate::record::TimestampMs;
use crate::wire::codec::Codec;
use crate::wire::record_batch::{BatchBuilder, SealedBatch, from_opaque};

pub use split::{ORIGINAL_TIMESTAMP_HEADER, measure, split, split_marks, uncompressed, with_time};

/// Bursts that are looked at before the first of them is taken.
const LOOK_AHEAD: usize = 16;

/// What decides how batches are cut.
#[derive(Clone, Copy, Debug)]
pub struct CutRules {
    /// Bytes of the largest batch, header included and before compression; a single record may be larger.
    pub max_bytes: usize,
    /// A batch whose newest record is older than this flies on the old side. `None` where brokers stamp the records.
    pub old_before: Option<TimestampMs>,
}

/// Cuts batches; keeps its buffer and its compression contexts from one to the next.
#[derive(Default)]
pub struct Cutter {
    builder: BatchBuilder,
}

impl Cutter {
    /// Makes a batch of the oldest records that wait, and leaves it in `window.built`. False if there are none.
    /// The caller has lowered the partition's signal.
    pub fn cut(&mut self, partition: &Partition, window: &mut Window, rules: CutRules, budget: &Budget) -> bool {
        let mut marks = Vec::new();
        let mut taken_bytes = 0;
        let mut opaque = None;
        let mut released = 0;
        let mut first_index = 0;
        let mut newest = None;
        loop {
            if window.front.is_empty() {
                look_ahead(partition, &mut window.front);
            }
            let Some(item) = window.front.front_mut() else { break };
            let (before, arrived) = (item.left_bytes(), item.arrived());
            let index = if window.is_stored { item.next_index().unwrap_or_default() } else { 0 };
            match self.builder.count() {
                0 => first_index = index,
                // A batch is a range of the log: where records are missing there, it ends.
                count if window.is_stored && index != first_index + u64::from(count) => break,
                _ => {}
            }
            if let Payload::Batch(batch) = item.payload() {
                if self.builder.count() > 0 {
                    break;
                }
                opaque = Some(from_opaque(
                    batch.codec,
                    batch.count,
                    batch.base_timestamp,
                    batch.max_timestamp,
                    &batch.records,
                ));
                item.take_whole(&mut marks);
                taken_bytes += before;
            } else {
                let base = self.builder.count();
                let builder = &mut self.builder;
                let taken = item.take_while(|record| {
                    let (stamp, suffix) = (record.timestamp, record.suffix);
                    if builder.has_room_for(stamp, suffix.len(), rules.max_bytes) || builder.count() == 0 {
                        builder.append(stamp, suffix);
                        return true;
                    }
                    false
                });
                item.take_marks(taken, base, &mut marks);
                taken_bytes += before - item.left_bytes();
            }
            if item.left_bytes() < before || item.left() == 0 {
                newest = newest.max(Some(arrived));
            }
            if item.left() > 0 {
                break;
            }
            released += item.charged_bytes();
            window.front.pop_front();
            if opaque.is_some() {
                break;
            }
        }
        budget.release(released);
        let sealed = match opaque {
            Some(sealed) => sealed,
            None if self.builder.count() == 0 => return false,
            None => self.finish(partition, &mut window.compressibility),
        };
        let Some(arrived) = newest else { return false };
        partition.batched(sealed.count(), taken_bytes);
        let charged = sealed.len_bytes() + BATCH_OVERHEAD_BYTES;
        budget.charge(charged);
        let side = side(&sealed, rules);
        window.built = Some(Box::new(Built { sealed, side, marks, arrived, charged, counted: false, first_index }));
        true
    }

    /// The batch as it stands, compressed if the topic wants it and it pays.
    fn finish(&mut self, partition: &Partition, compressibility: &mut Compressibility) -> SealedBatch {
        let rules = &partition.topic().rules;
        let raw_bytes = self.builder.len_bytes();
        let codec = Codec::from(rules.compression_type);
        if codec == Codec::None || partition.topic().has_codec_refused() || !compressibility.is_worth_trying(raw_bytes)
        {
            return self.builder.finish(Codec::None, None).0;
        }
        let (sealed, failure) = self.builder.finish(codec, rules.compression_level);
        compressibility.tried(raw_bytes, sealed.len_bytes() < raw_bytes);
        if let Some(error) = failure {
            warn!(topic = %partition.topic().name, %error, "batch is sent uncompressed");
        }
        sealed
    }
}

/// Takes bursts into the window, and looks at each: in a deep queue none of them is in the caches, and what would be waited for one
/// after the other arrives at the same time.
fn look_ahead(partition: &Partition, front: &mut VecDeque<Box<Item>>) {
    front.extend(iter::from_fn(|| partition.take_from_intake()).take(LOOK_AHEAD));
    let heads = front.iter().filter_map(|item| item.first_bytes()?.first());
    black_box(heads.fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
}

fn side(sealed: &SealedBatch, rules: CutRules) -> Side {
    match rules.old_before {
        Some(limit) if sealed.max_timestamp() < limit => Side::Old,
        _ => Side::Fresh,
    }
}

#[cfg(test)]
mod tests;
