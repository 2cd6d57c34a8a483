//! Numbers and bytes as the log writes them: little endian, LEB128 varints, zigzag. Pure.
//!
//! [`Input`] takes them off a slice. It borrows and allocates nothing, so a length that lies costs nothing.

// The same numbers as in records: here the plain ones are the usual ones.
pub use crate::record::{
    put_unsigned_varint as put_varint, put_varint as put_zigzag, unsigned_varint_len as varint_len,
};

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the bytes end within {0}")]
    Truncated(&'static str),
    /// They say what cannot be.
    #[error("{0} is not valid")]
    Invalid(&'static str),
}

/// What is left to be decoded.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Input { rest: bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// A fixed-size number.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A fixed-size number.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A varint of at most ten bytes.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid(what))
    }

    /// A varint that fits in a smaller type.
    pub fn varint_as<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, DecodeError> {
        T::try_from(self.varint(what)?).map_err(|_| DecodeError::Invalid(what))
    }

    /// A signed number.
    pub fn zigzag(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        let value = self.varint(what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A signed number that fits in a smaller type.
    pub fn zigzag_as<T: TryFrom<i64>>(&mut self, what: &'static str) -> Result<T, DecodeError> {
        T::try_from(self.zigzag(what)?).map_err(|_| DecodeError::Invalid(what))
    }

    /// A length and as many bytes.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.varint_as(what)?;
        self.take(len, what)
    }
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back_and_are_as_long_as_was_said(unsigned in any::<u64>(), shift in 0_u32..64, signed in any::<i64>()) {
            let unsigned = unsigned >> shift;
            let mut out = vec![];
            put_varint(&mut out, unsigned);
            prop_assert_eq!(out.len(), varint_len(unsigned));
            put_zigzag(&mut out, signed);
            let mut input = Input::new(&out);
            prop_assert_eq!(input.varint("n"), Ok(unsigned));
            prop_assert_eq!(input.zigzag("n"), Ok(signed));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_give_a_number_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut input = Input::new(&bytes);
            let _ = input.bytes("b");
            let _ = input.varint("n");
        }
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        assert_eq!(Input::new(&[0xff; 9]).varint("n"), Err(DecodeError::Truncated("n")));
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Input::new(&most).varint("n"), Ok(u64::MAX));
        let more = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(Input::new(&more).varint("n"), Err(DecodeError::Invalid("n")));
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let mut out = vec![];
        put_varint(&mut out, u64::MAX);
        assert_eq!(Input::new(&out).bytes("b"), Err(DecodeError::Truncated("b")));
    }
}
