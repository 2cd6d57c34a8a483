//! Reads big-endian fields from bytes that nobody has checked yet.

use super::error::Fault;

/// What of a frame's body is still unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Cursor { rest }
    }

    pub fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// Goes over `len` bytes, or all that are left.
    pub fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default();
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Fault> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| truncated(field))?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub fn i16(&mut self, field: &'static str) -> Result<i16, Fault> {
        self.array(field).map(i16::from_be_bytes)
    }

    #[inline]
    pub fn i32(&mut self, field: &'static str) -> Result<i32, Fault> {
        self.array(field).map(i32::from_be_bytes)
    }

    #[inline]
    pub fn i64(&mut self, field: &'static str) -> Result<i64, Fault> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// A count of what follows, which must not be negative.
    #[inline]
    pub fn count(&mut self, field: &'static str) -> Result<u32, Fault> {
        let count = self.i32(field)?;
        u32::try_from(count).map_err(|_| bad_size(field, count))
    }

    /// An int16 size and as many bytes.
    #[inline]
    pub fn string(&mut self, field: &'static str) -> Result<&'a [u8], Fault> {
        let size = self.i16(field)?;
        self.bytes(field, i32::from(size))
    }

    /// An int16 size and as many bytes; -1 is null.
    #[inline]
    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, Fault> {
        match self.i16(field)? {
            -1 => Ok(None),
            size => self.bytes(field, i32::from(size)).map(Some),
        }
    }

    /// An int32 size and as many bytes.
    #[inline]
    pub fn blob(&mut self, field: &'static str) -> Result<&'a [u8], Fault> {
        let size = self.i32(field)?;
        self.bytes(field, size)
    }

    /// An int32 size and as many bytes; -1 is null.
    #[inline]
    pub fn nullable_blob(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, Fault> {
        match self.i32(field)? {
            -1 => Ok(None),
            size => self.bytes(field, size).map(Some),
        }
    }

    #[inline]
    fn bytes(&mut self, field: &'static str, size: i32) -> Result<&'a [u8], Fault> {
        let len = usize::try_from(size).map_err(|_| bad_size(field, size))?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(|| truncated(field))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Whether every byte has been read.
    #[inline]
    pub fn finish(self) -> Result<(), Fault> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(Fault::TrailingBytes(bytes)),
        }
    }
}

// Out of line and cold, so that the path of sound fields stays straight.

#[cold]
fn truncated(field: &'static str) -> Fault {
    Fault::Truncated { field }
}

#[cold]
fn bad_size(field: &'static str, size: i32) -> Fault {
    Fault::BadSize { field, size }
}
