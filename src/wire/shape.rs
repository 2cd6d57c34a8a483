//! Checks every length in a message before `kafka_protocol` decodes it.
//!
//! The crate allocates room for as many elements as an array says it has, whatever is there, and a hostile or foreign peer
//! could thereby end the process. So each message that comes from the network is first walked with its description, a
//! static table: every length must fit what is there, and every element of an array must be there. Nothing is allocated.
//! What the crate will need is estimated meanwhile: small structures, above all those with unknown tagged fields (each gets a map
//! of its own), could otherwise cost a hundred times their bytes.
//!
//! Message in, yes or no out. What the values mean is not looked at; nulls are allowed everywhere, since the crate refuses them
//! where they may not be.

mod request;
mod response;

use super::WireError;
use super::api::ApiKey;

pub use request::request;
pub(super) use response::{
    API_VERSIONS_RESPONSE, DESCRIBE_CONFIGS_RESPONSE, DESCRIBE_PRODUCERS_RESPONSE, FETCH_RESPONSE,
    INIT_PRODUCER_ID_RESPONSE, METADATA_RESPONSE, OFFSET_FOR_LEADER_EPOCH_RESPONSE, PRODUCE_RESPONSE,
};

/// A message may cost so many times its bytes in memory, and [`ROOM_BYTES`]; what brokers send costs five times or less.
const ROOM_PER_BYTE: usize = 32;
/// What a short message may cost whatever is in it.
const ROOM_BYTES: usize = 64 << 10;
/// About what the crate, and we after it, need for a structure.
const STRUCT_BYTES: usize = 128;
/// About what the crate needs for a text or bytes.
const TEXT_BYTES: usize = 40;
/// What the crate needs for the first unknown tagged field of a structure, a node of a map.
const FIRST_TAG_BYTES: usize = 512;
/// What it needs for each further one.
const TAG_BYTES: usize = 64;

/// A message: its fields, and from which version on it is flexible (KIP-482: compact lengths, tagged fields).
#[derive(Debug)]
pub struct Shape {
    /// The message's name, for errors.
    pub name: &'static str,
    /// First flexible version.
    pub flexible_since: i16,
    /// First version of the API that is described here.
    pub since: i16,
    /// Last version of the API that is described here.
    pub until: i16,
    fields: &'static [Field],
}

/// A field of a message or of a structure in it.
#[derive(Debug)]
struct Field {
    kind: Kind,
    since: i16,
    until: i16,
    /// Its tag, if it stands in the tagged fields.
    tag: Option<u32>,
}

#[derive(Debug)]
enum Kind {
    /// A number, boolean or UUID of this many bytes.
    Fixed(usize),
    /// A string, nullable or not.
    Text,
    /// Bytes or records, nullable or not.
    Bytes,
    /// An array, nullable or not.
    Array(&'static Kind),
    /// A structure: fields, then tagged fields if flexible.
    Struct(&'static [Field]),
}

const INT8: Kind = Kind::Fixed(1);
const INT16: Kind = Kind::Fixed(2);
const INT32: Kind = Kind::Fixed(4);
const INT64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const BOOL: Kind = Kind::Fixed(1);

/// A field that every version has.
const fn always(kind: Kind) -> Field {
    Field { kind, since: 0, until: i16::MAX, tag: None }
}

const fn since(since: i16, kind: Kind) -> Field {
    Field { kind, since, until: i16::MAX, tag: None }
}

const fn until(until: i16, kind: Kind) -> Field {
    Field { kind, since: 0, until, tag: None }
}

const fn within(since: i16, until: i16, kind: Kind) -> Field {
    Field { kind, since, until, tag: None }
}

const fn tagged(tag: u32, since: i16, kind: Kind) -> Field {
    Field { kind, since, until: i16::MAX, tag: Some(tag) }
}

impl Shape {
    /// Whether every length in `body` (a message without its header) fits, and nothing is left over.
    ///
    /// Errors: [`WireError::Malformed`] with the place, [`WireError::UnsupportedVersion`].
    pub fn check(&self, version: i16, body: &[u8]) -> Result<(), WireError> {
        if !(self.since..=self.until).contains(&version) {
            return Err(WireError::UnsupportedVersion { api: self.name, version });
        }
        let room = body.len().saturating_mul(ROOM_PER_BYTE).saturating_add(ROOM_BYTES);
        let flexible = self.is_flexible(version);
        let mut walk = Walk { name: self.name, all: body.len(), rest: body, version, flexible, room };
        walk.fields(self.fields)?;
        if walk.rest.is_empty() { Ok(()) } else { Err(walk.error("bytes left over")) }
    }

    /// Whether this version has compact lengths and tagged fields, and a header to match.
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_since
    }
}

/// Walks over tagged fields, as a flexible header ends with them, and gives back what follows.
pub(super) fn skip_tagged_fields<'a>(name: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], WireError> {
    let mut walk = Walk { name, all: bytes.len(), rest: bytes, version: 0, flexible: true, room: usize::MAX };
    walk.tagged_fields(&[])?;
    Ok(walk.rest)
}

