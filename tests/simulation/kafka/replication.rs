//! Followers copy, high watermarks move, in-sync sets shrink and grow (`Partition`, `ReplicaFetcherThread`).

use super::controller::Assignment;
use super::events::Event;
use super::{Key, State};
use crate::clock;

/// Batches that one fetch brings.
const FETCHED_MAX: usize = 4;

impl State {
    /// What `broker` believes of a partition.
    pub fn believed(&self, broker: i32, key: Key) -> Option<&Assignment> {
        let topic = self.brokers.get(&broker)?.image.values().find(|topic| topic.id == key.0)?;
        topic.partitions.get(usize::try_from(key.1).ok()?)
    }

    /// The epoch in which `broker` believes to lead, if it does.
    pub fn leads(&self, broker: i32, key: Key) -> Option<i32> {
        self.believed(broker, key).filter(|assignment| assignment.leader == broker).map(|assignment| assignment.epoch)
    }

    /// Who is in sync as the leader `broker` knows: the controller's word, or if it leads no more what it knew last.
    pub fn in_sync(&mut self, broker: i32, key: Key) -> Vec<i32> {
        let epoch = self.leads(broker, key);
        match self.assignment(key) {
            Some(assignment) if Some(assignment.epoch) == epoch => assignment.in_sync.clone(),
            _ => self.believed(broker, key).map_or(Vec::new(), |assignment| assignment.in_sync.clone()),
        }
    }

    /// A follower will fetch.
    pub fn fetch_soon(&mut self, follower: i32, key: Key) {
        if !self.events.will_fetch(follower, key) {
            let after = self.within(self.settings.fetching);
            self.events.add(after, Event::Fetch { follower, key });
        }
    }

    /// A follower fetches: tells how far it has come, cuts off what the leader does not have, copies what comes next. Leader and
    /// follower must agree on the epoch (KIP-320); if they do not, the next election brings it back.
    pub fn fetch(&mut self, follower: i32, key: Key) {
        let Some(node) = self.brokers.get(&follower).filter(|node| node.is_up) else { return };
        let now = tokio::time::Instant::now();
        if node.stalled_until > now {
            let after = node.stalled_until - now;
            return self.events.add(after, Event::Fetch { follower, key });
        }
        let Some(believed) = self.believed(follower, key) else { return };
        let (leader, epoch) = (believed.leader, believed.epoch);
        let is_agreed = leader != follower && self.leads(leader, key) == Some(epoch);
        if !is_agreed || self.brokers.get(&leader).is_none_or(|node| !node.is_up) {
            return;
        }
        // Both out of their maps, so that each may change.
        let take = |state: &mut State, id| state.brokers.get_mut(&id).and_then(|node| node.replicas.remove(&key));
        let (Some(mut ours), Some(mut theirs)) = (take(self, follower), take(self, leader)) else { return };
        let common = ours.common(&theirs);
        if common < ours.log.len() {
            let cut = ours.truncate(common, clock::now_ms(), self.settings.expiry);
            let batches = cut.len();
            self.trace.note(|| format!("broker {follower} cuts {batches} batches off {key:?}"));
        }
        let reported = theirs.progress.insert(follower, ours.end());
        for entry in theirs.log.iter().skip(common).take(FETCHED_MAX) {
            ours.append(entry.clone());
        }
        ours.high_watermark = theirs.high_watermark.min(ours.end());
        let (end, behind) = (ours.end(), ours.end() < theirs.end());
        let unreported = theirs.progress.get(&follower).is_none_or(|reported| *reported < end);
        for (id, replica) in [(follower, ours), (leader, theirs)] {
            if let Some(node) = self.brokers.get_mut(&id) {
                node.replicas.insert(key, replica);
            }
        }
        self.grow_in_sync(leader, follower, key);
        self.advance(leader, key);
        let high_watermark_behind = {
            let high = |id| self.brokers.get(&id).and_then(|node| node.replicas.get(&key)).map(|r| r.high_watermark);
            high(follower) < high(leader)
        };
        if behind || unreported || reported.is_none() || high_watermark_behind {
            self.fetch_soon(follower, key);
        }
    }

    /// A leader's high watermark is as far as all in sync have come, and never goes back (`Partition.maybeIncrementLeaderHW`).
    pub fn advance(&mut self, leader: i32, key: Key) {
        if self.leads(leader, key).is_none() {
            return;
        }
        let in_sync = self.in_sync(leader, key);
        let Some(replica) = self.brokers.get_mut(&leader).and_then(|node| node.replicas.get_mut(&key)) else { return };
        let others = in_sync.iter().filter(|id| **id != leader);
        let reached = others.map(|id| replica.progress.get(id).copied().unwrap_or(-1)).min().unwrap_or(i64::MAX);
        let reached = reached.min(replica.end());
        if reached > replica.high_watermark {
            replica.high_watermark = reached;
            let followers: Vec<i32> = self.brokers.keys().copied().filter(|id| *id != leader).collect();
            for follower in followers {
                self.fetch_soon(follower, key);
            }
            self.changed();
        }
    }

    /// A follower that has caught up is in sync again, if the controller agrees (`Partition.maybeExpandIsr`, KIP-497).
    fn grow_in_sync(&mut self, leader: i32, follower: i32, key: Key) {
        let epoch = self.leads(leader, key);
        let Some(replica) = self.brokers.get(&leader).and_then(|node| node.replicas.get(&key)) else { return };
        let needed = replica.high_watermark.max(replica.elected_at);
        let is_there = replica.progress.get(&follower).is_some_and(|end| *end >= needed);
        let is_registered = self.registered().contains(&follower);
        let Some(assignment) = self.assignment(key) else { return };
        if is_there && is_registered && Some(assignment.epoch) == epoch && !assignment.in_sync.contains(&follower) {
            assignment.in_sync.push(follower);
            let in_sync = assignment.in_sync.clone();
            self.note_in_sync(leader, key, in_sync);
            self.trace.note(|| format!("broker {follower} is in sync on {key:?}"));
        }
    }

    /// The controller has agreed, which the leader knows: also when it has not heard of the next election.
    fn note_in_sync(&mut self, leader: i32, key: Key, in_sync: Vec<i32>) {
        let image = self.brokers.get_mut(&leader).map(|node| &mut node.image);
        let topic = image.and_then(|image| image.values_mut().find(|topic| topic.id == key.0));
        if let Some(known) = topic.and_then(|topic| topic.partitions.get_mut(usize::try_from(key.1).ok()?)) {
            known.in_sync = in_sync;
        }
    }

    /// A leader drops those that have not come as far as `offset` in time, if the controller agrees (`Partition.maybeShrinkIsr`).
    pub fn drop_laggards(&mut self, leader: i32, key: Key, offset: i64) {
        let epoch = self.leads(leader, key);
        let Some(node) = self.brokers.get(&leader).filter(|node| node.is_up) else { return };
        let Some(progress) = node.replicas.get(&key).map(|replica| replica.progress.clone()) else { return };
        let Some(assignment) = self.assignment(key) else { return };
        if epoch != Some(assignment.epoch) {
            return;
        }
        let before = assignment.in_sync.len();
        assignment.in_sync.retain(|id| *id == leader || progress.get(id).is_some_and(|end| *end >= offset));
        if assignment.in_sync.len() < before {
            let in_sync = assignment.in_sync.clone();
            self.note_in_sync(leader, key, in_sync.clone());
            self.trace.note(|| format!("in sync on {key:?} are only {in_sync:?}"));
            self.advance(leader, key);
        }
    }
}
