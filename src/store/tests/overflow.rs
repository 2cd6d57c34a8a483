//! Topics that overflow, with a broker's task and a broker in miniature: whatever becomes of the daemon, what was stored or acknowledged is there
//! once, and in order.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::sender::{Broker, Sender};
use super::*;

/// Small files are made quickly.
pub const LIMIT: u64 = 8 << 20;
/// How long a random walk waits for a partition to go back to memory.
pub const REST: Duration = Duration::from_millis(20);

pub fn world(storage: SimulatedStorage, memory: usize) -> World {
    World::with_policy(StorePolicy::Overflow, 1, storage, 64 << 20, memory)
}

/// Turned on when the log's thread has looked.
pub fn spill(world: &World) {
    stored(&world.partition).ask_unless_on();
    soon(|| stored(&world.partition).is_on());
}

pub fn is_off(world: &World) -> bool {
    world.store.shared().is_look_due.store(true, Ordering::Relaxed);
    world.store.shared().retry();
    world.store.shared().inbox.ring();
    !stored(&world.partition).is_on()
}

pub fn accepted_by_log(world: &World) -> u64 {
    world.store.shared().figures().ledger.accepted
}

#[test]
fn what_memory_keeps_never_reaches_the_log() {
    let (world, mut broker, mut random) =
        (world(SimulatedStorage::new(1), 1 << 20), Broker::default(), Rng::with_seed(1));
    let mut sender = Sender::new(1);
    for number in 0..20 {
        world.push_for(When::Delivered, number, 10);
        sender.send(&world, &mut broker, &mut random);
        sender.hear(&world, false, &mut random);
    }
    assert_eq!((broker.log, sender.delivered), ((0..20).collect(), 20));
    assert_eq!(accepted_by_log(&world), 0);
    assert_eq!(world.partition.records_in_memory_only(), 0);
    world.store.stop().unwrap();
}

#[test]
fn acks_1_has_all_before_it_stored_and_what_was_in_flight_goes_again_under_its_numbers() {
    let storage = SimulatedStorage::new(2);
    let mut broker = Broker::default();
    let mut random = Rng::with_seed(2);
    let first = world(storage.clone(), 1 << 20);
    let mut sender = Sender::new(1);
    // The first flight goes alone: one is acknowledged, then some are in flight.
    for number in 0..10 {
        first.push_for(When::Delivered, number, 60);
    }
    sender.send(&first, &mut broker, &mut random);
    sender.hear(&first, false, &mut random);
    (0..2).for_each(|_| sender.send(&first, &mut broker, &mut random));
    let there = broker.log.len();
    assert!((3..10).contains(&there), "{there}");
    first.push(10, 10);
    assert_eq!(first.answers(1), [0]);
    assert!(stored(&first.partition).is_on());
    let topic = first.partition.topic();
    assert_eq!(topic.spilled.records.load(Ordering::Relaxed), 11 - sender.delivered);
    storage.lose_power();

    let second = world(storage.clone(), 1 << 20);
    assert!(stored(&second.partition).is_on());
    assert_eq!(second.ledger.balance().held, 11 - sender.delivered);
    let mut sender = Sender::new(2);
    second.partition.assign(&Drainer::new(1));
    soon(|| {
        sender.send(&second, &mut broker, &mut random);
        sender.hear(&second, false, &mut random);
        second.partition.held_records() == 0
    });
    assert_eq!(broker.log, (0..11).collect::<Vec<_>>(), "{there} were there before");
    assert_eq!(second.ledger.balance().possible_duplicates, 0);
    soon(|| is_off(&second));
    assert_eq!(second.store.shared().figures().ledger.held(), 0);
    second.push_for(When::Delivered, 11, 10);
    soon(|| second.partition.take_from_intake().is_some_and(|item| item.next_index().is_none()));
    second.store.stop().unwrap();
}

