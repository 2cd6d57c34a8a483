//! The rules of flight: one by one, and against a model of what a broker does and a network that loses.

mod model;
mod rules;

use bytes::Bytes;

use super::*;
use crate::backoff::Backoff;
use crate::queue::window::Built;
use crate::wire::record_batch::{BatchBuilder, records};

const IDS: ProducerIds = ProducerIds { fresh: 100, old: 200 };
const TOPIC: Uuid = Uuid::nil();
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(8) };
const HALF_EXPIRY: Duration = Duration::from_secs(3600);

/// A batch of records whose values are their numbers.
fn built(numbers: std::ops::Range<u32>, side: Side) -> Box<Built> {
    let mut builder = BatchBuilder::new();
    for number in numbers {
        let mut run = crate::record::Run::default();
        let value = number.to_be_bytes();
        run.push(&crate::record::Record {
            timestamp: 1,
            stamped_here: false,
            key: None,
            value: Some(&value),
            headers: &[],
        });
        run.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
    }
    let sealed = builder.finish(crate::wire::codec::Codec::None, None).0;
    Box::new(Built { charged: 0, sealed, side, marks: vec![] })
}

fn numbers_of(batch: &Bytes) -> Vec<u32> {
    let value = |record: crate::wire::record_batch::OwnedRecord| record.value.unwrap();
    records(batch, 1 << 20)
        .unwrap()
        .map(|record| u32::from_be_bytes(value(record.unwrap())[..].try_into().unwrap()))
        .collect()
}
