//! What is refused, case by case.

use super::bench::Bench;
use super::*;
use crate::wire::codes::*;
use crate::wire::record_batch::{Lane, Stamp};

#[tokio::test]
async fn a_batch_that_is_too_large_becomes_two_with_its_numbers() {
    let mut bench = Bench::new();
    let whole = bench.send_new(5, Side::Fresh).unwrap();
    bench.answer(whole, MESSAGE_TOO_LARGE);
    let first = bench.resend().unwrap();
    assert_eq!((first.stamp, first.count), (whole.stamp, 2));
    bench.answer(first, NONE);
    let second = bench.resend().unwrap();
    assert_eq!((second.stamp.lane, second.stamp.base_sequence, second.count), (whole.stamp.lane, 2, 3));
}

#[tokio::test]
async fn one_record_that_is_refused_is_a_dead_letter_and_the_rest_gets_a_new_epoch() {
    let (mut bench, five) = Bench::five();
    bench.answer(five[0], INVALID_RECORD);
    for attempt in &five[1..] {
        bench.answer(*attempt, OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    assert!(
        matches!(&bench.effects[..], [Effect::DeadLetter { batch, code: INVALID_RECORD, may_be_delivered: false, .. }, ..] if batch.count == 1)
    );
    let next = bench.resend().unwrap();
    assert_eq!((next.stamp.lane.epoch, next.stamp.base_sequence), (1, 0));
    assert_eq!(bench.resend(), None, "a new epoch starts alone");
    assert_eq!(numbers_of(&bench.window.batches[0].bytes), [2]);
}

#[tokio::test]
async fn what_only_a_person_can_mend_is_parked_and_tried_again() {
    let mut bench = Bench::new();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    for _ in 0..50 {
        bench.answer(first, TOPIC_AUTHORIZATION_FAILED);
        let parked = bench.window.flight.as_ref().unwrap().parked.as_ref().unwrap();
        assert_eq!(parked.code, TOPIC_AUTHORIZATION_FAILED);
        assert_eq!(bench.resend(), Some(first));
    }
    bench.answer(first, NONE);
    assert!(bench.window.flight.as_ref().unwrap().parked.is_none());
}

#[tokio::test]
async fn a_topic_that_stays_unknown_is_shown_as_the_reason() {
    let mut bench = Bench::new();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    for round in 1..10 {
        bench.answer(first, UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(bench.window.flight.as_ref().unwrap().parked.is_some(), round >= 5, "{round}");
        assert_eq!(bench.resend(), Some(first));
    }
    bench.answer(first, NONE);
    assert!(bench.window.flight.as_ref().unwrap().parked.is_none());
}

#[tokio::test]
async fn a_partition_whose_oldest_record_is_given_up_is_no_longer_parked() {
    let mut bench = Bench::new();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.answer(first, TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(bench.resend(), Some(first));
    bench.answer(first, INVALID_RECORD);
    assert!(matches!(bench.effects[..], [Effect::DeadLetter { .. }, ..]));
    assert!(bench.window.flight.as_ref().unwrap().parked.is_none());
}

#[tokio::test]
async fn one_record_that_is_refused_while_it_is_in_doubt_is_looked_for_first() {
    let mut bench = Bench { reads: true, ..Bench::new() };
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.answer(first, REQUEST_TIMED_OUT);
    assert_eq!(bench.resend(), Some(first));
    bench.answer(first, INVALID_RECORD);
    let sent = vec![first];
    assert_eq!(bench.question(), Some((1, Question::Scan { from: None, sent })));
    bench.window.flight.as_mut().unwrap().inquiry = None;
    bench.find(Finding::There(first, 7));
    assert!(matches!(bench.effects[..], [Effect::Delivered(_, 7)]));
}

#[tokio::test]
async fn one_record_that_is_refused_and_not_found_is_proven_by_the_success_of_what_is_behind_it() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(five[0]));
    bench.answer(five[0], INVALID_RECORD);
    assert_eq!(bench.resend(), Some(five[1]));
    bench.answer(five[1], OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(bench.resend(), Some(five[2]));
    bench.answer(five[2], NONE);
    assert_eq!((bench.delivered(), bench.counted()), (3, 0));
}

#[tokio::test]
async fn one_record_that_is_refused_and_cannot_be_proven_is_a_dead_letter_that_may_have_been_delivered() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(five[0]));
    bench.answer(five[0], MESSAGE_TOO_LARGE);
    for probe in &five[1..] {
        assert_eq!(bench.resend(), Some(*probe));
        bench.answer(*probe, OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    let dead = |e: &Effect| matches!(e, Effect::DeadLetter { code: MESSAGE_TOO_LARGE, may_be_delivered: true, .. });
    assert!(bench.effects.iter().any(dead));
    assert_eq!(bench.counted(), 5);
    assert_eq!(bench.resend().unwrap().stamp.lane.epoch, 1);
}

#[tokio::test]
async fn one_record_that_is_refused_and_cannot_be_proven_is_held_where_the_topic_says_so() {
    let (bench, five) = Bench::five();
    let mut bench = Bench { on_unproven: UnprovenPolicy::Hold, ..bench };
    bench.adopt(2);
    for _ in 0..3 {
        assert_eq!(bench.resend(), Some(five[0]));
        bench.answer(five[0], MESSAGE_TOO_LARGE);
        for probe in &five[1..] {
            assert_eq!(bench.resend(), Some(*probe));
            bench.answer(*probe, OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
    }
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::DeadLetter { .. })));
    assert_eq!(bench.counted(), 0);
}

#[tokio::test]
async fn a_whole_that_is_in_doubt_is_remembered_when_it_is_cut_and_proves_its_pieces() {
    let mut bench = Bench::new();
    let before = bench.send_new(1, Side::Fresh).unwrap();
    bench.answer(before, NONE);
    let whole = bench.send_new(5, Side::Fresh).unwrap();
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(whole));
    bench.answer(whole, MESSAGE_TOO_LARGE);
    let piece = bench.resend().unwrap();
    assert_eq!((piece.stamp, piece.count), (whole.stamp, 2));
    // The whole was there all along.
    bench.answer(piece, OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(bench.resend().unwrap().count, 5, "the newest, or the whole");
    bench.end = 1;
    bench.effects.clear();
    bench.answer(whole, NONE);
    let offsets =
        bench.effects.iter().filter_map(|e| if let Effect::Delivered(b, at) = e { Some((b.count, *at)) } else { None });
    assert_eq!(offsets.collect::<Vec<_>>(), [(2, 1), (3, 3)]);
    assert!(bench.window.flight.as_ref().unwrap().versions.is_empty());
}

#[tokio::test]
async fn a_batch_with_an_old_record_in_it_is_cut_under_new_numbers_and_by_side() {
    let mut bench = Bench { old_before: Some(100), ..Bench::new() };
    let mut mixed = built_of(0..4, |number| if number < 2 { 5 } else { 200 });
    mixed.side = Side::Fresh;
    bench.window.built = Some(mixed);
    let whole = bench.send_new(0, Side::Fresh).unwrap();
    bench.answer(whole, MESSAGE_TOO_LARGE);
    bench.window.age(bench.old_before, None, &mut bench.effects);
    let old = bench.resend().unwrap();
    assert_eq!((old.stamp.lane, old.count), (Lane { producer_id: IDS.old, epoch: 0 }, 2));
    bench.answer(old, NONE);
    bench.window.age(bench.old_before, None, &mut bench.effects);
    let fresh = bench.resend().unwrap();
    assert_eq!((fresh.stamp.lane, fresh.count), (Lane { producer_id: IDS.fresh, epoch: 2 }, 2));
}

#[tokio::test]
async fn a_time_that_is_refused_is_replaced_and_the_numbers_stay() {
    let mut bench = Bench::new();
    let first = bench.send_new(3, Side::Fresh).unwrap();
    bench.answer(first, REQUEST_TIMED_OUT);
    assert_eq!(bench.resend(), Some(first));
    let message = Some("too old".to_owned());
    let refused = Answered { attempt: first, code: INVALID_TIMESTAMP, base_offset: -1, message, records: vec![1] };
    bench.answer_as(refused.clone());
    assert!(matches!(bench.effects[..], [Effect::Recharged { .. }, Effect::Restamped(1)]));
    assert_eq!(bench.resend(), Some(first), "at once, with the same numbers");
    let times = |bench: &Bench| {
        let batch = records(&bench.window.batches[0].bytes, 1 << 20).unwrap();
        batch.map(|record| record.unwrap().timestamp).collect::<Vec<_>>()
    };
    assert_eq!(times(&bench), [1, 1000, 1]);
    // Our clock is wrong, too: it is tried until somebody has mended it.
    bench.answer_as(refused);
    assert!(bench.window.flight.as_ref().unwrap().parked.is_some());
    assert_eq!(bench.resend(), Some(first));
    bench.answer(first, NONE);
    assert_eq!((bench.delivered(), bench.counted()), (1, 0));
}

#[tokio::test]
async fn records_that_are_at_fault_are_given_up_and_their_neighbours_delivered() {
    let mut bench = Bench::new();
    let whole = bench.send_new(6, Side::Fresh).unwrap();
    let refuse = |bench: &mut Bench, attempt, records: &[u32]| {
        let records = records.to_vec();
        bench.answer_as(Answered { attempt, code: INVALID_RECORD, base_offset: -1, message: None, records });
    };
    refuse(&mut bench, whole, &[2, 3]);
    let mut delivered = vec![];
    let mut dead = vec![];
    while let Some(attempt) = bench.resend() {
        let numbers = numbers_of(bench.window.bytes_of(&attempt).unwrap());
        if numbers == [2, 3] {
            refuse(&mut bench, attempt, &[0, 1]);
            dead.extend(numbers);
        } else {
            bench.answer(attempt, NONE);
            delivered.extend(numbers);
        }
    }
    assert_eq!((delivered, dead), (vec![0, 1, 4, 5], vec![2, 3]));
    let dead = bench.effects.iter().filter(|e| matches!(e, Effect::DeadLetter { may_be_delivered: false, .. }));
    assert_eq!((dead.count(), bench.counted()), (1, 0));
}

#[tokio::test]
async fn a_codec_that_the_broker_does_not_know_is_done_without() {
    let mut bench = Bench::new();
    let mut built = built(0..20, Side::Fresh);
    let bytes = built.sealed.clone().stamp(Stamp { lane: Lane { producer_id: 1, epoch: 1 }, base_sequence: 0 });
    let mut builder = BatchBuilder::new();
    records(&bytes, 1 << 20).unwrap().map(Result::unwrap).for_each(|r| builder.append(r.timestamp, &r.suffix));
    built.sealed = builder.finish(Codec::Zstd, None).0;
    bench.window.built = Some(built);
    let first = bench.send_new(0, Side::Fresh).unwrap();
    let before = bench.window.batches[0].bytes.clone();
    bench.answer(first, UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(bench.resend(), Some(first));
    let after = &bench.window.batches[0].bytes;
    assert!(after.len() > before.len());
    assert_eq!(numbers_of(after), numbers_of(&before));
    bench.answer(first, UNSUPPORTED_COMPRESSION_TYPE);
    assert!(bench.window.flight.as_ref().unwrap().parked.is_some(), "there is nothing to be done without");
}
