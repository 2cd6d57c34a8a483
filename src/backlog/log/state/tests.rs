use proptest::prelude::*;

use super::super::entry::{NO_TAGS, PlacedPart};
use super::*;

fn range(first: u64, last: u64) -> IndexRange {
    IndexRange::new(first, last).unwrap()
}

fn records(partition: u32, first: u64, count: u32) -> Entry<'static> {
    Entry::Records(Records {
        partition,
        first,
        count,
        base_timestamp: 0,
        max_timestamp: 0,
        stored_at: 0,
        codec: 0,
        tags: NO_TAGS,
        data: b"",
    })
}

fn acknowledged(partition: u32, last: u64) -> Entry<'static> {
    Entry::Acknowledged(Acknowledged {
        partition,
        last,
        offset: last as i64,
        leader_epoch: 1,
        topic_id: [1; 16],
        possible_duplicates: 0,
    })
}

fn dropped(partition: u32, range: IndexRange) -> Entry<'static> {
    Entry::Dropped { partition, range, reason: 7 }
}

fn sent(partition: u32, range: IndexRange, base_sequence: i32) -> Entry<'static> {
    Entry::Sent { partition, sent: Sent { range, producer_id: 9, epoch: 2, base_sequence, topic_id: [1; 16] } }
}

fn state(entries: &[Entry<'_>]) -> State {
    let mut state = State::default();
    for entry in entries {
        state.apply(entry, 1);
    }
    state
}

fn held(state: &State) -> u64 {
    state.partitions.values().map(Partition::held).sum()
}

fn any_entry() -> impl Strategy<Value = Entry<'static>> {
    let any_range = || (0_u64..40, 0_u64..8).prop_map(|(first, behind)| range(first, first + behind));
    prop_oneof![
        (0_u32..3, 0_u64..40, 1_u32..8).prop_map(|(p, first, count)| records(p, first, count)),
        (0_u32..3, 0_u64..40).prop_map(|(p, last)| acknowledged(p, last)),
        (0_u32..3, any_range()).prop_map(|(p, range)| dropped(p, range)),
        (0_u32..3, any_range()).prop_map(|(partition, range)| Entry::Dead { partition, range, reason: 3 }),
        (0_u32..3, any_range(), any::<i32>()).prop_map(|(p, range, base)| sent(p, range, base & 0x7fff_ffff)),
    ]
}

proptest! {
    #[test]
    fn the_ledger_balances_with_what_partitions_hold(entries in prop::collection::vec(any_entry(), 0..60)) {
        let state = state(&entries);
        prop_assert_eq!(state.ledger.held(), held(&state));
        for partition in state.partitions.values() {
            prop_assert!(partition.settled <= partition.next);
            let gone: Vec<Gone> = partition.gone.values().copied().collect();
            prop_assert!(gone.windows(2).all(|pair| pair[0].range.last < pair[1].range.first));
            prop_assert!(gone.iter().all(|gone| gone.range.first > partition.settled));
        }
    }

    #[test]
    fn what_is_applied_again_in_the_same_order_changes_no_balance(
        entries in prop::collection::vec(any_entry(), 1..40), from in any::<prop::sample::Index>()
    ) {
        let mut state = state(&entries);
        let ledger = state.ledger.clone();
        let settled: Vec<u64> = state.partitions.values().map(|p| p.settled).collect();
        for entry in &entries[from.index(entries.len())..] {
            state.apply(entry, 2);
        }
        prop_assert_eq!(&state.ledger, &ledger);
        prop_assert_eq!(state.partitions.values().map(|p| p.settled).collect::<Vec<_>>(), settled);
    }
}

#[test]
fn what_lies_between_acknowledged_records_and_is_gone_was_not_delivered() {
    let state = state(&[records(0, 0, 10), dropped(0, range(3, 4)), acknowledged(0, 9)]);
    assert_eq!((state.ledger.delivered, state.ledger.dropped[&7], state.ledger.held()), (8, 2, 0));
    assert_eq!(state.partitions[&0].settled, 10);
}

#[test]
fn dropping_the_oldest_settles_it() {
    let state = state(&[records(0, 0, 10), dropped(0, range(4, 5)), dropped(0, range(0, 3))]);
    assert_eq!(state.partitions[&0].settled, 6);
    assert_eq!(state.ledger.held(), 4);
}

