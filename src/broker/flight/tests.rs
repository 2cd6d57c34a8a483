//! The rules of flight against a model of what a broker does: its deduplication, its lapses, and a network that loses.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::*;
use crate::backoff::Backoff;
use crate::queue::window::Built;
use crate::wire::codes::*;
use crate::wire::record_batch::{BatchBuilder, parse_header, records};

const IDS: ProducerIds = ProducerIds { fresh: 100, old: 200 };
const TOPIC: Uuid = Uuid::nil();
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(8) };
const HALF_EXPIRY: Duration = Duration::from_secs(3600);

/// A batch of records whose values are their numbers.
fn built(numbers: std::ops::Range<u32>, side: Side) -> Box<Built> {
    let mut builder = BatchBuilder::new();
    for number in numbers {
        let mut run = crate::record::Run::default();
        let value = number.to_be_bytes();
        run.push(&crate::record::Record {
            timestamp: 1,
            stamped_here: false,
            key: None,
            value: Some(&value),
            headers: &[],
        });
        run.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
    }
    let sealed = builder.finish(crate::wire::codec::Codec::None, None).0;
    Box::new(Built { charged: 0, sealed, side, marks: vec![] })
}

fn numbers_of(batch: &Bytes) -> Vec<u32> {
    let value = |record: crate::wire::record_batch::OwnedRecord| record.value.unwrap();
    records(batch, 1 << 20)
        .unwrap()
        .map(|record| u32::from_be_bytes(value(record.unwrap())[..].try_into().unwrap()))
        .collect()
}

/// What a broker knows of a producer: its epoch, and the first and last numbers and offsets of its last batches.
#[derive(Default)]
struct Known {
    epoch: i16,
    last: VecDeque<(i32, i32, i64)>,
}

/// The leader of one partition: `UnifiedLog` and `ProducerAppendInfo`, as far as an idempotent producer sees them.
#[derive(Default)]
struct Leader {
    log: Vec<u32>,
    known: HashMap<i64, Known>,
    largest: Option<u32>,
}

impl Leader {
    fn produce(&mut self, batch: &Bytes) -> Result<i64, i16> {
        let header = parse_header(batch).unwrap();
        let count = header.count as u32;
        // Validation comes before deduplication.
        if self.largest.is_some_and(|largest| count > largest) {
            return Err(MESSAGE_TOO_LARGE);
        }
        let (first, last) = (header.base_sequence, header.base_sequence + header.count - 1);
        match self.known.get(&header.producer_id) {
            Some(known) if header.epoch < known.epoch => return Err(INVALID_PRODUCER_EPOCH),
            Some(known) if header.epoch > known.epoch && first != 0 => return Err(OUT_OF_ORDER_SEQUENCE_NUMBER),
            Some(known) if header.epoch == known.epoch => {
                if let Some((_, _, offset)) = known.last.iter().find(|(f, l, _)| (*f, *l) == (first, last)) {
                    return Ok(*offset);
                }
                if known.last.back().is_some_and(|(_, newest, _)| first != newest + 1) {
                    return Err(OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
            }
            // Unknown: any number is accepted.
            _ => {}
        }
        let offset = self.log.len() as i64;
        self.log.extend(numbers_of(batch));
        let known = self.known.entry(header.producer_id).or_default();
        if known.epoch != header.epoch {
            *known = Known { epoch: header.epoch, last: VecDeque::new() };
        }
        known.last.push_back((first, last, offset));
        if known.last.len() > MAX_BATCHES {
            known.last.pop_front();
        }
        Ok(offset)
    }

    /// A snapshot has the last batch of each producer only.
    fn restart(&mut self) {
        for known in self.known.values_mut() {
            known.last.drain(..known.last.len() - 1);
        }
    }
}

/// A connection: requests in order, and answers to those that were carried out.
#[derive(Default)]
struct Line {
    requests: VecDeque<(Attempt, Bytes)>,
    answers: VecDeque<Answered>,
}

struct World {
    window: Window,
    leader: Leader,
    line: Line,
    connection: ConnectionId,
    /// Connections that are closed here: what was sent on them may still be carried out.
    zombies: Vec<VecDeque<Bytes>>,
    now: Instant,
    random: fastrand::Rng,
    next_record: u32,
    records: u32,
    delivered: u32,
    counted: u32,
    faults: u32,
    lowers_the_limit: bool,
}

impl World {
    fn new(seed: u64, lowers_the_limit: bool) -> Self {
        let mut world = World {
            window: Window::default(),
            leader: Leader::default(),
            line: Line::default(),
            connection: ConnectionId(0),
            zombies: vec![],
            now: Instant::now(),
            random: fastrand::Rng::with_seed(seed),
            next_record: 0,
            records: 40,
            delivered: 0,
            counted: 0,
            faults: 12,
            lowers_the_limit,
        };
        world.connect();
        world
    }

    fn effects(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Delivered(batch, offset) => {
                    let numbers = numbers_of(&batch.bytes);
                    assert_eq!(numbers[0], self.delivered, "settled in order");
                    self.delivered += batch.count;
                    assert!(numbers.iter().all(|number| self.leader.log.contains(number)), "delivered and not there");
                    if offset >= 0 {
                        assert_eq!(self.leader.log[offset as usize..][..numbers.len()], numbers, "at another offset");
                    }
                }
                Effect::PossibleDuplicates(records) => self.counted += records,
                Effect::DeadLetter(..) => panic!("nothing here is refused for good"),
                Effect::KafkaLost | Effect::RefreshMetadata | Effect::Recharged { .. } => {}
            }
        }
    }

