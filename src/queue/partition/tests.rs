use std::sync::atomic::{AtomicBool, AtomicI64};
use std::thread::{Scope, ScopedJoinHandle, yield_now};
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::config::Config;
use crate::queue::item::Payload;
use crate::queue::window::{ConnectionId, Flight};
use crate::record::{Record, Run};

fn partition() -> Arc<Partition> {
    Partition::new(TopicInfo::new("t", Config::default().producer), 0)
}

/// A burst of one record; `number` is its timestamp.
fn burst(number: i64) -> Box<Item> {
    let mut run = Run::default();
    run.push(&Record { timestamp: number, stamped_here: false, key: None, value: None, headers: &[] });
    Item::records(run, [].into(), Instant::now())
}

fn number(item: &Item) -> i64 {
    let Payload::Records(run) = item.payload() else { panic!("a burst has records") };
    run.records_from(0).next().unwrap().timestamp
}

/// What a broker's task does when nothing is in flight: looks at what was announced, hands over or takes all.
fn look(drainer: &Arc<Drainer>, taken: &Mutex<Vec<i64>>) {
    let Some(partition) = drainer.next_ready() else { return yield_now() };
    let _window = partition.window();
    if !partition.is_drained_by(drainer) || partition.is_leaving() && partition.hand_over() {
        return;
    }
    partition.lower_signal();
    while let Some(item) = partition.take_from_intake() {
        partition.batched(1, item.left_bytes());
        taken.lock().push(number(&item));
    }
}

#[test]
fn an_idle_partition_is_at_most_512_bytes() {
    assert!(size_of::<Partition>() <= 512, "{}", size_of::<Partition>());
}

#[test]
fn a_push_announces_a_partition_once_until_it_is_looked_at() {
    let (partition, drainer) = (partition(), Drainer::new(1));
    partition.assign(&drainer);
    assert!(drainer.next_ready().is_some());
    partition.push(burst(0));
    partition.push(burst(1));
    assert!(drainer.next_ready().is_some() && drainer.is_empty());
    partition.lower_signal();
    partition.push(burst(2));
    assert!(drainer.next_ready().is_some() && drainer.is_empty());
}

#[test]
fn a_partition_moves_when_its_old_drainer_hands_it_over() {
    let (partition, old, new) = (partition(), Drainer::new(1), Drainer::new(2));
    partition.assign(&old);
    partition.assign(&new);
    assert!(partition.is_leaving() && partition.is_drained_by(&old));
    assert!(partition.hand_over());
    assert!(partition.is_drained_by(&new) && new.next_ready().is_some());
    assert!(!partition.hand_over(), "it is where it shall be");
}

#[test]
fn a_partition_that_is_called_back_stays() {
    let (partition, drainer) = (partition(), Drainer::new(1));
    partition.assign(&drainer);
    partition.assign(&Drainer::new(2));
    partition.assign(&drainer);
    assert!(!partition.is_leaving() && partition.is_drained_by(&drainer));
}

#[test]
fn a_partition_goes_to_the_next_when_its_drainers_task_has_ended() {
    let (partition, old, new) = (partition(), Drainer::new(1), Drainer::new(2));
    partition.assign(&old);
    partition.assign(&new);
    let mut flight = Flight::new(ConnectionId(1), Instant::now());
    flight.inquiry = Some(1);
    partition.window().flight = Some(flight);
    partition.window().listing = Listing::Queued;
    partition.abandon(&old);
    assert!(partition.is_drained_by(&new) && !partition.is_leaving() && new.next_ready().is_some());
    assert_eq!(partition.window().listing, Listing::None);
    assert_eq!(partition.window().flight.as_ref().unwrap().inquiry, None);
    partition.abandon(&new);
    assert!(!partition.has_leader());
}

#[test]
fn a_partition_is_not_handed_over_to_a_drainer_whose_task_has_ended() {
    let (partition, old, new) = (partition(), Drainer::new(1), Drainer::new(2));
    partition.assign(&old);
    partition.assign(&new);
    partition.abandon(&new);
    assert!(!partition.hand_over() && partition.is_drained_by(&old));
}

struct Task<'scope> {
    drainer: Arc<Drainer>,
    stop: Arc<AtomicBool>,
    thread: ScopedJoinHandle<'scope, ()>,
}

fn start<'scope>(scope: &'scope Scope<'scope, '_>, taken: &'scope Mutex<Vec<i64>>) -> Task<'scope> {
    let (drainer, stop) = (Drainer::new(0), Arc::new(AtomicBool::new(false)));
    let thread = scope.spawn({
        let (drainer, stop) = (drainer.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                look(&drainer, taken);
            }
        }
    });
    Task { drainer, stop, thread }
}

impl Task<'_> {
    fn end(self, partition: &Arc<Partition>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        partition.abandon(&self.drainer);
    }
}

/// Round after round two writers push while the partition moves between two tasks, and now and then a task ends and another is
/// built. Each round ends when all is taken: whoever drains looks only when told, so a wake-up that was lost is waited for in
/// vain.
#[test]
fn whatever_moves_meanwhile_each_item_is_taken_once_and_each_writers_in_order() {
    const WRITERS: i64 = 2;
    const ROUNDS: i64 = 3000;
    const ITEMS: i64 = 3;
    let (partition, taken, round) = (partition(), Mutex::new(vec![]), AtomicI64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (partition, round) = (&partition, &round);
            scope.spawn(move || {
                for i in 0..ROUNDS * ITEMS {
                    while i / ITEMS >= round.load(Ordering::Acquire) {
                        yield_now();
                    }
                    partition.push(burst(writer << 32 | i));
                }
            });
        }
        let mut tasks = vec![start(scope, &taken), start(scope, &taken)];
        let mut random = fastrand::Rng::with_seed(1);
        let mut is_lost = false;
        for n in 1..=ROUNDS {
            round.store(n, Ordering::Release);
            for _ in 0..random.u32(..3) {
                partition.assign(&random.choice(&tasks).unwrap().drainer);
            }
            if random.u32(..20) == 0 {
                tasks.swap_remove(random.usize(..2)).end(&partition);
                tasks.push(start(scope, &taken));
            }
            if !partition.has_leader() {
                partition.assign(&tasks[0].drainer);
            }
            // Nothing moves any more. What was announced must be enough.
            let deadline = Instant::now() + Duration::from_secs(60);
            while !is_lost && (taken.lock().len() as i64) < n * WRITERS * ITEMS {
                is_lost = Instant::now() > deadline;
                yield_now();
            }
        }
        tasks.into_iter().for_each(|task| task.end(&partition));
    });
    let taken = taken.into_inner();
    for writer in 0..WRITERS {
        let its: Vec<i64> = taken.iter().filter(|n| **n >> 32 == writer).map(|n| n & 0xffff_ffff).collect();
        assert!(its.iter().copied().eq(0..ROUNDS * ITEMS), "writer {writer}: {} are taken", its.len());
    }
    assert_eq!(partition.waiting_bytes(), 0);
}
