//! `rules`: the pure state against what real Kafka 4.3 answered. `network`: the brokers over their sockets. `settings`: what they
//! tell of themselves.

mod network;
mod rules;
mod settings;

use bytes::Bytes;

use crate::record::{Header, Record, Run};
use crate::wire::codec::Codec;
use crate::wire::record_batch::{BatchBuilder, Lane, Stamp};

/// A batch of records with these timestamps, numbered from `base_sequence`.
fn batch(lane: Lane, base_sequence: i32, timestamps: &[i64]) -> Bytes {
    compressed_batch(lane, base_sequence, timestamps, Codec::None)
}

/// The same, compressed if that pays.
fn compressed_batch(lane: Lane, base_sequence: i32, timestamps: &[i64], codec: Codec) -> Bytes {
    let mut run = Run::default();
    for (index, timestamp) in timestamps.iter().enumerate() {
        let headers = [Header { name: b"h", value: None }, Header { name: b"h", value: Some(b"") }];
        let value = index.to_string();
        let record = Record {
            timestamp: *timestamp,
            stamped_here: false,
            key: Some(b"k"),
            value: Some(value.as_bytes()),
            headers: &headers,
        };
        run.push(&record);
    }
    let mut builder = BatchBuilder::new();
    for record in run.records_from(0) {
        builder.append(record.timestamp, record.suffix);
    }
    builder.finish(codec, None).0.stamp(Stamp { lane, base_sequence })
}
