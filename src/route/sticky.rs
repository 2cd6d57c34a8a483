//! The sticky partition of a topic: where records without a key go until a batch's worth of bytes has gone there.

use std::sync::atomic::Ordering;

use crate::queue::partition::Partition;
use crate::queue::topic::Topic;

/// The topic's sticky partition. Chosen anew when the present one has had its share, or no leader: of two at random, the one
/// with less waiting, so that a slow broker gets less.
pub fn sticky(topic: &Topic, partitions: &[std::sync::Arc<Partition>], random: &mut fastrand::Rng) -> usize {
    let present = topic.sticky.load(Ordering::Relaxed);
    let share = topic.info().rules.batch_size;
    if let Some(partition) = partitions.get(present)
        && topic.sticky_bytes.load(Ordering::Relaxed) < share
        && partition.has_leader()
    {
        return present;
    }
    let (a, b) = (random.usize(..partitions.len()), random.usize(..partitions.len()));
    let load = |i: usize| (!partitions[i].has_leader(), partitions[i].waiting_bytes());
    let chosen = if load(a) <= load(b) { a } else { b };
    topic.sticky.store(chosen, Ordering::Relaxed);
    topic.sticky_bytes.store(0, Ordering::Relaxed);
    chosen
}

/// So many bytes went to the sticky partition.
pub fn count(topic: &Topic, bytes: usize) {
    topic.sticky_bytes.fetch_add(bytes, Ordering::Relaxed);
}
