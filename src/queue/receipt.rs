//! How a client learns what became of its records.
//!
//! A [`Request`] is one client request that wants an answer. Its records may go to several partitions and, there, into
//! several batches; each stretch of them carries a [`Receipt`]. When all are settled the request lies in its
//! connection's [`Answers`], whose task is woken to write it.
//!
//! A receipt that is dropped settles its records with error −1: a client is never left waiting for something that no
//! longer exists.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::SegQueue;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::budget::Budget;

/// Kafka's UNKNOWN_SERVER_ERROR.
const UNKNOWN: i16 = -1;

/// What became of a stretch of records in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Replicated by the cluster.
    Delivered {
        /// The partition.
        partition: i32,
        /// The offset of the first; −1 if Kafka has proven them delivered without telling where.
        base_offset: i64,
    },
    /// They will not be delivered.
    Failed {
        /// The partition, −1 if none was chosen.
        partition: i32,
        /// Kafka's error code.
        error_code: i16,
        /// The reason in words.
        reason: Arc<str>,
    },
}

/// One record's line in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordResult {
    /// Kafka's error code, 0 for success.
    pub error_code: i16,
    /// The partition it went to, −1 if none was chosen.
    pub partition: i32,
    /// Its offset, −1 if not known.
    pub offset: i64,
}

#[derive(Debug)]
struct Progress {
    results: Vec<RecordResult>,
    open: u32,
    failure: Option<(i16, Arc<str>)>,
}

/// When a client wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// When its records are in the log, durable.
    Stored,
    /// When the cluster has replicated them.
    Delivered,
}

/// A client request that wants an answer.
#[derive(Debug)]
pub struct Request {
    /// The client's own number for it.
    pub correlation_id: i32,
    /// What it is charged in the memory budget, for as long as it exists.
    charged_bytes: usize,
    progress: Mutex<Progress>,
    answers: Arc<Answers>,
    when: When,
}

/// What is answered: a result for each record, and the first failure with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// One for each record of the request, in its order.
    pub records: Vec<RecordResult>,
    /// The first failure.
    pub failure: Option<(i16, Arc<str>)>,
}

impl Request {
    /// A request of `records` records, none of them settled. With no records it is answered at once. `charged_bytes` are
    /// charged to the budget of `answers`, and given back when nobody has the request any more: records may outlive
    /// the connection that waits for them.
    pub fn new(correlation_id: i32, records: u32, charged_bytes: usize, answers: Arc<Answers>) -> Arc<Self> {
        Self::answered_when(When::Delivered, correlation_id, records, charged_bytes, answers)
    }

    /// The same for one that may want its answer earlier.
    pub fn answered_when(
        when: When,
        correlation_id: i32,
        records: u32,
        charged_bytes: usize,
        answers: Arc<Answers>,
    ) -> Arc<Self> {
        let blank = RecordResult { error_code: UNKNOWN, partition: -1, offset: -1 };
        let progress = Progress { results: vec![blank; records as usize], open: records, failure: None };
        if let Some(budget) = &answers.budget {
            budget.charge(charged_bytes);
        }
        let request =
            Arc::new(Request { correlation_id, charged_bytes, progress: Mutex::new(progress), answers, when });
        if records == 0 {
            request.answers.complete(request.clone());
        }
        request
    }

    /// A receipt for `count` records of this request from the `first` one on. Each record must have exactly one.
    pub fn receipt(self: &Arc<Self>, first: u32, count: u32) -> Receipt {
        Receipt { request: self.clone(), first, count }
    }

    /// What is known now; records that are not settled have error −1.
    pub fn results(&self) -> Results {
        let progress = self.progress.lock();
        Results { records: progress.results.clone(), failure: progress.failure.clone() }
    }

    fn settle(self: &Arc<Self>, first: u32, count: u32, outcome: Outcome) {
        let mut progress = self.progress.lock();
        let stretch = progress.results.iter_mut().skip(first as usize).take(count as usize);
        match outcome {
            Outcome::Delivered { partition, base_offset } => {
                for (result, delta) in stretch.zip(0i64..) {
                    // Who asked to know that they are stored is not promised an offset, though Kafka was quicker.
                    let is_known = base_offset >= 0 && self.when == When::Delivered;
                    let offset = if is_known { base_offset.saturating_add(delta) } else { -1 };
                    *result = RecordResult { error_code: 0, partition, offset };
                }
            }
            Outcome::Failed { partition, error_code, reason } => {
                for result in stretch {
                    *result = RecordResult { error_code, partition, offset: -1 };
                }
                progress.failure.get_or_insert((error_code, reason));
            }
        }
        progress.open = progress.open.saturating_sub(count);
        let done = progress.open == 0;
        drop(progress);
        if done {
            self.answers.complete(self.clone());
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(budget) = &self.answers.budget {
            budget.release(self.charged_bytes);
        }
    }
}

/// The promise of an answer for a stretch of a request's records.
#[derive(Debug)]
pub struct Receipt {
    request: Arc<Request>,
    first: u32,
    count: u32,
}

impl Receipt {
    /// How many records it stands for.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// When the client wants to be answered.
    pub fn when(&self) -> When {
        self.request.when
    }

