use std::sync::Arc;

use super::*;
use crate::config::{Config, GrowthPolicy, TopicRules};
use crate::queue::item::Item;
use crate::queue::partition::Partition;
use crate::queue::topic::{Choice, Place, TopicInfo};
use crate::queue::window::{ConnectionId, Flight, Parked};
use crate::record::{Record, Run};

fn run() -> Run {
    let mut run = Run::default();
    run.push(&Record { timestamp: 1, stamped_here: false, key: None, value: None, headers: &[] });
    run
}

/// A topic of two partitions, with a record in the first, that has just got a third.
fn growing() -> (Arc<Topic>, Partitions) {
    let topic = Topic::new(TopicInfo::new("t", Config::default().producer));
    topic.place(2, |held, _| assert!(held.is_empty()));
    let old = topic.partitions().expect("it is placed");
    old[0].push(Item::records(run(), [].into(), Instant::now()));
    topic.place(3, |_, _| panic!("nothing is distributed yet"));
    (topic, old)
}

fn hold(topic: &Topic) -> Result<(), Held> {
    let (marks, arrived) = ([].into(), Instant::now());
    topic.hold(Held { run: run(), choices: vec![Choice::Modulo(1)], marks, arrived, charged: 0 })
}

fn empty(partition: &Partition) {
    let item = partition.take_from_intake().expect("it has one");
    partition.batched(1, item.left_bytes());
}

/// How many bursts are distributed, and over how many partitions, if any are now.
fn grow(topic: &Topic) -> Option<(usize, usize)> {
    let mut distributed = None;
    let done = topic.grow(Instant::now(), |held, partitions| distributed = Some((held.len(), partitions.len())));
    assert_eq!(done, distributed.is_some());
    distributed
}

fn open(topic: &Topic) -> Option<usize> {
    if let Place::Placed(partitions) = topic.place_now() { Some(partitions.len()) } else { None }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_does_not_wait_uses_its_new_partitions_at_once() {
    let rules = TopicRules { on_partition_growth: GrowthPolicy::AtOnce, ..Config::default().producer };
    let topic = Topic::new(TopicInfo::new("t", rules));
    topic.place(2, |_, _| {});
    topic.partitions().expect("it is placed")[0].push(Item::records(run(), [].into(), Instant::now()));
    assert!(topic.place(3, |_, _| panic!("nothing was held")));
    assert_eq!((open(&topic), topic.growing()), (Some(3), None));
}

#[tokio::test(start_paused = true)]
async fn records_wait_until_the_old_partitions_have_been_empty_for_a_moment() {
    let (topic, old) = growing();
    assert_eq!((open(&topic), topic.partitions().map(|all| all.len())), (None, Some(3)));
    hold(&topic).expect("it waits");
    tokio::time::advance(QUIET).await;
    assert_eq!(grow(&topic), None);
    empty(&old[0]);
    assert_eq!(grow(&topic), None);
    tokio::time::advance(QUIET / 2).await;
    // One that had looked the partitions up before.
    old[1].push(Item::records(run(), [].into(), Instant::now()));
    assert_eq!(grow(&topic), None);
    empty(&old[1]);
    tokio::time::advance(QUIET).await;
    assert_eq!(grow(&topic), None);
    hold(&topic).expect("it waits");
    tokio::time::advance(QUIET).await;
    assert_eq!((grow(&topic), open(&topic), topic.growing()), (Some((2, 3)), Some(3), None));
    assert!(hold(&topic).is_err());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_get_empty_does_not_hold_the_topic_for_long() {
    let (topic, old) = growing();
    hold(&topic).expect("it waits");
    tokio::time::advance(PATIENCE).await;
    assert_eq!((grow(&topic), open(&topic)), (Some((1, 2)), Some(2)));
    assert!(!topic.place(3, |_, _| ()), "not again at once");
    tokio::time::advance(PAUSE).await;
    empty(&old[0]);
    assert!(topic.place(3, |_, _| ()));
    grow(&topic);
    tokio::time::advance(QUIET).await;
    assert_eq!((grow(&topic), open(&topic)), (Some((0, 3)), Some(3)));
}

#[tokio::test(start_paused = true)]
async fn a_parked_partition_does_not_hold_the_topic() {
    let park = |partition: &Partition| {
        let mut flight = Flight::new(ConnectionId(1), Instant::now());
        flight.parked = Some(Parked { code: 29, message: None });
        partition.window().flight = Some(flight);
    };
    let (topic, old) = growing();
    hold(&topic).expect("it waits");
    park(&old[1]);
    assert_eq!((grow(&topic), open(&topic)), (Some((1, 2)), Some(2)));
    tokio::time::advance(PAUSE).await;
    assert!(!topic.place(3, |_, _| ()), "as long as it is parked");
    old[1].window().flight = None;
    assert!(topic.place(3, |_, _| ()));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_made_anew_with_fewer_partitions_uses_no_others() {
    let topic = Topic::new(TopicInfo::new("t", Config::default().producer));
    topic.place(4, |_, _| ());
    let first = topic.partitions().expect("it is placed");
    assert!(topic.place(2, |_, _| ()));
    assert_eq!((open(&topic), topic.partitions().map(|all| all.len())), (Some(2), Some(4)));
    // What waited in the surplus waits there, and goes on when it is back.
    topic.place(3, |_, _| ());
    grow(&topic);
    tokio::time::advance(QUIET).await;
    assert_eq!(grow(&topic), Some((0, 3)));
    assert!(Arc::ptr_eq(&topic.partitions().expect("it is placed")[3], &first[3]));
}
