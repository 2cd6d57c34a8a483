//! What a batch becomes that will never be delivered.

use crate::queue::window::Batch;
use crate::store::dead_letters::Content;
use crate::wire::WireError;
use crate::wire::codec::Codec;
use crate::wire::record_batch::{HEADER_BYTES, in_run_form, parse_header};

/// The records of a batch as the log keeps them: in run form, or compressed as they are.
///
/// Errors: the batch is damaged, which none of ours is.
pub(super) fn content(batch: &Batch) -> Result<Content, WireError> {
    let header = parse_header(&batch.bytes)?;
    let codec = header.codec()?;
    let section = batch.bytes.slice(HEADER_BYTES..header.size_bytes());
    let data = match codec {
        Codec::None => in_run_form(&batch.bytes, section.len())?.into_bytes().into(),
        _ => section,
    };
    Ok(Content {
        codec: codec.id() as u8,
        count: batch.count,
        base_timestamp: header.base_timestamp,
        max_timestamp: header.max_timestamp,
        data,
    })
}