    /// Makes it stand for one more record if `request`'s record `index` is the next one.
    pub fn extend(&mut self, request: &Arc<Request>, index: u32) -> bool {
        let next = Arc::ptr_eq(&self.request, request) && self.first + self.count == index;
        if next {
            self.count += 1;
        }
        next
    }

    /// Keeps the first `count` records; the rest, if any, has a receipt of its own.
    pub fn split_off(&mut self, count: u32) -> Option<Receipt> {
        let rest = self.count.checked_sub(count).filter(|rest| *rest > 0)?;
        self.count = count;
        Some(Receipt { request: self.request.clone(), first: self.first + count, count: rest })
    }

    /// Says what became of its records.
    pub fn settle(mut self, outcome: Outcome) {
        let count = std::mem::take(&mut self.count);
        if count > 0 {
            self.request.settle(self.first, count, outcome);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if self.count > 0 {
            let reason = "forebay stopped before their fate was known".into();
            self.request.settle(self.first, self.count, Outcome::Failed { partition: -1, error_code: UNKNOWN, reason });
        }
    }
}

/// A receipt and where its records begin in the item or batch that holds them.
#[derive(Debug)]
pub struct Mark {
    /// The first record's place.
    pub at: u32,
    /// For it and those after it.
    pub receipt: Receipt,
}

/// The requests of one connection that are complete and not yet written. Bounded by the connection's limit of
/// unanswered requests: each request comes here once.
#[derive(Debug, Default)]
pub struct Answers {
    complete: SegQueue<Arc<Request>>,
    notify: Notify,
    budget: Option<Arc<Budget>>,
    closed: AtomicBool,
}

impl Answers {
    /// For a connection whose requests are charged to `budget`.
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Arc::new(Answers { budget: Some(budget), ..Answers::default() })
    }

    fn complete(&self, request: Arc<Request>) {
        self.complete.push(request);
        // SeqCst here and in `close`: either we see that it is closed, or it sees what we pushed.
        if self.closed.load(Ordering::SeqCst) {
            while self.complete.pop().is_some() {}
        }
        self.notify.notify_one();
    }

    /// The connection ends: what is complete and what will be is let go. Each request has its answers and so would keep
    /// itself, if it stayed in them.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.complete.pop().is_some() {}
    }

    /// The next complete request.
    pub fn pop(&self) -> Option<Arc<Request>> {
        self.complete.pop()
    }

    /// Waits until something may be complete. Cancel safe.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(base_offset: i64) -> Outcome {
        Outcome::Delivered { partition: 3, base_offset }
    }

    #[test]
    fn a_request_is_complete_when_its_last_record_is_settled() {
        let answers = Arc::new(Answers::default());
        let request = Request::new(7, 5, 0, answers.clone());
        let mut first = request.receipt(0, 4);
        let second = request.receipt(4, 1);
        let rest = first.split_off(1).expect("three are left");
        second.settle(delivered(90));
        rest.settle(Outcome::Failed { partition: 1, error_code: 10, reason: "too large".into() });
        assert!(answers.pop().is_none());
        first.settle(delivered(-1));
        let done = answers.pop().expect("complete");
        assert!(answers.pop().is_none());
        let results = done.results();
        let line = |r: &RecordResult| (r.error_code, r.partition, r.offset);
        assert_eq!(
            results.records.iter().map(line).collect::<Vec<_>>(),
            [(0, 3, -1), (10, 1, -1), (10, 1, -1), (10, 1, -1), (0, 3, 90)]
        );
        assert_eq!(results.failure.expect("one failed").0, 10);
    }

    #[test]
    fn a_dropped_receipt_settles_its_records_as_unknown() {
        let answers = Arc::new(Answers::default());
        let request = Request::new(7, 2, 0, answers.clone());
        let mut receipt = request.receipt(0, 1);
        assert!(receipt.extend(&request, 1));
        assert!(!receipt.extend(&request, 3));
        drop(receipt);
        assert_eq!(answers.pop().expect("complete").results().failure.expect("failed").0, UNKNOWN);
    }

    #[test]
    fn a_request_is_let_go_whether_its_connection_ends_before_it_is_complete_or_after() {
        let budget = Arc::new(Budget::new(1000));
        let answers = Answers::new(budget.clone());
        let before = Request::new(1, 1, 10, answers.clone()).receipt(0, 1);
        let after = Request::new(2, 1, 20, answers.clone()).receipt(0, 1);
        before.settle(delivered(0));
        assert_eq!(budget.used(), 30);
        answers.close();
        drop(answers);
        assert_eq!(budget.used(), 20);
        after.settle(delivered(1));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_request_without_records_is_complete_at_once() {
        let answers = Arc::new(Answers::default());
        Request::new(7, 0, 0, answers.clone());
        assert!(answers.pop().is_some());
    }
}
