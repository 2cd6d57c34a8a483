//! The judge sees each thing that must not be: without this, a green crash test could mean that nobody looked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::RecordAnswer;
use crate::support::crash::client::{Account, Sent, value};
use crate::support::crash::judge::{Judgement, Life, judge};
use crate::support::crash::{Plan, Store, Topic};
use crate::support::kcat::ReadRecord;

/// A run that went well, to be changed: one client, four records for partition 1 of one topic; the first two got by the
/// first daemon, which was killed, the others by the last one; records 0 and 2 are acknowledged, 1 is in doubt and there, 3 had acks=0.
struct Run {
    plan: Plan,
    account: Account,
    read: Vec<ReadRecord>,
    ledger: Value,
}

fn answer(error_code: i16, offset: i64) -> Option<(RecordAnswer, Duration)> {
    Some((RecordAnswer { error_code, partition: 1, offset }, Duration::from_millis(9)))
}

impl Run {
    fn new(store: Store) -> Run {
        let topic = Topic { name: "t".to_owned(), acks: vec![], store };
        let sent = |life, acks, answer| Sent {
            topic: 0,
            partition: Some(1),
            key: None,
            acks,
            bytes: 20,
            life,
            at: Duration::ZERO,
            answer,
        };
        let sent = vec![sent(1, -1, answer(0, 0)), sent(1, -1, None), sent(2, -1, answer(0, 2)), sent(2, 0, None)];
        let read = (0..4).map(|number| ReadRecord {
            partition: 1,
            offset: number as i64,
            timestamp: 5,
            key: None,
            value: Some(value(0, number, 20)),
            headers: vec![],
        });
        let ledger = match store {
            Store::Never => json!({"accepted": 2, "delivered": 2, "held": 0, "dead_lettered": 0, "dropped": {}}),
            Store::Overflow | Store::Always => {
                json!({"accepted": 4, "delivered": 4, "held_records": 0, "dead_lettered": 0, "dropped": 0})
            }
        };
        let plan = Plan { kills: 1, seed: 0, config: String::new(), topics: vec![topic] };
        Run { plan, account: Account { client: 0, sent }, read: read.collect(), ledger }
    }

    fn judge(self) -> Judgement {
        let lives: Vec<Life> = (1..=2).map(|daemon| Life { daemon, ..Life::default() }).collect();
        let read = BTreeMap::from([("t".to_owned(), self.read)]);
        let of = if self.plan.topics[0].store != Store::Never { "backlog" } else { "ledger" };
        judge(&self.plan, &lives, &[self.account], &read, &json!({ of: self.ledger }))
    }

    /// Exactly one complaint, and what it is about.
    #[track_caller]
    fn complains(self, of: &str) {
        let complaints = self.judge().complaints;
        assert!(complaints.len() == 1 && complaints[0].contains(of), "wanted {of:?}: {complaints:#?}");
    }

    /// Takes a record's place away; those behind it move up.
    fn lose(&mut self, number: usize) {
        self.read.remove(number);
    }
}

#[test]
fn what_went_well_is_not_complained_of() {
    for store in [Store::Never, Store::Overflow, Store::Always] {
        let judgement = Run::new(store).judge();
        assert_eq!(judgement.complaints, Vec::<String>::new());
        assert_eq!((judgement.found, judgement.doubled), (4, 0));
        assert_eq!(judgement.by_acks, BTreeMap::from([(-1, [3, 2, 3]), (0, [1, 0, 1])]));
    }
}

#[test]
fn what_was_in_doubt_may_be_missing_but_for_what_the_ledger_says() {
    let mut run = Run::new(Store::Never);
    run.lose(1);
    assert_eq!(run.judge().complaints, Vec::<String>::new());
    for store in [Store::Always, Store::Overflow] {
        let mut run = Run::new(store);
        run.lose(1);
        run.complains("the ledger does not agree");
    }
}

#[test]
fn a_lost_record_that_was_acknowledged_is_seen() {
    let mut run = Run::new(Store::Never);
    run.lose(0);
    run.complains("acknowledged and lost, found at None: t, client 0 record 0: acks=-1");
}

#[test]
fn a_lost_record_of_the_daemon_that_ended_in_order_is_seen() {
    let mut run = Run::new(Store::Never);
    run.lose(3);
    run.complains("lost by a daemon that ended in order");
}

