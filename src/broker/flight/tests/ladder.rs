//! Each step of the ladder by itself.

use super::bench::Bench;
use super::*;
use crate::wire::codes::*;

#[tokio::test]
async fn error_45_on_the_oldest_is_settled_by_probing_the_newest_first() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(five[0]));
    bench.answer(five[0], OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(bench.resend(), Some(five[4]));
    bench.answer(five[4], OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(bench.resend(), Some(five[3]));
    bench.answer(five[3], NONE);
    assert_eq!(bench.delivered(), 4);
    assert_eq!(bench.resend(), Some(five[4]));
    assert_eq!(bench.counted(), 0);
}

#[tokio::test]
async fn in_a_lane_without_a_success_only_its_first_number_is_probed() {
    let mut bench = Bench::new();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(first));
    bench.answer(first, OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(bench.resend(), Some(first));
}

#[tokio::test]
async fn probes_that_fail_round_after_round_end_in_a_new_epoch_and_are_counted() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    for _ in 0..100 {
        let Some(attempt) = bench.resend() else { break };
        if attempt.stamp.lane.epoch == 1 {
            assert_eq!((attempt.stamp.base_sequence, bench.counted()), (0, 5));
            assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::KafkaLost)));
            return;
        }
        bench.answer(attempt, OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    panic!("it does not end: {five:?}");
}

#[tokio::test]
async fn a_probe_that_is_not_allowed_says_nothing_and_is_sent_again() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(five[0]));
    bench.answer(five[0], OUT_OF_ORDER_SEQUENCE_NUMBER);
    for _ in 0..50 {
        assert_eq!(bench.resend(), Some(five[4]));
        bench.answer(five[4], TOPIC_AUTHORIZATION_FAILED);
    }
    assert!(bench.window.flight.as_ref().unwrap().parked.is_some());
    assert_eq!(bench.resend(), Some(five[4]));
    bench.answer(five[4], NONE);
    assert_eq!((bench.delivered(), bench.counted()), (5, 0));
}

#[tokio::test]
async fn probes_that_are_refused_for_what_they_are_do_not_say_that_kafka_has_lost_something() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    for _ in 0..100 {
        let Some(attempt) = bench.resend() else { break };
        if attempt.stamp.lane.epoch == 1 {
            assert_eq!(bench.counted(), 5);
            assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::KafkaLost)));
            return;
        }
        let code = if attempt == five[2] { MESSAGE_TOO_LARGE } else { OUT_OF_ORDER_SEQUENCE_NUMBER };
        bench.answer(attempt, code);
    }
    panic!("it does not end");
}

#[tokio::test]
async fn what_the_leader_knows_of_the_lane_says_what_to_probe_and_proves_nothing() {
    let (mut bench, five) = Bench::five();
    bench.reads = true;
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(five[0]));
    bench.answer(five[0], OUT_OF_ORDER_SEQUENCE_NUMBER);
    bench.find(Finding::LastSequence(Some(3)));
    assert_eq!(bench.delivered(), 0);
    assert_eq!(bench.resend(), Some(five[2]));
    bench.answer(five[2], NONE);
    assert_eq!((bench.delivered(), bench.counted()), (3, 0));
}

#[tokio::test]
async fn a_last_number_before_all_that_is_in_doubt_says_that_kafka_has_lost_something() {
    let (mut bench, five) = Bench::five();
    for attempt in &five {
        bench.answer(*attempt, NONE);
    }
    bench.effects.clear();
    let next = bench.send_new(2, Side::Fresh).unwrap();
    bench.reads = true;
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(next));
    bench.answer(next, OUT_OF_ORDER_SEQUENCE_NUMBER);
    bench.find(Finding::LastSequence(Some(2)));
    assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::KafkaLost)));
    assert_eq!(bench.counted(), 2);
}

#[tokio::test]
async fn a_log_that_ends_before_what_was_acknowledged_says_so_too() {
    let (mut bench, five) = Bench::five();
    bench.reads = true;
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(five[0]));
    bench.answer(five[0], INVALID_RECORD);
    bench.find(Finding::Shrunk);
    assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::KafkaLost)));
    assert_eq!(bench.counted(), 5);
}

/// Asked for together with the last number, so after the first 45 and without a round more.
#[tokio::test]
async fn a_log_that_ends_before_what_was_acknowledged_is_noticed_at_the_first_45() {
    let (mut bench, five) = Bench::five();
    for attempt in &five {
        bench.answer(*attempt, NONE);
    }
    let next = bench.send_new(2, Side::Fresh).unwrap();
    bench.reads = true;
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(next));
    bench.answer(next, OUT_OF_ORDER_SEQUENCE_NUMBER);
    let (number, question) = bench.question().unwrap();
    let asked = Question::LastSequence { lane: next.stamp.lane, acknowledged_end: Some(bench.end) };
    assert_eq!(question, asked);
    bench.effects.clear();
    let mut terms = terms(bench.now, &mut bench.random, None);
    bench.window.found(number, Finding::Shrunk, &mut terms, &mut bench.effects);
    assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::KafkaLost)));
    assert_eq!(bench.counted(), 2);
}

