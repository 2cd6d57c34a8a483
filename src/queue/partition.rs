//! One topic-partition's queue: the lock-free intake, and behind a lock the window.
//!
//! While a partition is stored, the log's thread drains the intake, and the drainer takes what comes back from there ([`Stored`]).
//!
//! Any task may push; one task, the drainer's, takes. Which drainer that is can change ([`Partition::assign`],
//! [`Partition::hand_over`]): never while something is in flight on the old one's connection.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::drainer::Drainer;
use super::given_up::GivenUp;
use super::intake::{Bursts, Intake, Level};
use super::item::Item;
use super::note::Note;
use super::signal::{Signal, Tell};
use super::stored::Stored;
use super::topic::TopicInfo;
use super::window::{Listing, Window};

/// After so many answers in time a partition that was late shares a connection with the others again.
const QUICK_ANSWERS: u8 = 3;

/// Who drains a partition now, and who shall from when its old connection has answered.
#[derive(Debug, Default)]
struct Home {
    current: Option<Arc<Drainer>>,
    next: Option<Arc<Drainer>>,
}

/// See the module. Idle, it is 512 bytes and nothing else.
#[derive(Debug)]
pub struct Partition {
    /// What is pushed. Its counts go on for what is in the window's front, unless the partition is stored.
    bursts: Bursts,
    signal: Signal,
    level: Level,
    topic: Arc<TopicInfo>,
    id: i32,
    /// Answers in time that are missing until it may share a connection again; 0 while it does.
    apart: AtomicU8,
    home: Mutex<Home>,
    window: Mutex<Window>,
    /// Of a partition whose records go through the log, or may.
    stored: Option<Box<Stored>>,
}

impl Partition {
    /// An empty queue that nobody drains yet.
    pub fn new(topic: Arc<TopicInfo>, id: i32) -> Arc<Self> {
        let is_on = topic.log.is_some() && !topic.overflows();
        let stored =
            |me: &Weak<Partition>| topic.log.as_ref().map(|log| Box::new(Stored::new(log.clone(), me.clone(), is_on)));
        let window = Window { is_stored: is_on, ..Window::default() };
        let (bursts, signal, level) = (Bursts::default(), Signal::default(), Level::default());
        signal.pass_on(is_on);
        Arc::new_cyclic(|me| Partition {
            stored: stored(me),
            bursts,
            signal,
            level,
            topic: topic.clone(),
            id,
            apart: AtomicU8::new(0),
            home: Mutex::default(),
            window: Mutex::new(window),
        })
    }

    /// Its topic.
    pub fn topic(&self) -> &Arc<TopicInfo> {
        &self.topic
    }

    /// Its number within the topic.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Puts a burst at the end. Lock-free but for the moment when an idle partition becomes ready; never waits.
    /// The item's bytes must be charged already.
    pub fn push(self: &Arc<Self>, item: Box<Item>) {
        // Only where it could matter: a look at each receipt.
        let wants_log = self.stored.is_some() && item.wants_stored();
        let tell = self.intake().push(item, self.topic.rules.batch_size);
        match (tell, &self.stored) {
            (Tell::Nobody, _) => {}
            (Tell::Drainer, None) => self.announce(),
            (Tell::Drainer, Some(stored)) => {
                self.announce();
                stored.waits();
            }
            (Tell::Log, stored) => stored.iter().for_each(|stored| stored.announce()),
        }
        if let Some(stored) = self.stored.as_ref().filter(|_| wants_log) {
            stored.ask_unless_on();
        }
    }

    /// Its way to the log and back, if its records go there, or may.
    pub fn stored(&self) -> Option<&Stored> {
        self.stored.as_deref()
    }

