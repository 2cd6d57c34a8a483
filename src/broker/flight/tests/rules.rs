//! Each rule of flight by itself.

use super::bench::Bench;
use super::*;
use crate::wire::codes::*;
use crate::wire::record_batch::{Lane, Stamp};

#[tokio::test]
async fn the_first_flight_of_a_lane_goes_alone() {
    let mut bench = Bench::new();
    let first = bench.send_new(2, Side::Fresh).unwrap();
    assert!(bench.send_new(1, Side::Fresh).is_none());
    bench.answer(first, NONE);
    assert!(bench.send_new(1, Side::Fresh).is_some());
    assert!(bench.send_new(1, Side::Fresh).is_some());
}

#[tokio::test]
async fn the_first_flight_on_a_new_connection_goes_alone_too() {
    let (mut bench, five) = Bench::five();
    for attempt in five {
        bench.answer(attempt, NONE);
    }
    bench.adopt(2);
    assert!(bench.send_new(1, Side::Fresh).is_some());
    assert!(bench.send_new(1, Side::Fresh).is_none());
}

#[tokio::test]
async fn after_a_pause_in_which_brokers_forget_a_flight_goes_alone() {
    let (mut bench, five) = Bench::five();
    for attempt in five {
        bench.answer(attempt, NONE);
    }
    bench.now += HALF_EXPIRY * 2;
    bench.adopt(1);
    let first = bench.send_new(1, Side::Fresh).unwrap();
    assert_eq!(
        (first.stamp.lane.epoch, first.stamp.base_sequence),
        (1, 0),
        "a probe must not be taken for what was forgotten"
    );
    assert!(bench.send_new(1, Side::Fresh).is_none());
}

#[tokio::test]
async fn at_most_five_are_between_the_oldest_and_the_newest() {
    let (mut bench, five) = Bench::five();
    assert!(bench.send_new(1, Side::Fresh).is_none());
    bench.answer(five[0], NONE);
    assert!(bench.send_new(1, Side::Fresh).is_some());
    assert!(bench.send_new(1, Side::Fresh).is_none());
}

#[tokio::test]
async fn a_setback_is_acted_on_when_all_answers_are_in_and_then_the_oldest_goes_first() {
    let (mut bench, five) = Bench::five();
    bench.answer(five[0], NOT_ENOUGH_REPLICAS);
    assert_eq!(bench.window.next(bench.now), Next::Nothing);
    for attempt in &five[1..] {
        bench.answer(*attempt, OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    assert_eq!(bench.resend(), Some(five[0]));
    assert_eq!(bench.resend(), Some(five[1]), "19 leaves no doubt, so the rest follows");
}

#[tokio::test]
async fn what_is_in_doubt_is_sent_again_alone_and_nothing_new_before_it_is_settled() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(five[0]), "the same lane and numbers");
    assert_eq!(bench.resend(), None);
    bench.answer(five[0], NONE);
    for attempt in &five[1..] {
        assert_eq!(bench.resend(), Some(*attempt));
    }
    assert!(bench.send_new(1, Side::Fresh).is_none());
    assert_eq!(bench.counted(), 0);
}

#[tokio::test]
async fn a_success_proves_all_before_it() {
    let (mut bench, five) = Bench::five();
    bench.answer(five[0], REQUEST_TIMED_OUT);
    bench.answer(five[1], NONE);
    assert_eq!(bench.delivered(), 2);
    assert!(matches!(bench.effects[0], Effect::Delivered(_, -1)), "where it is was never said");
    assert_eq!(bench.window.batches.len(), 3);
}

#[tokio::test]
async fn old_batches_fly_alone_under_an_id_of_their_own() {
    let (mut bench, five) = Bench::five();
    for attempt in &five[..4] {
        bench.answer(*attempt, NONE);
    }
    assert!(bench.send_new(1, Side::Old).is_none(), "only when all before is settled");
    bench.answer(five[4], NONE);
    let old = bench.send_new(1, Side::Old).unwrap();
    assert_eq!((old.stamp.lane.producer_id, old.stamp.base_sequence), (IDS.old, 0));
    assert!(bench.send_new(1, Side::Fresh).is_none());
    bench.answer(old, NONE);
    let fresh = bench.send_new(1, Side::Fresh).unwrap();
    let lane = Lane { producer_id: IDS.fresh, epoch: 1 };
    assert_eq!((fresh.stamp.lane, fresh.stamp.base_sequence), (lane, 0), "each change starts a new lane");
}