#[tokio::test]
async fn a_question_that_fails_begins_the_ladder_anew_and_one_that_always_fails_is_done_without() {
    let (mut bench, five) = Bench::five();
    bench.reads = true;
    bench.adopt(2);
    for _ in 0..20 {
        let attempt = bench.resend().unwrap();
        if attempt == five[4] {
            bench.answer(attempt, NONE);
            assert_eq!((bench.delivered(), bench.counted()), (5, 0));
            return;
        }
        assert_eq!(attempt, five[0]);
        bench.answer(attempt, OUT_OF_ORDER_SEQUENCE_NUMBER);
        bench.find(Finding::Failed);
    }
    panic!("it never probes without");
}

#[tokio::test]
async fn an_answer_to_a_question_of_an_earlier_connection_is_not_heard() {
    let (mut bench, five) = Bench::five();
    bench.reads = true;
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(five[0]));
    bench.answer(five[0], OUT_OF_ORDER_SEQUENCE_NUMBER);
    let (number, _) = bench.question().unwrap();
    bench.adopt(3);
    let mut terms = terms(bench.now, &mut bench.random, None);
    bench.window.found(number, Finding::LastSequence(Some(5)), &mut terms, &mut bench.effects);
    assert_eq!(bench.resend(), Some(five[0]));
}

#[tokio::test]
async fn where_some_could_not_be_asked_what_follows_proves_all_before_it() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    assert_eq!(bench.resend(), Some(five[0]));
    bench.answer(five[0], OUT_OF_ORDER_SEQUENCE_NUMBER);
    for probe in five.iter().rev().chain(&five[..1]) {
        assert_eq!(bench.resend(), Some(*probe));
        bench.answer(*probe, if *probe == five[4] { MESSAGE_TOO_LARGE } else { OUT_OF_ORDER_SEQUENCE_NUMBER });
    }
    bench.window.built = Some(built(6..7, Side::Fresh));
    let follower = bench.resend().unwrap();
    assert_eq!((follower.stamp.lane, follower.stamp.base_sequence), (five[0].stamp.lane, 6));
    bench.answer(follower, NONE);
    assert_eq!((bench.delivered(), bench.counted()), (6, 0));
}

#[tokio::test]
async fn what_cannot_be_proven_is_held_where_the_topic_says_so() {
    let (mut bench, five) = Bench::five();
    bench.adopt(2);
    for _ in 0..60 {
        while bench.window.next(bench.now) == Next::Inquire {
            bench.find(Finding::Unknown);
            bench.wait();
        }
        let attempt = bench.resend().unwrap();
        assert_eq!(attempt.stamp.lane.epoch, 0, "nothing is sent under other numbers");
        let answer = Answered { attempt, code: 45, base_offset: -1, message: None, records: vec![] };
        let mut terms = terms(bench.now, &mut bench.random, None);
        terms.on_unproven = UnprovenPolicy::Hold;
        bench.window.answered(answer, &mut terms, &mut bench.effects);
    }
    assert_eq!(bench.counted(), 0);
    bench.window.flight.as_mut().unwrap().phase = Phase::Go;
    assert_eq!(bench.resend(), Some(five[0]));
    bench.answer(five[0], NONE);
    assert_eq!(bench.delivered(), 1);
}

#[tokio::test]
async fn an_old_batch_in_doubt_that_cannot_be_looked_for_is_held_where_the_topic_says_so() {
    let mut bench = Bench { reads: true, on_unproven: UnprovenPolicy::Hold, ..Bench::new() };
    let old = bench.send_new(1, Side::Old).unwrap();
    bench.answer(old, REQUEST_TIMED_OUT);
    for _ in 0..5 {
        bench.find(Finding::Unknown);
        assert!(bench.window.flight.as_ref().unwrap().parked.is_some(), "it is said why nothing is sent");
    }
    bench.find(Finding::There(old, 0));
    assert_eq!((bench.delivered(), bench.counted()), (1, 0));
}

#[tokio::test]
async fn error_45_on_an_old_batch_leads_to_a_new_epoch() {
    let mut bench = Bench::new();
    let old = bench.send_new(1, Side::Old).unwrap();
    bench.answer(old, OUT_OF_ORDER_SEQUENCE_NUMBER);
    let again = bench.resend().unwrap();
    assert_eq!((again.stamp.lane.producer_id, again.stamp.lane.epoch, again.stamp.base_sequence), (IDS.old, 1, 0));
}