#[test]
fn a_named_index_says_that_the_records_before_it_existed() {
    let state = state(&[records(0, 0, 2), acknowledged(0, 4), records(0, 8, 1)]);
    assert_eq!((state.ledger.accepted, state.ledger.delivered, state.partitions[&0].held()), (9, 5, 4));
}

#[test]
fn placed_records_are_held_by_the_partitions_that_they_went_to() {
    let parts = vec![PlacedPart { partition: 1, first: 0, count: 6 }, PlacedPart { partition: 2, first: 3, count: 4 }];
    let placed = Entry::Placed { partition: 0, placed: Placed { range: range(0, 9), partition_count: 2, parts } };
    let mut state = state(&[records(2, 0, 3), records(0, 0, 10), placed.clone(), placed]);
    assert_eq!((state.ledger.accepted, state.ledger.held(), held(&state)), (13, 13, 13));
    assert_eq!(state.partitions[&0].held(), 0);
    assert!(state.partitions[&0].needs(range(0, 9)), "its bytes are still needed");
    state.apply(&acknowledged(1, 5), 1);
    state.apply(&acknowledged(2, 6), 1);
    state.apply(&acknowledged(0, 9), 1);
    assert_eq!((state.ledger.delivered, state.ledger.held()), (13, 0));
    assert!(state.partitions[&0].placed.is_empty());
}

#[test]
fn batches_stay_until_their_last_record_is_settled_and_leave_their_lane() {
    let mut state = state(&[
        records(0, 0, 10),
        sent(0, range(0, 4), i32::MAX - 2),
        sent(0, range(0, 1), i32::MAX - 2),
        sent(0, range(5, 6), 2),
        sent(0, range(5, 6), 2),
    ]);
    assert_eq!(state.partitions[&0].sent.len(), 3);
    state.apply(&acknowledged(0, 1), 1);
    assert_eq!(state.partitions[&0].sent.iter().map(|s| s.range).collect::<Vec<_>>(), [range(2, 4), range(5, 6)]);
    assert_eq!(state.partitions[&0].lane, Some(LaneNote { producer_id: 9, epoch: 2, next_sequence: 4 }));
    state.apply(&sent(0, range(7, 9), i32::MAX), 1);
    assert_eq!(state.partitions[&0].lane.unwrap().next_sequence, 2);
}

#[test]
fn a_batch_that_is_settled_in_part_keeps_the_rest_under_the_numbers_it_was_sent_with() {
    let life = [records(0, 0, 10), sent(0, range(0, 9), i32::MAX - 1), acknowledged(0, 4), sent(0, range(5, 9), 3)];
    let mut state = state(&life);
    let left = |state: &State| -> Vec<(IndexRange, i32)> {
        state.partitions[&0].sent.iter().map(|sent| (sent.range, sent.base_sequence)).collect()
    };
    assert_eq!(left(&state), [(range(5, 9), 3)], "its piece is the same batch");
    life.iter().for_each(|entry| state.apply(entry, 2));
    assert_eq!(left(&state), [(range(5, 9), 3)], "and is so when all is read again");
    state.apply(&acknowledged(0, 6), 2);
    assert_eq!(left(&state), [(range(7, 9), 5)]);
    assert_eq!(state.partitions[&0].lane.unwrap().next_sequence, 8, "the lane goes on behind the whole");
}

#[test]
fn a_batch_that_there_is_no_room_for_leaves_its_records_unproven() {
    let many = SENT_MAX as u64 + 2;
    let mut state = state(&[records(0, 0, 1000)]);
    (0..many).for_each(|index| state.apply(&sent(0, range(index, index), index as i32), 1));
    let partition = &state.partitions[&0];
    assert_eq!((partition.sent.len(), partition.sent[0].range, partition.unproven), (SENT_MAX, range(2, 2), 2));
}

#[test]
fn behind_a_dead_letter_the_lane_begins_anew_and_what_was_sent_counts_no_longer() {
    let sent = |range, base_sequence| sent(0, range, base_sequence);
    let mut state = state(&[records(0, 0, 10), sent(range(0, 2), 5), sent(range(3, 4), 8), sent(range(0, 0), 5)]);
    let dead = |first, last, reason| Entry::Dead { partition: 0, range: range(first, last), reason };
    state.apply(&dead(8, 8, 3), 1);
    assert_eq!(state.partitions[&0].sent.len(), 3, "it was never sent");
    state.apply(&dead(0, 0, 3), 1);
    let next = LaneNote { producer_id: 9, epoch: 3, next_sequence: 0 };
    assert_eq!((state.partitions[&0].lane, state.partitions[&0].sent.len()), (Some(next), 0));
    state.apply(&dead(0, 0, 3), 1);
    assert_eq!(state.partitions[&0].lane, Some(next), "once");
    assert_eq!(state.ledger.possible_duplicates, 0);
}