#[tokio::test]
async fn an_old_batch_in_doubt_counts_as_a_possible_duplicate_once() {
    let mut bench = Bench::new();
    let old = bench.send_new(3, Side::Old).unwrap();
    bench.answer(old, REQUEST_TIMED_OUT);
    assert_eq!(bench.resend(), Some(old));
    bench.answer(old, REQUEST_TIMED_OUT);
    assert_eq!(bench.counted(), 3);
}

#[tokio::test]
async fn sequence_numbers_go_from_the_largest_on_to_0() {
    let (mut bench, five) = Bench::five();
    for attempt in five {
        bench.answer(attempt, NONE);
    }
    bench.window.lane.as_mut().unwrap().next_sequence = i32::MAX;
    assert_eq!(bench.send_new(2, Side::Fresh).unwrap().stamp.base_sequence, i32::MAX);
    assert_eq!(bench.send_new(1, Side::Fresh).unwrap().stamp.base_sequence, 1);
}

#[tokio::test]
async fn when_the_epochs_of_an_id_are_used_up_the_partition_takes_another_id() {
    let mut bench = Bench::new();
    bench.window.next_epoch[0] = i16::MAX.unsigned_abs();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.answer(first, INVALID_RECORD);
    assert!(bench.send_new(2, Side::Fresh).is_none(), "it needs an id first");
    assert_eq!(bench.question().map(|(_, question)| question), Some(Question::ProducerId));
    bench.window.flight.as_mut().unwrap().inquiry = None;
    bench.find(Finding::Failed);
    bench.wait();
    assert!(bench.send_new(2, Side::Fresh).is_none(), "it still does");
    bench.find(Finding::ProducerId(300));
    let next = bench.resend().unwrap();
    let lane = Lane { producer_id: 300, epoch: 0 };
    assert_eq!((next.stamp.lane, next.stamp.base_sequence, next.count), (lane, 0, 2));
    bench.answer(next, NONE);
    let old = bench.send_new(1, Side::Old).unwrap();
    assert_eq!(old.stamp.lane, Lane { producer_id: IDS.old, epoch: 0 }, "the other side keeps its id");
    bench.answer(old, NONE);
    let lane = Lane { producer_id: 300, epoch: 1 };
    assert_eq!(bench.send_new(1, Side::Fresh).unwrap().stamp.lane, lane);
}

#[tokio::test]
async fn what_is_in_doubt_is_counted_once_however_often_it_is_numbered_anew() {
    let mut bench = Bench::new();
    let mut attempt = bench.send_new(2, Side::Fresh).unwrap();
    for _ in 0..3 {
        bench.answer(attempt, REQUEST_TIMED_OUT);
        attempt = bench.resend().unwrap();
        bench.answer(attempt, INVALID_PRODUCER_EPOCH);
        attempt = bench.resend().unwrap();
    }
    assert_eq!((attempt.stamp.lane.epoch, bench.counted()), (3, 2));
}

#[tokio::test]
async fn a_flight_to_a_topic_that_was_made_anew_goes_alone() {
    let (mut bench, five) = Bench::five();
    five.into_iter().for_each(|attempt| bench.answer(attempt, NONE));
    bench.window.adopt(ConnectionId(1), Uuid::from_u128(1), bench.now, HALF_EXPIRY, &mut bench.effects);
    assert!(bench.send_new(1, Side::Fresh).is_some());
    assert!(bench.send_new(1, Side::Fresh).is_none());
}

#[tokio::test]
async fn a_batch_that_grows_old_while_it_waits_flies_alone_and_is_looked_for_before_it_goes_again() {
    let mut bench = Bench { reads: true, old_before: Some(100), ..Bench::new() };
    bench.window.built = Some(built_of(0..1, |_| 150));
    let first = bench.send_new(0, Side::Fresh).unwrap();
    assert_eq!(first.stamp.lane.producer_id, IDS.fresh);
    bench.answer(first, REQUEST_TIMED_OUT);
    bench.window.age(Some(200), None, &mut bench.effects);
    assert!(bench.question().is_some_and(|(_, question)| matches!(question, Question::Scan { .. })));
    bench.window.flight.as_mut().unwrap().inquiry = None;
    bench.find(Finding::Absent);
    assert_eq!(bench.resend(), Some(first), "in its own lane with its own numbers");
    bench.answer(first, NONE);
    assert_eq!(bench.counted(), 0);
    let next = bench.send_new(1, Side::Fresh).unwrap();
    assert_eq!(next.stamp, Stamp { lane: Lane { producer_id: IDS.fresh, epoch: 1 }, base_sequence: 0 });
}

/// Those after a jump of the clocks.
const OTHERS: ProducerIds = ProducerIds { fresh: 300, old: 400, generation: 1 };

