//! A window by itself, for one rule at a time.

use super::*;
use crate::wire::codes::*;

/// A window on its first connection, for one rule at a time.
pub struct Bench {
    pub window: Window,
    pub effects: Vec<Effect>,
    pub random: fastrand::Rng,
    pub now: Instant,
    pub next: u32,
    /// The log's end.
    pub end: i64,
    pub old_before: Option<TimestampMs>,
    /// The topic may be read: questions are answered by the test.
    pub reads: bool,
    pub on_unproven: UnprovenPolicy,
}

impl Bench {
    pub fn new() -> Self {
        let mut bench = Bench {
            window: Window::default(),
            effects: vec![],
            random: fastrand::Rng::with_seed(1),
            now: Instant::now(),
            next: 0,
            end: 0,
            old_before: None,
            reads: false,
            on_unproven: UnprovenPolicy::Redeliver,
        };
        bench.adopt(1);
        bench
    }

    pub fn adopt(&mut self, connection: u64) {
        self.window.adopt(ConnectionId(connection), TOPIC, self.now, HALF_EXPIRY, &mut self.effects);
    }

    /// Sends a new batch if the rules allow.
    pub fn send_new(&mut self, records: u32, side: Side) -> Option<Attempt> {
        if self.window.next(self.now) != Next::New {
            return None;
        }
        if self.window.built.is_none() {
            self.window.built = Some(built(self.next..self.next + records, side));
            self.next += records;
        }
        let attempt = if self.window.may_send_built() { self.window.seal_built(IDS)? } else { return None };
        self.window.sent(attempt, 0);
        Some(attempt)
    }

    pub fn resend(&mut self) -> Option<Attempt> {
        self.wait();
        while !self.reads && self.window.next(self.now) == Next::Inquire {
            self.find(Finding::Unknown);
            self.wait();
        }
        let attempt = match self.window.next(self.now) {
            Next::Resend(attempt) => attempt,
            // What was numbered anew.
            Next::Follow if self.window.built.is_none() => {
                let mut terms = terms(self.now, &mut self.random, self.old_before);
                self.window.nothing_follows(&mut terms, &mut self.effects);
                return self.resend();
            }
            Next::Follow => self.window.seal_follower(IDS)?,
            Next::New if self.window.built.is_some() && self.window.may_send_built() => self.window.seal_built(IDS)?,
            _ => return None,
        };
        self.window.sent(attempt, 0);
        Some(attempt)
    }

    pub fn wait(&mut self) {
        if let Next::NotBefore(moment) = self.window.next(self.now) {
            self.now = moment;
        }
    }

    /// The question that is to be answered before anything is sent.
    pub fn question(&mut self) -> Option<(u32, Question)> {
        self.wait();
        if self.window.next(self.now) == Next::Inquire { self.window.inquire() } else { None }
    }

    /// Answers it.
    pub fn find(&mut self, finding: Finding) {
        let (number, question) =
            self.question().unwrap_or_else(|| panic!("nothing is asked: {:?}", self.window.flight));
        assert!(self.window.next(self.now) == Next::Nothing, "nothing is sent meanwhile: {question:?}");
        let terms = terms(self.now, &mut self.random, self.old_before);
        let mut terms = Terms { on_unproven: self.on_unproven, ..terms };
        self.window.found(number, finding, &mut terms, &mut self.effects);
    }

    pub fn answer(&mut self, attempt: Attempt, code: i16) {
        let base_offset = if code == NONE { self.end } else { -1 };
        self.end += if code == NONE { attempt.count.into() } else { 0 };
        self.answer_as(Answered { attempt, code, base_offset, message: None, records: vec![] });
    }

    pub fn answer_as(&mut self, answer: Answered) {
        let terms = terms(self.now, &mut self.random, self.old_before);
        let mut terms = Terms { on_unproven: self.on_unproven, ..terms };
        self.window.answered(answer, &mut terms, &mut self.effects);
    }

    /// Five in flight, the lane known to the broker.
    pub fn five() -> (Self, Vec<Attempt>) {
        let mut bench = Bench::new();
        let first = bench.send_new(1, Side::Fresh).unwrap();
        bench.answer(first, NONE);
        let five = (0..5).map(|_| bench.send_new(1, Side::Fresh).unwrap()).collect();
        bench.effects.clear();
        (bench, five)
    }

    pub fn counted(&self) -> u32 {
        self.effects.iter().map(|e| if let Effect::PossibleDuplicates(records, _) = e { *records } else { 0 }).sum()
    }

    pub fn delivered(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Delivered(..))).count()
    }
}
