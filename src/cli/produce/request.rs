//! What becomes a record, and how records become a request. Pure.

use std::time::Duration;

use super::cut::{Pieces, find};
use super::report::End;
use crate::ingest::frame::Limits;
use crate::ingest::frame::produce::{Acks, ProduceEncoder, ProduceHead};
use crate::record::{Header, Record};

/// Records of one request.
pub(super) const REQUEST_RECORDS_MAX: usize = 500;
/// Bytes of one request of more than one record.
pub(super) const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a record beside its key, value and headers: Timestamp, two sizes, HeaderCount.
const RECORD_BYTES: usize = 8 + 4 + 4 + 2;
/// Bytes of a header beside its name and value: two sizes.
const HEADER_BYTES: usize = 2 + 4;

/// What to do with each piece of the input.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// A name that Kafka allows.
    pub(super) topic: String,
    /// `None`: the daemon chooses.
    pub(super) partition: Option<i32>,
    /// Of records that bring none of their own; `None`: null.
    pub(super) key: Option<Vec<u8>>,
    /// Parts a record's key from its value; not empty.
    pub(super) key_delimiter: Option<Vec<u8>>,
    /// Whether an empty key or value becomes null.
    pub(super) empty_is_null: bool,
    /// Of every record.
    pub(super) headers: Vec<OwnedHeader>,
    /// When a record is done.
    pub(super) acks: Acks,
    /// How long to wait for that.
    pub(super) timeout: Option<Duration>,
}

/// A header that the user gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnedHeader {
    /// Not empty.
    pub(super) name: String,
    /// `None`: null.
    pub(super) value: Option<Vec<u8>>,
}

impl Options {
    /// The key and the value in `piece`, as kcat finds them.
    fn split<'a>(&'a self, piece: &'a [u8]) -> (Option<&'a [u8]>, Option<&'a [u8]>) {
        let parted = self.key_delimiter.as_deref().and_then(|delimiter| {
            let (key, rest) = piece.split_at_checked(find(piece, delimiter)?)?;
            Some((key, rest.get(delimiter.len()..)?))
        });
        let (key, value) = parted.map_or((None, piece), |(key, value)| (Some(key), value));
        let kept = |bytes: &&[u8]| !self.empty_is_null || !bytes.is_empty();
        (key.filter(kept).or(self.key.as_deref()), Some(value).filter(kept))
    }

    fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|h| Header { name: h.name.as_bytes(), value: h.value.as_deref() }).collect()
    }

    /// Appends one request of the pieces that are whole, and returns how many records are in it: 0 if no piece is.
    ///
    /// # Errors
    /// If the first piece fits in no frame; the pieces and `out` are as they were.
    pub(super) fn encode_request(
        &self,
        correlation_id: i32,
        pieces: &mut Pieces,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<u64, End> {
        let Options { topic, partition, acks, timeout, .. } = self;
        let head = ProduceHead { correlation_id, acks: *acks, timeout: *timeout, topic, partition: *partition };
        let unsendable = |error| End::Lost(format!("a request cannot be made: {error}"));
        let mut request = ProduceEncoder::begin(out, &head).map_err(unsendable)?;
        let records_max = REQUEST_RECORDS_MAX.min(limits.max_records_per_request);
        let headers = self.headers();
        let header_bytes: usize =
            headers.iter().map(|h| HEADER_BYTES + h.name.len() + h.value.map_or(0, <[u8]>::len)).sum();
        while (request.count() as usize) < records_max {
            let (number, begun) = (pieces.number(), pieces.len_bytes());
            let too_long = End::TooLong { record: number, limit: limits.max_frame_size };
            let Some(piece) = pieces.first() else {
                if begun > limits.max_frame_size && request.count() == 0 {
                    return Err(too_long);
                }
                break;
            };
            let (key, value) = self.split(piece);
            let lengths = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + header_bytes;
            let size = request.len_bytes() + RECORD_BYTES + lengths;
            if request.count() > 0 && size > REQUEST_BYTES_MAX.min(limits.max_frame_size) {
                break;
            }
            if size > limits.max_frame_size {
                return Err(too_long);
            }
            let record = Record { timestamp: 0, stamped_here: true, key, value, headers: &headers };
            request.push(&record).map_err(unsendable)?;
            pieces.take_first();
        }
        let records = request.count();
        if records > 0 {
            request.finish().map_err(unsendable)?;
        }
        Ok(u64::from(records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parted = (Option<&'static str>, Option<&'static str>);

    #[test]
    fn keys_values_and_nulls_are_found_as_kcat_finds_them() {
        // As kcat 1.7.1 sends them; it skips the empty line, which is a record here.
        let pieces = ["a:b:c", "none", ":v", "k:", ""];
        let plain: [Parted; 5] = [
            (Some("a"), Some("b:c")),
            (None, Some("none")),
            (Some(""), Some("v")),
            (Some("k"), Some("")),
            (None, Some("")),
        ];
        let nulls: [Parted; 5] =
            [(Some("a"), Some("b:c")), (None, Some("none")), (None, Some("v")), (Some("k"), None), (None, None)];
        let fixed = |parted: [Parted; 5]| parted.map(|(key, value)| (key.or(Some("F")), value));
        for (key, empty_is_null, expected) in [
            (None, false, plain),
            (None, true, nulls),
            (Some("F"), false, fixed(plain)),
            (Some("F"), true, fixed(nulls)),
        ] {
            let options = Options {
                topic: "t".to_owned(),
                partition: None,
                key: key.map(|key| key.as_bytes().to_vec()),
                key_delimiter: Some(b":".to_vec()),
                empty_is_null,
                headers: vec![],
                acks: Acks::All,
                timeout: None,
            };
            for (piece, (key, value)) in pieces.into_iter().zip(expected) {
                let bytes = |text: Option<&'static str>| text.map(str::as_bytes);
                assert_eq!(options.split(piece.as_bytes()), (bytes(key), bytes(value)), "{piece:?}");
            }
        }
    }
}