struct Walk<'a> {
    name: &'static str,
    all: usize,
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    /// Bytes of memory that what is still to come may cost.
    room: usize,
}

impl<'a> Walk<'a> {
    /// Recursion ends because the tables are static and no structure contains itself.
    fn fields(&mut self, fields: &'static [Field]) -> Result<(), WireError> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.value(&field.kind)?;
            }
        }
        if self.flexible { self.tagged_fields(fields) } else { Ok(()) }
    }

    fn value(&mut self, kind: &'static Kind) -> Result<(), WireError> {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes),
            Kind::Text => {
                let length = if self.flexible { self.compact_length()? } else { self.int16()?.into() };
                self.skip_nullable(length)
            }
            Kind::Bytes => {
                let length = self.length()?;
                self.skip_nullable(length)
            }
            Kind::Array(element) => self.array(element),
            Kind::Struct(fields) => self.fields(fields),
        }
    }

    fn array(&mut self, element: &'static Kind) -> Result<(), WireError> {
        let count = match self.length()? {
            -1 => return Ok(()),
            count => usize::try_from(count).map_err(|_| self.error("negative length"))?,
        };
        if let Kind::Fixed(bytes) = element {
            return self.skip(count.saturating_mul(*bytes));
        }
        // Every element takes a byte at least: a string its length, a structure its first field.
        if count > self.rest.len() {
            return Err(self.error("more elements than bytes"));
        }
        let cost = if matches!(element, Kind::Struct(_)) { STRUCT_BYTES } else { TEXT_BYTES };
        for _ in 0..count {
            self.cost(cost)?;
            self.value(element)?;
        }
        Ok(())
    }

    fn cost(&mut self, bytes: usize) -> Result<(), WireError> {
        self.room = self.room.checked_sub(bytes).ok_or(self.error("small structures, more than could be meant"))?;
        Ok(())
    }

    /// Known tags are walked within their size, unknown ones skipped.
    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), WireError> {
        let count = self.unsigned_varint()?;
        let mut cost = FIRST_TAG_BYTES;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let (value, after) = self.rest.split_at_checked(size).ok_or(self.error("tagged field does not fit"))?;
            if let Some(field) = fields.iter().find(|field| field.tag == Some(tag) && field.is_in(self.version)) {
                // The crate does not look at the size of a tag that it knows, so the two must agree.
                self.rest = value;
                self.all -= after.len();
                self.value(&field.kind)?;
                if !self.rest.is_empty() {
                    return Err(self.error("tagged field is longer than its value"));
                }
                self.all += after.len();
            } else {
                self.cost(cost)?;
                cost = TAG_BYTES;
            }
            self.rest = after;
        }
        Ok(())
    }

    fn skip_nullable(&mut self, length: i64) -> Result<(), WireError> {
        match length {
            -1 => Ok(()),
            length => self.skip(usize::try_from(length).map_err(|_| self.error("negative length"))?),
        }
    }

    fn skip(&mut self, bytes: usize) -> Result<(), WireError> {
        self.rest = self.rest.get(bytes..).ok_or(self.error("a length does not fit the bytes"))?;
        Ok(())
    }

    /// The length of an array or of bytes; -1 is null.
    fn length(&mut self) -> Result<i64, WireError> {
        if self.flexible { self.compact_length() } else { self.int32().map(i64::from) }
    }

    fn compact_length(&mut self) -> Result<i64, WireError> {
        Ok(i64::from(self.unsigned_varint()?) - 1)
    }

    fn int16(&mut self) -> Result<i16, WireError> {
        self.chunk().map(i16::from_be_bytes)
    }

    fn int32(&mut self) -> Result<i32, WireError> {
        self.chunk().map(i32::from_be_bytes)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(self.error("cut short"))?;
        self.rest = rest;
        Ok(*chunk)
    }

    fn unsigned_varint(&mut self) -> Result<u32, WireError> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.chunk()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| self.error("a varint is longer than 32 bits"));
            }
        }
        Err(self.error("a varint is longer than 32 bits"))
    }

    fn error(&self, why: &'static str) -> WireError {
        WireError::Malformed { what: self.name, at: self.all - self.rest.len(), why }
    }
}

impl Field {
    fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

#[cfg(test)]
mod tests;
