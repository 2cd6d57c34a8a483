//! Produce: headers are read, records passed over.

use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use forebay::wire::api::produce::{self, Answer, PartitionAnswer, TopicRef};
use forebay::wire::{codes, record_batch};

use super::input::Input;
use super::{Partition, Shared, State, TOPIC, TOPIC_ID};

/// What is served: all that forebay's own wire module encodes.
pub const VERSIONS: RangeInclusive<i16> = produce::VERSIONS;
/// From here on lengths are varints and there are tagged fields.
const FLEXIBLE_SINCE: i16 = 9;
/// From here on topics go by id.
const TOPIC_IDS_SINCE: i16 = 13;
/// Bytes of a batch's header (magic 2), up to the records.
const BATCH_HEADER_BYTES: usize = 61;

/// What a request says of one partition.
struct Batch {
    partition: usize,
    count: u32,
    producer: (i64, i16),
    base_sequence: i32,
}

/// Kept from one request to the next.
#[derive(Default)]
pub struct Scratch {
    batches: Vec<Batch>,
}

/// Reads a request of `length` bytes, of which none has been read, counts its records and answers that all is well.
pub fn take(shared: &Shared, input: &mut Input, length: usize, scratch: &mut Scratch) -> Result<BytesMut> {
    let _api = input.i16()?;
    let version = input.i16()?;
    ensure!(VERSIONS.contains(&version), "Produce in version {version}");
    let correlation_id = input.i32()?;
    let flexible = version >= FLEXIBLE_SINCE;
    skip_string(input, false)?; // client id
    skip_tagged_fields(input, flexible)?;
    skip_string(input, flexible)?; // transactional id
    let acks = input.i16()?;
    ensure!(acks == -1, "acks are {acks} in a request of {length} bytes, and must be all");
    let _timeout = input.i32()?;
    scratch.batches.clear();
    for _ in 0..count(input, flexible)? {
        if version >= TOPIC_IDS_SINCE {
            ensure!(input.array()? == *TOPIC_ID.as_bytes(), "the id of another topic");
        } else {
            skip_string(input, flexible)?;
        }
        for _ in 0..count(input, flexible)? {
            let partition = usize::try_from(input.i32()?).context("a negative partition")?;
            scratch.batches.push(batch(input, partition, flexible)?);
            skip_tagged_fields(input, flexible)?;
        }
        skip_tagged_fields(input, flexible)?;
    }
    skip_tagged_fields(input, flexible)?;

    let by_id = version >= TOPIC_IDS_SINCE;
    let topic = if by_id { TopicRef::Id(TOPIC_ID) } else { TopicRef::Name(Arc::from(TOPIC)) };
    let mut answers = Vec::with_capacity(scratch.batches.len());
    let mut guard = shared.state();
    let state = &mut *guard;
    for batch in &scratch.batches {
        let base_offset = state.append(batch)?;
        answers.push(answer(topic.clone(), batch.partition, base_offset));
    }
    state.totals.requests += 1;
    drop(guard);
    shared.arrived.notify_all();
    let answer = Answer { partitions: answers, ..Answer::default() };
    Ok(produce::encode_response(version, correlation_id, &answer)?)
}

impl State {
    /// Counts a batch and returns its first offset.
    fn append(&mut self, batch: &Batch) -> Result<i64> {
        let Batch { partition, count, producer, base_sequence } = *batch;
        let known = self.partitions.get_mut(partition).with_context(|| format!("there is no partition {partition}"))?;
        let Partition { next_offset, producer: last, next_sequence } = known;
        let expected = if *last == Some(producer) { *next_sequence } else { 0 };
        ensure!(
            base_sequence == expected,
            "partition {partition}: a batch begins with number {base_sequence} and not {expected}: lost or sent twice"
        );
        *last = Some(producer);
        *next_sequence = record_batch::next_sequence(base_sequence, count);
        let base_offset = *next_offset;
        *next_offset += i64::from(count);
        self.totals.records += u64::from(count);
        self.totals.batches += 1;
        Ok(base_offset)
    }
}

/// A partition's batch: its header is read, the rest passed over.
fn batch(input: &mut Input, partition: usize, flexible: bool) -> Result<Batch> {
    let length = count(input, flexible)?;
    ensure!(length >= BATCH_HEADER_BYTES, "a batch of {length} bytes");
    let header: [u8; BATCH_HEADER_BYTES] = input.array()?;
    input.skip(length - BATCH_HEADER_BYTES)?;
    let i32_at = |at: usize| i32::from_be_bytes(*header[at..].first_chunk().expect("a field of the header"));
    let producer_id = i64::from_be_bytes(*header[43..].first_chunk().expect("a field of the header"));
    let epoch = i16::from_be_bytes(*header[51..].first_chunk().expect("a field of the header"));
    let whole = usize::try_from(i32_at(8)).context("a negative batch length")? + 12;
    ensure!(whole == length, "{length} bytes of records with a batch of {whole}: there must be one batch");
    ensure!(header[16] == 2, "a batch of magic {}", header[16]);
    let count = u32::try_from(i32_at(57)).context("a negative count of records")?;
    Ok(Batch { partition, count, producer: (producer_id, epoch), base_sequence: i32_at(53) })
}

fn answer(topic: TopicRef, partition: usize, base_offset: i64) -> PartitionAnswer {
    PartitionAnswer {
        topic,
        partition: partition as i32,
        error_code: codes::NONE,
        base_offset,
        log_append_time: -1,
        record_errors: vec![],
        error_message: None,
        current_leader: None,
    }
}

/// How many elements follow, or bytes; null counts as none.
fn count(input: &mut Input, flexible: bool) -> Result<usize> {
    Ok(match flexible {
        true => input.uvarint()?.saturating_sub(1),
        false => usize::try_from(input.i32()?).unwrap_or(0),
    })
}

fn skip_string(input: &mut Input, flexible: bool) -> Result<()> {
    let length = match flexible {
        true => input.uvarint()?.saturating_sub(1),
        false => usize::try_from(input.i16()?).unwrap_or(0),
    };
    Ok(input.skip(length)?)
}

fn skip_tagged_fields(input: &mut Input, flexible: bool) -> Result<()> {
    if flexible {
        for _ in 0..input.uvarint()? {
            let _tag = input.uvarint()?;
            let length = input.uvarint()?;
            input.skip(length)?;
        }
    }
    Ok(())
}
