//! The records of a stored run, whichever way it was stored.

use std::io::{self, ErrorKind};

use crate::backlog::log::entry::{IndexRange, Records};
use crate::backlog::log::varint::{DecodeError, Input};
use crate::record::{RawRecord, raw_records};
use crate::wire::codec::Codec;
use crate::wire::record_batch::{self, Lane, OwnedRecord, Stamp};

/// A run is at most half a segment; what takes more than this when it is decompressed was not written by forebay.
const DECOMPRESSED_BYTES_MAX: usize = 512 << 20;
/// Readers of batches want one. Nothing of it is shown.
const STAMP: Stamp = Stamp { lane: Lane { producer_id: -1, epoch: -1 }, base_sequence: -1 };

/// A record, decoded.
pub(in crate::cli) struct Decoded<'a> {
    /// In ms.
    pub(in crate::cli) timestamp: i64,
    pub(in crate::cli) key: Option<&'a [u8]>,
    pub(in crate::cli) value: Option<&'a [u8]>,
    pub(in crate::cli) headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

/// Shows the records of a run in order. What cannot be decoded, and a run that has fewer or more than it says, is [`ErrorKind::InvalidData`].
fn each_record(run: &Records<'_>, mut visit: impl FnMut(&Decoded<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut seen = 0;
    match i16::from(run.codec) {
        0 => {
            for raw in raw_records(run.data) {
                seen += 1;
                visit(&Decoded::of_raw(&raw).map_err(invalid)?)?;
            }
        }
        codec @ 1..=4 => {
            let codec = Codec::from_attributes(codec).map_err(invalid)?;
            let batch = record_batch::from_opaque(codec, run.count, run.base_timestamp, run.max_timestamp, run.data)
                .stamp(STAMP);
            for record in record_batch::records(&batch, DECOMPRESSED_BYTES_MAX).map_err(invalid)? {
                seen += 1;
                visit(&Decoded::of_owned(&record.map_err(invalid)?))?;
            }
        }
        codec => {
            return Err(invalid(format!("codec {codec} is not known to this version: use the forebay that wrote it")));
        }
    }
    if seen == u64::from(run.count) { Ok(()) } else { Err(invalid(format!("{seen} records of {}", run.count))) }
}

/// As [`each_record`], those with other indexes left out.
pub(in crate::cli) fn each_wanted_record(
    run: &Records<'_>,
    wanted: IndexRange,
    mut visit: impl FnMut(&Decoded<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut indexes = run.first..;
    each_record(run, |record| match indexes.next() {
        Some(index) if (wanted.first..=wanted.last).contains(&index) => visit(record),
        _ => Ok(()),
    })
}

fn invalid(why: impl ToString) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.to_string())
}

impl<'a> Decoded<'a> {
    /// Of a record in run form.
    pub(in crate::cli) fn of_raw(raw: &RawRecord<'a>) -> Result<Decoded<'a>, DecodeError> {
        let mut input = Input::new(raw.suffix);
        let (key, value) = (nullable(&mut input)?, nullable(&mut input)?);
        let mut headers = Vec::new();
        for _ in 0..input.zigzag("number of headers")? {
            let name = nullable(&mut input)?.ok_or(DecodeError::Invalid("a header's name"))?;
            headers.push((name, nullable(&mut input)?));
        }
        Ok(Decoded { timestamp: raw.timestamp, key, value, headers })
    }

    fn of_owned(record: &'a OwnedRecord) -> Decoded<'a> {
        let headers = record.headers.iter().map(|(name, value)| (name.as_ref(), value.as_deref()));
        Decoded {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: headers.collect(),
        }
    }
}

fn nullable<'a>(input: &mut Input<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    match input.zigzag("a size")? {
        -1 => Ok(None),
        len => input.take(usize::try_from(len).map_err(|_| DecodeError::Invalid("a size"))?, "a record").map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backlog::log::entry::NO_TAGS;
    use crate::wire::record_batch::{BatchBuilder, HEADER_BYTES};

    type Seen = (i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

    fn seen(codec: u8, count: u32, data: &[u8]) -> io::Result<Vec<Seen>> {
        let mut seen = vec![];
        let run = Records {
            partition: 0,
            first: 0,
            count,
            base_timestamp: 1000,
            max_timestamp: 1099,
            stored_at: 0,
            codec,
            tags: NO_TAGS,
            data,
        };
        each_record(&run, |record| {
            let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
            seen.push((record.timestamp, key, value, record.headers.len()));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn runs_of_every_codec_are_read() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut builder = BatchBuilder::new();
            // A null key, the value "v", one header: "h" without a value.
            (1000..1100).for_each(|timestamp| builder.append(timestamp, &[1, 2, b'v', 2, 2, b'h', 1]));
            let batch = builder.finish(codec, None).0.stamp(STAMP);
            let expected: Vec<Seen> = (1000..1100).map(|timestamp| (timestamp, None, Some(b"v".to_vec()), 1)).collect();
            let data = &batch[HEADER_BYTES..];
            assert_eq!(seen(codec.id() as u8, 100, data).unwrap(), expected, "{codec:?}");
            assert_eq!(
                seen(codec.id() as u8, 100, &data[..data.len() / 2]).unwrap_err().kind(),
                ErrorKind::InvalidData
            );
        }
    }

    #[test]
    fn what_no_version_has_written_is_refused_with_words() {
        assert!(seen(9, 1, b"").unwrap_err().to_string().contains("codec 9"));
        assert_eq!(seen(0, 1, b"").unwrap_err().to_string(), "0 records of 1");
    }
}
