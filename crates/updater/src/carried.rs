//! What the shell brings in an event and is given back in an action. The engine owns it in between and does not look into
//! it, so that no action can lack what it needs.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroizing;

use crate::slot::SECTOR_BYTES;

/// The device's private key, PKCS#8 DER (RFC 5958).
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub Zeroizing<Vec<u8>>);

/// The one-time enrollment token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub Zeroizing<String>);

/// A certificate chain: DER certificates one after the other, the device's own first.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain(pub Vec<u8>);

/// Trust anchors: DER certificates one after the other.
#[derive(Clone, PartialEq, Eq)]
pub struct Anchors(pub Vec<u8>);

/// The first sector of an image. Bytes behind the end of a shorter image are 0xFF.
#[derive(Clone, PartialEq, Eq)]
pub struct FirstSector(pub Box<[u8; SECTOR_BYTES as usize]>);

macro_rules! terse_debug {
    ($($name:ident),*) => {$(
        /// Says how much it is: the bytes would fill a console, or give a secret away.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({} bytes)"), self.0.len())
            }
        }
    )*};
}
terse_debug!(Key, Token, Chain, Anchors, FirstSector);
