//! Random schedules against a broker's deduplication, its lapses, and a network that loses. A seed is printed before each;
//! `SEED=n` replays one.

use std::collections::{HashMap, VecDeque};

use super::*;
use crate::wire::codes::*;
use crate::wire::record_batch::parse_header;

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
                self.window.seal_built(IDS, self.now).unwrap()
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