#[test]
fn what_was_taken_in_part_is_stored_from_there_on() {
    let world = world(SimulatedStorage::new(3), 1 << 20);
    let (mut broker, mut random, mut sender) = (Broker::default(), Rng::with_seed(3), Sender::new(1));
    // A burst of 20 records, of which the first batch takes some.
    world.push_burst(0..20, 50);
    sender.send(&world, &mut broker, &mut random);
    sender.hear(&world, false, &mut random);
    let taken = broker.log.len() as u64;
    assert!((1..20).contains(&taken));
    let used = world.budget.used();
    spill(&world);
    soon(|| accepted_by_log(&world) == 20 - taken);
    assert_eq!(world.partition.held_records(), 20 - taken);
    assert!(world.budget.used() <= used);
    world.partition.assign(&Drainer::new(1));
    soon(|| {
        sender.send(&world, &mut broker, &mut random);
        sender.hear(&world, false, &mut random);
        broker.log.len() == 20
    });
    assert_eq!(broker.log, (0..20).collect::<Vec<_>>());
    world.store.stop().unwrap();
    assert_eq!(world.budget.used(), 0);
}

#[test]
fn a_disk_that_fails_leaves_everything_in_memory_and_refuses_acks_1() {
    let world = world(SimulatedStorage::new(4), 1 << 20);
    let (mut broker, mut random, mut sender) = (Broker::default(), Rng::with_seed(4), Sender::new(1));
    world.push_for(When::Delivered, 0, 10);
    world.storage.fail(Some(Fault { after: 0, times: u64::MAX, errno: Errno::EIO }));
    world.store.shared().probe();
    soon(|| matches!(world.store.shared().figures().health, Health::Failing(_)));
    world.push(1, 10);
    assert_eq!(world.answers(1), [56]);
    assert!(!stored(&world.partition).is_on());
    soon(|| {
        sender.send(&world, &mut broker, &mut random);
        sender.hear(&world, false, &mut random);
        broker.log == [0, 1]
    });
    world.heal();
    world.push(2, 10);
    assert_eq!(world.answers(1), [0]);
    world.store.stop().unwrap();
}

#[test]
fn short_memory_has_those_stored_that_hold_the_most() {
    let world = world(SimulatedStorage::new(5), 4 << 20);
    for number in 0..70 {
        world.push_for(When::Delivered, number, 50_000);
    }
    assert!(world.budget.is_pressed());
    assert!(world.store.shared().look_at_overflow(&world.topics, Instant::now()));
    soon(|| world.budget.used() < 3 << 20);
    // While it moves to the log some of it counts twice.
    soon(|| world.partition.held_records() == 70);
    world.partition.assign(&Drainer::new(1));
    assert_eq!(world.take(70), (0..70).collect::<Vec<_>>());
    world.store.stop().unwrap();
}

#[test]
fn what_has_waited_for_too_long_is_stored_and_what_has_not_is_not() {
    let world = world(SimulatedStorage::new(6), 1 << 20);
    world.push_for(When::Delivered, 0, 10);
    let now = Instant::now();
    let after = world.partition.topic().rules.spill_after;
    assert!(world.store.shared().look_at_overflow(&world.topics, now));
    assert!(world.store.shared().inbox.next_to_spill().is_none() && !stored(&world.partition).is_on());
    assert!(world.store.shared().look_at_overflow(&world.topics, now + after));
    soon(|| accepted_by_log(&world) == 1);
    world.store.stop().unwrap();
}

#[test]
fn a_stop_stores_what_is_left() {
    let storage = SimulatedStorage::new(7);
    let first = world(storage.clone(), 1 << 20);
    (0..5).for_each(|number| first.push_for(When::Delivered, number, 10));
    first.store.shared().spill_all(&first.topics);
    first.store.stop().unwrap();
    assert_eq!(first.partition.records_in_memory_only(), 0);
    assert_eq!(world(storage, 1 << 20).ledger.balance().held, 5);
}

