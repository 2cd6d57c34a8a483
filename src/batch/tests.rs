use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::config::{CompressionType, Config, TopicRules};
use crate::queue::item::{Item, OpaqueBatch};
use crate::queue::receipt::{Answers, Mark, Outcome, Request};
use crate::queue::topic::TopicInfo;
use crate::record::{Record, Run};
use crate::wire::record_batch::{Lane, Stamp, records};

const STAMP: Stamp = Stamp { lane: Lane { producer_id: 1, epoch: 0 }, base_sequence: 0 };

fn partition() -> Arc<Partition> {
    Partition::new(TopicInfo::new("t", Config::default().producer), 0)
}

fn run(sizes: &[usize]) -> Run {
    let mut run = Run::default();
    for (i, size) in sizes.iter().enumerate() {
        let value = vec![i as u8; *size];
        run.push(&Record { timestamp: 1, stamped_here: false, key: None, value: Some(&value), headers: &[] });
    }
    run
}

fn rules(max_bytes: usize) -> CutRules {
    CutRules { max_bytes, old_before: None }
}

fn push(partition: &Arc<Partition>, budget: &Budget, run: Run, marks: VecDeque<Mark>) {
    let item = Item::records(run, marks, Instant::now());
    budget.charge(item.charged_bytes());
    partition.push(item);
}

fn stamped(run: &Run, codec: Codec) -> Bytes {
    let mut builder = BatchBuilder::new();
    run.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
    builder.finish(codec, None).0.stamp(STAMP)
}

#[test]
fn a_batch_without_its_compression_is_the_same_records() {
    let mut run = run(&[1000; 20]);
    run.push(&Record { timestamp: -5, stamped_here: false, key: None, value: Some(b"oldest"), headers: &[] });
    let whole = stamped(&run, Codec::Zstd);
    let plain = uncompressed(&whole).unwrap();
    assert!(plain.len_bytes() > 20_000 && whole.len() < 2000);
    assert_eq!(plain.max_timestamp(), 1);
    assert_eq!(values(&plain.stamp(STAMP)), values(&whole));
    let (oldest, bytes) = measure(&whole).unwrap();
    assert!(oldest == -5 && bytes > 20_000);
}

