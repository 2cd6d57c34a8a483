//! Gives topics their partitions when the cluster says how many there are, and lets go of topics that it does not want.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Router, settle_dropped, sticky};
use crate::cluster::Cluster;
use crate::cluster::snapshot::Snapshot;
use crate::queue::item::Item;
use crate::queue::ledger::DropReason;
use crate::queue::receipt::{Mark, Outcome};
use crate::queue::topic::{Choice, Held, Partitions, Topic};
use crate::record::Run;
use crate::wire::codes;

/// Follows the cluster's snapshots until `stop`. Cancel safe: what was not placed stays held.
pub async fn run(router: Arc<Router>, cluster: Cluster, mut random: fastrand::Rng, stop: CancellationToken) {
    let mut snapshots = cluster.follow();
    let mut is_new = true;
    loop {
        if is_new {
            let snapshot = snapshots.borrow_and_update().clone();
            router.place_all(&snapshot, &mut random);
        }
        let growing = router.grow_all(&mut random);
        is_new = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = snapshots.changed() => if changed.is_ok() { true } else { return },
            () = sleep(growing.unwrap_or_default()), if growing.is_some() => false,
        };
    }
}

impl Router {
    fn place_all(&self, snapshot: &Snapshot, random: &mut fastrand::Rng) {
        for topic in self.topics.all() {
            let Some(state) = snapshot.topics.get(&topic.info().name) else { continue };
            if !state.leaders.is_empty() {
                topic.info().set_id(state.id);
                self.topics.place(&topic, state.leaders.len(), |held, partitions| {
                    self.distribute(&topic, held, partitions, random);
                });
            } else if self.is_unwanted(&topic, state.error_code, snapshot) {
                let held = self.topics.close(&topic);
                self.drop_held(&topic, held);
            }
        }
    }

    /// Looks after the topics that are growing; `None` if none is, else how long until the next look.
    fn grow_all(&self, random: &mut fastrand::Rng) -> Option<Duration> {
        let now = Instant::now();
        let look = |topic: Arc<Topic>| {
            topic.growing()?;
            self.topics.grow(&topic, now, |held, partitions| self.distribute(&topic, held, partitions, random));
            topic.growing()
        };
        self.topics.all().into_iter().filter_map(look).min()
    }

    /// The cluster has been asked after `max_block` was over, and does not know the topic.
    fn is_unwanted(&self, topic: &Topic, error_code: i16, snapshot: &Snapshot) -> bool {
        let (Some(since), Some(as_of)) = (topic.unplaced_since(), snapshot.as_of) else { return false };
        match error_code {
            codes::INVALID_TOPIC_EXCEPTION => true,
            codes::UNKNOWN_TOPIC_OR_PARTITION => as_of >= since + topic.info().rules.max_block,
            // No permission, no leader yet, ...: it may come.
            _ => false,
        }
    }

    /// Puts held bursts into the partitions that they choose, in order.
    pub(super) fn distribute(
        &self,
        topic: &Topic,
        held: Vec<Held>,
        partitions: &Partitions,
        random: &mut fastrand::Rng,
    ) {
        for burst in held {
            let mut parts: Vec<Option<(Run, VecDeque<Mark>)>> = Vec::new();
            parts.resize_with(partitions.len(), || None);
            let sticky = sticky::sticky(topic, partitions, random);
            let mut marks = burst.marks;
            for (place, (record, choice)) in (0u32..).zip(burst.run.records_from(0).zip(burst.choices)) {
                let receipt = take_mark(&mut marks, place);
                let partition = match choice {
                    Choice::Sticky => sticky,
                    Choice::Modulo(number) => number as usize % partitions.len(),
                    Choice::Explicit(id) => match usize::try_from(id).ok().filter(|id| *id < partitions.len()) {
                        Some(id) => id,
                        None => {
                            self.ledger.drop_records(DropReason::UnknownPartition, 1);
                            let words = format!("topic {} has no partition {id}", topic.info().name);
                            warn!(topic = %topic.info().name, partition = id, "record dropped: no such partition");
                            if let Some(mark) = receipt {
                                settle_dropped(mark.receipt, id, DropReason::UnknownPartition, &words);
                            }
                            continue;
                        }
                    },
                };
                let (run, marks) = parts[partition].get_or_insert_default();
                if let Some(mark) = receipt {
                    marks.push_back(Mark { at: run.count(), receipt: mark.receipt });
                }
                run.push_raw(&record);
            }
            for (partition, part) in partitions.iter().zip(parts) {
                let Some((run, marks)) = part else { continue };
                let item = Item::records(run, marks, burst.arrived);
                self.budget.charge(item.charged_bytes());
                partition.push(item);
            }
            self.budget.release(burst.charged);
        }
        info!(topic = %topic.info().name, partitions = partitions.len(), "topic has partitions");
    }

    /// The cluster does not want the topic: what was held for it is dropped, and counted.
    pub(super) fn drop_held(&self, topic: &Topic, held: Vec<Held>) {
        let name = &topic.info().name;
        let records: u64 = held.iter().map(|burst| u64::from(burst.run.count())).sum();
        warn!(topic = %name, records, "records dropped: the cluster does not know the topic, and does not create it");
        self.ledger.drop_records(DropReason::UnknownTopic, records);
        for burst in held {
            self.budget.release(burst.charged);
            for mark in burst.marks {
                mark.receipt.settle(Outcome::Failed {
                    partition: -1,
                    error_code: codes::UNKNOWN_TOPIC_OR_PARTITION,
                    reason: format!("topic {name} does not exist").into(),
                });
            }
        }
    }
}

/// The receipt of the record at `place`, if it has one.
fn take_mark(marks: &mut VecDeque<Mark>, place: u32) -> Option<Mark> {
    let mut mark = marks.pop_front()?;
    if mark.at != place {
        marks.push_front(mark);
        return None;
    }
    if let Some(receipt) = mark.receipt.split_off(1) {
        marks.push_front(Mark { at: place + 1, receipt });
    }
    Some(mark)
}
