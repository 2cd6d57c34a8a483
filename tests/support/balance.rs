//! The balance of a scenario: what clients sent and were told against what an independent reader found, and both against
//! the daemon's own ledger.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde_json::Value;

use super::cluster::Cluster;
use super::daemon::Daemon;
use super::kcat::ReadRecord;
use super::writer::{Account, Writer};

/// How long the daemon may take to deliver the last of what it holds.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Complaints that are printed.
const COMPLAINTS_MAX: usize = 30;

/// How a scenario has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All that was sent was accepted, and is there.
    Settled,
    /// The daemon ended meanwhile: what was not acknowledged may be there or not.
    Cut,
}

/// Checks that all is settled: the ledger says that what was sent was accepted and delivered, nothing else happened, the
/// reader finds the same, and no memory is charged any more. Returns the number of records.
#[track_caller]
pub fn check(cluster: &impl Cluster, daemon: &Daemon, accounts: &[Account]) -> u64 {
    let sent: u64 = accounts.iter().map(|account| u64::from(account.sent)).sum();
    let ledger = settled_ledger(daemon, sent);
    let expected = serde_json::json!({
        "accepted": sent, "delivered": sent, "held": 0, "dead_lettered": 0, "dropped": {}, "possible_duplicates": 0,
    });
    let found = check_read(&read(cluster, accounts), accounts, Ending::Settled);
    assert_eq!(ledger, expected, "{}", daemon.process().stderr());
    assert_eq!(found, sent);
    daemon.wait_for_status("all memory given back", SETTLE_TIMEOUT, |status| {
        (status["memory"]["used_bytes"] == 0).then_some(())
    });
    found
}

/// As [`check`], where Kafka may have forgotten a producer: a record may be there twice if the ledger has counted it.
#[track_caller]
pub fn check_counted(cluster: &impl Cluster, daemon: &Daemon, accounts: &[Account]) {
    let sent: u64 = accounts.iter().map(|account| u64::from(account.sent)).sum();
    let ledger = settled_ledger(daemon, sent);
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&sent.into(), &sent.into()), "{ledger}");
    let counted = ledger["possible_duplicates"].as_u64().expect("it is a number");
    // Nothing here makes another cause possible, and each record has one.
    let causes = ["old", "refused", "unsettled"].map(|cause| &ledger["possible_duplicates_by_cause"][cause]);
    assert_eq!(causes.into_iter().filter_map(Value::as_u64).sum::<u64>(), counted, "{ledger}");
    let balance = Balance { may_be_twice: counted, ..Balance::of(accounts) };
    assert_eq!(balance.check(&read(cluster, accounts), Ending::Settled), sent);
}

/// The ledger when so many records were accepted and none is held any more.
#[track_caller]
pub fn settled_ledger(daemon: &Daemon, accepted: u64) -> Value {
    daemon.wait_for_status(&format!("{accepted} records accepted and none held"), SETTLE_TIMEOUT, |status| {
        let ledger = &status["ledger"];
        (ledger["accepted"].as_u64()? >= accepted && ledger["held"].as_u64()? == 0).then(|| ledger.clone())
    })
}

/// All topics of these accounts, read.
#[track_caller]
pub fn read(cluster: &impl Cluster, accounts: &[Account]) -> BTreeMap<String, Vec<ReadRecord>> {
    let topics: BTreeSet<&String> = accounts.iter().map(|account| &account.writer.topic).collect();
    topics.into_iter().map(|topic| (topic.clone(), cluster.read(topic))).collect()
}

/// Checks what was read against what was sent and answered; returns how many records were read.
#[track_caller]
pub fn check_read(read: &BTreeMap<String, Vec<ReadRecord>>, accounts: &[Account], ending: Ending) -> u64 {
    Balance::of(accounts).check(read, ending)
}

#[derive(Default)]
struct Balance<'a> {
    accounts: HashMap<u32, &'a Account>,
    /// Where each record was found, by client and number.
    places: HashMap<(u32, u32), (i32, i64)>,
    /// The newest number of each client in each partition.
    newest: HashMap<(&'a str, i32, u32), u32>,
    /// The partition of each key.
    by_key: HashMap<(&'a str, &'a [u8]), i32>,
    /// Records that may be there twice.
    may_be_twice: u64,
    complaints: Vec<String>,
}