    fn connect(&mut self) {
        self.connection = ConnectionId(self.connection.0 + 1);
        self.line = Line::default();
        self.adopt();
    }

    fn adopt(&mut self) {
        let mut effects = vec![];
        self.window.adopt(self.connection, TOPIC, self.now, HALF_EXPIRY, &mut effects);
        self.effects(effects);
    }

    fn send(&mut self) {
        self.adopt();
        let place = match self.window.next(self.now) {
            Next::Nothing => return,
            Next::NotBefore(moment) => {
                self.now = moment;
                return;
            }
            Next::Resend(place) => place,
            Next::New => {
                if self.window.built.is_none() {
                    if self.next_record == self.records {
                        return;
                    }
                    let end = (self.next_record + self.random.u32(1..=3)).min(self.records);
                    self.window.built = Some(built(self.next_record..end, Side::Fresh));
                    self.next_record = end;
                }
                if !self.window.may_send_built() {
                    return;
                }
                self.window.seal_built(IDS).unwrap()
            }
        };
        let batch = &self.window.batches[place];
        self.line.requests.push_back((batch.attempt(), batch.bytes.clone()));
        self.window.sent(place);
        assert!(self.window.in_flight() <= MAX_BATCHES);
    }

    /// The broker carries out the first request, and perhaps answers something else than what came of it.
    fn carry_out(&mut self, faulty: bool) {
        let Some((attempt, batch)) = self.line.requests.pop_front() else { return };
        let fault = if faulty { self.random.u32(0..4) } else { 9 };
        let (code, base_offset) = match fault {
            0 => (NOT_ENOUGH_REPLICAS, -1),
            1 => (NOT_LEADER_OR_FOLLOWER, -1),
            2 | 3 => {
                let after = [NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND];
                let code = *self.random.choice(&after).unwrap();
                // A broker that refuses says so; one that has appended may still fail to wait for the others.
                (self.leader.produce(&batch).err().unwrap_or(code), -1)
            }
            _ => self.leader.produce(&batch).map_or_else(|code| (code, -1), |offset| (NONE, offset)),
        };
        self.line.answers.push_back(Answered { attempt, code, base_offset, message: None });
    }

    fn receive(&mut self) {
        let Some(answer) = self.line.answers.pop_front() else { return };
        let mut effects = vec![];
        let mut pace = Pace { now: self.now, backoff: BACKOFF, random: &mut self.random };
        self.window.answered(answer, &mut pace, &mut effects);
        self.effects(effects);
    }

    fn lose_connection(&mut self) {
        let left: VecDeque<Bytes> = self.line.requests.drain(..).map(|(_, batch)| batch).collect();
        self.zombies.push(left);
        if self.random.bool() {
            let mut effects = vec![];
            self.window.lost(self.connection, &mut effects);
            self.effects(effects);
        }
        self.connect();
    }

