//! Carries out what a flight has decided: counts, answers receipts, gives memory back.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{error, warn};

use super::Context;
use super::flight::Effect;
use super::letter::Body;
use crate::backlog::letter::Refusal;
use crate::queue::note::Note;
use crate::queue::partition::Partition;
use crate::queue::receipt::Outcome;
use crate::sampler::Sampler;
use crate::store::dead_letters::Letter;
use crate::wire::codes;

/// What is logged once a second at most, however often it happens.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub dead: Sampler,
    pub late: Sampler,
    doubled: Sampler,
    restamped: Sampler,
}

impl Context {
    /// Empties `effects`, which are of `partition`.
    pub(super) fn carry_out(&self, partition: &Arc<Partition>, effects: &mut Vec<Effect>) {
        let (topic, id) = (&partition.topic().name, partition.id());
        for effect in effects.drain(..) {
            match effect {
                Effect::Delivered(batch, base_offset) => {
                    self.ledger.deliver(batch.count.into());
                    self.budget.release(batch.charged);
                    for mark in batch.marks {
                        let base_offset = if base_offset < 0 { -1 } else { base_offset.saturating_add(mark.at.into()) };
                        mark.receipt.settle(Outcome::Delivered { partition: id, base_offset });
                    }
                }
                Effect::DeadLetter { batch, code, message, may_be_delivered, note } => {
                    let words = message.unwrap_or_else(|| format!("refused by Kafka: {}", codes::name(code)));
                    self.bury(partition, batch.into(), note, Refusal { code, may_be_delivered, words });
                }
                Effect::PossibleDuplicates(records, cause) => {
                    if let Some(events) = self.said.doubled.admit() {
                        warn!(%topic, partition = id, events, records, cause = cause.name(), "records may be delivered twice");
                    }
                    self.ledger.possible_duplicates(cause, records.into());
                }
                Effect::Restamped(records) => {
                    if let Some(events) = self.said.restamped.admit() {
                        warn!(%topic, partition = id, events, records, "timestamps that Kafka refused were replaced by the present time");
                    }
                    self.ledger.restamp(records.into());
                }
                Effect::TooLarge(bytes) => partition.topic().refuses_bytes(bytes, Instant::now()),
                Effect::CodecRefused => partition.topic().refuses_codec(),
                Effect::RefreshMetadata => self.cluster.refresh(),
                Effect::Recharged { more, less } => {
                    self.budget.charge(more);
                    self.budget.release(less);
                }
                Effect::Note(note) => partition.note(note),
                Effect::KafkaLost => error!(
                    %topic,
                    partition = id,
                    "Kafka no longer has what it had acknowledged (an unclean election, or the topic was made anew)"
                ),
            }
        }
    }

    /// Kafka will never take these records: they are kept where an operator finds them, if there is such a place.
    pub(super) fn bury(&self, partition: &Arc<Partition>, body: Body, note: Option<Note>, refusal: Refusal) {
        let (code, name, may_be_delivered) = (refusal.code, codes::name(refusal.code), refusal.may_be_delivered);
        if let Some(events) = self.said.dead.admit() {
            let (topic, partition, records) = (&partition.topic().name, partition.id(), body.count);
            let reason = &refusal.words;
            warn!(%topic, partition, events, code, name, records, %reason, may_be_delivered, "records dead-lettered");
        }
        let kept = self.dead_letters.get().map(|dead_letters| body.content().map(|content| (dead_letters, content)));
        let Body { count, marks, charged, .. } = body;
        match kept {
            Some(Ok((dead_letters, content))) => {
                let partition = partition.clone();
                return dead_letters.put(Letter { partition, content, note, refusal, marks, charged });
            }
            Some(Err(error)) => {
                error!(%error, records = count, "a batch of ours cannot be read: its dead letters are lost")
            }
            None => {}
        }
        if let Some(note) = note {
            partition.note(note);
        }
        self.ledger.dead_letter(code, count.into());
        self.budget.release(charged);
        for mark in marks {
            let (partition, error_code, reason) = (partition.id(), code, refusal.words.as_str().into());
            mark.receipt.settle(Outcome::Failed { partition, error_code, reason });
        }
    }
}