#[tokio::test]
async fn after_a_jump_of_the_clocks_new_producer_ids_are_used_once_all_that_was_sent_is_settled() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    bench.window.go_over_to(1);
    for (place, attempt) in five.into_iter().enumerate() {
        assert_eq!(bench.resend(), Some(attempt), "in its own lane");
        assert_ne!(bench.window.next(bench.now), Next::New, "behind {place}");
        bench.answer(attempt, NONE);
    }
    bench.window.built = Some(built(20..21, Side::Fresh));
    bench.window.go_over_to(1);
    assert_eq!(bench.window.next(bench.now), Next::New);
    let next = bench.window.seal_built(OTHERS).unwrap();
    assert_eq!(next.stamp, Stamp { lane: Lane { producer_id: 300, epoch: 1 }, base_sequence: 0 });
}

#[tokio::test]
async fn nothing_new_is_sent_behind_what_is_in_flight_while_other_producer_ids_are_wanted() {
    let mut bench = Bench::new();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.answer(first, NONE);
    let second = bench.send_new(1, Side::Fresh).unwrap();
    assert_eq!(bench.window.next(bench.now), Next::New);
    bench.window.go_over_to(1);
    assert_eq!(bench.window.next(bench.now), Next::Nothing);
    bench.answer(second, NONE);
    assert_eq!(bench.window.next(bench.now), Next::New);
}

#[tokio::test]
async fn a_new_epoch_that_is_to_be_the_fence_is_used_before_other_producer_ids_are() {
    let mut bench = Bench::new();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.answer(first, REQUEST_TIMED_OUT);
    assert_eq!(bench.resend(), Some(first));
    bench.answer(first, INVALID_PRODUCER_EPOCH);
    bench.find(Finding::Unknown);
    bench.window.go_over_to(1);
    let fence = bench.resend().unwrap();
    assert_eq!(fence.stamp.lane, Lane { producer_id: IDS.fresh, epoch: 1 });
    bench.answer(fence, NONE);
    bench.window.go_over_to(1);
    assert_eq!(bench.window.lane, None);
}

/// It would be taken for the batch that was sent under the same numbers before, and dropped.
#[tokio::test]
async fn a_lane_of_other_producer_ids_that_was_used_before_the_partition_goes_over_to_them_is_not_used_again() {
    let mut bench = Bench::new();
    let old = bench.send_new(1, Side::Old).unwrap();
    bench.answer(old, INVALID_RECORD);
    bench.window.go_over_to(1);
    assert!(bench.window.lane.is_some_and(|lane| !lane.proven), "it is to be a fence");
    let mut stamps = Vec::new();
    for number in 1..3 {
        bench.window.built = Some(built(number..number + 1, Side::Fresh));
        let attempt = bench.window.seal_built(OTHERS).unwrap();
        bench.window.sent(attempt, 0);
        bench.answer(attempt, NONE);
        bench.window.go_over_to(1);
        assert_eq!(attempt.stamp.lane.producer_id, OTHERS.fresh);
        stamps.push(attempt.stamp);
    }
    assert_ne!(stamps[0], stamps[1]);
}

/// Brokers forget a producer by the stamps of its batches, which are theirs on such a topic.
#[tokio::test]
async fn where_brokers_stamp_what_they_append_doubt_that_outlives_their_memory_is_looked_into_and_counted() {
    let mut bench = Bench { reads: true, ..Bench::new() };
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.window.age(None, Some(1), &mut bench.effects);
    bench.answer(first, REQUEST_TIMED_OUT);
    bench.window.age(None, Some(0), &mut bench.effects);
    bench.wait();
    assert_eq!(bench.window.next(bench.now), Next::Resend(first), "brokers still remember it");
    bench.window.age(None, Some(1), &mut bench.effects);
    assert!(bench.question().is_some_and(|(_, question)| matches!(question, Question::Scan { .. })));
    assert_eq!(bench.counted(), 0);
    bench.adopt(2);
    let second = bench.window.batches[0].attempt();
    bench.window.sent(second, 0);
    bench.adopt(3);
    assert_eq!(bench.counted(), 1, "what was on a lost connection may come after it is forgotten");
}

#[tokio::test]
async fn the_side_is_decided_when_a_batch_is_first_sent() {
    let mut bench = Bench::new();
    let mut built = built_of(0..1, |_| 150);
    built.side = Side::Fresh;
    bench.window.built = Some(built);
    bench.window.age(Some(200), None, &mut bench.effects);
    assert_eq!(bench.send_new(0, Side::Fresh).unwrap().stamp.lane.producer_id, IDS.old);
}