    fn zombie_runs(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        let at = self.random.usize(..self.zombies.len());
        match self.zombies[at].pop_front() {
            Some(batch) if self.random.u32(0..4) > 0 => drop(self.leader.produce(&batch)),
            _ => drop(self.zombies.swap_remove(at)),
        }
    }

    fn step(&mut self) {
        let faulty = self.faults > 0 && self.random.u32(0..6) == 0;
        self.faults -= u32::from(faulty);
        match (self.random.u32(0..8), faulty) {
            (0..=2, _) => self.send(),
            (3, true) => self.lose_connection(),
            (4, true) => self.leader.restart(),
            (7, true) if self.lowers_the_limit => {
                self.leader.largest = if self.random.bool() { Some(1) } else { None };
            }
            (3 | 4, false) => self.carry_out(false),
            (5, _) => self.carry_out(faulty),
            (6, _) => self.receive(),
            _ => self.zombie_runs(),
        }
    }

    fn run(&mut self) {
        for _ in 0..600 {
            self.step();
        }
        self.faults = 0;
        self.leader.largest = None;
        for _ in 0..20_000 {
            self.send();
            self.carry_out(false);
            self.receive();
            if self.delivered == self.records {
                break;
            }
        }
        // What is still on its way may land after everything.
        while !self.zombies.is_empty() {
            self.zombie_runs();
        }
        assert_eq!(self.delivered, self.records, "it does not end: {:?}", self.window);
    }

    /// How many records are in the log more than once; the first of each in order.
    fn doubled(&self) -> u32 {
        let mut seen = vec![false; self.records as usize];
        let mut doubled = 0;
        let mut newest = None;
        for number in &self.leader.log {
            if std::mem::replace(&mut seen[*number as usize], true) {
                doubled += 1;
            } else {
                assert!(newest < Some(*number), "out of order: {:?}", self.leader.log);
                newest = Some(*number);
            }
        }
        assert!(seen.iter().all(|seen| *seen), "lost: {:?}", self.leader.log);
        doubled
    }
}

fn worlds(lowers_the_limit: bool) -> impl Iterator<Item = (u64, World)> {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SEED is a number");
            seed..=seed
        }
        Err(_) => 0..=2_000,
    };
    seeds.map(move |seed| (seed, World::new(seed, lowers_the_limit)))
}

/// Lost requests and answers, ambiguous answers, broker restarts, requests that are carried out long after: nothing is lost,
/// nothing doubled, nothing out of order, and nothing is counted as possibly doubled.
#[tokio::test]
async fn faults_of_network_and_brokers_lose_double_and_count_nothing() {
    for (seed, mut world) in worlds(false) {
        eprintln!("SEED={seed}");
        world.run();
        assert_eq!((world.doubled(), world.counted), (0, 0));
    }
}

/// The same while `max.message.bytes` goes up and down: what is doubled is counted.
#[tokio::test]
async fn a_limit_that_comes_and_goes_loses_nothing_and_doubles_only_what_is_counted() {
    for (seed, mut world) in worlds(true) {
        eprintln!("SEED={seed}");
        world.run();
        assert!(world.doubled() <= world.counted, "{} doubled, {} counted", world.doubled(), world.counted);
    }
}

/// A window on its first connection, for one rule at a time.
struct Bench {
    window: Window,
    effects: Vec<Effect>,
    random: fastrand::Rng,
    now: Instant,
    next: u32,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Bench {
            window: Window::default(),
            effects: vec![],
            random: fastrand::Rng::with_seed(1),
            now: Instant::now(),
            next: 0,
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
        let place = if self.window.may_send_built() { self.window.seal_built(IDS)? } else { return None };
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
        let base_offset = if code == NONE { i64::from(attempt.stamp.base_sequence) } else { -1 };
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
    bench.window.next_epoch[0] = i16::MAX;
    let first = bench.send_new(1, Side::Fresh).unwrap();
    bench.send_new(1, Side::Fresh);
    bench.answer(first, INVALID_PRODUCER_EPOCH);
    let flight = bench.window.flight.as_ref().unwrap();
    assert!(flight.parked.is_some() && flight.not_before.is_some());
    assert_eq!(bench.window.lane.unwrap().lane.epoch, i16::MAX);
}
