//! What a record is, and the form in which records wait.
//!
//! A [`Record`] is what a local program hands over: borrowed from the bytes it was read from. A [`Run`] is consecutive
//! records of one partition in *run form*: all that a Kafka record needs but the two deltas that only a batch can know.
//! So a record is encoded once, when it arrives, and copied once more, when its batch is made.
//!
//! ```text
//! run  = record*
//! record = suffix length u32 · flags u8 · timestamp i64 · suffix      (little endian)
//! suffix = key length varint · key · value length varint · value · header count varint · headers
//! ```
//!
//! The suffix is byte for byte the end of a Kafka v2 record (KIP-98, `DefaultRecord.java`), from the key's length onwards.

/// Milliseconds since 1970-01-01 UTC, as Kafka counts them.
pub type TimestampMs = i64;

/// The bytes that a run holds for each record beside its suffix.
pub const RUN_RECORD_OVERHEAD: usize = 4 + 1 + 8;

/// The timestamp was given by forebay, not by the client.
const FLAG_STAMPED_HERE: u8 = 1;

/// Keys and values shorter than this have a size of one byte or two.
const SHORT_BYTES: usize = 1 << 13;

/// One header of a record: Kafka allows the same name more than once, and an absent value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name; need not be unique, may be empty.
    pub name: &'a [u8],
    /// The value; `None` is Kafka's null, which differs from an empty one.
    pub value: Option<&'a [u8]>,
}

/// One record, borrowed from the bytes it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it happened.
    pub timestamp: TimestampMs,
    /// Whether forebay gave the timestamp because the client gave none.
    pub stamped_here: bool,
    /// The key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null (a tombstone in a compacted topic).
    pub value: Option<&'a [u8]>,
    /// In order, names may repeat.
    pub headers: &'a [Header<'a>],
}

/// Consecutive records of one partition in run form. Grows at its end only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    bytes: Vec<u8>,
    count: u32,
}

