//! The same with a backlog: what was answered as stored survives, too, and the ledger of the backlog counts exactly over all lives.

use tempfile::TempDir;

use crate::support::crash::stored_in;
use crate::support::daemon::Daemon;
use crate::{run_and_end, topic};

#[test]
fn a_daemon_that_is_killed_again_and_again_keeps_what_it_has_stored() {
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let config = stored_in(backlog.path(), "*");
    run_and_end(vec![topic("stored", &[-1, 0, 1, 1], true), topic("stored", &[1], true)], &config, Daemon::kill);
}

#[test]
fn what_is_stored_and_what_is_not_live_beside_each_other_through_kills() {
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let config = stored_in(backlog.path(), "stored*");
    run_and_end(vec![topic("stored", &[-1, 0, 1], true), topic("memory", &[-1, 0], false)], &config, Daemon::kill);
}
