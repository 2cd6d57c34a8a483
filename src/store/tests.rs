use std::collections::VecDeque;
use std::ops::Range;
use std::thread::yield_now;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::Instant;

use super::*;
use crate::backlog::log::read::{Cursor, Next};
use crate::backlog::log::storage::simulated::{Fault, SimulatedStorage};
use crate::config::{Config, StorePolicy};
use crate::queue::drainer::Drainer;
use crate::queue::item::{Item, Payload};
use crate::queue::receipt::{Answers, Mark, Request, When};
use crate::queue::topic::Topics;
use crate::record::{Record, Run};

mod overflow;
mod sender;
mod turning;

const SOON: Duration = Duration::from_secs(30);

/// A store on a simulated disk, and a topic of one partition in it.
struct World {
    storage: SimulatedStorage,
    store: Store<SimulatedStorage>,
    topics: Topics,
    budget: Arc<Budget>,
    ledger: Arc<Ledger>,
    partitions: Vec<Arc<Partition>>,
    partition: Arc<Partition>,
    answers: Arc<Answers>,
}

impl World {
    fn new(storage: SimulatedStorage, memory: usize) -> World {
        World::of_partitions(1, storage, memory)
    }

    fn of_partitions(count: usize, storage: SimulatedStorage, memory: usize) -> World {
        World::with_policy(StorePolicy::Always, count, storage, 64 << 20, memory)
    }

    fn with_policy(policy: StorePolicy, count: usize, storage: SimulatedStorage, limit: u64, memory: usize) -> World {
        let mut config = Config::default();
        config.producer.store = policy;
        let (config, inbox) = (Arc::new(config), Arc::new(LogInbox::default()));
        let (budget, ledger) = (Arc::new(Budget::new(memory)), Arc::new(Ledger::default()));
        let topics = Topics::with_log(config.clone(), Some(inbox.clone()));
        let mut log = Log::open(storage.clone(), Options::with_limit(limit), 1).unwrap().0;
        let parts = Parts { config: &config, topics: &topics, budget: &budget, ledger: &ledger };
        restore(&mut log, parts).unwrap();
        let topic = topics.find_or_create("t").unwrap();
        topics.place(&topic, count, |_, _| {});
        let partitions = topic.partitions().unwrap().to_vec();
        let partition = partitions[0].clone();
        let store = Store::start(log, inbox, budget.clone(), ledger.clone(), || 0).unwrap();
        World { storage, store, topics, budget, ledger, partitions, partition, answers: Arc::new(Answers::default()) }
    }

    /// Hands over a record of that size, which is the `number`th; its client asks for acks=1.
    fn push(&self, number: i64, bytes: usize) {
        self.push_to(&self.partition, number, bytes);
    }

    fn push_to(&self, partition: &Arc<Partition>, number: i64, bytes: usize) {
        self.push_item(partition, number..number + 1, bytes, self.mark(number));
    }

    /// The same; its client wants to be answered only if it asks for acks=1.
    fn push_for(&self, when: When, number: i64, bytes: usize) {
        let marks = if when == When::Stored { self.mark(number) } else { VecDeque::new() };
        self.push_item(&self.partition, number..number + 1, bytes, marks);
    }

    /// Hands over records of that size in one burst.
    fn push_burst(&self, numbers: Range<i64>, bytes: usize) {
        self.push_item(&self.partition, numbers, bytes, VecDeque::new());
    }

    fn mark(&self, number: i64) -> VecDeque<Mark> {
        let request = Request::answered_when(When::Stored, number as i32, 1, 0, self.answers.clone());
        [Mark { at: 0, receipt: request.receipt(0, 1) }].into()
    }

    fn push_item(&self, partition: &Arc<Partition>, numbers: Range<i64>, bytes: usize, marks: VecDeque<Mark>) {
        let mut run = Run::default();
        let value = vec![7; bytes];
        for number in numbers {
            run.push(&Record { timestamp: number, stamped_here: false, key: None, value: Some(&value), headers: &[] });
        }
        self.ledger.accept(run.count().into());
        let item = Item::records(run, marks, Instant::now());
        self.budget.charge(item.charged_bytes());
        partition.push(item);
    }

    /// The disk fails no longer, and the log has found out.
    fn heal(&self) {
        self.storage.fail(None);
        soon(|| {
            self.store.shared().retry();
            self.store.shared().figures().health == Health::Well
        });
    }

    /// The error codes of so many answers.
    fn answers(&self, count: usize) -> Vec<i16> {
        let mut codes = Vec::new();
        soon(|| {
            while let Some(request) = self.answers.pop() {
                codes.push(request.results().records[0].error_code);
            }
            codes.len() >= count
        });
        codes
    }

