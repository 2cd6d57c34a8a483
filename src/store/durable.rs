//! Who waits until something in the log is durable, and what is told when it is.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::{error, info};

use super::{Health, Shared, outlook};
use crate::backlog::log::append::Ticket;
use crate::backlog::log::error::LogError;
use crate::queue::given_up::GivenUp;
use crate::queue::partition::Partition;
use crate::queue::receipt::{Outcome, Receipt};
use crate::queue::stored::Told;
use crate::queue::window::Attempt;
use crate::wire::codes;

/// Those who wait, in the order of what they wait for.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<(Ticket, Waiter)>);

/// One who waits.
#[derive(Debug)]
pub(super) enum Waiter {
    /// Clients that want to know that their records are stored: in this partition.
    Stored(i32, Vec<Receipt>),
    /// A batch that may leave then.
    Sent(Arc<Partition>, Attempt),
    /// Records that cannot come back then.
    GivenUp(Box<GivenUp>),
    /// What was done with may free room in a full log then.
    Room,
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last thing that somebody waits for.
    pub fn last(&self) -> Option<Ticket> {
        self.0.back().map(|(ticket, _)| *ticket)
    }

    pub fn push(&mut self, ticket: Ticket, waiter: Waiter) {
        self.0.push_back((ticket, waiter));
    }
}

impl Shared {
    /// What was appended up to a ticket is durable, or is not for now.
    pub(super) fn durable(&self, durable: Result<Ticket, Arc<LogError>>) {
        match durable {
            Ok(ticket) => loop {
                let next = self.waiting.lock().0.pop_front_if(|(needed, _)| *needed <= ticket);
                match next {
                    None => break,
                    Some((_, Waiter::Stored(partition, receipts))) => stored(partition, receipts),
                    Some((_, Waiter::Sent(partition, attempt))) => {
                        partition.stored().into_iter().for_each(|stored| stored.tell(Told::Noted(attempt)));
                    }
                    Some((_, Waiter::GivenUp(given_up))) => given_up.settle(&self.ledger, &self.budget),
                    Some((_, Waiter::Room)) => self.inbox.ring(),
                }
            },
            Err(error) => self.fails(&error),
        }
    }

    /// The disk takes what it is given.
    pub(super) fn is_well(&self) {
        let mut figures = self.figures.lock();
        if let Health::Failing(_) = figures.health {
            figures.health = Health::Well;
            *self.failing.lock() = None;
            info!("the backlog's disk is well again");
        }
    }

    /// The disk fails: who waits for acks=1 is told. The records stay, and are stored when it is well again.
    pub(super) fn fails(&self, error: &LogError) {
        let words = error.to_string();
        self.failing.lock().get_or_insert_with(|| (Instant::now(), self.budget.used()));
        if let Some(events) = self.said.admit() {
            error!(events, cause = %words, memory = %self.outlook(), "nothing can be stored: records are kept in memory, and acks=1 is refused");
        }
        self.figures.lock().health = Health::Failing(words.clone());
        self.inbox.wake();
        let mut waiting = self.waiting.lock();
        let mut refused = Vec::new();
        // Batches go on waiting: they leave when their notes are on disk.
        for (ticket, waiter) in std::mem::take(&mut waiting.0) {
            match waiter {
                Waiter::Stored(partition, receipts) => refused.push((partition, receipts)),
                waiter => waiting.push(ticket, waiter),
            }
        }
        drop(waiting);
        for (partition, receipts) in refused {
            not_stored(partition, receipts, &words);
        }
    }
}

impl Shared {
    /// While the disk fails: what is in memory only, and how long until that is full.
    pub(super) fn outlook(&self) -> String {
        let (used, limit) = (self.budget.used(), self.budget.limit());
        let (since, used_then) = self.failing.lock().unwrap_or_else(|| (Instant::now(), used));
        outlook::of_memory(used, limit, used.saturating_sub(used_then), since.elapsed())
    }
}

fn stored(partition: i32, receipts: Vec<Receipt>) {
    for receipt in receipts {
        receipt.settle(Outcome::Delivered { partition, base_offset: -1 });
    }
}

/// They stay accepted; but nobody promises that they survive.
pub(super) fn not_stored(partition: i32, receipts: Vec<Receipt>, words: &str) {
    for receipt in receipts {
        let reason = format!("not stored yet, and kept in memory: {words}").into();
        receipt.settle(Outcome::Failed { partition, error_code: codes::KAFKA_STORAGE_ERROR, reason });
    }
}
