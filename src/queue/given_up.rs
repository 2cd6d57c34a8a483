//! Records that are given up: who is told, and what is counted, when they cannot come back.

use super::budget::Budget;
use super::ledger::{DropReason, Ledger};
use super::receipt::{Outcome, Receipt};

/// See the module. Those of a stored partition are in the log, and would be there again after a kill: they are settled when the log says
/// on disk that they are given up. Dropped unsettled, they stay held, and their clients hear that their fate is not known.
#[derive(Debug)]
pub struct GivenUp {
    /// What they are counted under.
    pub reason: DropReason,
    /// How many.
    pub records: u64,
    /// What they are charged in the memory budget.
    pub charged: usize,
    /// Who waits for them.
    pub receipts: Vec<Receipt>,
    /// What those are told.
    pub outcome: Outcome,
}

impl GivenUp {
    /// Counts them, gives their memory back and tells who waits for them.
    pub fn settle(self, ledger: &Ledger, budget: &Budget) {
        ledger.drop_records(self.reason, self.records);
        budget.release(self.charged);
        self.receipts.into_iter().for_each(|receipt| receipt.settle(self.outcome.clone()));
    }
}