impl Run {
    /// An empty run with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Run { bytes: Vec::with_capacity(bytes), count: 0 }
    }

    /// Bytes that a run needs for `record`, or a few more.
    pub fn room_for(record: &Record<'_>) -> usize {
        const SIZE_BYTES: usize = 5;
        let header = |header: &Header<'_>| header.name.len() + header.value.map_or(0, <[u8]>::len) + 2 * SIZE_BYTES;
        let sizes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + 3 * SIZE_BYTES;
        RUN_RECORD_OVERHEAD + sizes + record.headers.iter().map(header).sum::<usize>()
    }

    /// Appends a record. Key, value and header sizes must each fit in an `i32`, which every frame limit guarantees.
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) {
        let is_short = |bytes: Option<&[u8]>| bytes.is_none_or(|bytes| bytes.len() < SHORT_BYTES);
        if record.headers.is_empty() && is_short(record.key) && is_short(record.value) {
            self.push_short(record);
        } else {
            self.push_any(record);
        }
    }

    /// What is the most frequent by far, with few and fixed stores: each is cut back to the bytes that are needed, for
    /// copying exactly as many would be a call.
    #[inline]
    fn push_short(&mut self, record: &Record<'_>) {
        let at = self.bytes.len();
        let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
        let (key_size, key_size_len) = short_size(record.key);
        let (value_size, value_size_len) = short_size(record.value);
        let suffix = key_size_len + key.len() + value_size_len + value.len() + 1;
        self.bytes.reserve(RUN_RECORD_OVERHEAD + suffix + size_of::<u32>());
        let mut head = [0; RUN_RECORD_OVERHEAD + 4];
        head[..4].copy_from_slice(&(suffix as u32).to_le_bytes());
        head[4] = if record.stamped_here { FLAG_STAMPED_HERE } else { 0 };
        head[5..RUN_RECORD_OVERHEAD].copy_from_slice(&record.timestamp.to_le_bytes());
        // The sizes of both while there is no key between them.
        let sizes = if key.is_empty() { key_size | value_size << (8 * key_size_len) } else { key_size };
        head[RUN_RECORD_OVERHEAD..].copy_from_slice(&sizes.to_le_bytes());
        self.bytes.extend_from_slice(&head);
        if key.is_empty() {
            self.bytes.truncate(at + RUN_RECORD_OVERHEAD + key_size_len + value_size_len);
        } else {
            self.bytes.truncate(at + RUN_RECORD_OVERHEAD + key_size_len);
            self.bytes.extend_from_slice(key);
            self.bytes.extend_from_slice(&value_size.to_le_bytes());
            self.bytes.truncate(at + RUN_RECORD_OVERHEAD + key_size_len + key.len() + value_size_len);
        }
        self.bytes.extend_from_slice(value);
        self.bytes.push(0);
        self.count += 1;
    }

    #[inline(never)]
    fn push_any(&mut self, record: &Record<'_>) {
        let flags = if record.stamped_here { FLAG_STAMPED_HERE } else { 0 };
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0, 0, 0, flags]);
        self.bytes.extend_from_slice(&record.timestamp.to_le_bytes());
        put_nullable(&mut self.bytes, record.key);
        put_nullable(&mut self.bytes, record.value);
        put_varint(&mut self.bytes, record.headers.len() as i64);
        for header in record.headers {
            put_varint(&mut self.bytes, header.name.len() as i64);
            self.bytes.extend_from_slice(header.name);
            put_nullable(&mut self.bytes, header.value);
        }
        let suffix = (self.bytes.len() - at - RUN_RECORD_OVERHEAD) as u32;
        self.bytes[at..at + 4].copy_from_slice(&suffix.to_le_bytes());
        self.count += 1;
    }

    /// Appends a record that is in run form already.
    pub fn push_raw(&mut self, record: &RawRecord<'_>) {
        let flags = if record.stamped_here { FLAG_STAMPED_HERE } else { 0 };
        self.bytes.extend_from_slice(&(record.suffix.len() as u32).to_le_bytes());
        self.bytes.push(flags);
        self.bytes.extend_from_slice(&record.timestamp.to_le_bytes());
        self.bytes.extend_from_slice(record.suffix);
        self.count += 1;
    }

    /// How many records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the run form.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The run form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The run form itself.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes of memory held, used or not.
    pub fn capacity_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether it holds no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Gives unused memory back when more than a quarter of what is held is unused.
    pub fn trim(&mut self) {
        if self.bytes.capacity() - self.bytes.len() > self.bytes.capacity() / 4 {
            self.bytes.shrink_to_fit();
        }
    }

    /// The records from byte `offset` onwards, which must be where a record starts.
    pub fn records_from(&self, offset: usize) -> RawRecords<'_> {
        RawRecords { rest: self.bytes.get(offset..).unwrap_or_default() }
    }
}

/// A record in run form, borrowed from its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// When it happened.
    pub timestamp: TimestampMs,
    /// Whether forebay gave the timestamp.
    pub stamped_here: bool,
    /// The end of the Kafka record, from the key's length onwards.
    pub suffix: &'a [u8],
}

impl RawRecord<'_> {
    /// The bytes it takes in a run.
    pub fn len_bytes(&self) -> usize {
        RUN_RECORD_OVERHEAD + self.suffix.len()
    }
}

/// The records of a run, given as the bytes of its run form.
pub fn raw_records(run: &[u8]) -> RawRecords<'_> {
    RawRecords { rest: run }
}

/// Iterates over a run. A run that is cut short ends the iteration before the cut record.
#[derive(Clone, Debug)]
pub struct RawRecords<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for RawRecords<'a> {
    type Item = RawRecord<'a>;

    fn next(&mut self) -> Option<RawRecord<'a>> {
        let (head, rest) = self.rest.split_first_chunk::<RUN_RECORD_OVERHEAD>()?;
        let [l0, l1, l2, l3, flags, timestamp @ ..] = *head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let suffix = rest.get(..len)?;
        self.rest = &rest[len..];
        Some(RawRecord {
            timestamp: i64::from_le_bytes(timestamp),
            stamped_here: flags & FLAG_STAMPED_HERE != 0,
            suffix,
        })
    }
}

