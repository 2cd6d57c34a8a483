//! The window against a model of what can happen to one partition, at random: two replicas of which one leads, the leader's
//! rules of deduplication and its lapses, a network that loses, and requests of closed connections that are carried out later.
//!
//! A rule that is taken away ([`Without`]) must be missed: else the model shows nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::brokers::{Brokers, OLD, Ran};
use super::*;
use crate::queue::receipt::{Answers, Mark, Outcome, Request};
use crate::wire::codes::*;

mod searches;

const RECORDS: u32 = 40;
const STEPS: u32 = 500;
const FAULTS: u32 = 14;
const FRESH: i64 = OLD + 1;

/// What can happen beside lost connections, ambiguous answers, leaders that change and brokers that restart.
#[derive(Clone, Copy, Debug, Default)]
struct Climate {
    /// `max.message.bytes` goes down and up.
    limits: bool,
    /// One record is refused for what it is, now and then.
    poison: bool,
    /// There are stretches of old records, and brokers forget a producer whose last batch is old.
    old: bool,
}

/// A rule taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    FirstFlightAlonePerLane,
    FirstFlightAlonePerConnection,
    OldestFirst,
    /// 3, 6 and 56 are taken as "not appended".
    DoubtWhenTheLeaderMoved,
    /// Error 45 on the oldest is answered with a new epoch.
    Probes,
    /// Old batches under the id of the others.
    IdOfTheOld,
    /// What is in doubt is sent again under a new epoch.
    SameLaneAgain,
}

/// The open connection: requests in order, the first of them perhaps waiting to be replicated, and answers on their way.
struct Line {
    to: usize,
    requests: VecDeque<(Attempt, Bytes)>,
    waiting: Option<(Attempt, usize, u32)>,
    answers: VecDeque<Answered>,
}

struct World {
    climate: Climate,
    without: Without,
    window: Window,
    brokers: Brokers,
    line: Line,
    connection: u64,
    /// What was sent on connections that are closed may still run, in order, or never.
    zombies: Vec<(usize, VecDeque<Bytes>)>,
    now: Instant,
    random: fastrand::Rng,
    faults: u32,
    refuses_next: bool,
    /// The next record to be put in a batch.
    next: u32,
    old: [bool; RECORDS as usize],
    poison: u32,
    request: Arc<Request>,
    settled: u32,
    dead: Option<u32>,
    counted: u32,
}

type Held = Result<(), String>;

