//! What a slot does with the answers of its broker.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use uuid::Uuid;

use super::{Ended, Link, Slot};
use crate::broker::flight::Answered;
use crate::cluster::snapshot::Hint;
use crate::queue::partition::Partition;
use crate::queue::window::Attempt;
use crate::wire::api::produce::{self, PartitionAnswer, TopicRef};
use crate::wire::codes;

/// A broker that asks for a longer pause has said something else: quotas are over windows of seconds.
const THROTTLE_MAX: Duration = Duration::from_secs(60);

impl Slot {
    /// An answer to the oldest request.
    pub(super) fn receive(&mut self, link: &mut Link, body: bytes::Bytes) -> Result<(), Ended> {
        let Some(request) = link.pending.requests.pop_front() else { return Err(Ended::Unasked) };
        let answer = match produce::decode(link.version, body) {
            Ok(answer) => answer,
            Err(cause) => {
                // Put back, so that what it asked for is in doubt when the connection is closed.
                link.pending.requests.push_front(request);
                return Err(cause.into());
            }
        };
        let now = Instant::now();
        if !answer.throttle.is_zero() {
            link.throttled_until = Some(now + answer.throttle.min(THROTTLE_MAX));
        }
        let late = link.lateness.answered(request.sent, now);
        self.judge(request.parts.iter().map(|(partition, _)| partition), late, link.pending.requests.is_empty());
        let mut by_partition: HashMap<(TopicRef, i32), PartitionAnswer> =
            answer.partitions.into_iter().map(|part| ((part.topic.clone(), part.partition), part)).collect();
        for (partition, attempt) in request.parts {
            let topic = partition.topic();
            let by_name = (TopicRef::Name(topic.name.clone()), partition.id());
            let part = by_partition
                .remove(&by_name)
                .or_else(|| by_partition.remove(&(TopicRef::Id(topic.id()), partition.id())));
            let mut window = partition.window();
            let answered = match part {
                Some(part) => {
                    let may_be_a_duplicate = window.may_be_a_duplicate(attempt);
                    self.learn(&partition, &part, may_be_a_duplicate, &answer.endpoints);
                    answered(attempt, part)
                }
                // Not spoken of: nobody knows.
                None => {
                    let message = Some("the broker's answer leaves this partition out".to_owned());
                    let (code, records) = (codes::UNKNOWN_SERVER_ERROR, vec![]);
                    Answered { attempt, code, base_offset: -1, message, records }
                }
            };
            let mut terms = self.context.terms(topic, now, self.clock_ahead, &mut self.random);
            window.answered(answered, &mut terms, &mut self.effects);
            drop(window);
            self.context.carry_out(&partition, &mut self.effects);
            self.schedule.consider(&partition, now, self.context.is_hurried());
        }
        Ok(())
    }

    /// What an answer says beside the batch's fate. `may_be_a_duplicate`: it may speak of an earlier attempt, and then says the batch's own time as
    /// that of its append, whatever the topic (Kafka's `UnifiedLog.append`).
    fn learn(
        &mut self,
        partition: &Partition,
        part: &PartitionAnswer,
        may_be_a_duplicate: bool,
        endpoints: &[crate::wire::api::metadata::Broker],
    ) {
        if part.error_code == codes::NONE {
            if may_be_a_duplicate {
                return;
            }
            if part.log_append_time >= 0 {
                self.clock_ahead = part.log_append_time.saturating_sub((self.context.clock)()).max(0);
            }
            return partition.topic().set_log_append_time(part.log_append_time >= 0);
        }
        debug!(
            topic = %partition.topic().name, partition = partition.id(), code = part.error_code,
            name = codes::name(part.error_code), message = part.error_message.as_deref(), "produce refused"
        );
        if let Some(leader) = part.current_leader {
            self.context.cluster.hint(Hint {
                topic: partition.topic().name.clone(),
                topic_id: match part.topic {
                    TopicRef::Id(id) => id,
                    TopicRef::Name(_) => Uuid::nil(),
                },
                partition: partition.id(),
                leader,
                endpoints: endpoints.to_vec(),
            });
        }
    }
}

fn answered(attempt: Attempt, part: PartitionAnswer) -> Answered {
    let of_records = || part.record_errors.iter().find_map(|(_, words)| words.clone());
    let message = part.error_message.clone().or_else(of_records);
    let places = part.record_errors.iter().filter_map(|(place, _)| u32::try_from(*place).ok());
    let mut records: Vec<u32> = places.filter(|place| *place < attempt.count).collect();
    records.sort_unstable();
    records.dedup();
    Answered { attempt, code: part.error_code, base_offset: part.base_offset, message, records }
}
