//! What is given up leaves no hole in a lane, and is counted where it may be there.

use super::bench::Bench;
use super::*;
use crate::wire::codes::*;

/// Gives up all that was sent: how many records that is.
fn give_up(bench: &mut Bench) -> u32 {
    let mut taken = std::collections::VecDeque::new();
    bench.window.give_up_sent(&mut taken, &mut bench.effects);
    taken.iter().map(|built| built.sealed.count()).sum()
}

#[tokio::test]
async fn what_is_given_up_in_doubt_is_counted_and_what_follows_begins_an_epoch_alone() {
    let (mut bench, five) = Bench::five();
    bench.window.built = Some(built(90..92, Side::Fresh));
    bench.adopt(2);
    assert_eq!((give_up(&mut bench), bench.counted()), (5, 5));
    let next = bench.send_new(1, Side::Fresh).unwrap();
    let epoch = five[0].stamp.lane.epoch + 1;
    assert_eq!((next.count, next.stamp.lane.epoch, next.stamp.base_sequence), (2, epoch, 0), "what was not sent stays");
    assert!(bench.send_new(1, Side::Fresh).is_none());
    bench.answer(next, NONE);
    assert!(bench.send_new(1, Side::Fresh).is_some());
}

#[tokio::test]
async fn what_was_refused_each_time_is_not_counted_when_it_is_given_up() {
    let (mut bench, five) = Bench::five();
    five.iter().for_each(|attempt| bench.answer(*attempt, NOT_ENOUGH_REPLICAS));
    assert_eq!((give_up(&mut bench), bench.counted()), (5, 0));
}

#[tokio::test]
async fn a_question_about_what_was_given_up_is_answered_in_vain() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    bench.reads = true;
    let oldest = bench.resend().unwrap();
    bench.answer(oldest, OUT_OF_ORDER_SEQUENCE_NUMBER);
    let (number, _) = bench.question().unwrap();
    give_up(&mut bench);
    let mut terms = terms(bench.now, &mut bench.random, None);
    bench.window.found(number, Finding::There(five[4], 7), &mut terms, &mut bench.effects);
    assert_eq!(bench.delivered(), 0);
    assert!(bench.send_new(1, Side::Fresh).is_some());
}
