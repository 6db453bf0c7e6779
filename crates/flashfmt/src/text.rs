//! Text in a fixed field, ended by a NUL or by the end of the field.

use core::fmt;

/// Text of at most `N` bytes, as C structures on flash hold it.
///
/// Bytes after the first NUL are dropped when read, so equal texts are equal values.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// Text from a field as it stands on flash. Any bytes are accepted.
    pub fn from_field(field: [u8; N]) -> Self {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(N);
        Self(core::array::from_fn(|i| if i < end { field[i] } else { 0 }))
    }

    /// As much of `text` as fits in `N` bytes, cut at a character boundary and at the first NUL.
    pub fn truncated(text: &str) -> Self {
        let text = text.split('\0').next().unwrap_or_default();
        let bytes = &text.as_bytes()[..text.floor_char_boundary(N)];
        Self(core::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0)))
    }

    /// The text up to the first byte that is not UTF-8.
    pub fn as_str(&self) -> &str {
        let bytes = self.as_bytes();
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// The bytes before the first NUL.
    pub fn as_bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        &self.0[..end]
    }

    /// Whether all bytes before the first NUL are UTF-8.
    pub fn is_utf8(&self) -> bool {
        core::str::from_utf8(self.as_bytes()).is_ok()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The whole field, padded with NULs.
    pub fn to_field(self) -> [u8; N] {
        self.0
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
