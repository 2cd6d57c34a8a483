//! What every entry has: kind, size, tagged section.

use super::{NO_TAGS, Origin};
use crate::backlog::log::varint::{DecodeError, Input, put_bytes, put_varint, put_zigzag};

/// The tag of an origin.
const TAG_ORIGIN: u64 = 1;

/// A tagged section that says who handed records over.
pub fn tag_origins(origins: &[Origin<'_>]) -> Vec<u8> {
    let values = origins.iter().map(|origin| {
        let mut value = Vec::new();
        put_zigzag(&mut value, origin.up_to);
        value.extend_from_slice(origin.name);
        (TAG_ORIGIN, value)
    });
    tagged_section(&values.collect::<Vec<_>>())
}

/// A tagged section that holds these values, each behind its tag. Tags below 16 are the log's own.
pub fn tagged_section(values: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut section = Vec::new();
    put_varint(&mut section, values.len() as u64);
    for (tag, value) in values {
        put_varint(&mut section, *tag);
        put_bytes(&mut section, value);
    }
    section
}

/// Whether these bytes are a tagged section and nothing else.
pub fn is_tagged_section(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    skip_tags(&mut input).is_ok() && input.is_empty()
}

/// An entry as it stands in a frame, not decoded.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Envelope<'a> {
    pub(in super::super) kind: u8,
    content: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(in super::super) fn input(&self) -> Input<'a> {
        Input::new(self.content)
    }
}

/// All entries of a body; ends behind the first that is not valid.
pub(in super::super) fn envelopes(body: &[u8]) -> impl Iterator<Item = Result<Envelope<'_>, DecodeError>> {
    let mut rest = Some(Input::new(body));
    std::iter::from_fn(move || {
        let mut input = rest.take().filter(|input| !input.is_empty())?;
        let mut next = || Ok(Envelope { kind: input.u8("an entry's kind")?, content: input.bytes("an entry")? });
        let envelope = next();
        rest = envelope.is_ok().then_some(input);
        Some(envelope)
    })
}

/// Appends an entry with an empty tagged section.
pub(in super::super) fn put_entry(out: &mut Vec<u8>, kind: u8, put_fields: impl FnOnce(&mut Vec<u8>)) {
    let mut fields = Vec::with_capacity(64);
    put_fields(&mut fields);
    fields.extend_from_slice(NO_TAGS);
    out.push(kind);
    put_bytes(out, &fields);
}

/// Checks what follows an entry's fields: a tagged section and nothing else.
pub(in super::super) fn end_entry(mut input: Input<'_>) -> Result<(), DecodeError> {
    skip_tags(&mut input)?;
    if input.is_empty() { Ok(()) } else { Err(DecodeError::Invalid("what follows an entry's tagged section")) }
}

pub(super) fn skip_tags(input: &mut Input<'_>) -> Result<(), DecodeError> {
    for _ in 0..input.varint("number of tags")? {
        input.varint("tag")?;
        input.bytes("a tag's value")?;
    }
    Ok(())
}

/// The origins of a valid section.
pub(super) fn origins(section: &[u8]) -> impl Iterator<Item = Origin<'_>> {
    tags(section).filter_map(|(tag, value)| {
        let mut input = Input::new(value);
        let up_to = input.zigzag("origin").ok()?;
        (tag == TAG_ORIGIN).then_some(Origin { name: input.rest(), up_to })
    })
}

/// The tags of a valid section.
pub fn tags(section: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut input = Input::new(section);
    let count = input.varint("number of tags").unwrap_or(0);
    (0..count).map_while(move |_| Some((input.varint("tag").ok()?, input.bytes("a tag's value").ok()?)))
}
