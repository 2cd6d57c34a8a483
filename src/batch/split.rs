//! Cuts a batch that a broker has refused as too large into two.

use bytes::Bytes;

use crate::queue::receipt::Mark;
use crate::wire::WireError;
use crate::wire::record_batch::{BatchBuilder, SealedBatch, parse_header, records};

/// The most that a batch may unpack to: more than any that was cut here.
const UNPACKED_MAX_BYTES: usize = 2 << 30;

/// The first `first` records of a batch and the rest, each a batch of its own without a stamp, compressed with the same codec at its
/// default level.
///
/// Errors: the batch is damaged, or compressed with a codec that cannot be opened.
pub fn split(batch: &Bytes, first: u32) -> Result<(SealedBatch, SealedBatch), WireError> {
    let codec = parse_header(batch)?.codec()?;
    let mut builders = [BatchBuilder::new(), BatchBuilder::new()];
    for (i, record) in (0u32..).zip(records(batch, UNPACKED_MAX_BYTES)?) {
        let record = record?;
        builders[usize::from(i >= first)].append(record.timestamp, &record.suffix);
    }
    let [a, b] = builders.map(|mut builder| builder.finish(codec, None).0);
    Ok((a, b))
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
