//! Entries to bytes and back.

use super::envelope::{Envelope, end_entry, envelopes, put_entry, skip_tags};
use super::{Acknowledged, Entry, IndexRange, Placed, PlacedPart, Records, Sent};
use crate::backlog::log::varint::{DecodeError, Input, put_bytes, put_varint, put_zigzag};

const PARTITION: u8 = 1;
const RECORDS: u8 = 2;
const SENT: u8 = 3;
const ACKNOWLEDGED: u8 = 4;
const DROPPED: u8 = 5;
const DEAD: u8 = 6;
const PLACED: u8 = 7;
const CLUSTER: u8 = 8;
const RETIRED: u8 = 13;

impl IndexRange {
    pub(in super::super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.first);
        put_varint(out, self.last - self.first);
    }

    pub(in super::super) fn take(input: &mut Input<'_>) -> Result<IndexRange, DecodeError> {
        let first = input.varint("first index")?;
        let behind = input.varint("last index")?;
        let last = first.checked_add(behind).ok_or(DecodeError::Invalid("last index"))?;
        IndexRange::new(first, last).ok_or(DecodeError::Invalid("last index"))
    }
}

impl<'a> Records<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        let mut fields = Vec::with_capacity(64);
        put_varint(&mut fields, u64::from(self.partition));
        put_varint(&mut fields, self.first);
        put_varint(&mut fields, u64::from(self.count));
        put_zigzag(&mut fields, self.base_timestamp);
        put_zigzag(&mut fields, self.max_timestamp);
        put_zigzag(&mut fields, self.stored_at);
        fields.push(self.codec);
        out.push(RECORDS);
        put_varint(out, (fields.len() + self.tags.len() + self.data.len()) as u64);
        out.extend_from_slice(&fields);
        out.extend_from_slice(self.tags);
        out.extend_from_slice(self.data);
    }

    fn take(mut input: Input<'a>) -> Result<Records<'a>, DecodeError> {
        let partition = input.varint_as("partition")?;
        let first = input.varint("first index")?;
        let count = input.varint_as("count")?;
        let base_timestamp = input.zigzag("base timestamp")?;
        let max_timestamp = input.zigzag("max timestamp")?;
        let stored_at = input.zigzag("time of storing")?;
        let codec = input.u8("codec")?;
        let section = input.rest();
        skip_tags(&mut input)?;
        let data = input.rest();
        let tags = &section[..section.len() - data.len()];
        let records = Records { partition, first, count, base_timestamp, max_timestamp, stored_at, codec, tags, data };
        records.range().map(|_| records).ok_or(DecodeError::Invalid("count"))
    }
}

impl Sent {
    pub(in super::super) fn put(&self, out: &mut Vec<u8>) {
        self.range.put(out);
        put_zigzag(out, self.producer_id);
        put_zigzag(out, self.epoch.into());
        put_zigzag(out, self.base_sequence.into());
        out.extend_from_slice(&self.topic_id);
    }

    pub(in super::super) fn take(input: &mut Input<'_>) -> Result<Sent, DecodeError> {
        Ok(Sent {
            range: IndexRange::take(input)?,
            producer_id: input.zigzag("producer id")?,
            epoch: input.zigzag_as("epoch")?,
            base_sequence: input.zigzag_as("base sequence")?,
            topic_id: input.array("topic id")?,
        })
    }
}

impl Placed {
    pub(in super::super) fn put(&self, out: &mut Vec<u8>) {
        self.range.put(out);
        put_varint(out, self.partition_count.into());
        put_varint(out, self.parts.len() as u64);
        for part in &self.parts {
            put_varint(out, part.partition.into());
            put_varint(out, part.first);
            put_varint(out, part.count);
        }
    }

