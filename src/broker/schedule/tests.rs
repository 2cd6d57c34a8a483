use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::queue::item::Item;
use crate::queue::topic::TopicInfo;
use crate::queue::window::{ConnectionId, Flight};
use crate::record::{Record, Run};

const LINGER: Duration = Duration::from_millis(5);

fn partition() -> Arc<Partition> {
    let rules = crate::config::TopicRules { linger: LINGER, ..Config::default().producer };
    Partition::new(TopicInfo::new("t", rules), 0)
}

fn drained() -> (Schedule, Arc<Drainer>, Arc<Partition>) {
    let (drainer, partition) = (Drainer::new(1), partition());
    partition.assign(&drainer);
    (Schedule::new(drainer.clone()), drainer, partition)
}

fn push(partition: &Arc<Partition>) {
    let mut run = Run::default();
    run.push(&Record { timestamp: 0, stamped_here: false, key: None, value: Some(b"v"), headers: &[] });
    partition.push(Item::records(run, [].into(), Instant::now()));
}

fn hold(partition: &Partition, until: Instant) {
    let mut flight = Flight::new(ConnectionId(1), Instant::now());
    flight.not_before = Some(until);
    partition.window().flight = Some(flight);
}

#[tokio::test(start_paused = true)]
async fn what_lingers_is_queued_when_its_linger_is_over() {
    let (mut schedule, _, partition) = drained();
    let now = Instant::now();
    push(&partition);
    schedule.attend(now, false);
    let over = now + Duration::from_millis(4);
    assert_eq!((schedule.queued(), schedule.next_timer()), (0, Some(over)));
    schedule.attend(over, false);
    assert_eq!((schedule.queued(), schedule.next_timer()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn the_timer_of_a_linger_that_ended_early_ends_no_later_one() {
    let (mut schedule, _, partition) = drained();
    push(&partition);
    schedule.attend(Instant::now(), false);
    schedule.attend(Instant::now(), true);
    assert_eq!(schedule.queued(), 1, "a hurry has ended it");
    drop(schedule.next_queued());
    partition.window().listing = Listing::None;
    tokio::time::advance(Duration::from_millis(1)).await;
    schedule.lingering.add(Instant::now(), &partition);
    schedule.consider(&partition, Instant::now(), false);
    let Listing::Lingering(timer) = partition.window().listing else { panic!("it does not linger") };
    schedule.attend(Instant::now(), false);
    assert_eq!((schedule.queued(), partition.window().listing), (0, Listing::Lingering(timer)));
}

#[test]
fn a_timer_is_never_late_nor_a_linger_cut_by_more_than_a_quarter() {
    for (linger, set) in [(0, 0), (100, 75), (1_000, 750), (4_000, 3_000), (5_000, 4_000), (60_000_000, 59_999_000)] {
        assert_eq!(timer(Duration::from_micros(linger)), Duration::from_micros(set));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hurry_ends_a_linger_but_no_backoff() {
    let (mut schedule, drainer, held) = drained();
    let lingering = partition();
    lingering.assign(&drainer);
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    hold(&held, later);
    push(&held);
    push(&lingering);
    schedule.attend(now, false);
    schedule.attend(now, true);
    assert_eq!((schedule.queued(), schedule.next_timer()), (1, Some(later)));
    schedule.attend(later, true);
    assert_eq!((schedule.queued(), schedule.next_timer()), (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_timer_of_a_partition_that_has_moved_on_is_not_the_new_drainers() {
    let (mut old, _, partition) = drained();
    let (now, drainer) = (Instant::now(), Drainer::new(2));
    let mut new = Schedule::new(drainer.clone());
    push(&partition);
    old.attend(now, false);
    partition.assign(&drainer);
    old.attend(now, false);
    new.attend(now, false);
    assert!(partition.is_drained_by(&drainer));
    old.attend(now + LINGER, false);
    new.attend(now + LINGER, false);
    assert_eq!((old.queued(), new.queued()), (0, 1));
}

/// Its entry in the old drainer's queue is still there, and the window says of the new one's what it said of that.
#[tokio::test(start_paused = true)]
async fn a_partition_that_has_moved_on_is_not_taken_out_of_its_new_drainers_queue() {
    let (mut old, _, partition) = drained();
    let (now, drainer) = (Instant::now(), Drainer::new(1));
    let mut new = Schedule::new(drainer.clone());
    push(&partition);
    old.attend(now, true);
    partition.assign(&drainer);
    old.attend(now, true);
    new.attend(now, true);
    assert_eq!((old.queued(), new.queued()), (1, 1));
    assert!(old.take_idle().is_empty(), "it is the new drainer's");
    assert_eq!((old.queued(), partition.window().listing), (0, Listing::Queued));
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_task_has_ended_stands_in_no_list() {
    let (mut old, drainer, partition) = drained();
    let now = Instant::now();
    hold(&partition, now + Duration::from_secs(1));
    push(&partition);
    old.attend(now, false);
    drop(old);
    partition.abandon(&drainer);
    let mut new = Schedule::new(Drainer::new(2));
    partition.assign(&new.drainer);
    new.attend(now + Duration::from_secs(1), true);
    assert_eq!(new.queued(), 1);
}

/// A push whose item is taken before it raises the signal announces what is no longer there; the one after it must not count
/// on that.
#[tokio::test(start_paused = true)]
async fn a_look_that_finds_nothing_lets_the_next_push_announce_itself() {
    let (mut schedule, _, partition) = drained();
    let now = Instant::now();
    push(&partition);
    let item = partition.take_from_intake().unwrap();
    partition.batched(item.left(), item.left_bytes());
    schedule.attend(now, false);
    assert_eq!(schedule.next_timer(), None);
    push(&partition);
    schedule.attend(now, false);
    assert!(schedule.next_timer().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_is_not_kept_waiting_for_what_the_old_one_said() {
    let (mut old, _, partition) = drained();
    let (now, drainer) = (Instant::now(), Drainer::new(2));
    hold(&partition, now + Duration::from_secs(1));
    push(&partition);
    old.attend(now, false);
    partition.assign(&drainer);
    old.attend(now, false);
    let mut new = Schedule::new(drainer);
    new.attend(now, true);
    assert_eq!(new.queued(), 1);
}
