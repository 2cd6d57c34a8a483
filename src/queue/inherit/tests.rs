use super::*;
use crate::backlog::log::entry::{Acknowledged, Entry, MAY_BE_DELIVERED, NO_TAGS, Records};
use crate::backlog::log::state::State;
use crate::record::{Record, Run};
use crate::wire::codec::Codec;
use crate::wire::record_batch::BatchBuilder;

const TOPIC: [u8; 16] = [7; 16];

fn range(first: u64, last: u64) -> IndexRange {
    IndexRange::new(first, last).unwrap()
}

fn records(count: u32) -> Entry<'static> {
    Entry::Records(Records {
        partition: 0,
        first: 0,
        count,
        base_timestamp: 0,
        max_timestamp: 0,
        stored_at: 0,
        codec: 0,
        tags: NO_TAGS,
        data: b"",
    })
}

fn sent(first: u64, last: u64, epoch: i16, base_sequence: i32) -> Entry<'static> {
    let sent = Sent { range: range(first, last), producer_id: 9, epoch, base_sequence, topic_id: TOPIC };
    Entry::Sent { partition: 0, sent }
}

fn acknowledged(last: u64, possible_duplicates: u64) -> Entry<'static> {
    Entry::Acknowledged(Acknowledged {
        partition: 0,
        last,
        offset: 100,
        leader_epoch: 1,
        topic_id: TOPIC,
        possible_duplicates,
    })
}

fn dead(first: u64, last: u64, reason: u32) -> Entry<'static> {
    Entry::Dead { partition: 0, range: range(first, last), reason }
}

