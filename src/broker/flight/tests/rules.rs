//! Each rule by itself.

use super::*;
use crate::wire::codes::*;

/// A window on its first connection, for one rule at a time.
struct Bench {
    window: Window,
    effects: Vec<Effect>,
    random: fastrand::Rng,
    now: Instant,
    next: u32,
    /// The log's end.
    end: i64,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Bench {
            window: Window::default(),
            effects: vec![],
            random: fastrand::Rng::with_seed(1),
            now: Instant::now(),
            next: 0,
            end: 0,
        };
        bench.adopt(1);
        bench
    }

    fn adopt(&mut self, connection: u64) {
        self.window.adopt(ConnectionId(connection), TOPIC, self.now, HALF_EXPIRY, &mut self.effects);
    }

    /// Sends a new batch if the rules allow.
    fn send_new(&mut self, records: u32, side: Side) -> Option<Attempt> {
        if self.window.next(self.now) != Next::New {
            return None;
        }
        if self.window.built.is_none() {
            self.window.built = Some(built(self.next..self.next + records, side));
            self.next += records;
        }
        let place = if self.window.may_send_built() { self.window.seal_built(IDS, self.now)? } else { return None };
        self.window.sent(place);
        Some(self.window.batches[place].attempt())
    }

    fn resend(&mut self) -> Option<Attempt> {
        if let Next::NotBefore(moment) = self.window.next(self.now) {
            self.now = moment;
        }
        let Next::Resend(place) = self.window.next(self.now) else { return None };
        self.window.sent(place);
        Some(self.window.batches[place].attempt())
    }

    fn answer(&mut self, attempt: Attempt, code: i16) {
        let base_offset = if code == NONE { self.end } else { -1 };
        self.end += if code == NONE { attempt.count.into() } else { 0 };
        let mut pace = Pace { now: self.now, backoff: BACKOFF, random: &mut self.random };
        self.window.answered(Answered { attempt, code, base_offset, message: None }, &mut pace, &mut self.effects);
    }

    /// Five in flight, the lane known to the broker.
    fn five() -> (Self, Vec<Attempt>) {
        let mut bench = Bench::new();
        let first = bench.send_new(1, Side::Fresh).unwrap();
        bench.answer(first, NONE);
        let five = (0..5).map(|_| bench.send_new(1, Side::Fresh).unwrap()).collect();
        bench.effects.clear();
        (bench, five)
    }

    fn counted(&self) -> u32 {
        self.effects.iter().map(|e| if let Effect::PossibleDuplicates(records) = e { *records } else { 0 }).sum()
    }

    fn delivered(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Delivered(..))).count()
    }
}

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
    assert!(bench.send_new(1, Side::Fresh).is_some());
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
    assert!(matches!(&bench.effects[..], [Effect::DeadLetter(batch, INVALID_RECORD, _)] if batch.count == 1));
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
async fn a_partition_whose_oldest_record_is_given_up_is_no_longer_parked() {
    let mut bench = Bench::new();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.answer(first, TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(bench.resend(), Some(first));
    bench.answer(first, INVALID_RECORD);
    assert!(matches!(bench.effects[..], [Effect::DeadLetter(..)]));
    assert!(bench.window.flight.as_ref().unwrap().parked.is_none());
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
async fn epochs_that_are_used_up_park_the_partition_instead_of_wrapping() {
    let mut bench = Bench::new();
    bench.window.next_epoch[0] = i16::MAX.unsigned_abs();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.send_new(1, Side::Fresh);
    bench.answer(first, INVALID_PRODUCER_EPOCH);
    let flight = bench.window.flight.as_ref().unwrap();
    assert!(flight.parked.is_some() && flight.not_before.is_some());
    assert_eq!(bench.window.lane.unwrap().lane.epoch, i16::MAX);
}

#[tokio::test]
async fn a_batch_that_needs_an_epoch_when_all_are_used_up_waits_and_takes_no_number_again() {
    let mut bench = Bench::new();
    bench.window.next_epoch = [i16::MAX.unsigned_abs(); 2];
    let fresh = bench.send_new(1, Side::Fresh).unwrap();
    bench.answer(fresh, NONE);
    let old = bench.send_new(1, Side::Old).unwrap();
    bench.answer(old, NONE);
    assert!(bench.send_new(1, Side::Fresh).is_none());
    assert!(bench.window.built.is_some(), "it is kept");
    assert!(matches!(bench.window.next(bench.now), Next::NotBefore(_)));
    assert!(bench.window.flight.as_ref().unwrap().parked.is_some());
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
async fn one_record_that_is_refused_while_it_is_in_doubt_is_kept_and_tried_again() {
    let mut bench = Bench::new();
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.answer(first, REQUEST_TIMED_OUT);
    for _ in 0..50 {
        assert_eq!(bench.resend(), Some(first));
        bench.answer(first, INVALID_RECORD);
    }
    assert_eq!(bench.resend(), Some(first));
    bench.answer(first, NONE);
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