    /// The timestamps of what is ready, as a broker's task takes it, until there are so many; their indexes follow each other.
    fn take(&self, count: usize) -> Vec<i64> {
        let mut taken = Vec::new();
        soon(|| {
            self.partition.lower_signal();
            while let Some(item) = self.partition.take_from_intake() {
                let Payload::Records(run) = item.payload() else { panic!("none is a batch") };
                assert_eq!(item.next_index(), Some(taken.len() as u64));
                taken.extend(run.records_from(0).map(|record| record.timestamp));
                self.partition.batched(item.left(), item.left_bytes());
                self.budget.release(item.charged_bytes());
            }
            taken.len() >= count
        });
        taken
    }
}

#[track_caller]
fn soon(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "not in {SOON:?}");
        yield_now();
    }
}

fn stored(partition: &Partition) -> &crate::queue::stored::Stored {
    partition.stored().expect("its topic is stored")
}

#[test]
fn what_memory_has_no_room_for_is_stored_and_read_back_in_order() {
    const RECORDS: usize = 300;
    let world = World::new(SimulatedStorage::new(1), 2 << 20);
    for number in 0..RECORDS {
        world.push(number as i64, 100_000);
        // A client of this size is not read while memory is full.
        soon(|| world.budget.has_room());
    }
    assert_eq!(world.answers(RECORDS), vec![0; RECORDS]);
    assert!(stored(&world.partition).log_only().records > RECORDS as u64 / 2);
    assert_eq!(world.partition.held_records(), RECORDS as u64);
    world.partition.assign(&Drainer::new(1));
    assert_eq!(world.take(RECORDS), (0..RECORDS as i64).collect::<Vec<_>>());
    assert!(stored(&world.partition).log_only().is_empty());
    world.push(RECORDS as i64, 1);
    soon(|| world.partition.take_from_intake().is_some());
    world.store.stop().unwrap();
}

#[test]
fn what_a_small_run_shares_its_frame_with_is_small() {
    let storage = SimulatedStorage::new(4);
    let world = World::of_partitions(200, storage.clone(), 8 << 20);
    // Nothing is appended while the disk fails, so all of it is planned at once.
    storage.fail(Some(Fault { after: 0, times: u64::MAX, errno: Errno::EIO }));
    let partitions = &world.partitions;
    let sizes = [300, 300, 60_000, 300, 2_000];
    for (partition, bytes) in partitions.iter().zip(sizes.into_iter().cycle()) {
        world.push_to(partition, 0, bytes);
    }
    world.answers(partitions.len());
    storage.fail(None);
    soon(|| {
        world.store.shared().retry();
        partitions.iter().all(|partition| partition.waiting_bytes() > 0)
    });
    world.store.stop().unwrap();
    let mut log = Log::open(storage, Options::with_limit(64 << 20), 1).unwrap().0;
    for (id, bytes) in (0..200).zip(sizes.into_iter().cycle()) {
        let Next::Runs(runs) = log.locate(&mut Cursor::new(id, 0), 1).unwrap() else { panic!("it has a run") };
        assert!(runs[0].len_bytes() < 20_000 + bytes, "{} bytes are read for a record of {bytes}", runs[0].len_bytes());
        assert!(bytes < 20_000 || runs[0].len_bytes() < bytes + 200, "a large run shares its frame");
    }
}

#[test]
fn a_failing_disk_refuses_acks_1_keeps_the_records_and_stores_them_when_it_is_well() {
    let world = World::new(SimulatedStorage::new(2), 1 << 20);
    world.push(0, 10);
    assert_eq!(world.answers(1), [0]);
    world.storage.fail(Some(Fault { after: 0, times: u64::MAX, errno: Errno::EIO }));
    world.push(1, 10);
    assert_eq!(world.answers(1), [56]);
    assert!(matches!(world.store.shared().figures().health, Health::Failing(words) if words.contains("(EIO)")));
    world.heal();
    world.push(2, 10);
    assert_eq!(world.answers(1), [0]);
    world.storage.lose_power();
    let after = World::new(world.storage.clone(), 1 << 20);
    assert_eq!((after.ledger.balance().held, after.partition.held_records()), (3, 3));
}

#[test]
fn a_page_that_cannot_be_read_is_no_damage() {
    let world = World::new(SimulatedStorage::new(3), 1 << 20);
    (0..3).for_each(|number| world.push(number, 10));
    assert_eq!(world.answers(3), [0; 3]);
    world.store.stop().unwrap();
    let world = World::new(world.storage, 1 << 20);
    world.storage.fail(Some(Fault { after: 0, times: 5, errno: Errno::EIO }));
    world.partition.assign(&Drainer::new(1));
    soon(|| !world.store.shared().resting.lock().is_empty());
    assert_eq!(world.partition.held_records(), 3);
    world.storage.fail(None);
    world.store.shared().retry();
    assert_eq!(world.take(3), [0, 1, 2]);
    assert_eq!(world.ledger.balance().dropped, []);
}
