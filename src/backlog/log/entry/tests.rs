use proptest::prelude::*;

use super::*;
use crate::backlog::log::varint::{DecodeError, put_bytes, put_varint};

const CLUSTER: u8 = 8;
const DROPPED: u8 = 5;

fn any_range() -> impl Strategy<Value = IndexRange> {
    (0..u64::MAX / 2, 0_u64..1000).prop_map(|(first, behind)| IndexRange { first, last: first + behind })
}

fn any_sent() -> impl Strategy<Value = Sent> {
    (any_range(), any::<i64>(), any::<i16>(), any::<i32>(), any::<[u8; 16]>()).prop_map(
        |(range, producer_id, epoch, base_sequence, topic_id)| Sent {
            range,
            producer_id,
            epoch,
            base_sequence,
            topic_id,
        },
    )
}

/// Every kind but Records, which borrows.
fn any_note() -> impl Strategy<Value = Entry<'static>> {
    let part = (any::<u32>(), 0..u64::MAX / 2, 1_u64..1000).prop_map(|(partition, first, count)| PlacedPart {
        partition,
        first,
        count,
    });
    let placed = (any_range(), any::<u32>(), prop::collection::vec(part, 0..5))
        .prop_map(|(range, partition_count, parts)| Placed { range, partition_count, parts });
    prop_oneof![
        any::<u32>().prop_map(|number| Entry::Partition { number, name: b"a name" }),
        (any::<u32>(), any_sent()).prop_map(|(partition, sent)| Entry::Sent { partition, sent }),
        (any::<u32>(), any_range(), any::<u32>()).prop_map(|(partition, range, reason)| Entry::Dropped {
            partition,
            range,
            reason
        }),
        (any::<u32>(), any_range(), any::<u32>()).prop_map(|(partition, range, reason)| Entry::Dead {
            partition,
            range,
            reason
        }),
        (any::<u32>(), placed).prop_map(|(partition, placed)| Entry::Placed { partition, placed }),
        Just(Entry::Cluster { id: b"lkc-1" }),
        (any::<u32>(), 0..u64::MAX, any::<i64>(), any::<i32>(), any::<[u8; 16]>(), any::<u64>()).prop_map(
            |(partition, last, offset, leader_epoch, topic_id, possible_duplicates)| {
                Entry::Acknowledged(Acknowledged {
                    partition,
                    last,
                    offset,
                    leader_epoch,
                    topic_id,
                    possible_duplicates,
                })
            }
        ),
    ]
}

fn decoded(body: &[u8]) -> Vec<Result<Entry<'_>, DecodeError>> {
    entries(body).collect()
}

proptest! {
    #[test]
    fn notes_come_back(notes in prop::collection::vec(any_note(), 0..10)) {
        let mut body = vec![];
        for note in &notes {
            let before = body.len();
            note.encode(&mut body);
            prop_assert!(body.len() - before <= note.len_max());
        }
        prop_assert_eq!(decoded(&body), notes.into_iter().map(Ok).collect::<Vec<_>>());
    }

    #[test]
    fn records_come_back_with_their_origins(
        (partition, first, count) in (any::<u32>(), 0..u64::MAX / 2, 1..u32::MAX),
        (base_timestamp, max_timestamp, stored_at) in any::<(i64, i64, i64)>(),
        codec in any::<u8>(),
        data in prop::collection::vec(any::<u8>(), 0..500),
        origins in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), any::<i64>()), 0..4),
    ) {
        let origins: Vec<Origin<'_>> = origins.iter().map(|(name, up_to)| Origin { name, up_to: *up_to }).collect();
        let tags = tag_origins(&origins);
        prop_assert!(is_tagged_section(&tags));
        let records = Records {
            partition, first, count, base_timestamp, max_timestamp, stored_at, codec, tags: &tags, data: &data,
        };
        let mut body = vec![];
        Entry::Records(records).encode(&mut body);
        prop_assert!(body.len() <= Entry::Records(records).len_max());
        prop_assert_eq!(decoded(&body), [Ok(Entry::Records(records))]);
        prop_assert_eq!(records.origins().collect::<Vec<_>>(), origins);
    }

    #[test]
    fn any_bytes_are_entries_or_an_error(body in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decoded(&body).len() <= body.len());
    }

    #[test]
    fn a_cut_is_an_error_or_a_shorter_list(notes in prop::collection::vec(any_note(), 1..5), at in any::<prop::sample::Index>()) {
        let mut body = vec![];
        for note in &notes {
            note.encode(&mut body);
        }
        let cut = &body[..at.index(body.len())];
        let found = decoded(cut);
        let whole = found.iter().filter(|entry| entry.is_ok()).count();
        prop_assert!(whole < notes.len());
        for (found, note) in found.iter().flatten().zip(&notes) {
            prop_assert_eq!(found, note);
        }
    }
}

#[test]
fn what_later_versions_add_is_passed_over() {
    let mut body = vec![];
    put_entry(&mut body, 200, |out| out.extend_from_slice(b"whatever"));
    body.push(CLUSTER);
    put_bytes(&mut body, &[1, b'x', 1, 99, 2, 7, 7]);
    assert_eq!(decoded(&body), [Ok(Entry::Cluster { id: b"x" })]);
}

#[test]
fn what_follows_the_tagged_section_of_a_note_is_refused() {
    let mut body = vec![CLUSTER];
    put_bytes(&mut body, &[1, b'x', 0, 9]);
    assert!(decoded(&body)[0].is_err());
}

#[test]
fn a_range_without_an_index_behind_it_is_refused() {
    assert_eq!(IndexRange::new(0, u64::MAX), None);
    assert_eq!(IndexRange::new(2, 1), None);
    let mut body = vec![];
    put_entry(&mut body, DROPPED, |out| {
        put_varint(out, 0);
        put_varint(out, u64::MAX);
        put_varint(out, 1);
        put_varint(out, 1);
    });
    assert_eq!(decoded(&body), [Err(DecodeError::Invalid("last index"))]);
}

#[test]
fn a_number_of_tags_that_lies_is_refused() {
    let mut section = vec![];
    put_varint(&mut section, u64::MAX);
    assert!(!is_tagged_section(&section));
}
