use std::sync::mpsc::sync_channel;

use nix::errno::Errno;

use super::super::entry::{Entry, NO_TAGS, Records};
use super::super::options::Options;
use super::super::storage::simulated::{Fault, SimulatedStorage};
use super::*;

const SOON: Duration = Duration::from_secs(20);

fn log(storage: &SimulatedStorage) -> Log<SimulatedStorage> {
    Log::open(storage.clone(), Options::with_limit(8 << 20), 1).unwrap().0
}

fn append(data: Vec<u8>) -> Work<SimulatedStorage> {
    Box::new(move |log| {
        let partition = log.define(b"p")?;
        let first = log.partition(partition).map_or(0, |partition| partition.next);
        let records = Records {
            partition,
            first,
            count: 1,
            base_timestamp: 0,
            max_timestamp: 0,
            stored_at: 0,
            codec: 0,
            tags: NO_TAGS,
            data: &data,
        };
        log.append(&[Entry::Records(records)])
    })
}

#[test]
fn whoever_waits_is_answered_when_the_record_survives_a_power_loss() {
    let storage = SimulatedStorage::new(3);
    let thread = LogThread::start(log(&storage), SyncPolicy::default()).unwrap();
    let (answers, answered) = sync_channel(100);
    let clients: Vec<_> = (0..8)
        .map(|client: u8| {
            let (handle, answers) = (thread.handle(), answers.clone());
            std::thread::spawn(move || {
                for n in 0..10_u8 {
                    let answers = answers.clone();
                    let durable: Durable = Box::new(move |result| answers.send(result.is_ok()).unwrap());
                    // Small ones are synced by the thread that appends, large ones by the other.
                    handle.submit(append(vec![client; usize::from(n) * 10_000]), Some(durable)).unwrap();
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    for _ in 0..80 {
        assert!(answered.recv_timeout(SOON).unwrap());
    }
    storage.lose_power();
    let reopened = log(&storage);
    assert_eq!(reopened.state().ledger.accepted, 80);
    assert!(thread.stop().is_err(), "its disk has gone");
}

#[test]
fn what_nobody_waits_for_is_synced_in_time_and_stopping_closes_the_log() {
    let storage = SimulatedStorage::new(4);
    let thread = LogThread::start(log(&storage), SyncPolicy::default()).unwrap();
    thread.handle().submit(append(vec![1]), None).unwrap();
    let handle = thread.handle();
    thread.stop().unwrap();
    assert_eq!(handle.submit(append(vec![2]), None), Err(Stopped));
    storage.lose_power();
    assert_eq!(log(&storage).state().ledger.accepted, 1);
}

#[test]
fn a_failing_disk_is_told_to_whoever_waits_and_heals() {
    let storage = SimulatedStorage::new(5);
    let thread = LogThread::start(log(&storage), SyncPolicy::default()).unwrap();
    let ask = |work| {
        let (answer, answered) = sync_channel(1);
        let durable: Durable = Box::new(move |result| answer.send(result.map_err(|error| error.to_string())).unwrap());
        thread.handle().submit(work, Some(durable)).unwrap();
        answered.recv_timeout(SOON).unwrap()
    };
    ask(append(vec![1])).unwrap();
    // Behind what is still written after that answer.
    ask(Box::new(|log| Ok(log.synced()))).unwrap();
    storage.fail(Some(Fault { after: 0, times: u64::MAX, errno: Errno::EIO }));
    assert!(ask(append(vec![2])).unwrap_err().contains("(EIO)"));
    storage.fail(None);
    ask(append(vec![3])).unwrap();
    storage.lose_power();
    assert_eq!(
        log(&storage).state().ledger.accepted,
        3,
        "what was told to have failed came, too, before what followed"
    );
}

#[test]
fn one_failed_sync_is_healed_in_another_segment_and_nobody_hears_of_it() {
    let storage = SimulatedStorage::new(6);
    let mut log = log(&storage);
    let mut work = append(vec![1]);
    work(&mut log).unwrap();
    log.sync().unwrap();
    work(&mut log).unwrap();
    let job = log.begin_sync().unwrap().unwrap();
    storage.fail(Some(Fault { after: 0, times: 1, errno: Errno::EIO }));
    let outcome = job.run();
    log.finish_sync(outcome).unwrap_err();
    log.sync().unwrap();
    assert_eq!(log.counters().poisoned_segments, 1);
    storage.lose_power();
    drop(log);
    assert_eq!(self::log(&storage).state().ledger.accepted, 2);
}
