//! What it costs to read frames of the local protocol out of what one read of a socket gave: check each, and look at
//! every record of it.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forebay::ingest::frame::dory::encode_dory;
use forebay::ingest::frame::produce::{Acks, ProduceEncoder, ProduceHead};
use forebay::ingest::frame::{Decoded, Limits, Request, next_request};
use forebay::record::{Record, TimestampMs};

/// As much as the daemon reads at once.
const READ_BYTES: usize = 64 << 10;
const LIMITS: Limits = Limits { max_frame_size: 16 << 20, max_records_per_request: 100_000 };
const NOW: TimestampMs = 1_700_000_000_000;
const VALUE: &[u8] = &[b'x'; 100];
const SHORT_TOPIC: &str = "logs";

/// Whole frames, about as many bytes as a read has, and how many records they hold.
struct Read {
    bytes: Vec<u8>,
    records: u64,
}

/// Appends frames until there are enough; `append` says how many records it has appended.
fn read(mut append: impl FnMut(&mut Vec<u8>) -> u64) -> Read {
    let mut read = Read { bytes: Vec::new(), records: 0 };
    while read.bytes.len() < READ_BYTES {
        read.records += append(&mut read.bytes);
    }
    read
}

fn dory(topic: &str, partition_key: Option<u32>) -> Read {
    read(|out| {
        encode_dory(out, topic, partition_key, NOW, b"", VALUE).expect("the message is small");
        1
    })
}

fn produce(count: u64) -> Read {
    read(|out| {
        let head =
            ProduceHead { correlation_id: 1, acks: Acks::None, timeout: None, topic: SHORT_TOPIC, partition: Some(0) };
        let mut request = ProduceEncoder::begin(out, &head).expect("the topic's name is short");
        let record = Record { timestamp: NOW, stamped_here: false, key: None, value: Some(VALUE), headers: &[] };
        for _ in 0..count {
            request.push(&record).expect("the record is small");
        }
        request.finish().expect("the request is small");
        count
    })
}

/// Decodes all of it; returns how many records there were.
fn decode(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    while !bytes.is_empty() {
        let Decoded::Frame { frame, len } = next_request(bytes, &LIMITS) else {
            panic!("the frames are whole and sound")
        };
        match frame {
            Request::Dory(message) => {
                black_box(message.record(NOW));
                count += 1;
            }
            Request::Produce(request) => {
                let mut records = request.records(NOW);
                let mut headers = Vec::new();
                while let Some(record) = records.next_record(&mut headers) {
                    black_box(record);
                    count += 1;
                }
            }
            other => panic!("nobody has written {other:?}"),
        }
        bytes = bytes.get(len..).unwrap_or_default();
    }
    count
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame/decode");
    let long_topic = "t".repeat(249);
    let reads = [
        ("dory", "any partition, short topic", dory(SHORT_TOPIC, None)),
        ("dory", "partition key, short topic", dory(SHORT_TOPIC, Some(7))),
        ("dory", "partition key, long topic", dory(&long_topic, Some(7))),
        ("produce", "1 record", produce(1)),
        ("produce", "16 records", produce(16)),
        ("produce", "600 records", produce(600)),
    ];
    for (form, what, read) in &reads {
        group.throughput(Throughput::Elements(read.records));
        group.bench_with_input(BenchmarkId::new(*form, what), read, |bencher, read| {
            bencher.iter(|| assert_eq!(decode(black_box(&read.bytes)), read.records));
        });
    }
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
