//! What the log's thread says, and does, when the log is full, when the disk fails, and when that is over.

use std::sync::atomic::Ordering;

use tracing::{info, warn};

use super::Health;
use super::append::Appender;
use super::durable::not_stored;
use super::spill::refuse_stored;
use crate::backlog::log::engine::Log;
use crate::backlog::log::error::LogError;
use crate::backlog::log::storage::{Storage, StorageFile};

impl<F: StorageFile> Appender<F> {
    pub(super) fn is_full<S: Storage<File = F>>(&self, log: &Log<S>, error: &LogError) {
        self.shared.full_at.store(log.counters().segments_freed, Ordering::Relaxed);
        self.look_into_all();
        let words = error.to_string();
        let mut figures = self.shared.figures.lock();
        if !matches!(figures.health, Health::Full(_)) {
            warn!(cause = %words, "the backlog is full: who writes to stored topics waits until Kafka has taken some of it");
        }
        figures.health = Health::Full(words);
    }

    pub(super) fn was_full(&self) {
        let mut figures = self.shared.figures.lock();
        if let Health::Full(_) = figures.health {
            figures.health = Health::Well;
            info!("the backlog has room again");
        }
        drop(figures);
        self.shared.full_at.store(u64::MAX, Ordering::Relaxed);
    }

    /// What was pushed is looked into, so that later pushes ring again.
    pub(super) fn look_into_all(&self) {
        for stored in self.queue.iter().filter_map(|partition| partition.stored()) {
            drop(stored.pushed());
        }
    }

    /// The disk does not take what waits: who wants to know is told; the records stay.
    pub(super) fn fails(&self, error: &LogError) {
        self.shared.fails(error);
        for partition in &self.queue {
            let Some(stored) = partition.stored() else { continue };
            let receipts: Vec<_> = stored.pushed().iter_mut().flat_map(|item| item.take_stored_receipts()).collect();
            not_stored(partition.id(), receipts, &error.to_string());
        }
        for partition in &self.unspilled {
            not_stored(partition.id(), refuse_stored(partition), &error.to_string());
        }
    }

    pub(super) fn publish<S: Storage<File = F>>(&mut self, log: &mut Log<S>) {
        self.outlook.look(log, (self.shared.clock)());
        let mut figures = self.shared.figures.lock();
        (figures.full_in, figures.oldest_stored_at) = (self.outlook.full_in, self.outlook.oldest_stored_at);
        figures.used_bytes = log.used_bytes();
        figures.limit_bytes = log.options().limit_bytes;
        figures.ledger.clone_from(&log.state().ledger);
    }
}