    pub(super) fn intake(&self) -> Intake<'_> {
        Intake { bursts: &self.bursts, signal: &self.signal, level: &self.level }
    }

    /// What the drainer takes from. Changes only under the window's lock.
    fn side(&self) -> Intake<'_> {
        match &self.stored {
            Some(stored) if stored.is_on() => stored.ready(),
            _ => self.intake(),
        }
    }

    /// Puts a burst of a stored partition where batches are made of it: for the log's thread, and who reads for it.
    pub fn make_ready(self: &Arc<Self>, item: Box<Item>) {
        if let Some(stored) = &self.stored
            && stored.ready().push(item, self.topic.rules.batch_size) != Tell::Nobody
        {
            self.announce();
        }
    }

    /// Bytes of records that wait to be put in a batch.
    pub fn waiting_bytes(&self) -> usize {
        self.side().bytes()
    }

    /// Whether a whole batch waits.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes() >= self.topic.rules.batch_size
    }

    /// The window; held for as long as it takes to make a batch. Pushes do not need it.
    pub fn window(&self) -> MutexGuard<'_, Window> {
        let mut window = self.window.lock();
        if let Some(stored) = &self.stored {
            stored.tell_window(&mut window);
        }
        window
    }

    /// What became of records of a stored partition, for the log; notes of one partition are written in their order.
    pub fn note(&self, note: Note) {
        if let Some(stored) = &self.stored {
            stored.note(note, None);
        }
    }

    /// Records of a stored partition are given up: `notes` say so to the log, and when it has them on disk the records are settled.
    pub fn give_up(&self, mut notes: Vec<Note>, given_up: GivenUp) {
        let (Some(stored), Some(last)) = (&self.stored, notes.pop()) else { return };
        notes.into_iter().for_each(|note| stored.note(note, None));
        stored.note(last, Some(Box::new(given_up)));
    }

    /// Whether more records are about to become ready by themselves: they are being written to the log, or read back from it.
    pub fn may_get_more(&self) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.has_more())
    }

    /// Asks for what only the log has of it, if there is any.
    pub fn want_more(&self) {
        if let Some(stored) = &self.stored {
            stored.want_more();
        }
    }

    /// For the drainer: pushes from now on announce themselves anew. Call it before looking into the intake.
    pub fn lower_signal(&self) {
        self.side().signal.lower();
    }

    /// For the drainer: whether a whole batch waits; if not, the push that makes it one announces it.
    pub fn is_full_or_will_say(&self) -> bool {
        self.side().signal.lower_to_listed();
        self.is_full()
    }

    /// For the drainer: the oldest burst that is not in the window yet.
    pub fn take_from_intake(&self) -> Option<Box<Item>> {
        self.side().pop()
    }

    /// Takes out what is in no batch yet, oldest first, for as long as `wants` says yes to the next burst. `window` is the partition's own.
    pub fn take_waiting(&self, window: &mut Window, wants: impl Fn(&Item) -> bool) -> VecDeque<Box<Item>> {
        let mut taken = VecDeque::new();
        loop {
            if window.front.is_empty() {
                window.front.extend(self.take_from_intake());
            }
            let Some(item) = window.front.pop_front_if(|item| wants(item)) else { return taken };
            self.batched(item.left(), item.left_bytes());
            taken.push_back(item);
        }
    }

    /// Whether the intake is empty.
    pub fn intake_is_empty(&self) -> bool {
        self.side().is_empty()
    }

    /// So many records, of so many bytes, wait no longer: they have gone into a batch, or were given up. To be called under the window's lock.
    pub fn batched(&self, records: u32, bytes: usize) {
        match self.stored.as_ref().filter(|stored| stored.is_on()) {
            None => _ = self.intake().left(records, bytes),
            Some(stored) => stored.batched(records, bytes),
        }
    }

    /// Records that wait here, in a batch or not, and are not settled.
    pub fn held_records(&self) -> u64 {
        let window = self.window.lock();
        // In the order in which records move on: one that does meanwhile is counted twice rather than not at all.
        let pushed = self.intake().records() as u64;
        let from_log = self.stored.as_ref().map_or(0, |stored| stored.held_records());
        pushed + from_log + window.batched_records()
    }

    /// About when the oldest record was read that waits here.
    pub fn waits_since(&self) -> Option<tokio::time::Instant> {
        let mut window = self.window();
        if window.front.is_empty() {
            window.front.extend(self.take_from_intake());
        }
        window.waits_since()
    }

    /// Of those, the ones that the log does not have.
    pub fn records_in_memory_only(&self) -> u64 {
        match &self.stored {
            Some(stored) if stored.is_on() => stored.unappended() as u64,
            _ => self.held_records(),
        }
    }

    /// The partition shall be drained by `drainer`. At once if nobody drains it; else from when the present drainer
    /// hands it over, for which it is woken. For the supervisor.
    pub fn assign(self: &Arc<Self>, drainer: &Arc<Drainer>) {
        let mut home = self.home.lock();
        match &home.current {
            None => {
                home.current = Some(drainer.clone());
                home.next = None;
            }
            Some(current) if Arc::ptr_eq(current, drainer) => {
                home.next = None;
                return;
            }
            Some(_) => home.next = Some(drainer.clone()),
        }
        let told = home.current.clone();
        drop(home);
        if let Some(told) = told {
            told.announce(self.clone());
        }
        // It may send now, so what only the log has is read.
        self.want_more();
    }

    /// Whether `drainer` drains it now.
    pub fn is_drained_by(&self, drainer: &Arc<Drainer>) -> bool {
        self.home.lock().current.as_ref().is_some_and(|current| Arc::ptr_eq(current, drainer))
    }

    /// Whether it waits to be handed over.
    pub fn is_leaving(&self) -> bool {
        self.home.lock().next.is_some()
    }

    /// For the present drainer, when nothing of the partition is in flight on its connection: passes it on to the next drainer.
    /// False if there is none: it stays.
    pub fn hand_over(self: &Arc<Self>) -> bool {
        let mut home = self.home.lock();
        let Some(next) = home.next.take() else { return false };
        home.current = Some(next.clone());
        drop(home);
        // Whatever the signal says: the new drainer looks once.
        next.announce(self.clone());
        true
    }

    /// For the supervisor, when the task behind `drainer` has ended and will not be built anew: nobody drains the partition,
    /// or at once the one who was to be next.
    pub fn abandon(self: &Arc<Self>, drainer: &Arc<Drainer>) {
        let mut home = self.home.lock();
        let is_it = |other: &Option<Arc<Drainer>>| other.as_ref().is_some_and(|other| Arc::ptr_eq(other, drainer));
        if is_it(&home.next) {
            home.next = None;
        }
        if is_it(&home.current) {
            home.current = home.next.take();
            drop(home);
            // The lists that it stood in are gone with the task, and so is what the task was to find out.
            let mut window = self.window.lock();
            window.listing = Listing::None;
            if let Some(flight) = &mut window.flight {
                flight.inquiry = None;
            }
            drop(window);
            self.announce();
        }
    }

    /// Whether somebody drains it: its leader is known.
    pub fn has_leader(&self) -> bool {
        self.home.lock().current.is_some()
    }

    /// The broker whose task drains it.
    pub fn leader(&self) -> Option<i32> {
        self.home.lock().current.as_ref().map(|drainer| drainer.broker)
    }

    /// Whether it is kept apart from the others of its broker, on the second connection.
    pub fn is_apart(&self) -> bool {
        self.apart.load(Ordering::Relaxed) > 0
    }

    /// Its answer was late: from now on it is kept apart. For its drainer, which then assigns it anew.
    pub fn keep_apart(&self) {
        self.apart.store(QUICK_ANSWERS, Ordering::Relaxed);
    }

    /// Whether an answer was in time since it is kept apart.
    pub fn has_been_in_time(&self) -> bool {
        self.apart.load(Ordering::Relaxed) < QUICK_ANSWERS
    }

    /// It shares a connection with the others again. For its drainer, which then assigns it anew.
    pub fn rejoin(&self) {
        self.apart.store(0, Ordering::Relaxed);
    }

    /// Its answer was in time. False as long as it is to be kept apart. For its drainer.
    pub fn was_in_time(&self) -> bool {
        let left = self.apart.load(Ordering::Relaxed).saturating_sub(1);
        self.apart.store(left, Ordering::Relaxed);
        left == 0
    }

    /// Tells the drainer to look, whatever the signal says.
    pub fn announce(self: &Arc<Self>) {
        // Read after the signal was raised: a drainer that took over before sees what was pushed when it first looks.
        let current = self.home.lock().current.clone();
        if let Some(drainer) = current {
            drainer.announce(self.clone());
        }
    }
}

#[cfg(test)]
mod tests;
