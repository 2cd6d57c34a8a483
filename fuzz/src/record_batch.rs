//! Target `record_batch`: batches of Kafka's format 2, whoever wrote them.
//!
//! Input: a byte that chooses the form (modulo 3) of the rest.
//! 0: a batch as it is, which a checksum protects from getting far.
//! 1: codec, a count of two bytes, and what stands for the compressed records; header and checksum are made to fit.
//! 2: codec, the length of each record, and records without their head, to be built into a batch and compressed.
//!
//! Beyond that nothing panics: memory stays within the limit for decompressed records and a multiple of what came; records are
//! no more than the header says, lie within what was decompressed, and end with the first error; and what was read, or built, is
//! read again after it was built (again).

use allocation_counter::measure;
use bytes::Bytes;
use forebay::wire::WireError;
use forebay::wire::codec::Codec;
use forebay::wire::record_batch::{
    BatchBuilder, HEADER_BYTES, Lane, OwnedRecord, Stamp, from_opaque, parse_header, records,
};

/// Decompressed records may take so much.
const LIMIT_BYTES: usize = 256 << 10;
/// What decoders need beside input and output: zstd's window of 8 MiB and tables, in the worst case.
const DECODER_BYTES: usize = 12 << 20;
/// The batch's stamp, where one is made.
const STAMP: Stamp = Stamp { lane: Lane { producer_id: 4711, epoch: 3 }, base_sequence: 17 };
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Panics if anything is wrong with how the input is read.
pub fn check(input: &[u8]) {
    match input {
        [form, rest @ ..] if form % 3 == 0 => {
            check_batch(&Bytes::copy_from_slice(rest));
        }
        [form, codec, count_high, count_low, section @ ..] if form % 3 == 1 => {
            let count = u32::from(u16::from_be_bytes([*count_high, *count_low]));
            let sealed = from_opaque(chosen(*codec), count, 5, 7, section);
            check_batch(&sealed.stamp(STAMP));
        }
        [_, codec, length, suffixes @ ..] => check_built(chosen(*codec), usize::from(*length) + 1, suffixes),
        _ => {}
    }
}

fn chosen(codec: u8) -> Codec {
    CODECS[usize::from(codec) % CODECS.len()]
}

/// Reads a batch to its end: its records, if all of them could be read.
fn check_batch(batch: &Bytes) -> Option<Vec<OwnedRecord>> {
    let mut read = None;
    let asked = measure(|| read = Some(read_all(batch)));
    let bound = DECODER_BYTES + 2 * LIMIT_BYTES + 2 * batch.len();
    assert!(asked.bytes_max <= bound as u64, "{asked:?} for {} bytes", batch.len());
    let header = parse_header(batch).ok();
    match (read?, header) {
        (Ok(read), Some(header)) => {
            assert_eq!(read.len(), header.count as usize);
            let mut builder = BatchBuilder::new();
            read.iter().for_each(|record| builder.append(record.timestamp, &record.suffix));
            let again = read_all(&builder.finish(Codec::None, None).0.stamp(STAMP)).expect("it was built by us");
            assert_eq!(again.len(), read.len());
            for (number, (again, read)) in (0..).zip(again.iter().zip(&read)) {
                assert_eq!(*again, OwnedRecord { offset_delta: number, ..read.clone() });
            }
            Some(read)
        }
        (Ok(_), None) => panic!("records of what is no batch"),
        (Err(_), _) => None,
    }
}

fn read_all(batch: &Bytes) -> Result<Vec<OwnedRecord>, WireError> {
    let mut found = Vec::new();
    let mut left = LIMIT_BYTES;
    let mut records = records(batch, LIMIT_BYTES)?;
    while let Some(record) = records.next() {
        match record {
            Ok(record) => {
                left = left.checked_sub(record.suffix.len()).expect("records lie within what was decompressed");
                check_parts(&record);
                found.push(record);
            }
            Err(error) => {
                assert_eq!(records.next(), None, "nothing comes after an error");
                return Err(error);
            }
        }
    }
    Ok(found)
}

/// Key, value and headers lie in the suffix.
fn check_parts(record: &OwnedRecord) {
    let optional = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + optional(value));
    assert!(optional(&record.key) + optional(&record.value) + headers.sum::<usize>() <= record.suffix.len());
}

/// Builds a batch of records that may be none, compresses it, and reads it.
fn check_built(codec: Codec, length: usize, suffixes: &[u8]) {
    let mut builder = BatchBuilder::new();
    for (number, suffix) in (0..).zip(suffixes.chunks(length)) {
        builder.append(number, suffix);
    }
    let raw = builder.len_bytes() - HEADER_BYTES;
    let (sealed, error) = builder.finish(codec, None);
    let batch = sealed.stamp(STAMP);
    let header = parse_header(&batch).expect("it was built by us");
    assert_eq!(header.count as usize, suffixes.chunks(length).count());
    if error.is_some() {
        assert_eq!(header.codec(), Ok(Codec::None), "what cannot be compressed goes as it is");
    }
    assert!(raw > LIMIT_BYTES || records(&batch, LIMIT_BYTES).is_ok(), "{codec:?} is not read back");
    if let Some(read) = check_batch(&batch) {
        assert!(read.iter().map(|record| &record.suffix[..]).eq(suffixes.chunks(length)));
    }
}

/// Inputs to begin with: batches of each codec as they are, their records in made headers, and records to be built.
pub fn seeds() -> Vec<Vec<u8>> {
    // A null key, the value "v", one header: "h" without a value.
    let suffix: &[u8] = &[1, 2, b'v', 2, 2, b'h', 1];
    let records = suffix.repeat(30);
    let mut seeds = Vec::new();
    for (number, codec) in (0..).zip(CODECS) {
        let mut builder = BatchBuilder::new();
        (0..30).for_each(|timestamp| builder.append(timestamp, suffix));
        let batch = builder.finish(codec, None).0.stamp(STAMP);
        seeds.push([&[0], &batch[..]].concat());
        seeds.push([&[1, number, 0, 30], &batch[HEADER_BYTES..]].concat());
        seeds.push([&[2, number, suffix.len() as u8 - 1], records.as_slice()].concat());
    }
    seeds
}
