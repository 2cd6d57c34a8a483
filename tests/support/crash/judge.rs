//! What a reader found against what each client was told: nothing acknowledged is lost, nothing doubled but what the
//! ledger counts, everything in order, and the ledger equal where it is exact.
//!
//! - A record that was answered is there once, where the answer says.
//! - So are all records that its client sent before it on the same connection to the same partition: their batches come
//!   before its own in Kafka, and in the backlog.
//! - So is all that the last daemon got, which was stopped in order.
//! - Any other is there at most once.
//! - Order: in a partition whose records are all stored, by number, whatever died meanwhile. Elsewhere by number within a life,
//!   and no record is behind one of a later life when it was acknowledged before that began.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::client::{Account, Sent, key, parse, value};
use super::{Plan, Store};
use crate::support::kcat::ReadRecord;

/// Complaints that are printed.
const COMPLAINTS_MAX: usize = 30;

/// One daemon of the test.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// Which, counted from 1.
    pub daemon: u32,
    /// When it was started, from the test's start.
    pub spawned: Duration,
    /// When it was dead.
    pub killed: Duration,
    /// How that came.
    pub ended: String,
}

/// What came of a plan.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// What must not be.
    pub complaints: Vec<String>,
    /// Records by what was asked for: sent, answered well, found.
    pub by_acks: BTreeMap<i16, [u64; 3]>,
    /// Found in all, each counted once.
    pub found: u64,
    /// Found once more than they should be.
    pub doubled: u64,
    /// What the ledger calls possibly doubled.
    pub possible_duplicates: u64,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (acks, [sent, answered, found]) in &self.by_acks {
            write!(f, "acks={acks}: {sent} sent, {answered} acknowledged, {found} found; ")?;
        }
        let counted = self.possible_duplicates;
        write!(
            f,
            "{} doubled, {counted} counted as possibly doubled, {} complaints",
            self.doubled,
            self.complaints.len()
        )
    }
}

impl Judgement {
    /// The complaints, as far as one wants to read them.
    pub fn complaints(&self) -> String {
        self.complaints[..self.complaints.len().min(COMPLAINTS_MAX)].join("\n")
    }
}

/// Where a record is: its partition and its offset there.
type Place = (i32, i64);

/// The highest numbers so far of a client in a partition.
#[derive(Default)]
struct Newest {
    ever: usize,
    of_life: BTreeMap<u32, usize>,
}

struct Judge<'a> {
    plan: &'a Plan,
    lives: &'a [Life],
    accounts: HashMap<u32, &'a Account>,
    places: HashMap<(u32, usize), Place>,
    /// The partition of each topic's keys.
    by_key: HashMap<(usize, u8), i32>,
    /// By client, topic and partition.
    newest: HashMap<(u32, usize, i32), Newest>,
    judgement: Judgement,
}

/// See the module. `read` is by topic, each partition in the order of its log; `status` that of the last daemon.
pub fn judge(
    plan: &Plan,
    lives: &[Life],
    accounts: &[Account],
    read: &BTreeMap<String, Vec<ReadRecord>>,
    status: &Value,
) -> Judgement {
    let accounts = accounts.iter().map(|account| (account.client, account)).collect();
    let (places, by_key, newest) = Default::default();
    let judgement = Judgement {
        // The backlog's are those of all lives.
        possible_duplicates: ["ledger", "backlog"]
            .map(|of| status[of]["possible_duplicates"].as_u64().unwrap_or_default())
            .into_iter()
            .fold(0, u64::max),
        ..Judgement::default()
    };
    let mut judge = Judge { plan, lives, accounts, places, by_key, newest, judgement };
    for (topic, rules) in plan.topics.iter().enumerate() {
        read[&rules.name].iter().for_each(|record| judge.found(topic, record));
    }
    let Judgement { doubled, possible_duplicates, .. } = judge.judgement;
    if doubled > possible_duplicates {
        judge.complain(format!("{doubled} are doubled, and {possible_duplicates} counted as possibly so"));
    }
    let mut clients: Vec<_> = judge.accounts.values().copied().collect();
    clients.sort_by_key(|account| account.client);
    clients.into_iter().for_each(|account| judge.account(account));
    judge.ledger(status);
    judge.judgement
}

