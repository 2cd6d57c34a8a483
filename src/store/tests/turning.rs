//! Turning partitions of topics that overflow on and off where that is not plain: with little room in the log, with lanes that the log knows, at a stop.

use fastrand::Rng;

use super::overflow::{LIMIT, REST, accepted_by_log, flow_until, is_off, spill, world};
use super::sender::{Broker, Sender};
use super::*;
use crate::backlog::log::entry::Entry;
use crate::store::content::Content;
use crate::store::spill::{NO_STAMP, refuse_stored, run_size};
use crate::wire::codec::Codec;
use crate::wire::record_batch::BatchBuilder;

#[test]
fn what_is_sent_from_memory_never_takes_numbers_that_a_later_start_begins_with() {
    let storage = SimulatedStorage::new(8);
    let mut broker = Broker::default();
    broker.refuses = Some(1);
    let mut random = Rng::with_seed(8);
    let first = world(storage.clone(), 1 << 20);
    first.partition.assign(&Drainer::new(1));
    let mut sender = Sender::new(1);
    // The last that the log has is a dead letter: it ends with a lane in which nothing was sent.
    for number in 0..2 {
        first.push_for(When::Delivered, number, 10);
        spill(&first);
        flow_until(&first, &mut sender, &mut broker, &mut random, |world, _| world.partition.held_records() == 0);
    }
    soon(|| is_off(&first));
    first.push_for(When::Delivered, 2, 10);
    flow_until(&first, &mut sender, &mut broker, &mut random, |world, _| world.partition.held_records() == 0);
    // Stored, with nothing in flight.
    first.push(3, 10);
    assert_eq!(first.answers(1), [0]);
    storage.lose_power();

    let second = world(storage.clone(), 1 << 20);
    second.partition.assign(&Drainer::new(1));
    let mut sender = Sender::new(2);
    flow_until(&second, &mut sender, &mut broker, &mut random, |world, _| world.partition.held_records() == 0);
    assert_eq!(broker.log, [0, 2, 3]);
    assert_eq!(second.ledger.balance().possible_duplicates, 0);
    second.store.stop().unwrap();
}

#[test]
fn a_frame_larger_than_what_may_be_unsynced_goes_into_a_log_that_is_at_rest() {
    let options = Options { unsynced_bytes_max: 64 << 10, ..Options::with_limit(64 << 20) };
    let mut log = Log::open(SimulatedStorage::new(9), options, 1).unwrap().0;
    let number = log.define(b"a name").unwrap();
    log.sync().unwrap();
    log.mark().unwrap();
    assert!(log.unsynced_bytes() > 0 && log.appended() == log.synced());
    let run = Content { codec: 0, count: 1, base_timestamp: 0, max_timestamp: 0, data: vec![0; 100 << 10].into() };
    log.reserve(101 << 10, 1).unwrap();
    log.append_reserved(&[Entry::Records(run.records(number, 0, 0))]).unwrap();
    log.sync().unwrap();
    assert_eq!(log.state().ledger.accepted, 1);
}

/// Two partitions; of the second so much is in flight that it needs more room than the log has, though there is some. Where the log ends is tried out.
fn with_little_room() -> (World, Sender, Broker, Rng) {
    let world_of_two = || World::with_policy(StorePolicy::Overflow, 2, SimulatedStorage::new(10), LIMIT, 64 << 20);
    let fill = |world: &World, count: u64| {
        let other = &world.partitions[1];
        stored(other).ask_unless_on();
        (0..count).all(|number| {
            world.push_item(other, number as i64..number as i64 + 1, 50_000, VecDeque::new());
            stored(other).ask_unless_on();
            soon(|| accepted_by_log(world) == number + 1 || is_full(world));
            !is_full(world)
        })
    };
    let tried = world_of_two();
    fill(&tried, u64::MAX);
    let room = accepted_by_log(&tried);
    let (mut sender, mut broker, mut random) = (Sender::new(1), Broker::default(), Rng::with_seed(10));
    let world = world_of_two();
    assert!(fill(&world, room - 2));
    world.push_for(When::Delivered, 0, 400_000);
    sender.send(&world, &mut broker, &mut random);
    stored(&world.partition).ask_unless_on();
    soon(|| is_full(&world));
    (world, sender, broker, random)
}

fn is_full(world: &World) -> bool {
    matches!(world.store.shared().figures().health, Health::Full(_))
}

#[test]
fn what_has_no_room_keeps_nobody_else_waiting_and_the_log_is_well_when_nothing_waits() {
    let (world, mut sender, mut broker, mut random) = with_little_room();
    let mark = world.mark(7);
    world.push_item(&world.partitions[1], 7..8, 10, mark);
    let mut codes = Vec::new();
    soon(|| {
        world.store.shared().retry();
        codes.extend(world.answers.pop().map(|request| request.results().records[0].error_code));
        !codes.is_empty()
    });
    assert_eq!(codes, [0]);
    soon(|| is_full(&world));
    assert!(!stored(&world.partition).is_on());
    // Kafka takes it out of memory: there is no need of room any more.
    flow_until(&world, &mut sender, &mut broker, &mut random, |world, _| world.partition.held_records() == 0);
    soon(|| {
        world.store.shared().retry();
        world.store.shared().figures().health == Health::Well
    });
    soon(|| !world.store.shared().has_unspilled.load(Ordering::Relaxed));
    world.store.stop().unwrap();
}

