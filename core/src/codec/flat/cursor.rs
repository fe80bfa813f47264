//! Little-endian fields: appended to a buffer, and read back by a cursor that never panics.

use alloc::vec::Vec;

use crate::time::Timestamp;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// Bytes are left over after the last field.
    #[error("bytes are left over after the last field")]
    Trailing,
    /// The layout's version is not ours.
    #[error("layout version {0} is unknown")]
    Version(u8),
    /// A tag names no variant that we know.
    #[error("tag {1} of {0} is unknown")]
    Tag(&'static str, u8),
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Text,
    /// A number lies outside its range.
    #[error("{0} is out of range")]
    Range(&'static str),
}

/// A place in borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes that were not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    /// # Errors
    /// When no byte is left.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// # Errors
    /// When fewer than two bytes are left.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// # Errors
    /// When fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// # Errors
    /// When fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// # Errors
    /// When fewer than sixteen bytes are left.
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        self.array().map(u128::from_le_bytes)
    }

    /// # Errors
    /// When fewer than four bytes are left.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    /// # Errors
    /// When fewer than eight bytes are left.
    pub fn time(&mut self) -> Result<Timestamp, DecodeError> {
        self.array().map(|bytes| Timestamp::from_micros(i64::from_le_bytes(bytes)))
    }

    /// A byte that is 0 or 1.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Tag("a flag", other)),
        }
    }

    /// A flag, and a value if it is set.
    ///
    /// # Errors
    /// When either is malformed.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Bytes behind a 32-bit length.
    ///
    /// # Errors
    /// When the length exceeds what is left.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u32()?;
        self.take(usize::try_from(len).map_err(|_| DecodeError::Truncated)?)
    }

    /// Text behind a 16-bit length.
    ///
    /// # Errors
    /// When the length exceeds what is left, or it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.u16()?;
        core::str::from_utf8(self.take(usize::from(len))?).map_err(|_| DecodeError::Text)
    }

    /// Says that nothing may follow.
    ///
    /// # Errors
    /// When something does.
    pub const fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Appends fields to a buffer.
pub trait Put {
    /// Appends bytes as they are.
    fn raw(&mut self, bytes: &[u8]);

    /// Appends a byte.
    fn put_u8(&mut self, value: u8) {
        self.raw(&[value]);
    }

    /// Appends two bytes.
    fn put_u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    /// Appends four bytes.
    fn put_u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// Appends eight bytes.
    fn put_u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// Appends sixteen bytes.
    fn put_u128(&mut self, value: u128) {
        self.raw(&value.to_le_bytes());
    }

    /// Appends four bytes.
    fn put_i32(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }

    /// Appends eight bytes of microseconds.
    fn put_time(&mut self, value: Timestamp) {
        self.raw(&value.as_micros().to_le_bytes());
    }

    /// Appends 0 or 1.
    fn put_flag(&mut self, value: bool) {
        self.put_u8(u8::from(value));
    }

    /// Appends a flag, and the value if there is one.
    fn put_option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.put_flag(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }

    /// Appends a 32-bit length and that many bytes; what exceeds the length's range is cut.
    fn put_bytes(&mut self, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.put_u32(len);
        self.raw(bytes.get(..len as usize).unwrap_or(bytes));
    }

    /// Appends a 16-bit length and text; text beyond the length's range is cut at a character
    /// (every text has a bound far below it).
    fn put_text(&mut self, text: &str) {
        let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
        self.put_u16(text.len() as u16);
        self.raw(text.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
