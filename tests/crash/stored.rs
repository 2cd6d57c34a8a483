//! The same with a backlog: what was answered as stored survives, too, and the ledger of the backlog counts exactly over all lives.

use tempfile::TempDir;

use crate::support::crash::{Store, Topic, overflowing, stored_in};
use crate::support::daemon::Daemon;
use crate::{run_and_end, topic};

#[test]
fn a_daemon_that_is_killed_again_and_again_keeps_what_it_has_stored() {
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let config = stored_in(backlog.path(), "*");
    run_and_end(
        vec![topic("stored", &[-1, 0, 1, 1], Store::Always), topic("stored", &[1], Store::Always)],
        &config,
        Daemon::kill,
    );
}

#[test]
fn what_is_stored_and_what_is_not_live_beside_each_other_through_kills() {
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let topics = vec![
        topic("stored", &[-1, 0, 1], Store::Always),
        topic("overflow", &[-1, 0, 1], Store::Overflow),
        topic("memory", &[-1, 0], Store::Never),
    ];
    let config = stored_in(backlog.path(), "stored*") + &overflowing("overflow*");
    run_and_end(topics, &config, Daemon::kill);
}

/// Of the topics some are stored by and by, because Kafka is away, or a client asks for it now and then; and go back to memory.
#[test]
fn what_overflows_now_and_then_keeps_through_kills_what_it_says_that_it_keeps() {
    let backlog = TempDir::with_prefix("forebay-backlog-").expect("a temporary directory");
    let config = stored_in(backlog.path(), "stored*") + &overflowing("overflow*");
    run_and_end(overflowing_topics(), &config, Daemon::kill);
}

/// One whose clients ask for acks=1 often, one where they do now and then, and one where they never do.
pub fn overflowing_topics() -> Vec<Topic> {
    const SELDOM: usize = 500;
    let mut seldom = [-1, 0].repeat(SELDOM);
    seldom.push(1);
    [&[-1, 0, 1][..], &seldom, &[-1, 0]].map(|acks| topic("overflow", acks, Store::Overflow)).into()
}