impl<'a> Judge<'a> {
    fn complain(&mut self, complaint: String) {
        self.judgement.complaints.push(complaint);
    }

    /// Who a record is, with all that is known of it.
    fn describe(&self, client: u32, number: usize, sent: &Sent) -> String {
        let mut text = format!("{}, client {client} record {number}", self.plan.topics[sent.topic].name);
        let _ = write!(text, ": acks={} of {} bytes", sent.acks, sent.bytes);
        match (sent.partition, sent.key) {
            (Some(partition), _) => write!(text, " for partition {partition}"),
            (None, Some(number)) => write!(text, " with key {number}"),
            (None, None) => Ok(()),
        }
        .expect("text can be written");
        let ms = |time: Duration| time.as_millis();
        let _ = write!(text, ", sent at {} ms to daemon {}", ms(sent.at), sent.life);
        if let Some(life) = self.lives.iter().find(|life| life.daemon == sent.life) {
            let _ = write!(text, " ({} to {} ms, {})", ms(life.spawned), ms(life.killed), life.ended);
        }
        match &sent.answer {
            Some((answer, at)) => write!(text, ", answered at {} ms: {answer:?}", ms(*at)),
            None => write!(text, ", not answered"),
        }
        .expect("text can be written");
        text
    }

    fn found(&mut self, topic: usize, record: &'a ReadRecord) {
        let place = (record.partition, record.offset);
        let known = record.value.as_deref().and_then(parse).and_then(|(client, number)| {
            let sent = self.accounts.get(&client)?.sent.get(number)?;
            Some((client, number, sent))
        });
        let Some((client, number, sent)) = known.filter(|(.., sent)| sent.topic == topic) else {
            let name = &self.plan.topics[topic].name;
            return self.complain(format!("{name}{place:?}: nobody sent {record:?}"));
        };
        let who = self.describe(client, number, sent);
        if let Some(first) = self.places.get(&(client, number)) {
            let twice = format!("twice, at {first:?} and {place:?}: {who}");
            self.judgement.doubled += 1;
            if self.judgement.doubled > self.judgement.possible_duplicates {
                self.complain(twice);
            }
            return;
        }
        self.places.insert((client, number), place);
        self.judgement.found += 1;
        let same_key = sent.key.map(key) == record.key;
        if !same_key || record.value.as_deref() != Some(&value(client, number, sent.bytes)[..]) {
            self.complain(format!("changed, at {place:?}: {who}"));
        }
        if sent.partition.is_some_and(|partition| partition != record.partition) {
            self.complain(format!("in another partition, at {place:?}: {who}"));
        }
        if let Some(key) = sent.key
            && *self.by_key.entry((topic, key)).or_insert(record.partition) != record.partition
        {
            self.complain(format!("its key was in another partition before, at {place:?}: {who}"));
        }
        self.in_order(client, number, sent, place, &who);
    }

    fn in_order(&mut self, client: u32, number: usize, sent: &Sent, place: Place, who: &str) {
        let stored = self.plan.topics[sent.topic].store == Store::Always;
        let newest = self.newest.entry((client, sent.topic, place.0)).or_default();
        let of_life = newest.of_life.entry(sent.life).or_default();
        let behind = if stored || sent.is_acknowledged() { newest.ever } else { *of_life };
        newest.ever = number.max(newest.ever);
        *of_life = number.max(*of_life);
        if behind > number {
            self.complain(format!("behind its client's record {behind}, at {place:?}: {who}"));
        }
    }