#[test]
fn behind_what_may_be_there_all_the_same_what_was_sent_stays_but_the_lane_begins_anew() {
    for gone in
        [dropped(0, range(0, 0)), Entry::Dead { partition: 0, range: range(0, 0), reason: 3 | MAY_BE_DELIVERED }]
    {
        let state = state(&[records(0, 0, 10), sent(0, range(0, 0), 5), sent(0, range(1, 4), 6), gone.clone()]);
        let partition = &state.partitions[&0];
        assert_eq!(partition.sent.iter().map(|sent| sent.range).collect::<Vec<_>>(), [range(1, 4)], "{gone:?}");
        assert_eq!(partition.lane.map(|lane| (lane.epoch, lane.next_sequence)), Some((3, 0)));
        assert_eq!(state.ledger.possible_duplicates, u64::from(matches!(gone, Entry::Dead { .. })));
        assert_eq!((partition.held_before(5), partition.held_before(u64::MAX)), (4, 9));
    }
}

#[test]
fn the_first_record_that_is_not_settled_is_where_it_was_written_last() {
    let mut state = State::default();
    state.apply(&records(0, 0, 5), 1);
    state.apply(&records(0, 5, 5), 2);
    assert_eq!(state.partitions[&0].segment, 1);
    state.apply(&records(0, 0, 5), 3);
    assert_eq!(state.partitions[&0].segment, 3, "a copy of it");
    state.apply(&acknowledged(0, 9), 3);
    state.apply(&records(0, 10, 1), 4);
    assert_eq!(state.partitions[&0].segment, 4);
}

#[test]
fn a_run_is_needed_until_it_is_settled_or_gone() {
    let mut state = state(&[records(0, 0, 10), acknowledged(0, 1), dropped(0, range(5, 9))]);
    let needs = |state: &State, first, last| state.partitions[&0].needs(range(first, last));
    assert!(!needs(&state, 0, 1) && needs(&state, 0, 2) && needs(&state, 3, 5) && !needs(&state, 5, 7));
    state.apply(&acknowledged(0, 4), 1);
    assert!(!needs(&state, 0, 9));
}

#[test]
fn a_partition_without_records_holds_none() {
    let state = state(&[Entry::Partition { number: 0, name: b"p" }]);
    assert_eq!((state.partitions[&0].held(), state.partitions[&0].unsettled()), (0, None));
}

#[test]
fn what_names_a_retired_partition_means_nothing_while_it_may_be_read_again() {
    let life = [
        Entry::Partition { number: 0, name: b"p" },
        records(0, 0, 4),
        dropped(0, range(0, 3)),
        Entry::Retired { partition: 0 },
    ];
    let mut state = state(&life);
    let ledger = state.ledger.clone();
    assert!(state.partitions.is_empty() && state.next_number == 1);
    life.iter().for_each(|entry| state.apply(entry, 1));
    assert_eq!((&state.ledger, state.partitions.len()), (&ledger, 0));
    state.forget_retired(1);
    assert_eq!(state.retired.len(), 1);
    state.forget_retired(2);
    assert!(state.retired.is_empty());
}

#[test]
fn drops_may_scatter_without_end() {
    const RECORDS: u64 = 200_000;
    let mut state = state(&[records(0, 0, RECORDS as u32)]);
    // Every second record, from the last one on: not one of them joins another.
    for index in (0..RECORDS / 2).rev().map(|half| 2 * half + 1) {
        state.apply(&dropped(0, range(index, index)), 1);
    }
    assert_eq!((state.partitions[&0].gone.len() as u64, state.ledger.held()), (RECORDS / 2, RECORDS / 2));
    for index in (0..RECORDS).step_by(2) {
        state.apply(&acknowledged(0, index), 1);
    }
    assert_eq!((state.partitions[&0].gone.len(), state.ledger.held()), (0, 0));
}
