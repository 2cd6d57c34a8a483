//! Bytes that a connection holds, in the memory budget.

use std::sync::Arc;

use crate::queue::budget::Budget;

/// Charges the budget for as long as it lives, and follows what it stands for.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Nothing yet.
    pub fn new(budget: Arc<Budget>) -> Self {
        Charge { budget, bytes: 0 }
    }

    /// Takes over a reservation of `bytes` that has been made: it ends when this is dropped.
    pub fn reserved(budget: Arc<Budget>, bytes: usize) -> Self {
        Charge { budget, bytes }
    }

    /// What it stands for now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it stands for is so large now. Does not wait for room.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.charge(bytes - self.bytes);
        } else {
            self.budget.release(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}
