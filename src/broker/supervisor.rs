//! Builds the broker tasks as the cluster changes, and gives each its partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::giving_up::Watched;
use super::lateness::Usual;
use super::slot::{Place, Slot};
use super::{Context, until};
use crate::cluster::snapshot::Snapshot;
use crate::config::HostPort;
use crate::queue::drainer::Drainer;

/// The tasks of a broker that run: one for its usual connection, one for the partitions that are kept apart.
struct Running {
    address: HostPort,
    usual: Arc<Drainer>,
    apart: Arc<Drainer>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// A broker task has panicked. The daemon must stop, in order.
#[derive(Debug, thiserror::Error)]
#[error("the task of broker {0} has failed; this is a defect of forebay")]
pub struct TaskFailed(i32);

/// Follows the cluster until `stop`; then ends all broker tasks, and with them their connections.
pub async fn supervise(
    context: Arc<Context>,
    mut random: fastrand::Rng,
    stop: CancellationToken,
) -> Result<(), TaskFailed> {
    let mut brokers: BTreeMap<i32, Running> = BTreeMap::new();
    let mut snapshots = context.cluster.follow();
    let mut topics = context.topics.follow();
    let mut is_news = true;
    let mut watched = Watched::default();
    let outcome = loop {
        if is_news {
            let snapshot = snapshots.borrow_and_update().clone();
            topics.mark_unchanged();
            if let Err(failed) = retire(&context, &mut brokers, &snapshot).await {
                break Err(failed);
            }
            assign(&context, &mut brokers, &snapshot, &mut random);
            watched = context.watch(&snapshot, Instant::now());
        }
        let look = context.give_up(&mut watched, Instant::now());
        is_news = true;
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            id = first_ended(&mut brokers) => {
                if let Some(running) = brokers.get_mut(&id) {
                    running.stop.cancel();
                    running.tasks.retain(|task| !task.is_finished());
                }
                break Err(TaskFailed(id));
            }
            Ok(()) = snapshots.changed() => {}
            Ok(()) = topics.changed() => {}
            () = until(look) => is_news = false,
        }
    };
    for running in brokers.values() {
        running.stop.cancel();
    }
    for (id, running) in brokers {
        for task in running.tasks {
            if let Err(cause) = task.await {
                error!(broker = id, error = %cause, "broker task failed");
            }
        }
    }
    outcome
}

/// Ends the tasks of brokers that have left or have another address. What they had in flight is in doubt.
async fn retire(
    context: &Context,
    brokers: &mut BTreeMap<i32, Running>,
    snapshot: &Snapshot,
) -> Result<(), TaskFailed> {
    let gone: Vec<i32> = brokers
        .iter()
        .filter(|(id, running)| snapshot.brokers.get(id) != Some(&running.address))
        .map(|(id, _)| *id)
        .collect();
    for id in gone {
        let Some(running) = brokers.remove(&id) else { continue };
        info!(broker = id, address = %running.address, "broker has left, or has another address");
        running.stop.cancel();
        for task in running.tasks {
            task.await.map_err(|_| TaskFailed(id))?;
        }
        for topic in context.topics.all() {
            for partition in topic.partitions().iter().flat_map(|partitions| partitions.iter()) {
                partition.abandon(&running.usual);
                partition.abandon(&running.apart);
            }
        }
    }
    Ok(())
}

/// Gives each partition to the task of its leader, which is started at its first partition. One without a known leader stays
/// where it is.
fn assign(
    context: &Arc<Context>,
    brokers: &mut BTreeMap<i32, Running>,
    snapshot: &Snapshot,
    random: &mut fastrand::Rng,
) {
    for topic in context.topics.all() {
        let Some(partitions) = topic.partitions() else { continue };
        for partition in partitions.iter() {
            let Some(leader) = snapshot.leader(&topic.info().name, partition.id()) else { continue };
            let Some(address) = snapshot.brokers.get(&leader) else { continue };
            let running = brokers.entry(leader).or_insert_with(|| start(context, leader, address, random.fork()));
            partition.assign(if partition.is_apart() { &running.apart } else { &running.usual });
        }
    }
}

fn start(context: &Arc<Context>, id: i32, address: &HostPort, mut random: fastrand::Rng) -> Running {
    let (usual, apart) = (Drainer::new(id), Drainer::new(id));
    let stop = CancellationToken::new();
    let usual_pace = Usual::default();
    let mut slot = |place, drainer: &Arc<Drainer>| {
        let slot =
            Slot::new(context.clone(), drainer.clone(), place, usual_pace.clone(), address.clone(), random.fork());
        tokio::spawn(slot.run(stop.clone()))
    };
    let tasks =
        vec![slot(Place::Usual { apart: apart.clone() }, &usual), slot(Place::Apart { usual: usual.clone() }, &apart)];
    Running { address: address.clone(), usual, apart, stop, tasks }
}

/// Waits until a task ends that was not told to.
async fn first_ended(brokers: &mut BTreeMap<i32, Running>) -> i32 {
    std::future::poll_fn(|cx| {
        for (id, running) in brokers.iter_mut() {
            if running.tasks.iter_mut().any(|task| std::pin::Pin::new(task).poll(cx).is_ready()) {
                return std::task::Poll::Ready(*id);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
