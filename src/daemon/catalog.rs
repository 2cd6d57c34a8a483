//! Keeps what the cluster says of topics for the next start, which may be without Kafka.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::backlog::catalog::{Catalog, Change, Known, Remembered};
use crate::cluster::Cluster;
use crate::cluster::snapshot::{Snapshot, TopicState};
use crate::config::Config;
use crate::queue::topic::Topics;
use crate::wire::codes;

/// Follows the cluster and writes down what has changed.
#[derive(Debug)]
pub(super) struct Keeper {
    catalog: Catalog,
    remembered: Remembered,
    topics: Arc<Topics>,
}

/// Opens the cache in the backlog's `directory` and lets `topics` know what is in it, unless the log is another cluster's. Blocks.
pub(super) fn open(directory: &Path, config: &Config, cluster_id: Option<&str>, topics: &Arc<Topics>) -> Keeper {
    let (catalog, remembered) = Catalog::open(directory, config.limits.max_topics);
    let is_other = cluster_id.is_some_and(|id| remembered.cluster_id.as_deref().is_some_and(|known| known != id));
    if !is_other {
        topics.remember(remembered.topics.clone());
    }
    Keeper { catalog, remembered, topics: topics.clone() }
}

impl Keeper {
    /// Until `stop`, before which everything is written.
    pub async fn run(mut self, cluster: Cluster, stop: CancellationToken) {
        let mut snapshots = cluster.follow();
        let mut is_stopping = false;
        while !is_stopping {
            let snapshot = snapshots.borrow_and_update().clone();
            if snapshot.as_of.is_some() {
                self.topics.forget_remembered();
            }
            let changes = changes(&mut self.remembered, &snapshot);
            if !changes.is_empty() {
                let mut catalog = self.catalog;
                let written = spawn_blocking(move || {
                    catalog.keep(&changes);
                    catalog
                });
                // A panic elsewhere than in sled is a defect, and ends the daemon in order.
                self.catalog = match written.await {
                    Ok(catalog) => catalog,
                    Err(_) => return,
                };
            }
            tokio::select! {
                biased;
                changed = snapshots.changed() => is_stopping = changed.is_err(),
                () = stop.cancelled() => is_stopping = true,
            }
        }
    }
}

/// What a snapshot says that is not remembered; it is from here on.
fn changes(remembered: &mut Remembered, snapshot: &Snapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    let Some(id) = &snapshot.cluster_id else { return changes };
    if remembered.cluster_id.as_ref() != Some(id) {
        *remembered = Remembered { cluster_id: Some(id.clone()), topics: HashMap::new() };
        changes.push(Change::Cluster(id.clone()));
    }
    for (name, state) in &snapshot.topics {
        match known(state) {
            Some(known) if remembered.topics.get(&**name) != Some(&known) => {
                remembered.topics.insert(name.to_string(), known);
                changes.push(Change::Topic(name.to_string(), known));
            }
            None if is_gone(state) && remembered.topics.remove(&**name).is_some() => {
                changes.push(Change::Gone(name.to_string()));
            }
            _ => {}
        }
    }
    changes
}

fn known(state: &TopicState) -> Option<Known> {
    let partitions = u32::try_from(state.leaders.len()).ok().filter(|count| *count > 0)?;
    Some(Known { id: state.id, partitions })
}

fn is_gone(state: &TopicState) -> bool {
    state.leaders.is_empty() && state.error_code == codes::UNKNOWN_TOPIC_OR_PARTITION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::snapshot::Leader;

    fn snapshot(cluster: &str, topics: &[(&str, usize, i16)]) -> Snapshot {
        let state = |count: usize, error_code| {
            let mut state = TopicState::default();
            state.leaders.resize(count, Leader { broker: None, epoch: 0 });
            state.error_code = error_code;
            state
        };
        let topics = topics.iter().map(|(name, count, code)| ((*name).into(), state(*count, *code))).collect();
        Snapshot { cluster_id: Some(cluster.to_owned()), topics, ..Snapshot::default() }
    }

    #[test]
    fn only_what_has_changed_is_written_and_a_topic_is_forgotten_when_the_cluster_says_that_it_is_gone() {
        let mut remembered = Remembered::default();
        let unknown = codes::UNKNOWN_TOPIC_OR_PARTITION;
        let mut step = |snapshot: Snapshot| {
            let mut changes = changes(&mut remembered, &snapshot);
            changes.sort_by_key(|change| format!("{change:?}"));
            changes
        };
        let known = |partitions| Known { id: uuid::Uuid::nil(), partitions };
        let topic = |name: &str, partitions| Change::Topic(name.to_owned(), known(partitions));
        let first = snapshot("c", &[("a", 3, 0), ("b", 0, unknown), ("n", 0, codes::LEADER_NOT_AVAILABLE)]);
        assert_eq!(step(first.clone()), [Change::Cluster("c".to_owned()), topic("a", 3)]);
        assert_eq!(step(first), []);
        assert_eq!(step(snapshot("c", &[("a", 4, 0), ("b", 1, 0)])), [topic("a", 4), topic("b", 1)]);
        assert_eq!(
            step(snapshot("c", &[("a", 0, codes::LEADER_NOT_AVAILABLE), ("b", 0, unknown)])),
            [Change::Gone("b".to_owned())]
        );
        assert_eq!(step(snapshot("d", &[("a", 4, 0)])), [Change::Cluster("d".to_owned()), topic("a", 4)]);
    }
}