/// Sends and hears until `is_so`.
#[track_caller]
pub fn flow_until(
    world: &World,
    sender: &mut Sender,
    broker: &mut Broker,
    random: &mut Rng,
    mut is_so: impl FnMut(&World, &Broker) -> bool,
) {
    soon(|| {
        sender.send(world, broker, random);
        sender.hear(world, false, random);
        is_so(world, broker)
    });
}

/// Records are pushed, sent, answered, asked to be stored, left alone until they are not stored any more; connections are lost, and the power.
#[test]
fn at_random_nothing_that_was_promised_is_lost_doubled_or_out_of_order() {
    let turned_off: u32 = (0..8).map(random_walk).sum();
    assert!(turned_off > 8, "{turned_off} times in 8 walks it went back to memory");
}

/// Returns how often it was seen to go back to memory.
fn random_walk(seed: u64) -> u32 {
    let mut random = Rng::with_seed(seed);
    let storage = SimulatedStorage::new(seed);
    let mut broker = Broker::default();
    let (mut number, mut turned_off) = (0, 0);
    let mut promised = BTreeSet::new();
    for start in 1..=6 {
        let world = World::with_policy(StorePolicy::Overflow, 1, storage.clone(), LIMIT, 1 << 20);
        world.partition.assign(&Drainer::new(1));
        let mut sender = Sender::new(start);
        for _ in 0..random.usize(..300) {
            match random.u8(..20) {
                0..6 => {
                    let wants = if random.u8(..8) == 0 { When::Stored } else { When::Delivered };
                    world.push_for(wants, number, random.usize(..80));
                    number += 1;
                }
                6..12 => sender.send(&world, &mut broker, &mut random),
                12..16 => sender.hear(&world, false, &mut random),
                16 => sender.hear(&world, random.bool(), &mut random),
                17 => stored(&world.partition).ask_unless_on(),
                18 => {
                    while let Some(request) = world.answers.pop() {
                        assert_eq!(request.results().records[0].error_code, 0);
                        promised.insert(i64::from(request.correlation_id));
                    }
                }
                // Nothing is pushed for a while, as long as it takes at most.
                _ => {
                    let end = Instant::now() + REST;
                    let mut was_on = false;
                    while !(is_off(&world) && was_on) && Instant::now() < end {
                        was_on |= stored(&world.partition).is_on();
                        sender.send(&world, &mut broker, &mut random);
                        sender.hear(&world, false, &mut random);
                        yield_now();
                    }
                    turned_off += u32::from(was_on && is_off(&world));
                }
            }
        }
        if start == 6 {
            soon(|| {
                sender.send(&world, &mut broker, &mut random);
                sender.hear(&world, false, &mut random);
                is_off(&world) && world.partition.held_records() == 0
            });
            let balance = world.ledger.balance();
            assert_eq!((balance.held, balance.accepted), (0, balance.delivered), "seed {seed}");
            assert_eq!(world.store.shared().figures().ledger.held(), 0, "seed {seed}");
            assert_eq!(world.budget.used(), 0, "seed {seed}");
        }
        assert_eq!(world.ledger.balance().possible_duplicates, 0, "seed {seed}");
        // From here on nothing is done any more; then it is as if it had never been there.
        storage.fail(Some(Fault { after: 0, times: u64::MAX, errno: Errno::EIO }));
        let World { store, answers, .. } = world;
        let _ = store.stop();
        while let Some(request) = answers.pop() {
            if request.results().records[0].error_code == 0 {
                promised.insert(i64::from(request.correlation_id));
            }
        }
        storage.fail(None);
        storage.lose_power();
    }
    let is_ascending = broker.log.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(is_ascending, "seed {seed}: {:?}", broker.log);
    let found: BTreeSet<i64> = broker.log.iter().copied().collect();
    let lost: Vec<_> = promised.difference(&found).collect();
    assert!(lost.is_empty(), "seed {seed}: {lost:?} were promised");
    turned_off
}