/// A partition of a topic that overflows, and what the log's thread would be told.
fn partition_alone() -> (Arc<Partition>, Arc<LogInbox>) {
    let (mut config, inbox) = (Config::default(), Arc::new(LogInbox::default()));
    config.producer.store = StorePolicy::Overflow;
    let topics = Topics::with_log(Arc::new(config), Some(inbox.clone()));
    let topic = topics.find_or_create("t").unwrap();
    topics.place(&topic, 1, |_, _| {});
    (topic.partitions().unwrap()[0].clone(), inbox)
}

fn one_record() -> Box<Item> {
    let mut run = Run::default();
    run.push(&Record { timestamp: 0, stamped_here: false, key: None, value: None, headers: &[] });
    Item::records(run, VecDeque::new(), Instant::now())
}

#[test]
fn who_could_not_be_turned_on_is_listed_once_however_often_it_is_asked_for() {
    let (partition, inbox) = partition_alone();
    let stored = stored(&partition);
    stored.ask_unless_on();
    assert!(inbox.next_to_spill().is_some());
    stored.lower_ask();
    assert!(stored.raise_ask(), "the log's thread keeps it");
    stored.ask_unless_on();
    assert!(inbox.next_to_spill().is_none());
    stored.lower_ask();
    stored.ask_unless_on();
    assert!(!stored.raise_ask(), "it stands in the list again");
    assert!(inbox.next_to_spill().is_some());
}

#[test]
fn a_partition_that_is_turned_on_again_announces_what_becomes_ready() {
    let (partition, _inbox) = partition_alone();
    let drainer = Drainer::new(1);
    partition.assign(&drainer);
    for _ in 0..2 {
        stored(&partition).turn_on(&mut partition.window());
        while drainer.next_ready().is_some() {}
        partition.make_ready(one_record());
        assert!(drainer.next_ready().is_some());
        // The drainer takes it, and has not come to look again when the log is done with it.
        let item = partition.take_from_intake().unwrap();
        partition.batched(item.left(), item.left_bytes());
        stored(&partition).turn_off(&mut partition.window());
    }
}

#[test]
fn a_stop_stores_what_waits_to_go_back_to_memory() {
    let storage = SimulatedStorage::new(11);
    let world_of = || world(storage.clone(), 1 << 20);
    let first = world_of();
    first.partition.assign(&Drainer::new(1));
    let (mut sender, mut broker, mut random) = (Sender::new(1), Broker::default(), Rng::with_seed(11));
    first.push_for(When::Delivered, 0, 10);
    spill(&first);
    let mut number = 1;
    // What is not settled is in flight; sooner or later nothing more is appended.
    soon(|| {
        sender.send(&first, &mut broker, &mut random);
        is_off(&first);
        first.push_for(When::Delivered, number, 10);
        number += 1;
        let end = Instant::now() + REST;
        while stored(&first.partition).unappended() > 0 && Instant::now() < end {
            is_off(&first);
            yield_now();
        }
        stored(&first.partition).unappended() > 0
    });
    first.store.shared().spill_all(&first.topics);
    first.store.stop().unwrap();
    assert_eq!(first.partition.records_in_memory_only(), 0);
    assert_eq!(world_of().ledger.balance().held, number as u64);
}

#[test]
fn acks_1_is_refused_for_records_that_are_in_a_batch_already() {
    let world = world(SimulatedStorage::new(12), 1 << 20);
    // From now on nobody looks at what is asked for.
    world.store.shared().inbox.set_bell(None);
    world.push(0, 10);
    let (mut sender, mut broker, mut random) = (Sender::new(1), Broker::default(), Rng::with_seed(12));
    sender.send(&world, &mut broker, &mut random);
    assert_eq!(world.partition.window().batches.len(), 1);
    assert_eq!(refuse_stored(&world.partition).len(), 1);
}

#[test]
fn all_that_may_be_in_flight_fits_into_a_frame_however_short_its_records() {
    const FRAME: usize = 1 << 20;
    let batch_bytes_max = LogInbox::new(FRAME).batch_bytes_max();
    let mut run = Run::default();
    run.push(&Record { timestamp: 0, stamped_here: false, key: None, value: Some(b"1"), headers: &[] });
    for codec in [Codec::None, Codec::Lz4] {
        let mut builder = BatchBuilder::new();
        while builder.len_bytes() < batch_bytes_max {
            run.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
        }
        let batch = builder.finish(codec, None).0;
        let (bytes, in_log) = (batch.len_bytes(), run_size(batch.as_bytes(), batch.count()));
        assert!(6 * in_log <= FRAME, "{bytes} bytes become {in_log}");
        let content = Content::of(&batch.stamp(NO_STAMP), 1).unwrap();
        assert!(content.data.len() <= in_log, "{codec:?}: {bytes} bytes become {}, not {in_log}", content.data.len());
        assert!(codec == Codec::None || in_log < bytes + 1024, "{codec:?}: {bytes} bytes become {in_log}");
    }
}
