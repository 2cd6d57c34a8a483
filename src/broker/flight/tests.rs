//! The rules of flight: one by one, and against a model of what brokers do and a network that loses.

mod bench;
mod brokers;
mod given_up;
mod ladder;
mod model;
mod refusals;
mod rules;

use std::ops::Range;

use bytes::Bytes;

use super::*;
use crate::backoff::Backoff;
use crate::broker::lanes::ProducerIds;
use crate::config::{InvalidTimestampPolicy, UnprovenPolicy};
use crate::queue::window::{BATCH_OVERHEAD_BYTES, Batch, Built};
use crate::record::{Record, Run, TimestampMs};
use crate::wire::codec::Codec;
use crate::wire::record_batch::{BatchBuilder, records};

const IDS: ProducerIds = ProducerIds { fresh: 100, old: 200, generation: 0 };
const TOPIC: Uuid = Uuid::nil();
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(8) };
const HALF_EXPIRY: Duration = Duration::from_secs(3600);

/// A batch of records whose values are their numbers.
fn built(numbers: Range<u32>, side: Side) -> Box<Built> {
    let mut built = built_of(numbers, |_| 1);
    built.side = side;
    built
}

fn built_of(numbers: Range<u32>, timestamp: impl Fn(u32) -> TimestampMs) -> Box<Built> {
    let mut run = Run::default();
    for number in numbers {
        let (value, timestamp) = (number.to_be_bytes(), timestamp(number));
        run.push(&Record { timestamp, stamped_here: false, key: None, value: Some(&value), headers: &[] });
    }
    let mut builder = BatchBuilder::new();
    run.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
    let sealed = builder.finish(Codec::None, None).0;
    let charged = sealed.len_bytes() + BATCH_OVERHEAD_BYTES;
    Box::new(Built {
        charged,
        sealed,
        side: Side::Fresh,
        marks: vec![],
        arrived: Instant::now(),
        counted: false,
        first_index: 0,
    })
}

/// What holds at `now`: records older than `old_before` are old, the wall clock says 1000.
fn terms(now: Instant, random: &mut fastrand::Rng, old_before: Option<TimestampMs>) -> Terms<'_> {
    Terms {
        now,
        wall: 1000,
        backoff: BACKOFF,
        random,
        old_before,
        compression_level: None,
        on_unproven: UnprovenPolicy::Redeliver,
        on_invalid_timestamp: InvalidTimestampPolicy::Restamp,
    }
}

fn numbers_of(batch: &Bytes) -> Vec<u32> {
    let value = |record: crate::wire::record_batch::OwnedRecord| record.value.unwrap();
    records(batch, 1 << 20)
        .unwrap()
        .map(|record| u32::from_be_bytes(value(record.unwrap())[..].try_into().unwrap()))
        .collect()
}
