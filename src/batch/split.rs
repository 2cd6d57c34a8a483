//! Makes other batches of one that a broker has refused: pieces of it, the same records uncompressed, or with another time.
//!
//! What comes in is a batch of ours, whole and stamped; what goes out has no stamp. Records keep their order.
//!
//! Errors of all: the batch is damaged, or compressed with a codec that cannot be opened.

use bytes::Bytes;

use crate::queue::receipt::Mark;
use crate::record::{Header, Record, Run, TimestampMs};
use crate::wire::WireError;
use crate::wire::codec::Codec;
use crate::wire::record_batch::{BatchBuilder, OwnedRecord, SealedBatch, parse_header, records};

/// The header that holds a record's own timestamp, in ms since 1970 as text, where Kafka refused it.
pub const ORIGINAL_TIMESTAMP_HEADER: &[u8] = b"forebay.original.timestamp";

/// The most that a batch may unpack to: more than any that was cut here.
const UNPACKED_MAX_BYTES: usize = 2 << 30;

/// Pieces of a batch, which begin with its first record and at each of `starts` (ascending); compressed with its codec.
pub fn split(batch: &Bytes, starts: &[u32], level: Option<i32>) -> Result<Vec<SealedBatch>, WireError> {
    let codec = parse_header(batch)?.codec()?;
    let mut builder = BatchBuilder::new();
    let mut pieces = Vec::with_capacity(starts.len() + 1);
    for (i, record) in (0u32..).zip(records(batch, UNPACKED_MAX_BYTES)?) {
        let record = record?;
        if starts.binary_search(&i).is_ok() && builder.count() > 0 {
            pieces.push(builder.finish(codec, level).0);
        }
        builder.append(record.timestamp, &record.suffix);
    }
    pieces.push(builder.finish(codec, level).0);
    Ok(pieces)
}

/// The receipts of the first `first` records, and those of the rest, their places counted anew.
pub fn split_marks(marks: Vec<Mark>, first: u32) -> (Vec<Mark>, Vec<Mark>) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for mut mark in marks {
        if mark.at >= first {
            b.push(Mark { at: mark.at - first, receipt: mark.receipt });
            continue;
        }
        if let Some(receipt) = mark.receipt.split_off(first - mark.at) {
            b.push(Mark { at: 0, receipt });
        }
        a.push(mark);
    }
    (a, b)
}

/// The oldest timestamp in a batch, and the bytes of the batch before compression.
pub fn measure(batch: &Bytes) -> Result<(TimestampMs, usize), WireError> {
    let (mut oldest, mut bytes) = (TimestampMs::MAX, 0);
    for record in records(batch, UNPACKED_MAX_BYTES)? {
        let record = record?;
        oldest = oldest.min(record.timestamp);
        bytes += record.suffix.len();
    }
    Ok((oldest, bytes))
}

/// The same records, uncompressed.
pub fn uncompressed(batch: &Bytes) -> Result<SealedBatch, WireError> {
    let mut builder = BatchBuilder::new();
    for record in records(batch, UNPACKED_MAX_BYTES)? {
        let record = record?;
        builder.append(record.timestamp, &record.suffix);
    }
    Ok(builder.finish(Codec::None, None).0)
}

/// The same records, those at `places` (ascending; all, if there are none) with the time `now`; theirs stands in
/// [`ORIGINAL_TIMESTAMP_HEADER`].
pub fn with_time(
    batch: &Bytes,
    places: &[u32],
    now: TimestampMs,
    level: Option<i32>,
) -> Result<SealedBatch, WireError> {
    let codec = parse_header(batch)?.codec()?;
    let mut builder = BatchBuilder::new();
    for (i, record) in (0u32..).zip(records(batch, UNPACKED_MAX_BYTES)?) {
        let record = record?;
        if places.is_empty() || places.binary_search(&i).is_ok() {
            let run = marked(&record, now);
            run.records_from(0).for_each(|record| builder.append(record.timestamp, record.suffix));
        } else {
            builder.append(record.timestamp, &record.suffix);
        }
    }
    Ok(builder.finish(codec, level).0)
}

/// The record at `now`, its own time in a header if none is there yet.
fn marked(record: &OwnedRecord, now: TimestampMs) -> Run {
    let own = record.timestamp.to_string();
    let mut headers: Vec<Header<'_>> =
        record.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect();
    if !headers.iter().any(|header| header.name == ORIGINAL_TIMESTAMP_HEADER) {
        headers.push(Header { name: ORIGINAL_TIMESTAMP_HEADER, value: Some(own.as_bytes()) });
    }
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let mut run = Run::default();
    run.push(&Record { timestamp: now, stamped_here: true, key, value, headers: &headers });
    run
}
