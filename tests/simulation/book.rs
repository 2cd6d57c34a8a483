//! Which records were written, by whom, and what their clients were told.

use std::sync::Arc;

use forebay::queue::receipt::{Answers, RecordResult, Request};
use parking_lot::Mutex;

/// A record that a client has written; its number is its place in the book.
#[derive(Clone, Debug)]
pub struct Written {
    pub client: u32,
    pub topic: Arc<str>,
    /// Bytes of its value.
    pub bytes: usize,
    pub is_poison: bool,
    /// Stamped so long ago that brokers forget its producer.
    pub is_old: bool,
}

#[derive(Default)]
struct Pages {
    records: Vec<Written>,
    /// Requests and the number of their first record.
    requests: Vec<(u32, Arc<Request>)>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Book {
    pages: Arc<Mutex<Pages>>,
    answers: Arc<Answers>,
}

impl Book {
    /// A client is about to write these: the first one's number, and the request that will know what became of them.
    pub fn enter(&self, records: Vec<Written>) -> (u32, Arc<Request>) {
        let mut pages = self.pages.lock();
        let first = pages.records.len() as u32;
        let request = Request::new(0, records.len() as u32, 0, self.answers.clone());
        pages.requests.push((first, request.clone()));
        pages.records.extend(records);
        (first, request)
    }

    /// All records, in the order in which they were written.
    pub fn records(&self) -> Vec<Written> {
        self.pages.lock().records.clone()
    }

    /// For each record what its client was told, and Kafka's code with the words of the first failure of its request.
    pub fn results(&self) -> Vec<(RecordResult, Option<Arc<str>>)> {
        let pages = self.pages.lock();
        let of = |(_, request): &(u32, Arc<Request>)| {
            let results = request.results();
            let words = results.failure.map(|(_, words)| words);
            results.records.into_iter().map(|record| (record, words.clone())).collect::<Vec<_>>()
        };
        pages.requests.iter().flat_map(of).collect()
    }

    /// Lets all requests go: they know the answers that know them.
    pub fn close(&self) {
        self.answers.close();
        self.pages.lock().requests.clear();
    }
}