/// Appends `value` as a zigzag varint, as Kafka's records use them for lengths and deltas alike (1 to 10 bytes).
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_unsigned_varint(out, zigzag(value));
}

/// Appends `value` as a varint: seven bits a byte, the lowest first (1 to 10 bytes).
pub fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes for `value`.
pub fn varint_len(value: i64) -> usize {
    unsigned_varint_len(zigzag(value))
}

/// How many bytes [`put_unsigned_varint`] writes for `value`.
pub fn unsigned_varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// 0, -1, 1, -2, … as 0, 1, 2, 3, …, so that small numbers of either sign are short varints.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The varint of a size below [`SHORT_BYTES`], or of null, as little-endian bytes, and how many they are: found without a branch.
#[inline]
fn short_size(bytes: Option<&[u8]>) -> (u32, usize) {
    let zigzag = bytes.map_or(1, |bytes| (bytes.len() as u32) << 1);
    let second = u32::from(zigzag >= 0x80);
    ((zigzag & 0x7f) | second << 7 | (zigzag >> 7) << 8, 1 + second as usize)
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_gives_back_what_was_pushed(
            stamps in prop::collection::vec((any::<i64>(), any::<bool>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..200))), 0..20)
        ) {
            let mut run = Run::default();
            for (timestamp, stamped_here, value) in &stamps {
                run.push(&Record { timestamp: *timestamp, stamped_here: *stamped_here, key: None, value: value.as_deref(), headers: &[] });
            }
            prop_assert_eq!(run.count() as usize, stamps.len());
            let mut copy = Run::default();
            let mut seen = 0;
            for (raw, (timestamp, stamped_here, value)) in run.records_from(0).zip(&stamps) {
                prop_assert_eq!(raw.timestamp, *timestamp);
                prop_assert_eq!(raw.stamped_here, *stamped_here);
                let mut suffix = vec![1];
                put_nullable(&mut suffix, value.as_deref());
                suffix.push(0);
                prop_assert_eq!(raw.suffix, &suffix[..]);
                copy.push_raw(&raw);
                seen += 1;
            }
            prop_assert_eq!(seen, stamps.len());
            prop_assert_eq!(copy, run);
        }

        #[test]
        fn a_short_record_is_written_as_any_other(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
            timestamp in any::<i64>(),
            stamped_here in any::<bool>(),
        ) {
            let record = Record { timestamp, stamped_here, key: key.as_deref(), value: value.as_deref(), headers: &[] };
            let (mut short, mut any) = (Run::default(), Run::default());
            for _ in 0..3 {
                short.push_short(&record);
                any.push_any(&record);
            }
            prop_assert_eq!(short, any);
        }

        #[test]
        fn a_varint_is_as_long_as_was_said(value in any::<i64>()) {
            let mut out = vec![];
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
        }

        #[test]
        fn iterating_over_any_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let taken: usize = RawRecords { rest: &bytes }.map(|r| r.len_bytes()).sum();
            prop_assert!(taken <= bytes.len());
        }
    }

    #[test]
    fn sizes_are_right_where_they_need_another_byte() {
        for size in [0, 63, 64, SHORT_BYTES - 1, SHORT_BYTES] {
            let value = vec![7; size];
            for key in [None, Some(&value[..])] {
                let record = Record { timestamp: 1, stamped_here: false, key, value: Some(&value), headers: &[] };
                let (mut run, mut any) = (Run::default(), Run::default());
                run.push(&record);
                any.push_any(&record);
                assert_eq!(run, any, "{size}");
            }
        }
    }

    #[test]
    fn varints_are_exact_at_the_edges() {
        for (value, bytes) in
            [(0, vec![0]), (-1, vec![1]), (63, vec![126]), (64, vec![128, 1]), (-64, vec![127]), (-65, vec![129, 1])]
        {
            let mut out = vec![];
            put_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
        assert_eq!(varint_len(i64::MIN), 10);
        assert_eq!(varint_len(i64::MAX), 10);
    }
}