impl World {
    fn new(seed: u64, climate: Climate, without: Without) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut old = [false; RECORDS as usize];
        let mut side = false;
        for old in old.iter_mut().filter(|_| climate.old) {
            side ^= random.u32(..6) == 0;
            *old = side;
        }
        let mut world = World {
            climate,
            without,
            window: Window::default(),
            brokers: Brokers { replicas: Default::default(), leader: 0, leader_epoch: 0, largest: None, poison: None },
            line: Line { to: 0, requests: VecDeque::new(), waiting: None, answers: VecDeque::new() },
            connection: 0,
            zombies: vec![],
            now: Instant::now(),
            faults: FAULTS,
            refuses_next: false,
            next: 0,
            old,
            poison: random.u32(..RECORDS),
            random,
            request: Request::new(1, RECORDS, 0, Arc::new(Answers::default())),
            settled: 0,
            dead: None,
            counted: 0,
        };
        world.connect().unwrap();
        world
    }

    fn connect(&mut self) -> Held {
        self.connection += 1;
        self.line =
            Line { to: self.brokers.leader, requests: VecDeque::new(), waiting: None, answers: VecDeque::new() };
        self.adopt()
    }

    fn adopt(&mut self) -> Held {
        let mut effects = vec![];
        let connection = ConnectionId(self.connection);
        self.window.adopt(connection, TOPIC, self.now, HALF_EXPIRY, &mut effects);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Held {
        for effect in effects {
            match effect {
                Effect::Delivered(batch, _) | Effect::DeadLetter(batch, ..)
                    if numbers_of(&batch.bytes)[0] != self.settled =>
                {
                    return Err("settled out of order".into());
                }
                Effect::Delivered(batch, offset) => {
                    let numbers = numbers_of(&batch.bytes);
                    let log: Vec<u32> = self.brokers.committed().collect();
                    if let Some(missing) = numbers.iter().find(|number| !log.contains(number)) {
                        return Err(format!("{missing} is delivered and not there"));
                    }
                    if offset >= 0 && log[offset as usize..][..numbers.len()] != numbers {
                        return Err(format!("delivered at another offset than {offset}"));
                    }
                    self.settled += batch.count;
                    for mark in batch.marks {
                        let base_offset = if offset < 0 { -1 } else { offset + i64::from(mark.at) };
                        mark.receipt.settle(Outcome::Delivered { partition: 0, base_offset });
                    }
                }
                Effect::DeadLetter(batch, error_code, _) => {
                    if numbers_of(&batch.bytes) != [self.poison] || error_code != INVALID_RECORD {
                        return Err("a dead letter, and nothing was wrong with it".into());
                    }
                    self.settled += 1;
                    self.dead = Some(self.poison);
                    for mark in batch.marks {
                        mark.receipt.settle(Outcome::Failed { partition: 0, error_code, reason: "".into() });
                    }
                }
                Effect::PossibleDuplicates(records) => self.counted += records,
                Effect::KafkaLost => return Err("a false alarm: Kafka has lost nothing".into()),
                Effect::RefreshMetadata | Effect::Recharged { .. } => {}
            }
        }
        Ok(())
    }

    /// A batch of the next records, with their receipts.
    fn build(&mut self) -> bool {
        if self.window.built.is_some() {
            return true;
        }
        let end = (self.next + self.random.u32(1..=3)).min(RECORDS);
        let mut records = self.next..end;
        // Old and fresh ones are not mixed here: what becomes of pieces of such a batch is not promised.
        let side = self.old[records.start.min(RECORDS - 1) as usize];
        records.end = records.clone().find(|number| self.old[*number as usize] != side).unwrap_or(end);
        if records.is_empty() {
            return false;
        }
        self.next = records.end;
        let is_old = side && self.without != Without::IdOfTheOld;
        let mut built = built_of(records.clone(), if side { OLD } else { FRESH });
        built.side = if is_old { Side::Old } else { Side::Fresh };
        built.marks = vec![Mark { at: 0, receipt: self.request.receipt(records.start, records.len() as u32) }];
        self.window.built = Some(built);
        true
    }

    fn send(&mut self) -> Held {
        self.adopt()?;
        self.take_away_before_sending();
        let place = match self.window.next(self.now) {
            Next::Nothing => return Ok(()),
            Next::NotBefore(moment) => {
                self.now = moment;
                return Ok(());
            }
            Next::Resend(place) => self.other_place(place),
            Next::New if self.build() && self.window.may_send_built() => {
                self.window.seal_built(IDS, self.now).ok_or("out of epochs")?
            }
            Next::New => return Ok(()),
        };
        let batch = &self.window.batches[place];
        self.line.requests.push_back((batch.attempt(), batch.bytes.clone()));
        self.window.sent(place);
        self.check_window()
    }

    fn check_window(&self) -> Held {
        if self.window.in_flight() > MAX_BATCHES {
            return Err("more than five in flight".into());
        }
        let mut next = None;
        for batch in &self.window.batches {
            if next.is_some_and(|next| next != batch.stamp) {
                return Err("numbers with a gap".into());
            }
            next = Some(Stamp { base_sequence: next_sequence(batch.stamp.base_sequence, batch.count), ..batch.stamp });
        }
        Ok(())
    }

    /// The broker looks at the first request.
    fn run_request(&mut self) {
        if self.line.waiting.is_some() {
            return;
        }
        let Some((attempt, batch)) = self.line.requests.pop_front() else { return };
        if std::mem::take(&mut self.refuses_next) {
            return self.answer(attempt, NOT_ENOUGH_REPLICAS, -1);
        }
        match self.brokers.produce(self.line.to, &batch) {
            Ran::Waits(need) => self.line.waiting = Some((attempt, need, self.brokers.leader_epoch)),
            Ran::Answers(code) => self.answer(attempt, code, -1),
        }
    }

    fn answer(&mut self, attempt: Attempt, code: i16, base_offset: i64) {
        self.line.answers.push_back(Answered { attempt, code, base_offset, message: None });
    }

    /// What waits for replication is answered when that is done, or when somebody else leads.
    fn answer_waiting(&mut self) {
        let Some((attempt, need, leader_epoch)) = self.line.waiting else { return };
        if leader_epoch != self.brokers.leader_epoch {
            self.line.waiting = None;
            self.answer(attempt, NOT_LEADER_OR_FOLLOWER, -1);
        } else if self.brokers.high_watermark() >= need {
            self.line.waiting = None;
            let offset = self.brokers.replicas[self.brokers.leader].log[need - 1].offset;
            self.answer(attempt, NONE, offset);
        }
    }

    fn receive(&mut self) -> Held {
        let Some(answer) = self.line.answers.pop_front() else { return Ok(()) };
        let (attempt, code) = (answer.attempt, answer.code);
        let batch = |window: &Window| window.place_of(&attempt);
        let was_in_doubt = batch(&self.window).is_some_and(|place| self.window.batches[place].in_doubt);
        let mut effects = vec![];
        let mut pace = Pace { now: self.now, backoff: BACKOFF, random: &mut self.random };
        self.window.answered(answer, &mut pace, &mut effects);
        let moved = matches!(code, UNKNOWN_TOPIC_OR_PARTITION | NOT_LEADER_OR_FOLLOWER | KAFKA_STORAGE_ERROR);
        if self.without == Without::DoubtWhenTheLeaderMoved
            && moved
            && let Some(place) = batch(&self.window)
        {
            self.window.batches[place].in_doubt = was_in_doubt;
        }
        self.take_away_probes();
        self.carry_out(effects)
    }

    fn lose_connection(&mut self, broker_is_gone: bool) -> Held {
        let left: VecDeque<Bytes> = self.line.requests.drain(..).map(|(_, batch)| batch).collect();
        if !broker_is_gone {
            self.zombies.push((self.line.to, left));
        }
        if self.random.bool() {
            let mut effects = vec![];
            self.window.lost(ConnectionId(self.connection), &mut effects);
            self.carry_out(effects)?;
        }
        self.connect()
    }

    /// A partition moves to its new leader when all answers of the old one are in.
    fn follow_leader(&mut self) -> Held {
        if self.line.to != self.brokers.leader && self.window.in_flight() == 0 { self.connect() } else { Ok(()) }
    }

    fn run_zombie(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        let at = self.random.usize(..self.zombies.len());
        let (to, requests) = &mut self.zombies[at];
        match requests.pop_front() {
            Some(batch) if self.random.u32(..6) > 0 => drop(self.brokers.produce(*to, &batch)),
            _ => drop(self.zombies.swap_remove(at)),
        }
    }

    fn fault(&mut self) -> Held {
        if self.faults == 0 {
            return Ok(());
        }
        self.faults -= 1;
        let replica = self.random.usize(..2);
        match self.random.u32(..10) {
            0 if self.line.waiting.is_none() => {
                if let Some((attempt, _)) = self.line.requests.pop_front() {
                    let codes = [NOT_ENOUGH_REPLICAS, NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION];
                    let code = *self.random.choice(&codes).unwrap();
                    self.answer(attempt, code, -1);
                }
            }
            0 | 1 => {
                if let Some((attempt, ..)) = self.line.waiting.take() {
                    let codes = [
                        REQUEST_TIMED_OUT,
                        NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                        NOT_LEADER_OR_FOLLOWER,
                        UNKNOWN_TOPIC_OR_PARTITION,
                    ];
                    let code = *self.random.choice(&codes).unwrap();
                    self.answer(attempt, code, -1);
                }
            }
            2 | 3 => self.lose_connection(false)?,
            4 => self.brokers.change_leader(replica == 0),
            5 => {
                self.brokers.replicas[replica].snapshot_only();
                self.zombies.retain(|(to, _)| *to != replica);
                if self.line.to == replica {
                    self.lose_connection(true)?;
                }
            }
            6 if self.window.batches.is_empty() => self.pause()?,
            7 if self.climate.old => self.brokers.replicas[replica].known.retain(|_, known| !known.is_old),
            8 if self.climate.limits => {
                self.brokers.largest = if self.random.bool() { Some(self.random.i32(1..=2)) } else { None };
            }
            9 if self.climate.poison => {
                self.brokers.poison = self.brokers.poison.is_none().then_some(self.poison);
            }
            _ => self.faults += 1,
        }
        Ok(())
    }

    /// All that was sent is settled; then comes a day without a record: brokers forget their producers, connections may be closed.
    fn pause(&mut self) -> Held {
        for _ in 0..200 {
            if self.window.next(self.now) != Next::New {
                self.send()?;
            }
            self.go_on()?;
        }
        if !self.window.batches.is_empty() {
            return Ok(());
        }
        self.now += HALF_EXPIRY * 2;
        self.zombies.clear();
        self.brokers.replicas.iter_mut().for_each(|replica| replica.known.clear());
        self.refuses_next = self.random.bool();
        if self.random.bool() { self.connect() } else { Ok(()) }
    }

    /// All that is on its way comes a step further.
    fn go_on(&mut self) -> Held {
        self.run_request();
        self.brokers.replicate();
        self.answer_waiting();
        self.receive()?;
        self.follow_leader()
    }

    fn step(&mut self) -> Held {
        match self.random.u32(..20) {
            0..=4 => return self.send(),
            5..=8 => self.run_request(),
            9..=11 => self.brokers.replicate(),
            12 | 13 => self.answer_waiting(),
            14..=16 => return self.receive(),
            17 => return self.follow_leader(),
            18 => self.run_zombie(),
            _ => return self.fault(),
        }
        Ok(())
    }
}
