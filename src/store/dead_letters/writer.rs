//! The thread that owns the log of dead letters.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::{Accounts, GivenUp, Letter, Request, Shared};
use crate::backlog::log::append::Ticket;
use crate::backlog::log::engine::Log;
use crate::backlog::log::entry::{Entry, Records};
use crate::backlog::log::error::LogError;
use crate::backlog::log::storage::Storage;
use crate::backlog::name::PartitionName;
use crate::queue::receipt::Outcome;

/// How long after a failure the next attempt comes.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Writer<S: Storage, O> {
    open: O,
    log: Option<Log<S>>,
    accounts: Accounts,
    shared: Arc<Shared>,
    /// Not on disk yet, oldest first, and in which frame each was appended.
    letters: VecDeque<(Letter, Option<Ticket>)>,
    trouble: Option<Arc<str>>,
}

impl<S: Storage, O: FnMut() -> Result<Log<S>, LogError>> Writer<S, O> {
    pub(super) fn new(open: O, accounts: Accounts, shared: Arc<Shared>) -> Self {
        Writer { open, log: None, accounts, shared, letters: VecDeque::new(), trouble: None }
    }

    pub(super) fn run(mut self) {
        loop {
            let (requests, stopping) = self.wait();
            for Request { what, answer } in requests {
                let done = self.give_up(what).map_err(|error| error.to_string().into());
                // Whoever asked may have gone; it is done all the same.
                let _ = answer.send(done);
            }
            let written = self.write();
            self.tell(written.err());
            if stopping {
                // Closing makes the next opening cheaper, and nothing else.
                let _ = self.log.take().map(Log::close);
                return;
            }
        }
    }

    /// Waits for letters, requests, the order to stop, or the time to try again.
    fn wait(&mut self) -> (VecDeque<Request>, bool) {
        let mut inbox = self.shared.inbox.lock();
        while inbox.letters.is_empty() && inbox.requests.is_empty() && !inbox.stopping {
            if self.letters.is_empty() {
                self.shared.filled.wait(&mut inbox);
            } else if self.shared.filled.wait_for(&mut inbox, RETRY).timed_out() {
                break;
            }
        }
        self.letters.extend(std::mem::take(&mut inbox.letters).into_iter().map(|letter| (letter, None)));
        (std::mem::take(&mut inbox.requests), inbox.stopping)
    }

    /// Writes all letters, and settles those that are on disk.
    fn write(&mut self) -> Result<(), LogError> {
        if self.letters.is_empty() {
            return Ok(());
        }
        let stored_at = (self.accounts.clock)();
        let log = opened(&mut self.log, &mut self.open)?;
        let appended =
            self.letters.iter_mut().filter(|(_, ticket)| ticket.is_none()).try_for_each(|(letter, ticket)| {
                *ticket = Some(append(log, letter, stored_at)?);
                Ok(())
            });
        let synced = log.sync();
        let synced_to = log.synced();
        while let Some((letter, _)) =
            self.letters.pop_front_if(|(_, ticket)| ticket.is_some_and(|ticket| ticket <= synced_to))
        {
            self.settle(letter);
        }
        appended.and(synced.map(|_| ()))
    }

    fn settle(&self, letter: Letter) {
        let Letter { partition, content, note, refusal, marks, charged } = letter;
        if let Some(note) = note {
            partition.note(note);
        }
        self.shared.inbox.lock().waiting.records -= u64::from(content.count);
        self.accounts.ledger.dead_letter(refusal.code, content.count.into());
        self.accounts.budget.release(charged);
        let reason: Arc<str> = refusal.words.into();
        for mark in marks {
            let (partition, error_code, reason) = (partition.id(), refusal.code, reason.clone());
            mark.receipt.settle(Outcome::Failed { partition, error_code, reason });
        }
    }

    fn give_up(&mut self, what: GivenUp) -> Result<u64, LogError> {
        give_up(opened(&mut self.log, &mut self.open)?, what)
    }

    fn tell(&mut self, trouble: Option<LogError>) {
        let trouble: Option<Arc<str>> = trouble.map(|error| error.to_string().into());
        if trouble == self.trouble {
            return;
        }
        self.shared.inbox.lock().waiting.trouble = trouble.clone();
        match &trouble {
            Some(why) => error!(
                %why,
                batches = self.letters.len(),
                "dead letters cannot be stored; they are held in memory and tried again every second (forebay dead-letters makes room)"
            ),
            None => info!("dead letters are stored again"),
        }
        self.trouble = trouble;
    }
}

/// Takes letters out of a log for good, durably. Returns how many records that were. Blocks.
///
/// # Errors
/// The log does not have them, or the disk fails.
pub fn give_up<S: Storage>(log: &mut Log<S>, what: GivenUp) -> Result<u64, LogError> {
    let GivenUp { partition, range, reason } = what;
    let held = |log: &Log<S>| log.partition(partition).map_or(0, |partition| partition.held());
    let before = held(log);
    log.append(&[Entry::Dropped { partition, range, reason }])?;
    log.sync()?;
    Ok(before.saturating_sub(held(log)))
}

fn opened<'l, S: Storage>(
    log: &'l mut Option<Log<S>>,
    open: &mut impl FnMut() -> Result<Log<S>, LogError>,
) -> Result<&'l mut Log<S>, LogError> {
    match log {
        Some(log) => Ok(log),
        None => Ok(log.insert(open()?)),
    }
}

fn append<S: Storage>(log: &mut Log<S>, letter: &Letter, stored_at: i64) -> Result<Ticket, LogError> {
    let topic = letter.partition.topic();
    let name = PartitionName {
        topic_id: topic.id().into_bytes(),
        partition: Some(letter.partition.id()),
        topic: topic.name.as_bytes(),
    };
    let partition = log.define(&name.encode())?;
    let content = &letter.content;
    log.append(&[Entry::Records(Records {
        partition,
        first: log.partition(partition).map_or(0, |partition| partition.next),
        count: content.count,
        base_timestamp: content.base_timestamp,
        max_timestamp: content.max_timestamp,
        stored_at,
        codec: content.codec,
        tags: &letter.refusal.to_tags(),
        data: &content.data,
    })])
}