impl<'a> Balance<'a> {
    fn of(accounts: &'a [Account]) -> Self {
        Balance { accounts: accounts.iter().map(|a| (a.writer.id, a)).collect(), ..Balance::default() }
    }

    /// The number of records found, each counted once.
    #[track_caller]
    fn check(mut self, read: &'a BTreeMap<String, Vec<ReadRecord>>, ending: Ending) -> u64 {
        for (topic, records) in read {
            records.iter().for_each(|record| self.found(topic, record));
        }
        let accounts: Vec<_> = self.accounts.values().copied().collect();
        accounts.into_iter().for_each(|account| self.account(account, ending));
        let complaints = &self.complaints;
        assert!(
            complaints.is_empty(),
            "{} complaints, {} records found:\n{}",
            complaints.len(),
            self.places.len(),
            complaints[..complaints.len().min(COMPLAINTS_MAX)].join("\n")
        );
        self.places.len() as u64
    }

    fn found(&mut self, topic: &'a str, record: &'a ReadRecord) {
        let place = (record.partition, record.offset);
        let parsed = record.value.as_deref().and_then(Writer::parse);
        let known = parsed.and_then(|(id, number)| Some((self.accounts.get(&id).copied()?, number)));
        let Some((account, number)) = known.filter(|(a, number)| a.writer.topic == topic && *number < a.sent) else {
            return self.complaints.push(format!("{topic}: nobody sent {record:?}"));
        };
        let writer = &account.writer;
        let who = format!("{topic}{place:?}: client {} record {number}", writer.id);
        if let Some(first) = self.places.get(&(writer.id, number)) {
            if let Some(left) = self.may_be_twice.checked_sub(1) {
                self.may_be_twice = left;
                return;
            }
            self.complaints.push(format!("{who}: twice, first at {first:?}"));
        }
        self.places.insert((writer.id, number), place);
        let sent = writer.record(number);
        if (&sent.key, &sent.value, &sent.headers) != (&record.key, &record.value, &record.headers) {
            self.complaints.push(format!("{who}: changed, {sent:?} to {record:?}"));
        }
        if sent.timestamp.is_some_and(|timestamp| timestamp != record.timestamp) {
            self.complaints.push(format!("{who}: its timestamp was {:?}, and is {}", sent.timestamp, record.timestamp));
        }
        if writer.partition(number).is_some_and(|partition| partition != record.partition) {
            self.complaints.push(format!("{who}: sent to partition {:?}", writer.partition(number)));
        }
        if let Some(key) = &record.key
            && *self.by_key.entry((topic, key)).or_insert(record.partition) != record.partition
        {
            self.complaints.push(format!("{who}: its key was in another partition before"));
        }
        let newest = self.newest.insert((topic, record.partition, writer.id), number);
        if newest.is_some_and(|newest| newest > number) {
            self.complaints.push(format!("{who}: behind its record {newest:?}"));
        }
    }

    fn account(&mut self, account: &Account, ending: Ending) {
        let id = account.writer.id;
        for number in 0..account.sent {
            let place = self.places.get(&(id, number));
            let answer = account.answers.get(&number);
            let complaint = match (answer, place) {
                (Some(answer), Some(place)) if answer.error_code == 0 => {
                    // An offset of -1 says that it is there, and not where.
                    let as_said = answer.partition == place.0 && (answer.offset == place.1 || answer.offset == -1);
                    (!as_said).then(|| format!("is at {place:?}, and was said to be at {answer:?}"))
                }
                (Some(answer), None) if answer.error_code == 0 => Some(format!("is lost; {answer:?}")),
                (Some(answer), _) if ending == Ending::Cut && answer.error_code == -1 => None,
                (Some(answer), _) => Some(format!("was refused: {answer:?}")),
                (None, None) if ending == Ending::Settled => Some("is lost".to_owned()),
                (None, _) if ending == Ending::Settled && account.writer.way.is_answered() => {
                    Some("was not answered".to_owned())
                }
                (None, _) => None,
            };
            if let Some(complaint) = complaint {
                self.complaints.push(format!("{}: client {id} record {number} {complaint}", account.writer.topic));
            }
        }
    }
}