#[test]
fn a_lost_record_before_an_acknowledged_one_of_its_partition_is_seen() {
    let mut run = Run::new(Store::Never);
    run.account.sent[0].answer = None;
    run.account.sent[1].answer = answer(0, 1);
    run.lose(0);
    run.complains("lost before one that was acknowledged");
    // The same by a key, whose partition another record shows.
    let mut run = Run::new(Store::Never);
    for number in 0..4 {
        run.account.sent[number].partition = None;
        run.account.sent[number].key = Some(3);
        run.read[number].key = Some(b"key 3".to_vec());
    }
    run.account.sent[0].answer = None;
    run.account.sent[1].answer = answer(0, 1);
    run.lose(0);
    run.complains("lost before one that was acknowledged");
}

#[test]
fn a_doubled_record_is_seen_unless_the_ledger_counts_it() {
    let mut run = Run::new(Store::Never);
    run.read.push(ReadRecord { offset: 4, ..run.read[1].clone() });
    run.ledger["possible_duplicates"] = json!(1);
    assert_eq!(run.judge().complaints, Vec::<String>::new());
    let mut run = Run::new(Store::Never);
    run.read.push(ReadRecord { offset: 4, ..run.read[1].clone() });
    let complaints = run.judge().complaints;
    assert!(complaints[0].starts_with("twice, at (1, 1) and (1, 4): t, client 0 record 1"), "{complaints:#?}");
}

#[test]
fn records_out_of_order_are_seen() {
    let swap = |run: &mut Run, a: usize, b: usize| {
        let value = run.read[a].value.clone();
        run.read[a].value = std::mem::replace(&mut run.read[b].value, value);
        for number in [a, b] {
            if let Some((answer, _)) = &mut run.account.sent[number].answer {
                answer.offset = -1;
            }
        }
    };
    // Of one life.
    let mut run = Run::new(Store::Never);
    swap(&mut run, 2, 3);
    run.complains("behind its client's record 3, at (1, 3): t, client 0 record 2");
    // In doubt when the next life began: only the backlog keeps order then.
    let mut run = Run::new(Store::Never);
    swap(&mut run, 1, 2);
    assert_eq!(run.judge().complaints, Vec::<String>::new());
    let mut run = Run::new(Store::Always);
    swap(&mut run, 1, 2);
    run.complains("behind its client's record 2");
    // Acknowledged before the next life began.
    let mut run = Run::new(Store::Never);
    run.account.sent[1].answer = answer(0, -1);
    swap(&mut run, 1, 2);
    run.complains("behind its client's record 2");
}

#[test]
fn a_wrong_answer_is_seen() {
    let mut run = Run::new(Store::Never);
    run.account.sent[2].answer = answer(0, 7);
    run.complains("not where it was said to be");
    let mut run = Run::new(Store::Never);
    run.account.sent[2].answer = answer(56, -1);
    run.complains("refused");
}

#[test]
fn a_changed_record_and_one_that_nobody_sent_are_seen() {
    let mut run = Run::new(Store::Never);
    run.read[1].value.as_mut().expect("it has one").push(b'!');
    run.complains("changed, at (1, 1)");
    let mut run = Run::new(Store::Never);
    run.read[1].key = Some(b"key 1".to_vec());
    run.complains("changed, at (1, 1)");
    let mut run = Run::new(Store::Never);
    run.read.push(ReadRecord { offset: 4, value: Some(b"0/4/".to_vec()), ..run.read[1].clone() });
    run.complains("nobody sent");
    let mut run = Run::new(Store::Never);
    run.read[1].partition = 0;
    run.complains("in another partition");
}

#[test]
fn a_ledger_that_does_not_agree_is_seen() {
    let wrong =
        [("accepted", json!(3)), ("delivered", json!(1)), ("held", json!(1)), ("dropped", json!({"stopped": 1}))];
    for (name, value) in wrong {
        let mut run = Run::new(Store::Never);
        run.ledger[name] = value;
        run.complains("the ledger does not agree");
    }
    for (name, value) in [("accepted", 5), ("delivered", 3), ("held_records", 1), ("dropped", 1)] {
        let mut run = Run::new(Store::Always);
        run.ledger[name] = json!(value);
        run.complains("the ledger does not agree");
    }
}
