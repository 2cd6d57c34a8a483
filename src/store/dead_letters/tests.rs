use std::time::Duration;

use nix::errno::Errno;

use super::*;
use crate::backlog::letter::REASON_DROPPED;
use crate::backlog::log::inspect::Inspection;
use crate::backlog::log::options::Options;
use crate::backlog::log::storage::simulated::{Fault, SimulatedStorage};
use crate::backlog::name::PartitionName;
use crate::config::TopicRules;
use crate::queue::receipt::{Answers, Request as ClientRequest};
use crate::queue::topic::TopicInfo;
use crate::record::{Record, Run};

const CHARGED: usize = 1000;

struct Fixture {
    storage: SimulatedStorage,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    answers: Arc<Answers>,
    partition: Arc<Partition>,
    letters: u32,
}

impl Fixture {
    fn new() -> Self {
        Fixture {
            storage: SimulatedStorage::new(1),
            ledger: Arc::default(),
            budget: Arc::new(Budget::new(1 << 20)),
            answers: Arc::default(),
            partition: Partition::new(TopicInfo::new("audit", TopicRules::default()), 3),
            letters: 0,
        }
    }

    fn start(&self, limit_bytes: u64) -> (DeadLetters, Thread) {
        let storage = self.storage.clone();
        let open = move || Log::open(storage.clone(), Options::with_limit(limit_bytes), 7).map(|(log, _)| log);
        let (ledger, budget) = (self.ledger.clone(), self.budget.clone());
        start(open, Accounts { ledger, budget, clock: || 1_700_000_000_000 }).unwrap()
    }

    /// A letter of two records of `bytes` bytes.
    fn letter(&mut self, bytes: usize) -> Letter {
        self.letters += 1;
        let mut run = Run::default();
        for timestamp in [5, 6] {
            let value = vec![b'v'; bytes];
            run.push(&Record { timestamp, stamped_here: false, key: None, value: Some(&value), headers: &[] });
        }
        let receipt = ClientRequest::new(self.letters as i32, 2, 0, self.answers.clone()).receipt(0, 2);
        self.ledger.accept(2);
        self.budget.charge(CHARGED);
        Letter {
            partition: self.partition.clone(),
            content: Content { codec: 0, count: 2, base_timestamp: 5, max_timestamp: 6, data: run.into_bytes().into() },
            note: None,
            refusal: Refusal { code: 10, may_be_delivered: true, words: "too large".to_owned() },
            marks: vec![Mark { at: 0, receipt }],
            charged: CHARGED,
        }
    }

    /// Waits for the next client's answer: its error code.
    async fn answered(&self) -> i16 {
        loop {
            if let Some(request) = self.answers.pop() {
                return request.results().records[1].error_code;
            }
            let changed = tokio::time::timeout(Duration::from_secs(60), self.answers.changed()).await;
            assert!(changed.is_ok(), "no answer in a minute");
        }
    }

