//! What goes wrong in the demo: each at a certain share of the records, so that it happens in the middle whatever the machine.

use std::time::Duration;

use super::{PARTITIONS, TOPIC, say};
use crate::devbroker::{At, DevBrokerError, DevCluster};

/// How long the brokers take for an answer: long enough for something to be on its way at any time.
const ANSWERS_TAKE: Duration = Duration::from_millis(5);

/// Moves, loses, kills and revives while `records` arrive; returns when the last trouble is over.
pub(super) async fn make(cluster: &DevCluster, records: u64) -> Result<(), DevBrokerError> {
    cluster.delay_answers(At::Anywhere, ANSWERS_TAKE);
    let share = |tenths: u64| cluster.wait_until(move |counters| counters.records >= records * tenths / 10);

    share(1).await;
    say("every partition gets another leader");
    for partition in 0..PARTITIONS as i32 {
        let leader = cluster.leader(TOPIC, partition)?.map_or(1, |(leader, _)| leader);
        cluster.move_leader(TOPIC, partition, leader % 3 + 1)?;
    }
    share(3).await;
    say("three answers get lost, and their connections with them");
    cluster.lose_answers(At::Anywhere, 3);
    share(5).await;
    say("broker 2 dies");
    cluster.stop_broker(2).await?;
    share(7).await;
    say("broker 2 is back, on another port");
    cluster.start_broker_elsewhere(2).await?;
    share(8).await;
    say("broker 2 leads again");
    for partition in (0..PARTITIONS as i32).step_by(3) {
        cluster.move_leader(TOPIC, partition, 2)?;
    }
    Ok(())
}