fn state(entries: &[Entry<'_>]) -> State {
    let mut state = State::default();
    entries.iter().for_each(|entry| state.apply(entry, 1));
    state
}

fn build(range: IndexRange) -> Result<SealedBatch, ()> {
    let mut run = Run::default();
    for index in range.first..=range.last {
        let value = index.to_be_bytes();
        let timestamp = index as i64;
        run.push(&Record { timestamp, stamped_here: false, key: None, value: Some(&value), headers: &[] });
    }
    let mut builder = BatchBuilder::new();
    run.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
    Ok(builder.finish(Codec::None, None).0)
}

fn inherited(entries: &[Entry<'_>]) -> (Window, Inheritance, Inherited) {
    let inheritance = Inheritance::of(&state(entries).partitions[&0]);
    let mut window = Window::default();
    let inherited = window.inherit(inheritance.clone(), Instant::now(), build).unwrap();
    (window, inheritance, inherited)
}

/// Of each batch: first index, records, first number, and whether it may be there.
fn batches(window: &Window) -> Vec<(u64, u32, i32, bool)> {
    let one = |batch: &Batch| (batch.first_index, batch.count, batch.stamp.base_sequence, batch.in_doubt);
    window.batches.iter().map(one).collect()
}

fn versions(window: &Window) -> Vec<(i32, u32)> {
    let versions = window.flight.iter().flat_map(|flight| &flight.versions);
    versions.map(|version| (version.attempt.stamp.base_sequence, version.attempt.count)).collect()
}

#[tokio::test]
async fn what_was_sent_and_not_acknowledged_is_in_doubt_under_its_numbers() {
    let (window, inheritance, inherited) =
        inherited(&[records(20), sent(0, 4, 0, 0), acknowledged(4, 0), sent(5, 7, 0, 5), sent(8, 9, 0, 8)]);
    assert_eq!(batches(&window), [(5, 3, 5, true), (8, 2, 8, true)]);
    assert!(window.batches.iter().all(|batch| batch.lost && batch.note == SentNote::Durable));
    let lane = window.lane.unwrap();
    assert_eq!((lane.lane, lane.next_sequence), (Lane { producer_id: 9, epoch: 0 }, 10));
    assert!(lane.proven && lane.inherited, "the numbers before it have had a success");
    assert_eq!((inheritance.next_index(), window.acknowledged_end), (10, Some(101)));
    assert_eq!(inherited.charged, window.batches.iter().map(|batch| batch.charged).sum::<usize>());
    assert_eq!(inherited.possible_duplicates, 0);
}

#[tokio::test]
async fn a_lane_whose_first_batch_is_in_doubt_is_not_known_to_brokers() {
    let (window, ..) = inherited(&[records(20), sent(0, 4, 0, 0)]);
    assert!(!window.lane.unwrap().proven);
}

#[tokio::test]
async fn when_all_is_acknowledged_the_next_batch_opens_a_lane_of_this_start() {
    let (window, inheritance, _) = inherited(&[records(20), sent(0, 4, 0, 0), acknowledged(4, 0)]);
    assert!(window.is_stored && window.lane.is_none() && window.flight.is_none() && window.batches.is_empty());
    assert_eq!(inheritance.next_index(), 5);
    assert!(inheritance.is_empty());
}

#[tokio::test]
async fn of_a_batch_that_was_cut_the_pieces_go_and_the_whole_may_still_land() {
    let (window, inheritance, _) = inherited(&[records(20), sent(0, 9, 0, 0), sent(10, 11, 0, 10), sent(0, 3, 0, 0)]);
    assert_eq!(batches(&window), [(0, 4, 0, true), (4, 6, 4, false), (10, 2, 10, true)]);
    assert_eq!(window.batches[1].note, SentNote::Missing, "it was never sent alone");
    assert_eq!(versions(&window), [(0, 10)]);
    assert_eq!(inheritance.next_index(), 12);
}

#[tokio::test]
async fn the_rest_of_a_batch_whose_first_piece_landed_keeps_its_numbers() {
    let (window, ..) = inherited(&[records(20), sent(0, 9, 0, 0), sent(0, 3, 0, 0), acknowledged(3, 0)]);
    assert_eq!(batches(&window).iter().map(|batch| (batch.0, batch.1, batch.2)).collect::<Vec<_>>(), [(4, 6, 4)]);
    assert_eq!(versions(&window), []);
}

#[tokio::test]
async fn what_is_behind_a_piece_that_landed_waits_for_the_rest() {
    let cut = [records(20), sent(0, 9, 0, 0), sent(10, 11, 0, 10), sent(0, 3, 0, 0), acknowledged(3, 0)];
    let (window, ..) = inherited(&cut);
    let places: Vec<_> = batches(&window).into_iter().map(|batch| (batch.0, batch.2)).collect();
    assert_eq!(places, [(4, 4), (10, 10)]);
}

#[tokio::test]
async fn numbers_wrap() {
    let (window, ..) = inherited(&[records(20), sent(0, 4, 0, i32::MAX - 1), sent(5, 6, 0, 3)]);
    assert_eq!(batches(&window), [(0, 5, i32::MAX - 1, true), (5, 2, 3, true)]);
    assert_eq!(window.lane.unwrap().next_sequence, 5);
}

#[tokio::test]
async fn what_was_given_up_in_an_earlier_lane_counts_as_a_possible_duplicate() {
    let (window, _, inherited) = inherited(&[records(20), sent(0, 6, 0, 0), sent(0, 2, 1, 0)]);
    assert_eq!(batches(&window), [(0, 3, 0, true)]);
    assert_eq!(window.lane.unwrap().lane.epoch, 1);
    assert!(window.batches[0].counted);
    assert_eq!((inherited.possible_duplicates, window.counted_until), (7, 7));
    assert_eq!(versions(&window), [], "its lane is fenced by the next success");
}

#[tokio::test]
async fn behind_a_dead_letter_a_new_epoch_begins_and_nothing_is_in_doubt() {
    let (window, inheritance, inherited) =
        inherited(&[records(20), sent(0, 4, 3, 40), sent(5, 6, 3, 45), dead(0, 4, 87)]);
    let lane = window.lane.unwrap();
    assert_eq!((lane.lane.epoch, lane.next_sequence, lane.proven, lane.inherited), (4, 0, false, true));
    assert!(window.batches.is_empty() && window.flight.unwrap().alone);
    assert_eq!((inheritance.next_index(), inherited.possible_duplicates), (5, 0));
}

#[tokio::test]
async fn behind_a_dead_letter_that_may_be_there_what_was_sent_counts() {
    let entries = [records(20), sent(0, 0, 3, 40), sent(1, 6, 3, 41), dead(0, 0, 87 | MAY_BE_DELIVERED)];
    let (window, _, inherited) = inherited(&entries);
    assert!(window.batches.is_empty());
    assert_eq!((inherited.possible_duplicates, window.counted_until), (6, 7));
    assert_eq!(state(&entries).ledger.possible_duplicates, 1, "the dead letter is counted by the log");
}

#[tokio::test]
async fn notes_that_contradict_each_other_are_given_up_and_counted() {
    let (window, inheritance, inherited) = inherited(&[records(20), sent(0, 4, 0, 0), sent(5, 6, 0, 9)]);
    assert!(window.batches.is_empty() && window.lane.is_none());
    assert_eq!((inheritance.next_index(), inherited.possible_duplicates), (0, 7));
}

#[tokio::test]
async fn a_window_whose_records_cannot_be_read_is_as_it_was() {
    let state = state(&[records(20), sent(0, 4, 0, 0)]);
    let mut window = Window::default();
    let failed = window.inherit(Inheritance::of(&state.partitions[&0]), Instant::now(), |_| Err("EIO"));
    assert_eq!(failed, Err("EIO"));
    assert!(window.batches.is_empty() && window.flight.is_none() && !window.is_stored);
}

#[test]
fn where_an_earlier_topic_of_the_same_name_ended_is_not_taken_over() {
    let of_another = |topic_id| match sent(1, 1, 0, 1) {
        Entry::Sent { sent, .. } => Entry::Sent { partition: 0, sent: Sent { topic_id, ..sent } },
        other => other,
    };
    let end = |entry| inherited(&[records(3), sent(0, 0, 0, 0), acknowledged(0, 0), entry]).0.acknowledged_end;
    assert_eq!(end(sent(1, 1, 0, 1)), Some(101));
    assert_eq!(end(of_another([0; 16])), Some(101), "it is not known which topic it was");
    assert_eq!(end(of_another([8; 16])), None);
}