    fn stored(&self) -> Vec<(String, Option<i32>, u64)> {
        let inspection = Inspection::new(self.storage.clone()).unwrap();
        let state = &inspection.recovered().state;
        let row = |partition: &crate::backlog::log::state::Partition| {
            let name = PartitionName::decode(&partition.name).unwrap();
            (String::from_utf8(name.topic.to_vec()).unwrap(), name.partition, partition.held())
        };
        state.partitions.values().map(row).collect()
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "not within a minute");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_letter_is_answered_and_counted_when_the_power_can_go() {
    let mut fixture = Fixture::new();
    let (dead_letters, thread) = fixture.start(1 << 20);
    dead_letters.put(fixture.letter(10));
    assert_eq!(fixture.answered().await, 10);
    let storage = fixture.storage.clone();
    storage.lose_power();
    thread.stop();
    assert_eq!(fixture.stored(), [("audit".to_owned(), Some(3), 2)]);
    assert_eq!((fixture.ledger.balance().dead_lettered, fixture.ledger.balance().held), (2, 0));
    assert_eq!(fixture.budget.used(), 0);
    let inspection = Inspection::new(fixture.storage.clone()).unwrap();
    let held = inspection.held_runs().unwrap();
    let run = inspection.read(&held.values().next().unwrap()[0]).unwrap().unwrap();
    let refusal = Refusal { code: 10, may_be_delivered: true, words: "too large".to_owned() };
    assert_eq!(Refusal::of_tags(run.records().tags), Some(refusal));
    assert_eq!(run.records().stored_at, 1_700_000_000_000);
}

#[tokio::test]
async fn without_letters_nothing_is_written() {
    let fixture = Fixture::new();
    let (_, thread) = fixture.start(1 << 20);
    thread.stop();
    assert!(fixture.storage.files().is_empty());
}

#[tokio::test]
async fn while_the_disk_fails_letters_are_held_and_charged_and_the_first_good_write_has_them_all() {
    let mut fixture = Fixture::new();
    fixture.storage.fail(Some(Fault { after: 0, times: u64::MAX, errno: Errno::EIO }));
    let (dead_letters, thread) = fixture.start(1 << 20);
    dead_letters.put(fixture.letter(10));
    dead_letters.put(fixture.letter(10));
    until(|| dead_letters.waiting().trouble.is_some()).await;
    let waiting = dead_letters.waiting();
    assert_eq!(waiting.records, 4);
    assert!(waiting.trouble.unwrap().contains("EIO"));
    assert_eq!((fixture.ledger.balance().held, fixture.budget.used()), (4, 2 * CHARGED));
    fixture.storage.fail(None);
    assert_eq!([fixture.answered().await, fixture.answered().await], [10, 10]);
    until(|| dead_letters.waiting() == Waiting::default()).await;
    thread.stop();
    assert_eq!(fixture.stored(), [("audit".to_owned(), Some(3), 4)]);
}

#[tokio::test]
async fn a_full_log_takes_letters_again_when_an_operator_has_made_room() {
    let mut fixture = Fixture::new();
    let (dead_letters, thread) = fixture.start(64 << 10);
    let mut put = 0;
    while dead_letters.waiting().trouble.is_none() {
        dead_letters.put(fixture.letter(1000));
        put += 1;
        until(|| dead_letters.waiting().records == 0 || dead_letters.waiting().trouble.is_some()).await;
        assert!(put < 100, "a log of 64 KiB takes no 200 KB");
    }
    assert!(dead_letters.waiting().trouble.unwrap().contains("the log is full"));
    let stored = fixture.stored()[0].2;
    assert!(stored > 0 && stored < 2 * put);
    let range = IndexRange { first: 0, last: stored - 1 };
    let given_up = dead_letters.give_up(GivenUp { partition: 0, range, reason: REASON_DROPPED }).await;
    assert_eq!(given_up, Ok(stored));
    until(|| dead_letters.waiting() == Waiting::default()).await;
    thread.stop();
    assert_eq!(fixture.stored()[0].2, 2 * put - stored);
    assert_eq!(fixture.ledger.balance().held, 0);
}

#[tokio::test]
async fn what_an_operator_names_wrongly_is_refused_in_words() {
    let mut fixture = Fixture::new();
    let (dead_letters, thread) = fixture.start(1 << 20);
    let wrong = |partition, last| GivenUp { partition, range: IndexRange { first: 0, last }, reason: REASON_DROPPED };
    assert!(dead_letters.give_up(wrong(0, 0)).await.unwrap_err().contains("without a number"));
    dead_letters.put(fixture.letter(10));
    assert_eq!(fixture.answered().await, 10);
    assert!(dead_letters.give_up(wrong(0, 2)).await.unwrap_err().contains("not stored"));
    thread.stop();
    let gone = dead_letters.give_up(wrong(0, 0)).await;
    assert!(gone.unwrap_err().contains("stopping"));
}

#[tokio::test]
async fn what_cannot_be_written_at_the_end_stays_held() {
    let mut fixture = Fixture::new();
    fixture.storage.fail(Some(Fault { after: 0, times: u64::MAX, errno: Errno::EROFS }));
    let (dead_letters, thread) = fixture.start(1 << 20);
    dead_letters.put(fixture.letter(10));
    thread.stop();
    assert_eq!(fixture.ledger.balance().held, 2);
    // Nobody knows what became of them.
    assert_eq!(fixture.answered().await, -1);
    drop(dead_letters);
}
