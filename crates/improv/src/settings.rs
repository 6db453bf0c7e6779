//! A network's name and passphrase, checked.

use alloc::string::String;
use core::fmt;

use zeroize::Zeroizing;

/// What a client gives: a network, and how to get into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WifiSettings {
    /// The network's name.
    pub ssid: Ssid,
    /// Its passphrase, empty for an open network.
    pub passphrase: Passphrase,
}

/// The name of a network: 1 to 32 bytes (IEEE 802.11, 9.4.2.2), and UTF-8 because the protocol's strings are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ssid(String);

/// A passphrase: none for an open network, 8 to 63 bytes, or the 64 hexadecimal digits of the key itself (IEEE 802.11,
/// J.4). Wiped from memory when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

/// Bytes that are not the name of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SsidError {
    /// Too long, or empty.
    #[error("expected an SSID of 1 to 32 bytes, found {found_bytes}: give the name of a network")]
    Length {
        /// Its length.
        found_bytes: usize,
    },
    /// Not text.
    #[error("expected an SSID in UTF-8, found other bytes: rename the network")]
    NotUtf8,
}

/// Bytes that are not a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Too short or too long.
    #[error(
        "expected no passphrase or one of 8 to 64 bytes, found {found_bytes}: give the network's passphrase"
    )]
    Length {
        /// Its length.
        found_bytes: usize,
    },
    /// Not text.
    #[error("expected a passphrase in UTF-8, found other bytes: give the network's passphrase")]
    NotUtf8,
}

impl Ssid {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 32;

    /// Checks a name, as a client gave it or as a scan found it. A scan shows a hidden network as an empty name, and
    /// may show names that are not text: neither can be told to a client.
    ///
    /// Errors: see [`SsidError`].
    pub fn new(bytes: &[u8]) -> Result<Self, SsidError> {
        if bytes.is_empty() || bytes.len() > Self::MAX_BYTES {
            return Err(SsidError::Length { found_bytes: bytes.len() });
        }
        core::str::from_utf8(bytes).map(|name| Self(name.into())).map_err(|_| SsidError::NotUtf8)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, to keep.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Passphrase {
    /// Checks a passphrase.
    ///
    /// Errors: see [`PassphraseError`].
    pub fn new(bytes: &[u8]) -> Result<Self, PassphraseError> {
        if !matches!(bytes.len(), 0 | 8..=64) {
            return Err(PassphraseError::Length { found_bytes: bytes.len() });
        }
        core::str::from_utf8(bytes)
            .map(|text| Self(Zeroizing::new(text.into())))
            .map_err(|_| PassphraseError::NotUtf8)
    }

    /// The passphrase, empty for an open network.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The passphrase, to keep.
    pub fn into_string(self) -> Zeroizing<String> {
        self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passphrase(..)")
    }
}
