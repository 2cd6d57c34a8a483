//! State that one thread changes and another waits on, and the one loop that asks again and again where nothing can be
//! waited on.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

/// How long [`poll`] rests between two questions.
const POLL_PAUSE: Duration = Duration::from_millis(20);

/// A value with a way to wait until it is as wanted.
#[derive(Debug, Default)]
pub struct Watch<T> {
    state: Mutex<T>,
    changed: Condvar,
}

impl<T> Watch<T> {
    /// Changes the value and wakes all who wait.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }

    /// Waits until `find` gives something, looking at once and after each change; `None` when `timeout` has passed.
    pub fn wait<R>(&self, timeout: Duration, mut find: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        let waited = self.changed.wait_timeout_while(state, timeout, |state| {
            found = find(state);
            found.is_none()
        });
        drop(waited);
        found
    }
}

/// Asks until `question` gives an answer; `None` when `timeout` has passed. For what lives in another process and tells
/// nobody when it changes; everything else is a [`Watch`].
pub fn poll<R>(timeout: Duration, mut question: impl FnMut() -> Option<R>) -> Option<R> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = question() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::park_timeout(POLL_PAUSE);
    }
}
