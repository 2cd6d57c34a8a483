//! What it costs to make a record batch out of a run, for each codec at its own default level: append every record, compress,
//! checksum, stamp.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forebay::record::{Record, Run};
use forebay::wire::codec::Codec;
use forebay::wire::record_batch::{BatchBuilder, Lane, Stamp};

/// Kafka's numbers for its codecs.
const CODECS: std::ops::RangeInclusive<i16> = 0..=4;
/// Bytes of values in one batch.
const BATCH_BYTES: usize = 256 << 10;
const STAMP: Stamp = Stamp { lane: Lane { producer_id: 1, epoch: 0 }, base_sequence: 0 };

/// Lines such as a program logs: the same words again and again, other numbers each time.
fn run(size: usize) -> Run {
    let mut random = fastrand::Rng::with_seed(1);
    let words =
        ["level=info", "level=warn", "msg=\"request served\"", "path=/v1/orders", "path=/v1/users", "status=200"];
    let mut run = Run::default();
    for number in 0..BATCH_BYTES / size {
        let mut line = format!("ts={} ", 1_700_000_000_000 + 3 * number);
        while line.len() < size {
            let word = random.choice(words).expect("there are words");
            line.push_str(&format!("{word} id={:08x} ", random.u32(..)));
        }
        let value = line.as_bytes().get(..size);
        run.push(&Record { timestamp: number as i64, stamped_here: false, key: None, value, headers: &[] });
    }
    run
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch/build");
    group.sample_size(20);
    let codecs: Vec<Codec> = CODECS.filter_map(|number| Codec::from_attributes(number).ok()).collect();
    for size in [100, 1024] {
        let run = run(size);
        group.throughput(Throughput::Elements(run.count().into()));
        for &codec in &codecs {
            let mut builder = BatchBuilder::new();
            let mut build = || {
                for record in run.records_from(0) {
                    builder.append(record.timestamp, record.suffix);
                }
                let (sealed, failure) = builder.finish(codec, None);
                assert_eq!(failure, None, "{}", codec.name());
                sealed.stamp(STAMP)
            };
            eprintln!(
                "{}: a batch of {} records of {size} bytes has {} bytes",
                codec.name(),
                run.count(),
                build().len()
            );
            let id = BenchmarkId::new(codec.name(), format!("{size} B"));
            group.bench_function(id, |bencher| bencher.iter(|| black_box(build())));
        }
    }
    group.finish();
}

criterion_group!(benches, build);
criterion_main!(benches);
