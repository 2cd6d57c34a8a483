//! What must hold after a schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use forebay::queue::ledger::Balance;
use forebay::queue::receipt::RecordResult;
use forebay::wire::codes;

use crate::book::Written;
use crate::kafka::replica::Entry;
use crate::kafka::{Key, State};
use crate::plan::{Fault, Plan};

/// What the parts said at the end.
pub struct Ending<'a> {
    pub plan: &'a Plan,
    pub records: &'a [Written],
    pub results: &'a [(RecordResult, Option<Arc<str>>)],
    pub balance: &'a Balance,
    /// Bytes that are still charged.
    pub charged: usize,
}

/// A partition's log, as a consumer would read it.
struct Log<'a> {
    key: Key,
    entries: &'a [Entry],
    /// An unclean election took from it what it will: nothing is promised but order.
    is_unclean: bool,
}

/// Nothing lost, nothing doubled but what is counted, order kept, and the balance right. An error says what is wrong.
pub fn check(state: &mut State, ending: &Ending<'_>) -> Result<(), String> {
    let lost = state.lost.clone();
    let logs = logs(state)?;
    let copies = count(&logs, ending.records.len())?;
    let exempt: BTreeSet<u32> = exempt(&logs, &lost);
    balance(ending)?;
    fates(ending, &copies, &exempt)?;
    doubles(ending, &copies, &exempt)?;
    if may_mix_up(ending.plan) {
        return Ok(());
    }
    logs.iter().try_for_each(|log| order(log, ending))
}

/// The final log of each partition: what its leader has, all of it committed.
fn logs(state: &mut State) -> Result<Vec<Log<'_>>, String> {
    let mut leaders = Vec::new();
    for key in state.keys() {
        let leader = state.assignment(key).map_or(-1, |assignment| assignment.leader);
        leaders.push((key, leader));
    }
    let state = &*state;
    let mut logs: Vec<Log<'_>> = Vec::new();
    for (key, leader) in leaders {
        let replica = state.brokers.get(&leader).and_then(|node| node.replicas.get(&key));
        let replica = replica.ok_or_else(|| format!("nobody leads {key:?}: the model is at fault"))?;
        if replica.high_watermark < replica.end() {
            let (committed, end) = (replica.high_watermark, replica.end());
            return Err(format!("{key:?} is committed to {committed} of {end}: the model is at fault"));
        }
        logs.push(Log { key, entries: &replica.log, is_unclean: state.unclean.contains(&key) });
    }
    let graves = state.graves.iter();
    logs.extend(graves.map(|(key, entries)| Log { key: *key, entries, is_unclean: state.unclean.contains(key) }));
    Ok(logs)
}

