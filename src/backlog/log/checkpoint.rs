//! Checkpoints: a state and the list of segments, as entries of a frame. Pure.

use std::collections::BTreeMap;

use super::entry::{Envelope, IndexRange, Placed, Sent, end_entry, envelopes, put_entry};
use super::state::{Gone, KafkaPosition, LaneNote, Ledger, Partition, State};
use super::varint::{DecodeError, Input, put_bytes, put_varint, put_zigzag};

const CHECKPOINT: u8 = 9;
const SEGMENT: u8 = 10;
const ORIGIN: u8 = 11;
const STATE: u8 = 12;
const RETIRED: u8 = 14;

/// What a checkpoint says of an older segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentNote {
    /// Its number.
    pub number: u64,
    /// Its generation.
    pub generation: u64,
    /// So many bytes of it count, and are on disk.
    pub end: u32,
    /// Where its footer stands; 0 when it has none.
    pub footer: u32,
    /// How many runs are in it.
    pub runs: u32,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The segment that it opens.
    pub number: u64,
    /// The older segments that count, oldest first.
    pub segments: Vec<SegmentNote>,
    /// What is known.
    pub state: State,
}

/// Appends the entries of a checkpoint.
pub fn encode(out: &mut Vec<u8>, number: u64, segments: impl Iterator<Item = SegmentNote>, state: &State) {
    put_entry(out, CHECKPOINT, |out| {
        put_varint(out, number);
        put_varint(out, state.next_number.into());
        put_bytes(out, &state.cluster_id);
        let Ledger { accepted, delivered, dead, possible_duplicates, dropped } = &state.ledger;
        for count in [accepted, delivered, dead, possible_duplicates] {
            put_varint(out, *count);
        }
        put_counts(out, dropped);
    });
    for segment in segments {
        put_entry(out, SEGMENT, |out| {
            put_varint(out, segment.number);
            out.extend_from_slice(&segment.generation.to_le_bytes());
            put_varint(out, segment.end.into());
            put_varint(out, segment.footer.into());
            put_varint(out, segment.runs.into());
        });
    }
    for (name, up_to) in &state.origins {
        put_entry(out, ORIGIN, |out| {
            put_bytes(out, name);
            put_zigzag(out, *up_to);
        });
    }
    for (number, segment) in &state.retired {
        put_entry(out, RETIRED, |out| {
            put_varint(out, (*number).into());
            put_varint(out, *segment);
        });
    }
    for (number, partition) in &state.partitions {
        put_entry(out, STATE, |out| put_partition(out, *number, partition));
    }
}

/// The checkpoint that the body of a frame holds.
pub fn decode(body: &[u8]) -> Result<Checkpoint, DecodeError> {
    let mut found = envelopes(body);
    let first = found.next().ok_or(DecodeError::Truncated("a checkpoint"))??;
    if first.kind != CHECKPOINT {
        return Err(DecodeError::Invalid("a checkpoint's first entry"));
    }
    let (number, mut state) = take_head(first)?;
    let mut segments = Vec::new();
    for envelope in found {
        let envelope = envelope?;
        let mut input = envelope.input();
        match envelope.kind {
            SEGMENT => segments.push(SegmentNote {
                number: input.varint("number")?,
                generation: input.u64("generation")?,
                end: input.varint_as("end")?,
                footer: input.varint_as("footer")?,
                runs: input.varint_as("runs")?,
            }),
            ORIGIN => {
                let name = input.bytes("origin")?;
                state.origins.insert(name.to_vec(), input.zigzag("origin")?);
            }
            RETIRED => {
                let number = input.varint_as("partition")?;
                state.retired.insert(number, input.varint("segment")?);
            }
            STATE => {
                let (number, partition) = take_partition(&mut input)?;
                state.partitions.insert(number, partition);
            }
            _ => continue,
        }
        end_entry(input)?;
    }
    Ok(Checkpoint { number, segments, state })
}

fn take_head(envelope: Envelope<'_>) -> Result<(u64, State), DecodeError> {
    let mut input = envelope.input();
    let number = input.varint("number")?;
    let next_number = input.varint_as("next partition number")?;
    let cluster_id = input.bytes("cluster id")?.to_vec();
    let ledger = Ledger {
        accepted: input.varint("accepted")?,
        delivered: input.varint("delivered")?,
        dead: input.varint("dead")?,
        possible_duplicates: input.varint("possible duplicates")?,
        dropped: take_counts(&mut input)?,
    };
    end_entry(input)?;
    Ok((number, State { cluster_id, next_number, ledger, ..State::default() }))
}

fn put_partition(out: &mut Vec<u8>, number: u32, partition: &Partition) {
    put_varint(out, number.into());
    put_bytes(out, &partition.name);
    for index in [partition.settled, partition.next, partition.unproven, partition.segment] {
        put_varint(out, index);
    }
    put_zigzag(out, partition.position.offset);
    put_zigzag(out, partition.position.leader_epoch.into());
    out.extend_from_slice(&partition.position.topic_id);
    match partition.lane {
        None => out.push(0),
        Some(lane) => {
            out.push(1);
            put_zigzag(out, lane.producer_id);
            put_zigzag(out, lane.epoch.into());
            put_zigzag(out, lane.next_sequence.into());
        }
    }
    put_varint(out, partition.dead);
    put_counts(out, &partition.dropped);
    put_varint(out, partition.sent.len() as u64);
    partition.sent.iter().for_each(|sent| sent.put(out));
    put_varint(out, partition.gone.len() as u64);
    for gone in partition.gone.values() {
        gone.range.put(out);
        out.push(gone.dead.into());
    }
    put_varint(out, partition.placed.len() as u64);
    partition.placed.iter().for_each(|placed| placed.put(out));
}

