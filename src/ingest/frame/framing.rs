//! Where a frame ends, and whether its header is one that can be served.

use super::error::{Fault, Located, Malformed};
use super::{
    ANY_PARTITION, Decoded, FIRST_CORRELATED_KEY, HEADER_BYTES, METADATA, PARTITION_KEY, PRODUCE, SERVED, VERSIONS,
};

const CORRELATED_HEADER_BYTES: usize = HEADER_BYTES + 4;

/// A frame's first bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Bytes of the whole frame, as it says; not yet checked.
    pub size: i32,
    pub api_key: i16,
    pub api_version: i16,
}

impl Head {
    /// What an answer carries when the header could not be read.
    pub const UNREADABLE: Head = Head { size: 0, api_key: -1, api_version: -1 };

    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Head> {
        let [s0, s1, s2, s3, k0, k1, v0, v1] = *bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Head {
            size: i32::from_be_bytes([s0, s1, s2, s3]),
            api_key: i16::from_be_bytes([k0, k1]),
            api_version: i16::from_be_bytes([v0, v1]),
        })
    }

    #[inline]
    fn is_correlated(self) -> bool {
        self.api_key >= FIRST_CORRELATED_KEY
    }

    /// Whether the CorrelationId is still to come: what is said of a frame does not depend on how it was cut on its way.
    fn waits_for_its_id(self, buffer: &[u8]) -> bool {
        let header = CORRELATED_HEADER_BYTES;
        self.is_correlated() && self.size >= header as i32 && buffer.len() < header
    }

    /// What is wrong with the frame at the start of `buffer`, with its CorrelationId if it has one: a frame that ends
    /// before has none, for what stands there belongs to the next one.
    #[cold]
    pub fn malformed(self, buffer: &[u8], located: Located) -> Malformed {
        let correlation_id = match buffer.get(HEADER_BYTES..).and_then(|rest| rest.first_chunk::<4>()) {
            Some(id) if self.is_correlated() && self.size >= CORRELATED_HEADER_BYTES as i32 => i32::from_be_bytes(*id),
            _ => -1,
        };
        let Head { api_key, api_version, .. } = self;
        Malformed { api_key, api_version, correlation_id, record: located.record, fault: located.fault }
    }
}

/// The first request's header and body; `None` if there is no whole one that can be served: then
/// [`why_no_request`] says why. The two are apart because what comes thousands of times a read should be small.
#[inline]
pub(super) fn split_request(buffer: &[u8], max_frame_size: usize) -> Option<(Head, &[u8])> {
    let head = Head::read(buffer)?;
    let smallest = match head.api_key {
        ANY_PARTITION | PARTITION_KEY => HEADER_BYTES,
        PRODUCE | METADATA | VERSIONS => CORRELATED_HEADER_BYTES,
        _ => return None,
    };
    let size = usize::try_from(head.size).ok()?;
    if head.api_version != 0 || size < smallest || size > max_frame_size {
        return None;
    }
    Some((head, buffer.get(HEADER_BYTES..size)?))
}

/// A header that cannot be served is told at once, not when its frame is complete: nobody should have to send 16 MiB to
/// learn it.
#[cold]
pub(super) fn why_no_request<T>(buffer: &[u8], max_frame_size: usize) -> Decoded<T> {
    let (head, size) = match sized_head(buffer) {
        Ok(sized) => sized,
        Err(decoded) => return decoded,
    };
    if head.waits_for_its_id(buffer) {
        return Decoded::NeedMore { bytes: CORRELATED_HEADER_BYTES };
    }
    let (key, version) = (head.api_key, head.api_version);
    let fault = if !SERVED.iter().any(|served| served.api_key == key) {
        Fault::UnknownApiKey(key)
    } else if version != 0 {
        Fault::UnsupportedVersion { key, version }
    } else if size > max_frame_size {
        Fault::FrameTooLarge { size, limit: max_frame_size }
    } else if head.is_correlated() && size < CORRELATED_HEADER_BYTES {
        Fault::Truncated { field: "CorrelationId" }
    } else {
        return Decoded::NeedMore { bytes: size };
    };
    Decoded::Malformed(head.malformed(buffer, fault.into()))
}

/// The first answer's header and body. Its key may be any: even one that the daemon does not know comes back.
pub(super) fn split_answer<T>(buffer: &[u8], max_frame_size: usize) -> Result<(Head, &[u8]), Decoded<T>> {
    let (head, size) = sized_head(buffer)?;
    if size > max_frame_size {
        if head.waits_for_its_id(buffer) {
            return Err(Decoded::NeedMore { bytes: CORRELATED_HEADER_BYTES });
        }
        let fault = Fault::FrameTooLarge { size, limit: max_frame_size };
        return Err(Decoded::Malformed(head.malformed(buffer, fault.into())));
    }
    let body = buffer.get(HEADER_BYTES..size).ok_or(Decoded::NeedMore { bytes: size })?;
    Ok((head, body))
}

/// A header, and its Size if that can be one. A Size that cannot is told before the rest of the header is there.
fn sized_head<T>(buffer: &[u8]) -> Result<(Head, usize), Decoded<T>> {
    let size = buffer.first_chunk::<4>().ok_or(Decoded::NeedMore { bytes: 4 })?;
    let size = i32::from_be_bytes(*size);
    if size < HEADER_BYTES as i32 {
        let fault = Fault::SizeTooSmall(size);
        return Err(Decoded::Malformed(Head::UNREADABLE.malformed(buffer, fault.into())));
    }
    let head = Head::read(buffer).ok_or(Decoded::NeedMore { bytes: HEADER_BYTES })?;
    Ok((head, size as usize))
}
