//! What becomes of records that are taken out of their partition without being delivered.

use bytes::Bytes;

use crate::queue::item::{Item, Payload};
use crate::queue::receipt::Mark;
use crate::queue::window::{Batch, Built};
use crate::store::content::Content;
use crate::wire::WireError;
use crate::wire::record_batch::{Lane, Stamp};

/// Numbers for a batch that is not sent.
const NO_STAMP: Stamp = Stamp { lane: Lane { producer_id: -1, epoch: -1 }, base_sequence: -1 };

/// Consecutive records that will not be delivered.
#[derive(Debug)]
pub(super) struct Body {
    records: Records,
    pub count: u32,
    pub marks: Vec<Mark>,
    /// What they are charged in the memory budget.
    pub charged: usize,
    /// The first one's index in the log; means nothing where the partition is not stored.
    pub first_index: u64,
    /// Counted as possible duplicates: they may be there all the same.
    pub counted: bool,
}

#[derive(Debug)]
enum Records {
    Batch(Bytes),
    /// From this byte of a run on, or a ready-made batch.
    Item(Box<Item>, usize),
}

impl From<Batch> for Body {
    fn from(batch: Batch) -> Self {
        let Batch { bytes, count, marks, charged, first_index, counted, .. } = batch;
        Body { records: Records::Batch(bytes), count, marks, charged, first_index, counted }
    }
}

impl From<Box<Built>> for Body {
    fn from(built: Box<Built>) -> Self {
        let Built { sealed, marks, charged, first_index, counted, .. } = *built;
        let count = sealed.count();
        Body { records: Records::Batch(sealed.stamp(NO_STAMP)), count, marks, charged, first_index, counted }
    }
}

impl From<Box<Item>> for Body {
    fn from(mut item: Box<Item>) -> Self {
        let (count, charged, left_bytes) = (item.left(), item.charged_bytes(), item.left_bytes());
        let first_index = item.next_index().unwrap_or(0);
        let mut marks = Vec::new();
        let start = match item.payload() {
            Payload::Records(run) => {
                let start = run.len_bytes().saturating_sub(left_bytes);
                item.take_while(|_| true);
                item.take_marks(count, 0, &mut marks);
                start
            }
            Payload::Batch(_) => {
                item.take_whole(&mut marks);
                0
            }
        };
        Body { records: Records::Item(item, start), count, marks, charged, first_index, counted: false }
    }
}

impl Body {
    /// The records as the log keeps them: in run form, or compressed as they are.
    ///
    /// # Errors
    /// The batch is damaged, which none of ours is.
    pub fn content(&self) -> Result<Content, WireError> {
        match &self.records {
            Records::Batch(bytes) => Content::of(bytes, self.count),
            Records::Item(item, start) => Ok(of_item(item, *start, self.count)),
        }
    }
}

fn of_item(item: &Item, start: usize, count: u32) -> Content {
    match item.payload() {
        Payload::Records(run) => {
            let timestamps = || run.records_from(start).map(|record| record.timestamp);
            Content {
                codec: 0,
                count,
                base_timestamp: timestamps().next().unwrap_or(0),
                max_timestamp: timestamps().max().unwrap_or(0),
                data: Bytes::copy_from_slice(run.as_bytes().get(start..).unwrap_or_default()),
            }
        }
        Payload::Batch(batch) => Content {
            codec: batch.codec.id() as u8,
            count,
            base_timestamp: batch.base_timestamp,
            max_timestamp: batch.max_timestamp,
            data: batch.records.clone(),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::record::{Record, Run, raw_records};
    use crate::wire::codec::Codec;
    use crate::wire::record_batch::BatchBuilder;

    fn run(values: std::ops::Range<u8>) -> Run {
        let mut run = Run::default();
        for value in values {
            let bytes = [value; 200];
            let timestamp = 100 - i64::from(value);
            run.push(&Record { timestamp, stamped_here: false, key: None, value: Some(&bytes), headers: &[] });
        }
        run
    }

    #[tokio::test]
    async fn of_a_burst_that_was_taken_in_part_the_rest_is_kept() {
        let mut item = Item::records(run(0..5), [].into(), Instant::now());
        item.set_first_index(40);
        let mut taken = 0;
        item.take_while(|_| {
            taken += 1;
            taken <= 2
        });
        let charged = item.charged_bytes();
        let body = Body::from(item);
        assert_eq!((body.count, body.first_index, body.charged), (3, 42, charged));
        let content = body.content().unwrap();
        assert_eq!(content.data, run(2..5).as_bytes());
        assert_eq!((content.codec, content.base_timestamp, content.max_timestamp), (0, 98, 98));
        assert_eq!(raw_records(&content.data).count(), 3);
    }

    #[tokio::test]
    async fn a_batch_is_kept_in_run_form_and_compressed_as_it_is() {
        for codec in [Codec::None, Codec::Lz4] {
            let mut builder = BatchBuilder::new();
            let records = run(0..100);
            records.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
            let sealed = builder.finish(codec, None).0;
            let built = Built {
                sealed,
                side: crate::queue::window::Side::Fresh,
                marks: vec![],
                arrived: Instant::now(),
                charged: 7,
                counted: true,
                first_index: 3,
            };
            let body = Body::from(Box::new(built));
            assert_eq!((body.count, body.charged, body.first_index, body.counted), (100, 7, 3, true));
            let content = body.content().unwrap();
            assert_eq!(content.codec, codec.id() as u8);
            assert_eq!((content.count, content.max_timestamp), (100, 100));
            if codec == Codec::None {
                assert_eq!(raw_records(&content.data).count(), 100);
            }
        }
    }
}
