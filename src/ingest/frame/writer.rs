//! Appends one frame to a buffer, or nothing.

use super::error::EncodeError;

/// Begins a frame at the buffer's end. Dropped unfinished, it takes back what it wrote.
#[derive(Debug)]
pub(super) struct FrameWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    finished: bool,
}

impl<'o> FrameWriter<'o> {
    pub fn begin(out: &'o mut Vec<u8>, api_key: i16, api_version: i16) -> Self {
        let start = out.len();
        let mut frame = FrameWriter { out, start, finished: false };
        frame.i32(0);
        frame.i16(api_key);
        frame.i16(api_version);
        frame
    }

    /// Bytes of the frame so far.
    pub fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Takes back all but the frame's first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.out.truncate(self.start + len);
    }

    pub fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// An int16 size or count.
    pub fn len16(&mut self, field: &'static str, len: usize) -> Result<(), EncodeError> {
        self.i16(i16::try_from(len).map_err(|_| EncodeError::TooLong { field, len, max: i16::MAX as usize })?);
        Ok(())
    }

    /// An int32 size or count.
    pub fn len32(&mut self, field: &'static str, len: usize) -> Result<(), EncodeError> {
        self.i32(fits_i32(field, len)?);
        Ok(())
    }

    /// An int16 size and the bytes.
    pub fn string(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        self.len16(field, bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// An int32 size and the bytes.
    pub fn blob(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
        self.len32(field, bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// An int32 size, -1 for null, and the bytes.
    pub fn nullable_blob(&mut self, field: &'static str, bytes: Option<&[u8]>) -> Result<(), EncodeError> {
        match bytes {
            None => {
                self.i32(-1);
                Ok(())
            }
            Some(bytes) => self.blob(field, bytes),
        }
    }

    /// Overwrites an int32 that was written at byte `at` of the frame.
    pub fn patch_i32(&mut self, at: usize, value: i32) {
        let at = self.start + at;
        self.out[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes the frame's Size: now the frame stands.
    pub fn finish(mut self) -> Result<(), EncodeError> {
        let size = fits_i32("the frame", self.len())?;
        self.patch_i32(0, size);
        self.finished = true;
        Ok(())
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.out.truncate(self.start);
        }
    }
}

fn fits_i32(field: &'static str, len: usize) -> Result<i32, EncodeError> {
    i32::try_from(len).map_err(|_| EncodeError::TooLong { field, len, max: i32::MAX as usize })
}
