//! Writes a Produce request around batches without copying them.
//!
//! Fields go in, in the order of the protocol; segments leave. Written by hand because `kafka_protocol` copies every batch into
//! its frame; tested against it.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::wire::api::ApiKey;
use crate::wire::{WireError, frame, shape};

/// A batch smaller than this is copied into the envelope: one more segment to write costs more than the copy.
const COPIED_BELOW_BYTES: usize = 1024;

/// A request in the making.
pub(super) struct Envelope {
    /// The first segment, kept open for the frame's length.
    head: BytesMut,
    /// The others.
    segments: Vec<Bytes>,
    /// Bytes of all segments.
    bytes: usize,
    /// What comes after the last segment.
    open: BytesMut,
    flexible: bool,
}

impl Envelope {
    /// Begins with the frame's length, still to be known, and the request's header.
    pub(super) fn open(version: i16, correlation_id: i32, client_id: &str) -> Result<Self, WireError> {
        let open = frame::open_request(ApiKey::Produce, version, correlation_id, client_id)?;
        let flexible = shape::request(ApiKey::Produce).is_flexible(version);
        Ok(Envelope { head: BytesMut::new(), segments: Vec::new(), bytes: 0, open, flexible })
    }

    pub(super) fn int16(&mut self, value: i16) {
        self.open.put_i16(value);
    }

    pub(super) fn int32(&mut self, value: i32) {
        self.open.put_i32(value);
    }

    pub(super) fn uuid(&mut self, value: Uuid) {
        self.open.put_slice(value.as_bytes());
    }

    /// A nullable string.
    pub(super) fn text(&mut self, text: Option<&str>) -> Result<(), WireError> {
        match text {
            None if self.flexible => self.open.put_u8(0),
            None => self.open.put_i16(-1),
            Some(text) => {
                let length = i16::try_from(text.len()).map_err(|_| too_long("string"))?;
                if self.flexible {
                    self.unsigned_varint(length as u32 + 1);
                } else {
                    self.open.put_i16(length);
                }
                self.open.put_slice(text.as_bytes());
            }
        }
        Ok(())
    }

    /// The length of an array or of bytes.
    pub(super) fn length(&mut self, length: usize) -> Result<(), WireError> {
        let length = i32::try_from(length).map_err(|_| too_long("length"))?;
        if self.flexible {
            self.unsigned_varint(length as u32 + 1);
        } else {
            self.open.put_i32(length);
        }
        Ok(())
    }

    fn unsigned_varint(&mut self, mut rest: u32) {
        while rest >= 0x80 {
            self.open.put_u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.open.put_u8(rest as u8);
    }

    /// A batch, by reference unless it is small.
    pub(super) fn records(&mut self, records: &Bytes) -> Result<(), WireError> {
        self.length(records.len())?;
        if records.len() < COPIED_BELOW_BYTES {
            self.open.put_slice(records);
        } else {
            self.split();
            self.bytes += records.len();
            self.segments.push(records.clone());
        }
        Ok(())
    }

    pub(super) fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.open.put_u8(0);
        }
    }

    fn split(&mut self) {
        self.bytes += self.open.len();
        let done = self.open.split();
        if self.head.is_empty() {
            self.head = done;
        } else {
            self.segments.push(done.freeze());
        }
    }

    /// Ends the frame with its length, which stands at its front.
    pub(super) fn close(mut self) -> Result<Vec<Bytes>, WireError> {
        if !self.open.is_empty() {
            self.split();
        }
        let length = frame::length_field(self.bytes - frame::LENGTH_BYTES, ApiKey::Produce.name())?;
        self.head[..length.len()].copy_from_slice(&length);
        self.segments.insert(0, self.head.freeze());
        Ok(self.segments)
    }
}

fn too_long(why: &'static str) -> WireError {
    WireError::Unencodable { what: ApiKey::Produce.name(), why: format!("{why} too long") }
}
