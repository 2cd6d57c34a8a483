//! What one partition suffers, the others of its broker do not notice.

use std::time::Duration;

use forebay::devbroker::At;

use crate::dev_kafka::DevKafka;
use crate::support::balance::check;
use crate::support::cluster::{Cluster, new_topic};
use crate::support::daemon::Daemon;
use crate::support::load::Load;
use crate::support::scenario::SOON;
use crate::support::writer::{Way, Writer};

/// Records of each client between one event and the next.
const STRETCH: u64 = 30;
/// Late, where answers take next to no time.
const LATE: Duration = Duration::from_millis(700);

/// Whether the status says that a partition of `topic` is late.
fn is_late(status: &serde_json::Value, topic: &str) -> Option<bool> {
    let topic = status["topics"].as_array()?.iter().find(|found| found["name"] == topic)?;
    Some(!topic["late"].as_array()?.is_empty())
}

#[test]
fn a_partition_that_replicates_slowly_holds_up_no_other() {
    let cluster = DevKafka::start(1);
    let daemon = Daemon::start(&cluster.bootstrap(), "");
    let (slow, quick) = (new_topic(&cluster, "slow", 1), new_topic(&cluster, "quick", 5));
    let one_at_a_time = |id, topic, partitions| Writer { way: Way::All(1), ..Writer::new(id, topic, partitions) };
    let waiting = Load::start(&daemon, vec![one_at_a_time(0, &slow, 1)]);
    let others = Load::start(&daemon, (1..6).map(|id| one_at_a_time(id, &quick, 5)).collect());
    waiting.wait_for_each(STRETCH);
    others.wait_for_each(STRETCH);

    cluster.delay_answers(At::partition(&slow, 0), LATE);
    daemon.wait_for_status("late partition apart, and no other", SOON, |status| {
        (is_late(status, &slow)? && !is_late(status, &quick)?).then_some(())
    });
    // From here on it gets no answer at all, and the others theirs.
    cluster.hold_answers(At::partition(&slow, 0));
    cluster.wait_for("held answer", |counters| counters.held_answers > 0);
    others.wait_for_each(5 * STRETCH);

    cluster.delay_answers(At::partition(&slow, 0), Duration::ZERO);
    cluster.release_answers();
    waiting.wait_for_each(5 * STRETCH);
    daemon.wait_for_status("partition in time back", SOON, |status| (!is_late(status, &slow)?).then_some(()));
    let accounts: Vec<_> = waiting.finish().into_iter().chain(others.finish()).collect();
    check(&cluster, &daemon, &accounts);
}
