//! Carries out what a flight has decided: counts, answers receipts, gives memory back.

use tokio::time::Instant;
use tracing::{error, warn};

use super::Context;
use super::flight::Effect;
use crate::queue::partition::Partition;
use crate::queue::receipt::Outcome;
use crate::sampler::Sampler;
use crate::wire::codes;

/// What is logged once a second at most, however often it happens.
#[derive(Debug, Default)]
pub(super) struct Said {
    dead: Sampler,
    doubled: Sampler,
    restamped: Sampler,
}

impl Context {
    /// Empties `effects`, which are of `partition`.
    pub(super) fn carry_out(&self, partition: &Partition, effects: &mut Vec<Effect>) {
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
                    if let Some(note) = note {
                        partition.note(note);
                    }
                    let name = codes::name(code);
                    let words = message.unwrap_or_else(|| format!("refused by Kafka: {name}"));
                    if let Some(events) = self.said.dead.admit() {
                        warn!(
                            %topic, partition = id, events, code, name, records = batch.count, reason = %words, may_be_delivered,
                            "records dead-lettered"
                        );
                    }
                    self.ledger.dead_letter(code, batch.count.into());
                    self.budget.release(batch.charged);
                    for mark in batch.marks {
                        let reason = words.as_str().into();
                        mark.receipt.settle(Outcome::Failed { partition: id, error_code: code, reason });
                    }
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
}