fn take_partition(input: &mut Input<'_>) -> Result<(u32, Partition), DecodeError> {
    let number = input.varint_as("partition")?;
    let mut partition = Partition {
        name: input.bytes("name")?.to_vec(),
        settled: input.varint("settled")?,
        next: input.varint("next")?,
        unproven: input.varint("unproven")?,
        segment: input.varint("segment")?,
        position: KafkaPosition {
            offset: input.zigzag("offset")?,
            leader_epoch: input.zigzag_as("leader epoch")?,
            topic_id: input.array("topic id")?,
        },
        lane: match input.u8("lane")? {
            0 => None,
            1 => Some(LaneNote {
                producer_id: input.zigzag("producer id")?,
                epoch: input.zigzag_as("epoch")?,
                next_sequence: input.zigzag_as("next sequence")?,
            }),
            _ => return Err(DecodeError::Invalid("lane")),
        },
        dead: input.varint("dead")?,
        dropped: take_counts(input)?,
        ..Partition::default()
    };
    if partition.settled > partition.next {
        return Err(DecodeError::Invalid("settled"));
    }
    for _ in 0..input.varint("number of batches")? {
        partition.sent.push_back(Sent::take(input)?);
    }
    for _ in 0..input.varint("number of ranges that are gone")? {
        let range = IndexRange::take(input)?;
        partition.gone.insert(range.first, Gone { range, dead: input.u8("what became of a range")? != 0 });
    }
    for _ in 0..input.varint("number of ranges that are placed")? {
        partition.placed.push(Placed::take(input)?);
    }
    Ok((number, partition))
}

fn put_counts(out: &mut Vec<u8>, counts: &BTreeMap<u32, u64>) {
    put_varint(out, counts.len() as u64);
    for (reason, count) in counts {
        put_varint(out, (*reason).into());
        put_varint(out, *count);
    }
}

fn take_counts(input: &mut Input<'_>) -> Result<BTreeMap<u32, u64>, DecodeError> {
    let mut counts = BTreeMap::new();
    for _ in 0..input.varint("number of reasons")? {
        let reason = input.varint_as("reason")?;
        counts.insert(reason, input.varint("count")?);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::super::entry::PlacedPart;
    use super::*;
    use proptest::prelude::*;

    fn range(first: u64, last: u64) -> IndexRange {
        IndexRange::new(first, last).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        let sent = Sent { range: range(5, 6), producer_id: 4000, epoch: 3, base_sequence: 17, topic_id: [5; 16] };
        let parts = vec![PlacedPart { partition: 2, first: 7, count: 3 }];
        let full = Partition {
            name: b"a topic".to_vec(),
            settled: 5,
            next: 100,
            unproven: 50,
            segment: 3,
            position: KafkaPosition { offset: 1 << 40, leader_epoch: 9, topic_id: [5; 16] },
            lane: Some(LaneNote { producer_id: 4000, epoch: 3, next_sequence: 19 }),
            dead: 4,
            dropped: [(1, 2), (300, 9)].into(),
            sent: [sent].into(),
            gone: [(8, Gone { range: range(8, 9), dead: false }), (10, Gone { range: range(10, 10), dead: true })]
                .into(),
            placed: vec![Placed { range: range(20, 30), partition_count: 12, parts }],
        };
        let ledger =
            Ledger { accepted: 100, delivered: 5, dead: 4, possible_duplicates: 1, dropped: [(1, 2), (300, 9)].into() };
        let state = State {
            cluster_id: b"lkc".to_vec(),
            next_number: 9,
            ledger,
            origins: [(b"app".to_vec(), 77), (vec![], -1)].into(),
            partitions: [(0, full), (7, Partition::default())].into(),
            retired: [(3, 2)].into(),
        };
        let segments = vec![SegmentNote { number: 1, generation: 77, end: 4096, footer: 4000, runs: 12 }];
        Checkpoint { number: 4, segments, state }
    }

    fn encoded(checkpoint: &Checkpoint) -> Vec<u8> {
        let mut out = vec![];
        encode(&mut out, checkpoint.number, checkpoint.segments.iter().copied(), &checkpoint.state);
        out
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_checkpoint_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_changed_byte_is_a_checkpoint_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encoded(&checkpoint());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_checkpoint_comes_back() {
        let checkpoint = checkpoint();
        assert_eq!(decode(&encoded(&checkpoint)), Ok(checkpoint));
    }

    #[test]
    fn a_cut_checkpoint_is_never_whole() {
        let checkpoint = checkpoint();
        let bytes = encoded(&checkpoint);
        for len in 0..bytes.len() {
            assert_ne!(decode(&bytes[..len]), Ok(checkpoint.clone()), "{len}");
        }
    }
}
