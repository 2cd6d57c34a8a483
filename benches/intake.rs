//! What it costs a connection's task to push a burst of one record into a partition, while others push and a broker's task
//! takes. Bursts are made before the time runs; `cargo bench --bench end_to_end` has the whole way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forebay::config::Config;
use forebay::queue::drainer::Drainer;
use forebay::queue::item::Item;
use forebay::queue::partition::Partition;
use forebay::queue::topic::TopicInfo;
use forebay::record::{Record, Run};
use tokio::time::Instant;

/// Pushes between two stops of the clock: so many bursts are in memory at once.
const ROUND: usize = 16 << 10;

fn partitions(count: usize, drainer: &Arc<Drainer>) -> Vec<Arc<Partition>> {
    let topic = TopicInfo::new("bench", Config::default().producer);
    let partition = |id| {
        let partition = Partition::new(topic.clone(), id);
        partition.assign(drainer);
        partition
    };
    (0..count as i32).map(partition).collect()
}

fn burst(arrived: Instant) -> Box<Item> {
    let mut run = Run::default();
    run.push(&Record { timestamp: 1, stamped_here: true, key: None, value: Some(&[b'x'; 100]), headers: &[] });
    Item::records(run, [].into(), arrived)
}

/// What a broker's task does, but for making batches: takes all that is announced, until there were `count` records.
fn drain(drainer: &Drainer, count: usize) {
    let mut left = count;
    while left > 0 {
        let Some(partition) = drainer.next_ready() else {
            thread::yield_now();
            continue;
        };
        partition.lower_signal();
        while let Some(item) = partition.take_from_intake() {
            partition.batched(item.left(), item.left_bytes());
            left -= 1;
        }
    }
}

/// How long `writers` take to push a round between them, from the first push to the last.
fn round(writers: usize, partitions: &[Arc<Partition>], drainer: &Drainer) -> Duration {
    let (start, end) = (Barrier::new(writers + 1), Barrier::new(writers + 1));
    let next_place = AtomicUsize::new(0);
    let arrived = Instant::now();
    let write = || {
        let bursts: Vec<_> = (0..ROUND / writers).map(|_| burst(arrived)).collect();
        // Each begins elsewhere, as connections do.
        let first = next_place.fetch_add(partitions.len() / writers + 1, Ordering::Relaxed);
        start.wait();
        for (at, burst) in (first..).zip(bursts) {
            partitions[at % partitions.len()].push(burst);
        }
        end.wait();
    };
    thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(write);
        }
        scope.spawn(|| drain(drainer, ROUND / writers * writers));
        start.wait();
        let started = Instant::now();
        end.wait();
        started.elapsed()
    })
}

fn push(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("intake/push");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(2));
    for count in [1, 64, 1024] {
        for writers in [1, 4, 16] {
            let drainer = Drainer::new(1);
            let partitions = partitions(count, &drainer);
            let id = BenchmarkId::new(format!("{writers} writers"), format!("{count} partitions"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|pushes| {
                    let rounds = pushes.div_ceil(ROUND as u64);
                    let took: Duration = (0..rounds).map(|_| round(writers, &partitions, &drainer)).sum();
                    took.mul_f64(pushes as f64 / (rounds * ROUND as u64) as f64)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, push);
criterion_main!(benches);
