//! What the device tells the client.

use alloc::vec::Vec;

use crate::command::{CommandId, ProtocolError};
use crate::packet::{self, MAX_DATA_BYTES};

/// The longest list of strings, in bytes, with one byte for each string's length: an RPC result also holds the command
/// and the list's length.
pub const MAX_LIST_BYTES: usize = MAX_DATA_BYTES - 2;

/// A packet from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// How far provisioning is.
    CurrentState(CurrentState),
    /// What went wrong last.
    ErrorState(ErrorState),
    /// What the device answers to a command.
    RpcResult {
        /// The command.
        command: CommandId,
        /// The answer.
        strings: &'a StringList,
    },
}

/// How far provisioning is ("Packet: Current State").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CurrentState {
    /// Waits for Wi-Fi settings.
    Ready = 0x02,
    /// Has settings, and tries them.
    Provisioning = 0x03,
    /// Is in the network.
    Provisioned = 0x04,
}

/// What went wrong last ("Packet: Error state").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorState {
    /// Nothing.
    None = 0x00,
    /// The packet was not a command.
    InvalidRpc = 0x01,
    /// The command is not known.
    UnknownRpc = 0x02,
    /// The network could not be joined.
    UnableToConnect = 0x03,
    /// Anything else.
    Unknown = 0xFF,
}

/// The strings of an RPC result, [`MAX_LIST_BYTES`] at most: each with its length before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringList(Vec<u8>);

/// Strings that do not fit one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected strings of {MAX_LIST_BYTES} bytes at most, one more for each, found {found_bytes}: shorten them"
)]
pub struct TooLong {
    /// Their length in a packet.
    pub found_bytes: usize,
}

impl From<ProtocolError> for ErrorState {
    fn from(_: ProtocolError) -> Self {
        Self::InvalidRpc
    }
}

impl Response<'_> {
    /// Appends the packet: 265 bytes at most, with a line feed before and after it. Write it without a break: console
    /// text inside a packet damages it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::CurrentState(state) => packet::write(out, packet::CURRENT_STATE, &[&[state as u8]]),
            Self::ErrorState(error) => packet::write(out, packet::ERROR_STATE, &[&[error as u8]]),
            Self::RpcResult { command, strings: StringList(list) } => {
                let head = [command as u8, list.len() as u8];
                packet::write(out, packet::RPC_RESULT, &[&head, list]);
            }
        }
    }
}

impl StringList {
    /// Puts strings into a list.
    ///
    /// Errors: together they are longer than [`MAX_LIST_BYTES`].
    pub fn new(strings: &[&str]) -> Result<Self, TooLong> {
        let found_bytes = strings.iter().map(|string| 1 + string.len()).sum();
        if found_bytes > MAX_LIST_BYTES {
            return Err(TooLong { found_bytes });
        }
        Ok(Self::join(strings))
    }

    /// A list of strings that are known to fit.
    pub(crate) fn join(strings: &[&str]) -> Self {
        let mut list = Vec::new();
        for string in strings {
            list.push(string.len() as u8);
            list.extend_from_slice(string.as_bytes());
        }
        debug_assert!(list.len() <= MAX_LIST_BYTES);
        Self(list)
    }
}