    pub(in super::super) fn take(input: &mut Input<'_>) -> Result<Placed, DecodeError> {
        let range = IndexRange::take(input)?;
        let partition_count = input.varint_as("partition count")?;
        let mut parts = Vec::new();
        for _ in 0..input.varint("number of parts")? {
            let part = PlacedPart {
                partition: input.varint_as("partition")?,
                first: input.varint("first index")?,
                count: input.varint("count")?,
            };
            part.range().ok_or(DecodeError::Invalid("count"))?;
            parts.push(part);
        }
        Ok(Placed { range, partition_count, parts })
    }
}

impl<'a> Entry<'a> {
    /// Appends the entry.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Entry::Records(records) => records.put(out),
            Entry::Partition { number, name } => put_entry(out, PARTITION, |out| {
                put_varint(out, (*number).into());
                put_bytes(out, name);
            }),
            Entry::Sent { partition, sent } => put_entry(out, SENT, |out| {
                put_varint(out, (*partition).into());
                sent.put(out);
            }),
            Entry::Acknowledged(acknowledged) => put_entry(out, ACKNOWLEDGED, |out| {
                put_varint(out, acknowledged.partition.into());
                put_varint(out, acknowledged.last);
                put_zigzag(out, acknowledged.offset);
                put_zigzag(out, acknowledged.leader_epoch.into());
                out.extend_from_slice(&acknowledged.topic_id);
                put_varint(out, acknowledged.possible_duplicates);
            }),
            Entry::Dropped { partition, range, reason } | Entry::Dead { partition, range, reason } => {
                let kind = if matches!(self, Entry::Dropped { .. }) { DROPPED } else { DEAD };
                put_entry(out, kind, |out| {
                    put_varint(out, (*partition).into());
                    range.put(out);
                    put_varint(out, (*reason).into());
                });
            }
            Entry::Placed { partition, placed } => put_entry(out, PLACED, |out| {
                put_varint(out, (*partition).into());
                placed.put(out);
            }),
            Entry::Cluster { id } => put_entry(out, CLUSTER, |out| put_bytes(out, id)),
            Entry::Retired { partition } => put_entry(out, RETIRED, |out| put_varint(out, (*partition).into())),
        }
    }

    /// The entry that an envelope holds; `None` for kinds of later versions and of checkpoints.
    fn decode(envelope: Envelope<'a>) -> Result<Option<Entry<'a>>, DecodeError> {
        let mut input = envelope.input();
        let entry = match envelope.kind {
            RECORDS => return Records::take(input).map(|records| Some(Entry::Records(records))),
            PARTITION => Entry::Partition { number: input.varint_as("number")?, name: input.bytes("name")? },
            SENT => Entry::Sent { partition: input.varint_as("partition")?, sent: Sent::take(&mut input)? },
            ACKNOWLEDGED => Entry::Acknowledged(Acknowledged {
                partition: input.varint_as("partition")?,
                last: IndexRange::new(0, input.varint("last index")?).ok_or(DecodeError::Invalid("last index"))?.last,
                offset: input.zigzag("offset")?,
                leader_epoch: input.zigzag_as("leader epoch")?,
                topic_id: input.array("topic id")?,
                possible_duplicates: input.varint("possible duplicates")?,
            }),
            kind @ (DROPPED | DEAD) => {
                let partition = input.varint_as("partition")?;
                let range = IndexRange::take(&mut input)?;
                let reason = input.varint_as("reason")?;
                match kind {
                    DROPPED => Entry::Dropped { partition, range, reason },
                    _ => Entry::Dead { partition, range, reason },
                }
            }
            PLACED => Entry::Placed { partition: input.varint_as("partition")?, placed: Placed::take(&mut input)? },
            CLUSTER => Entry::Cluster { id: input.bytes("cluster id")? },
            RETIRED => Entry::Retired { partition: input.varint_as("partition")? },
            _ => return Ok(None),
        };
        end_entry(input)?;
        Ok(Some(entry))
    }
}

/// The entries of a frame's body that this version knows.
pub fn entries(body: &[u8]) -> impl Iterator<Item = Result<Entry<'_>, DecodeError>> {
    envelopes(body).filter_map(|envelope| envelope.and_then(Entry::decode).transpose())
}