/// How often each record is in a log; more than once in several logs is no double, for a topic that was made again is another.
fn count(logs: &[Log<'_>], records: usize) -> Result<Vec<u32>, String> {
    let mut copies = vec![0; records];
    for log in logs {
        let mut here: BTreeMap<u32, u32> = BTreeMap::new();
        for number in log.entries.iter().flat_map(|entry| entry.records.iter()) {
            *here.entry(*number).or_default() += 1;
        }
        for (number, times) in here {
            let copies = copies.get_mut(number as usize).ok_or_else(|| format!("nobody wrote record {number}"))?;
            *copies = times.max(*copies);
        }
    }
    Ok(copies)
}

/// Records of which an unclean election may have made anything: those it took, and all in the partitions where it was.
fn exempt(logs: &[Log<'_>], lost: &BTreeSet<u32>) -> BTreeSet<u32> {
    let unclean = logs.iter().filter(|log| log.is_unclean);
    unclean.flat_map(|log| log.entries).flat_map(|entry| entry.records.iter()).chain(lost).copied().collect()
}

/// accepted = delivered + dead-lettered + dropped, and memory is given back.
fn balance(ending: &Ending<'_>) -> Result<(), String> {
    let Ending { balance, results, records, charged, .. } = ending;
    let delivered = results.iter().filter(|(result, _)| result.error_code == 0).count() as u64;
    let failed = results.len() as u64 - delivered;
    let dropped: u64 = balance.dropped.iter().map(|(_, records)| records).sum();
    let accepted = balance.accepted;
    if balance.held != 0 || balance.delivered != delivered || balance.dead_lettered + dropped != failed {
        return Err(format!("told {delivered} delivered and {failed} failed, counted {balance:?}"));
    }
    if accepted != records.len() as u64 || results.len() != records.len() {
        return Err(format!("{} written, {accepted} accepted", records.len()));
    }
    if *charged != 0 {
        return Err(format!("{charged} bytes are still charged"));
    }
    Ok(())
}

/// What clients were told is so.
fn fates(ending: &Ending<'_>, copies: &[u32], exempt: &BTreeSet<u32>) -> Result<(), String> {
    let Ending { plan, records, results, balance, .. } = ending;
    let mut dead_and_there = 0;
    for ((number, copies), (record, (result, words))) in (0u32..).zip(copies).zip(records.iter().zip(*results)) {
        let code = result.error_code;
        match (code, copies) {
            (0, 0) if !exempt.contains(&number) && !may_lose(plan) => {
                return Err(format!("record {number} was acknowledged and is lost: {record:?}"));
            }
            (0, _) => {}
            _ if !may_be_refused(plan, record, code) => {
                return Err(format!("record {number} was given up without need, {code} {words:?}: {record:?}"));
            }
            (_, copies) => dead_and_there += u64::from(*copies > 0),
        }
    }
    if dead_and_there > balance.possible_duplicates {
        let counted = balance.possible_duplicates;
        return Err(format!("{dead_and_there} dead letters are there, {counted} are counted as possible duplicates"));
    }
    Ok(())
}

/// The first version of Produce that names topics by id.
const TOPIC_IDS_SINCE: i16 = 13;

/// Whether a topic is made anew while batches go by its name. Of two in flight the first may yet meet the end of the old one, the
/// second be the first of the new one: it is taken, and seems to prove the first.
fn may_mix_up(plan: &Plan) -> bool {
    plan.has(Fault::Deletion) && plan.settings.versions.0 < TOPIC_IDS_SINCE
}

/// Whether acknowledged records may vanish.
fn may_lose(plan: &Plan) -> bool {
    plan.has(Fault::Unclean) || may_mix_up(plan)
}

fn may_be_refused(plan: &Plan, record: &Written, code: i16) -> bool {
    let rules = plan.rules_of(&record.topic);
    match code {
        codes::REQUEST_TIMED_OUT => rules.is_some_and(|rules| rules.delivery_timeout.is_some()),
        codes::UNKNOWN_TOPIC_OR_PARTITION => {
            plan.has(Fault::Deletion) && rules.is_some_and(|rules| rules.dead_letter_after.is_some())
        }
        _ => plan.has(Fault::Poison) && record.is_poison || plan.has(Fault::Size) && record.bytes > 90,
    }
}

/// No more doubles than are counted; none, and none counted, where nothing can double.
fn doubles(ending: &Ending<'_>, copies: &[u32], exempt: &BTreeSet<u32>) -> Result<(), String> {
    let counted = ending.balance.possible_duplicates;
    let doubled: Vec<u32> =
        (0u32..).zip(copies).filter(|(n, copies)| **copies > 1 && !exempt.contains(n)).map(|(n, _)| n).collect();
    if doubled.len() as u64 > counted {
        return Err(format!("records {doubled:?} are doubled, and {counted} are counted as possible duplicates"));
    }
    if ending.plan.is_calm() && counted > 0 {
        return Err(format!("{counted} records are counted as possible duplicates, and nothing can have doubled any"));
    }
    Ok(())
}

/// Each client's records stand in the order in which it wrote them, where they first stand. But for what was given up among old records:
/// once the broker has forgotten the lane, no later epoch is a fence, and an attempt on a lost connection may come behind what was sent since.
fn order(log: &Log<'_>, ending: &Ending<'_>) -> Result<(), String> {
    let Ending { plan, records, results, .. } = ending;
    let was_given_up = |number: u32| results.get(number as usize).is_some_and(|(result, _)| result.error_code != 0);
    let mut seen = BTreeSet::new();
    let mut newest: BTreeMap<u32, u32> = BTreeMap::new();
    for number in log.entries.iter().flat_map(|entry| entry.records.iter()).copied() {
        let Some(record) = records.get(number as usize) else { continue };
        if !seen.insert(number) || plan.has(Fault::Old) && was_given_up(number) {
            continue;
        }
        if let Some(before) = newest.insert(record.client, number).filter(|before| *before > number) {
            return Err(format!("client {}: record {number} stands behind {before} in {:?}", record.client, log.key));
        }
    }
    Ok(())
}