fn values(batch: &Bytes) -> Vec<Bytes> {
    records(batch, 1 << 20).unwrap().map(|record| record.unwrap().value.unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the bursts and the limit, the batches hold all records in order, each within the limit or of one record,
    /// every receipt is settled by its own record, and the budget is even at the end.
    #[test]
    fn cutting_keeps_records_order_receipts_and_budget(
        bursts in prop::collection::vec(prop::collection::vec(0usize..300, 1..20), 1..8),
        max_bytes in 100usize..2000,
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let (partition, budget, answers) = (partition(), Budget::new(1 << 20), Arc::new(Answers::default()));
            let mut expected = vec![];
            let mut requests = vec![];
            for sizes in &bursts {
                let request = Request::new(0, sizes.len() as u32, 0, answers.clone());
                let receipt = request.receipt(0, sizes.len() as u32);
                push(&partition, &budget, run(sizes), [Mark { at: 0, receipt }].into());
                expected.extend(sizes.iter().enumerate().map(|(i, size)| Bytes::from(vec![i as u8; *size])));
                requests.push(request);
            }
            let mut cutter = Cutter::default();
            let mut window = partition.window();
            let mut seen = vec![];
            while cutter.cut(&partition, &mut window, rules(max_bytes), &budget) {
                let built = window.built.take().unwrap();
                prop_assert!(built.sealed.len_bytes() <= max_bytes || built.sealed.count() == 1);
                let marked: u32 = built.marks.iter().map(|mark| mark.receipt.count()).sum();
                prop_assert_eq!(marked, built.sealed.count());
                for mark in built.marks {
                    let base_offset = (seen.len() as u32 + mark.at).into();
                    mark.receipt.settle(Outcome::Delivered { partition: 0, base_offset });
                }
                budget.release(built.charged);
                seen.extend(values(&built.sealed.stamp(STAMP)));
            }
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(budget.used(), 0);
            prop_assert_eq!(partition.waiting_bytes(), 0);
            let mut offset = 0;
            for request in requests {
                for record in request.results().records {
                    prop_assert_eq!((record.error_code, record.offset), (0, offset));
                    offset += 1;
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_split_batch_is_the_same_records_in_two(sizes in prop::collection::vec(0usize..50, 2..20), cut in any::<prop::sample::Index>()) {
        let first = 1 + cut.index(sizes.len() - 1) as u32;
        let mut builder = BatchBuilder::new();
        for record in run(&sizes).records_from(0) {
            builder.append(record.timestamp, record.suffix);
        }
        let whole = builder.finish(Codec::Zstd, None).0.stamp(STAMP);
        let [a, b] = split(&whole, &[first], None).unwrap().try_into().unwrap();
        prop_assert_eq!((a.count(), b.count()), (first, sizes.len() as u32 - first));
        prop_assert_eq!(a.max_timestamp(), 1);
        let both = [values(&a.stamp(STAMP)), values(&b.stamp(STAMP))].concat();
        prop_assert_eq!(both, values(&whole));
    }

    #[test]
    fn a_batch_is_cut_at_every_place_that_is_named(count in 1u32..30, mut starts in prop::collection::vec(1u32..30, 0..6)) {
        starts.retain(|start| *start < count);
        starts.sort_unstable();
        starts.dedup();
        let whole = stamped(&run(&vec![5; count as usize]), Codec::None);
        let pieces = split(&whole, &starts, None).unwrap();
        prop_assert_eq!(pieces.len(), starts.len() + 1);
        let mut at = 0;
        for (piece, end) in pieces.into_iter().zip(starts.into_iter().chain([count])) {
            prop_assert_eq!(at + piece.count(), end);
            prop_assert_eq!(values(&piece.stamp(STAMP)), &values(&whole)[at as usize..end as usize]);
            at = end;
        }
    }

    #[test]
    fn another_time_changes_the_records_that_are_named_and_marks_them(
        count in 1u32..10, mut places in prop::collection::vec(0u32..10, 0..4), twice in any::<bool>()
    ) {
        places.retain(|place| *place < count);
        places.sort_unstable();
        places.dedup();
        let whole = stamped(&run(&vec![3; count as usize]), Codec::Zstd);
        let mut again = with_time(&whole, &places, 77, None).unwrap().stamp(STAMP);
        if twice {
            again = with_time(&again, &places, 88, None).unwrap().stamp(STAMP);
        }
        prop_assert_eq!(values(&again), values(&whole));
        for (place, record) in (0u32..).zip(records(&again, 1 << 20).unwrap()) {
            let record = record.unwrap();
            if places.is_empty() || places.contains(&place) {
                prop_assert_eq!(record.timestamp, if twice { 88 } else { 77 });
                let mark = (ORIGINAL_TIMESTAMP_HEADER.into(), Some(b"1"[..].into()));
                prop_assert_eq!(record.headers, [mark]);
            } else {
                prop_assert_eq!((record.timestamp, record.headers.len()), (1, 0));
            }
        }
    }
}

#[tokio::test]
async fn a_ready_made_batch_is_sent_alone_and_unopened() {
    let (partition, budget) = (partition(), Budget::new(1 << 20));
    push(&partition, &budget, run(&[10]), VecDeque::new());
    let ready = OpaqueBatch {
        codec: Codec::Snappy,
        count: 7,
        base_timestamp: 5,
        max_timestamp: 9,
        records: Bytes::from_static(b"whatever it is"),
        origin: None,
    };
    let item = Item::batch(ready, None, Instant::now());
    budget.charge(item.charged_bytes());
    partition.push(item);
    push(&partition, &budget, run(&[20]), VecDeque::new());

    let mut cutter = Cutter::default();
    let mut window = partition.window();
    let mut cut =
        || cutter.cut(&partition, &mut window, rules(1000), &budget).then(|| window.built.take().unwrap().sealed);
    assert_eq!(values(&cut().unwrap().stamp(STAMP)), [vec![0; 10]]);
    let sealed = cut().unwrap();
    assert_eq!((sealed.count(), sealed.base_timestamp(), sealed.max_timestamp()), (7, 5, 9));
    let bytes = sealed.stamp(STAMP);
    assert_eq!(parse_codec(&bytes), Codec::Snappy);
    assert!(bytes.ends_with(b"whatever it is"));
    assert_eq!(values(&cut().unwrap().stamp(STAMP)), [vec![0; 20]]);
    assert!(cut().is_none());
    drop(window);
    assert_eq!(partition.waiting_bytes(), 0);
}

fn parse_codec(bytes: &[u8]) -> Codec {
    crate::wire::record_batch::parse_header(bytes).unwrap().codec().unwrap()
}

#[tokio::test]
async fn what_does_not_shrink_is_tried_ever_more_rarely_and_what_begins_to_is_found_out() {
    let topic_rules = TopicRules { compression_type: CompressionType::Zstd, ..Config::default().producer };
    let (partition, budget) = (Partition::new(TopicInfo::new("t", topic_rules), 0), Budget::new(1 << 30));
    let mut cutter = Cutter::default();
    let mut random = fastrand::Rng::with_seed(3);
    let mut cut = |value: &[u8]| {
        let mut run = Run::default();
        run.push(&Record { timestamp: 1, stamped_here: false, key: None, value: Some(value), headers: &[] });
        push(&partition, &budget, run, VecDeque::new());
        let mut window = partition.window();
        assert!(cutter.cut(&partition, &mut window, rules(1 << 20), &budget));
        let bytes = window.built.take().unwrap().sealed.stamp(STAMP);
        assert_eq!(values(&bytes), [value]);
        parse_codec(&bytes)
    };
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(10_000).collect();
    assert_eq!(cut(&[b'a'; 10_000]), Codec::Zstd);
    // Tried are the batches 0, 2, 6, 14, 30, 62, 94 and 126.
    assert!((0..100).all(|_| cut(&noise) == Codec::None));
    assert_eq!((100..200).find(|_| cut(&[b'a'; 10_000]) == Codec::Zstd), Some(126));
    assert!((0..10).all(|_| cut(&[b'a'; 10_000]) == Codec::Zstd));
}

#[tokio::test]
async fn a_batch_is_old_only_if_its_newest_record_is() {
    let (partition, budget) = (partition(), Budget::new(1 << 20));
    let mut mixed = Run::default();
    for timestamp in [10, 99, 12] {
        mixed.push(&Record { timestamp, stamped_here: false, key: None, value: None, headers: &[] });
    }
    let mut cutter = Cutter::default();
    let mut side = |run: Run, old_before| {
        push(&partition, &budget, run, VecDeque::new());
        let mut window = partition.window();
        assert!(cutter.cut(&partition, &mut window, CutRules { max_bytes: 1000, old_before }, &budget));
        window.built.take().unwrap().side
    };
    assert_eq!(side(mixed.clone(), Some(99)), Side::Fresh);
    assert_eq!(side(mixed.clone(), Some(100)), Side::Old);
    assert_eq!(side(mixed, None), Side::Fresh);
}

#[tokio::test]
async fn of_a_stored_partition_a_batch_is_a_range_of_the_log() {
    let (partition, budget) = (partition(), Budget::new(1 << 20));
    for first_index in [7, 9, 20] {
        let mut item = Item::records(run(&[10, 10]), VecDeque::new(), Instant::now());
        item.set_first_index(first_index);
        budget.charge(item.charged_bytes());
        partition.push(item);
    }
    let mut cutter = Cutter::default();
    let mut window = partition.window();
    window.is_stored = true;
    let mut cut = |max_bytes| {
        assert!(cutter.cut(&partition, &mut window, rules(max_bytes), &budget));
        let built = window.built.take().unwrap();
        (built.first_index, built.sealed.count())
    };
    assert_eq!(cut(1), (7, 1));
    assert_eq!(cut(1000), (8, 3), "records 11 to 19 are missing");
    assert_eq!(cut(1000), (20, 2));
}