    fn account(&mut self, account: &Account) {
        let client = account.client;
        let last_life = self.lives.last().map(|life| life.daemon);
        let proven = self.proven(account);
        for (number, sent) in account.sent.iter().enumerate() {
            let place = self.places.get(&(client, number)).copied();
            let counts = self.judgement.by_acks.entry(sent.acks).or_default();
            counts[0] += 1;
            counts[1] += u64::from(sent.is_acknowledged());
            counts[2] += u64::from(place.is_some());
            let what = match (&sent.answer, place) {
                (Some((answer, _)), _) if answer.error_code != 0 => "refused",
                (Some(_), None) => "acknowledged and lost",
                // An acknowledgement of what is stored says no place, or not all of it.
                (Some((answer, _)), Some((partition, offset)))
                    if (answer.partition != partition && answer.partition != -1)
                        || (answer.offset != offset && answer.offset != -1) =>
                {
                    "not where it was said to be"
                }
                (None, None) if Some(sent.life) == last_life => "lost by a daemon that ended in order",
                (None, None) if self.is_proven(&proven, number, sent) => "lost before one that was acknowledged",
                _ => continue,
            };
            let who = self.describe(client, number, sent);
            self.complain(format!("{what}, found at {place:?}: {who}"));
        }
    }

    /// The newest acknowledged number of a client by life, topic and partition: what it sent before that is there, too.
    fn proven(&self, account: &Account) -> HashMap<(u32, usize, i32), usize> {
        let acknowledged = account.sent.iter().enumerate().filter(|(_, sent)| sent.is_acknowledged());
        let partitions = acknowledged.filter_map(|(number, sent)| {
            let partition = self.partition_of(sent).or(self.places.get(&(account.client, number)).map(|place| place.0));
            Some(((sent.life, sent.topic, partition?), number))
        });
        // Numbers ascend, so the newest comes last.
        partitions.collect()
    }

    fn is_proven(&self, proven: &HashMap<(u32, usize, i32), usize>, number: usize, sent: &Sent) -> bool {
        let partition = self.partition_of(sent);
        let newest = partition.and_then(|partition| proven.get(&(sent.life, sent.topic, partition)));
        newest.is_some_and(|newest| *newest > number)
    }

    /// Where a record must go, if it can be known without finding it.
    fn partition_of(&self, sent: &Sent) -> Option<i32> {
        sent.partition.or_else(|| self.by_key.get(&(sent.topic, sent.key?)).copied())
    }

    /// What the backlog counts of what is stored, over all lives; or, where nothing is, what the last daemon counts of what it was sent.
    fn ledger(&mut self, status: &Value) {
        let last_life = self.lives.last().map(|life| life.daemon);
        let found_of = |store| {
            let is_of = |sent: &Sent| self.plan.topics[sent.topic].store == store;
            self.places.keys().filter(|(client, number)| is_of(&self.accounts[client].sent[*number])).count() as u64
        };
        let (ledger, held, expected) = if self.plan.topics.iter().any(|topic| topic.store != Store::Never) {
            // How much of a topic that overflows was stored nobody else knows.
            let (always, overflow) = (found_of(Store::Always), found_of(Store::Overflow));
            let accepted = status["backlog"]["accepted"].as_u64().unwrap_or_default();
            (&status["backlog"], "held_records", accepted.clamp(always, always + overflow))
        } else {
            let sent = self.accounts.values().flat_map(|account| &account.sent);
            (&status["ledger"], "held", sent.filter(|sent| Some(sent.life) == last_life).count() as u64)
        };
        let expected = [("accepted", expected), ("delivered", expected), (held, 0), ("dead_lettered", 0)];
        let differs = expected.iter().any(|(name, count)| ledger[*name] != *count);
        let dropped = ledger["dropped"].as_object().map_or(ledger["dropped"] != 0, |dropped| !dropped.is_empty());
        if differs || dropped {
            self.complain(format!("the ledger does not agree: {ledger}, expected {expected:?}"));
        }
    }
}

impl Sent {
    /// Whether its client was told that it is stored, or replicated.
    pub fn is_acknowledged(&self) -> bool {
        self.answer.as_ref().is_some_and(|(answer, _)| answer.error_code == 0)
    }
}
