//! A broker's task and a broker, in miniature.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use fastrand::Rng;
use uuid::Uuid;

use super::*;
use crate::backoff::Backoff;
use crate::batch::{CutRules, Cutter};
use crate::broker::flight::{Answered, Effect, Finding, Next, Question, Terms};
use crate::broker::lanes::ProducerIds;
use crate::config::{InvalidTimestampPolicy, UnprovenPolicy};
use crate::queue::receipt::Outcome;
use crate::queue::window::{Attempt, ConnectionId};
use crate::wire::codes::{INVALID_PRODUCER_EPOCH, INVALID_RECORD, OUT_OF_ORDER_SEQUENCE_NUMBER};
use crate::wire::record_batch::{next_sequence, parse_header, records};

const PAUSE: Duration = Duration::from_millis(1);

/// First number, the number behind the last, and offset of the last batches of a producer.
type Batches = VecDeque<(i32, i32, i64)>;

/// Kafka as an idempotent producer sees it: one partition.
#[derive(Default)]
pub struct Broker {
    pub log: Vec<i64>,
    /// A record that it never takes.
    pub refuses: Option<i64>,
    /// By producer id: its epoch, its last batches, and their offsets.
    known: HashMap<i64, (i16, Batches)>,
}

impl Broker {
    pub fn produce(&mut self, batch: &Bytes) -> (i16, i64) {
        let header = parse_header(batch).unwrap();
        let (first, count) = (header.base_sequence, header.count as u32);
        let (epoch, last) = self.known.entry(header.producer_id).or_insert((header.epoch, VecDeque::new()));
        if header.epoch < *epoch {
            return (INVALID_PRODUCER_EPOCH, -1);
        }
        if header.epoch > *epoch {
            if first != 0 {
                return (OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
            }
            (*epoch, *last) = (header.epoch, VecDeque::new());
        }
        let mut numbers = records(batch, 1 << 20).unwrap().map(|record| record.unwrap().timestamp);
        if numbers.any(|number| Some(number) == self.refuses) {
            return (INVALID_RECORD, -1);
        }
        let end = next_sequence(first, count);
        if let Some((.., offset)) = last.iter().find(|(from, to, _)| (*from, *to) == (first, end)) {
            return (0, *offset);
        }
        if last.back().is_some_and(|(_, to, _)| *to != first) {
            return (OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
        }
        let offset = self.log.len() as i64;
        last.push_back((first, end, offset));
        last.drain(..last.len().saturating_sub(5));
        self.log.extend(records(batch, 1 << 20).unwrap().map(|record| record.unwrap().timestamp));
        (0, offset)
    }
}

/// A broker's task, for the partition of a [`World`].
pub struct Sender {
    ids: ProducerIds,
    connection: ConnectionId,
    /// What the broker has said, on its way.
    answers: VecDeque<(Attempt, i16, i64)>,
    effects: Vec<Effect>,
    /// How many records were delivered.
    pub delivered: u64,
}

impl Sender {
    pub fn new(start: i64) -> Sender {
        let ids = ProducerIds { fresh: 2 * start, old: 2 * start + 1, generation: 0 };
        let connection = ConnectionId(start as u64 * 1000);
        Sender { ids, connection, answers: VecDeque::new(), effects: Vec::new(), delivered: 0 }
    }

    /// Sends what may be sent now.
    pub fn send(&mut self, world: &World, broker: &mut Broker, random: &mut Rng) {
        let (partition, now) = (&world.partition, Instant::now());
        let mut window = partition.window();
        window.adopt(self.connection, Uuid::nil(), now, SOON, &mut self.effects);
        window.age(None, None, &mut self.effects);
        let rules = CutRules { max_bytes: 200, old_before: None };
        let attempt = match window.next(now) {
            Next::Resend(attempt) => Some(attempt),
            next @ (Next::New | Next::Follow) => {
                if window.built.is_none() {
                    partition.lower_signal();
                    Cutter::default().cut(partition, &mut window, rules, &world.budget);
                }
                match next {
                    Next::New if window.may_send_built() => window.seal_built(self.ids),
                    Next::Follow if window.built.is_some() => window.seal_follower(self.ids),
                    Next::Follow if !partition.may_get_more() => {
                        window.nothing_follows(&mut terms(random), &mut self.effects);
                        None
                    }
                    _ => None,
                }
            }
            Next::Inquire => {
                if let Some((number, question)) = window.inquire() {
                    let finding = match question {
                        Question::ProducerId => Finding::ProducerId(1000 + self.ids.fresh),
                        _ => Finding::Unknown,
                    };
                    window.found(number, finding, &mut terms(random), &mut self.effects);
                }
                None
            }
            Next::NotBefore(_) | Next::Nothing => None,
        };
        let attempt = attempt.filter(|attempt| window.may_leave(*attempt, &mut self.effects));
        if let Some(attempt) = attempt {
            let (code, offset) = broker.produce(&window.bytes_of(&attempt).unwrap().clone());
            window.sent(attempt, 0);
            self.answers.push_back((attempt, code, offset));
        }
        drop(window);
        self.carry_out(world);
    }

    /// The next answer comes, or the connection is lost with all of them.
    pub fn hear(&mut self, world: &World, is_lost: bool, random: &mut Rng) {
        let mut window = world.partition.window();
        if is_lost {
            self.answers.clear();
            window.lost(self.connection, &mut self.effects);
            self.connection.0 += 1;
        } else if let Some((attempt, code, base_offset)) = self.answers.pop_front() {
            let answered = Answered { attempt, code, base_offset, message: None, records: vec![] };
            window.answered(answered, &mut terms(random), &mut self.effects);
        }
        drop(window);
        self.carry_out(world);
    }

    fn carry_out(&mut self, world: &World) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Delivered(batch, _) => {
                    world.ledger.deliver(batch.count.into());
                    world.budget.release(batch.charged);
                    self.delivered += u64::from(batch.count);
                    let outcome = Outcome::Delivered { partition: 0, base_offset: -1 };
                    batch.marks.into_iter().for_each(|mark| mark.receipt.settle(outcome.clone()));
                }
                Effect::DeadLetter { batch, code, note, .. } => {
                    world.ledger.dead_letter(code, batch.count.into());
                    world.budget.release(batch.charged);
                    note.into_iter().for_each(|note| world.partition.note(note));
                }
                Effect::Note(note) => world.partition.note(note),
                Effect::Recharged { more, less } => {
                    world.budget.charge(more);
                    world.budget.release(less);
                }
                Effect::RefreshMetadata => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn terms(random: &mut Rng) -> Terms<'_> {
    Terms {
        now: Instant::now(),
        wall: 0,
        backoff: Backoff { first: PAUSE, max: PAUSE },
        random,
        old_before: None,
        compression_level: None,
        on_unproven: UnprovenPolicy::Redeliver,
        on_invalid_timestamp: InvalidTimestampPolicy::Restamp,
    }
}
