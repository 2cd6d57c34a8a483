//! The window against a model of what can happen to one partition, at random: two replicas of which one leads, the leader's
//! rules of deduplication and its lapses, a network that loses, and requests of closed connections that are carried out later.
//! What is to be found out is asked of the same brokers, if the topic may be read.
//!
//! A rule that is taken away ([`Without`]) must be missed: else the model shows nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::brokers::{Brokers, OLD, Ran};
use super::*;
use crate::queue::receipt::{Answers, Mark, Outcome, Request};
use crate::wire::codes::*;
use crate::wire::record_batch::{Stamp, next_sequence};

mod climate;
mod faults;
mod kills;
mod questions;
mod searches;

use climate::{Climate, Without};
use kills::Disk;
use questions::Scan;

const RECORDS: u32 = 40;
const STEPS: u32 = 500;
const FAULTS: u32 = 14;
const FRESH: i64 = OLD + 1;

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
    scan: Option<Scan>,
    cuts_and_forgets: bool,
    /// Records that an unclean election took, or may have taken, since they were in flight.
    taken: [bool; RECORDS as usize],
    /// Bytes charged and not given back.
    charged: usize,
    disk: Disk,
}

type Held = Result<(), String>;

impl World {
    fn new(seed: u64, climate: Climate, without: Without) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut old = [false; RECORDS as usize];
        let mut side = false;
        for old in old.iter_mut().filter(|_| climate.old) {
            side ^= random.u32(..if climate.mixed { 3 } else { 6 }) == 0;
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
            scan: None,
            taken: [false; RECORDS as usize],
            cuts_and_forgets: climate.mixed && climate.limits && seed % 2 == 1,
            charged: 0,
            disk: Disk::new(),
        };
        world.window.is_stored = climate.kills;
        world.faults *= if world.cuts_and_forgets { 8 } else { 1 };
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
        if self.without != Without::IdOfTheOld {
            self.window.age(Some(OLD + 1), None, &mut effects);
        }
        self.carry_out(effects)
    }

    /// Changes the window as `act` does, and carries out what follows.
    fn act(&mut self, act: impl FnOnce(&mut Window, &mut Terms<'_>, &mut Vec<Effect>)) -> Held {
        let mut effects = vec![];
        let limit = (self.without != Without::MixedAreNotSplit).then_some(OLD + 1);
        act(&mut self.window, &mut terms(self.now, &mut self.random, limit), &mut effects);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Held {
        for effect in effects {
            match effect {
                Effect::Delivered(batch, _) | Effect::DeadLetter { batch, .. }
                    if numbers_of(&batch.bytes)[0] != self.settled =>
                {
                    return Err("settled out of order".into());
                }
                Effect::Delivered(batch, offset) => {
                    let numbers = numbers_of(&batch.bytes);
                    let log: Vec<u32> = self.brokers.committed().collect();
                    let is_missing = |number: &&u32| !log.contains(number) && !self.taken[**number as usize];
                    if let Some(missing) = numbers.iter().find(is_missing) {
                        return Err(format!("{missing} is delivered and not there"));
                    }
                    let there = log.get(offset.max(0) as usize..).unwrap_or_default();
                    if offset >= 0 && !there.starts_with(&numbers) && !self.taken[numbers[0] as usize] {
                        return Err(format!("delivered at another offset than {offset}"));
                    }
                    self.settled += batch.count;
                    self.charged -= batch.charged;
                    for mark in batch.marks {
                        let base_offset = if offset < 0 { -1 } else { offset + i64::from(mark.at) };
                        mark.receipt.settle(Outcome::Delivered { partition: 0, base_offset });
                    }
                }
                Effect::DeadLetter { batch, code, note, .. } => {
                    self.disk.unburied.extend(note);
                    if numbers_of(&batch.bytes) != [self.poison] || code != INVALID_RECORD {
                        return Err("a dead letter, and nothing was wrong with it".into());
                    }
                    self.settled += 1;
                    self.charged -= batch.charged;
                    self.dead = Some(self.poison);
                    for mark in batch.marks {
                        mark.receipt.settle(Outcome::Failed { partition: 0, error_code: code, reason: "".into() });
                    }
                }
                Effect::PossibleDuplicates(_, DuplicateCause::Old)
                    if self.without == Without::OldOnLostConnectionsAreCounted => {}
                Effect::PossibleDuplicates(records, _) => self.counted += records,
                Effect::KafkaLost if self.taken.contains(&true) => {}
                Effect::KafkaLost => return Err("a false alarm: Kafka has lost nothing".into()),
                Effect::Recharged { more, less } => self.charged = self.charged + more - less,
                Effect::Note(note) => self.disk.write(note),
                Effect::RefreshMetadata | Effect::Restamped(_) | Effect::TooLarge(_) | Effect::CodecRefused => {}
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
        let is_old = self.old;
        let kind = is_old[records.start.min(RECORDS - 1) as usize];
        if !self.climate.mixed {
            records.end = records.clone().find(|number| is_old[*number as usize] != kind).unwrap_or(end);
        }
        if records.is_empty() {
            return false;
        }
        self.next = records.end;
        let mut built = built_of(records.clone(), |number| if is_old[number as usize] { OLD } else { FRESH });
        let is_old = built.sealed.max_timestamp() == OLD && self.without != Without::IdOfTheOld;
        built.side = if is_old { Side::Old } else { Side::Fresh };
        built.first_index = records.start.into();
        if !self.climate.kills {
            built.marks = vec![Mark { at: 0, receipt: self.request.receipt(records.start, records.len() as u32) }];
        }
        self.charged += built.charged;
        self.window.built = Some(built);
        true
    }

    fn send(&mut self) -> Held {
        self.adopt()?;
        self.take_away_before_sending();
        let attempt = match self.window.next(self.now) {
            Next::Nothing => return Ok(()),
            Next::NotBefore(moment) => {
                self.now = moment;
                return Ok(());
            }
            Next::Resend(attempt) => self.other_attempt(attempt),
            Next::New if self.build() && self.window.may_send_built() => {
                self.window.seal_built(self.ids()).ok_or("out of epochs")?
            }
            Next::New => return Ok(()),
            Next::Follow => {
                self.build();
                self.take_away_the_lane_of_followers();
                match self.window.seal_follower(self.ids()) {
                    Some(attempt) => attempt,
                    None => return self.act(|window, terms, effects| window.nothing_follows(terms, effects)),
                }
            }
            Next::Inquire => return self.inquire(),
        };
        if !self.may_leave(attempt)? {
            return Ok(());
        }
        let bytes = self.window.bytes_of(&attempt).ok_or("what is to be sent is not there")?.clone();
        self.line.requests.push_back((attempt, bytes));
        self.window.sent(attempt, 0);
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
        self.line.answers.push_back(Answered { attempt, code, base_offset, message: None, records: vec![] });
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
        let pieces = self.window.batches.len();
        let counted = self.counted;
        self.act(|window, terms, effects| window.answered(answer, terms, effects))?;
        let moved = matches!(code, UNKNOWN_TOPIC_OR_PARTITION | NOT_LEADER_OR_FOLLOWER | KAFKA_STORAGE_ERROR);
        if self.without == Without::DoubtWhenTheLeaderMoved
            && moved
            && let Some(place) = batch(&self.window)
        {
            self.window.batches[place].in_doubt = was_in_doubt;
        }
        if self.without == Without::SplitsKeepNumbers && self.window.batches.len() > pieces {
            self.bump();
        }
        self.take_away_settling(counted);
        self.take_away_probes();
        Ok(())
    }

    /// All that is on its way comes a step further.
    fn go_on(&mut self) -> Held {
        self.sync();
        self.run_request();
        self.brokers.replicate();
        self.answer_waiting();
        self.receive()?;
        self.go_on_scanning()?;
        self.follow_leader()
    }

    fn step(&mut self) -> Held {
        if self.climate.kills && self.random.u32(..4) == 0 {
            self.sync();
            return Ok(());
        }
        match self.random.u32(..if self.cuts_and_forgets { 30 } else { 21 }) {
            21.. => return self.fault(),
            20 => return self.go_on_scanning(),
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
