//! A drainer's list of partitions that want to be looked at, and the bell beside it.
//!
//! One drainer stands for one broker connection slot; the task behind it may end and be built anew while the drainer and
//! its list stay. The list holds at most a few entries a partition: one for each rise of its [`super::signal::Signal`],
//! and one for each time that it is handed over.

use std::sync::Arc;

use crossbeam::queue::SegQueue;
use tokio::sync::Notify;

use super::partition::Partition;

/// See the module.
#[derive(Debug)]
pub struct Drainer {
    /// The broker's id.
    pub broker: i32,
    ready: SegQueue<Arc<Partition>>,
    bell: Notify,
}

impl Drainer {
    /// For a connection slot of `broker`.
    pub fn new(broker: i32) -> Arc<Self> {
        Arc::new(Drainer { broker, ready: SegQueue::new(), bell: Notify::new() })
    }

    /// Puts `partition` on the list and wakes the task.
    pub fn announce(&self, partition: Arc<Partition>) {
        self.ready.push(partition);
        self.bell.notify_one();
    }

    /// The next partition that wants to be looked at.
    pub fn next_ready(&self) -> Option<Arc<Partition>> {
        self.ready.pop()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Wakes the task without a partition.
    pub fn wake(&self) {
        self.bell.notify_one();
    }

    /// Waits until somebody was announced since the last wait. Cancel safe.
    pub async fn woken(&self) {
        self.bell.notified().await;
    }
}
