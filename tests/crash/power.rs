//! The same with power losses: the backlog lies on a file system of its own, and at each kill what was not synced is lost.

use crate::stored::overflowing_topics;
use crate::support::crash::power::{disk_or_say, lose_power};
use crate::support::crash::{Store, overflowing, stored_in};
use crate::{run_and_end, topic};

#[test]
fn a_daemon_whose_power_is_cut_again_and_again_keeps_what_it_has_acknowledged() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let Some((disk, backlog)) = disk_or_say(directory.path()) else { return };
    let topics = vec![topic("power", &[-1, 0, 1, 1], Store::Always), topic("power", &[1], Store::Always)];
    run_and_end(topics, &stored_in(&backlog, "*"), |daemon| lose_power(daemon, &disk));
}

#[test]
fn what_overflows_keeps_through_power_cuts_what_it_says_that_it_keeps() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let Some((disk, backlog)) = disk_or_say(directory.path()) else { return };
    let config = stored_in(&backlog, "stored*") + &overflowing("overflow*");
    run_and_end(overflowing_topics(), &config, |daemon| lose_power(daemon, &disk));
}
