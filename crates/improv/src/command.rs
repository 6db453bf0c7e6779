//! What a client asks for ("Packet: RPC Command"): command, length of its data, data.

use crate::settings::{Passphrase, PassphraseError, Ssid, SsidError, WifiSettings};

/// A command from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Join this network, and keep it.
    SendWifiSettings(WifiSettings),
    /// Say how far provisioning is.
    RequestCurrentState,
    /// Say what you are.
    RequestDeviceInformation,
    /// Say which networks you see.
    RequestScannedNetworks,
    /// A command that this crate does not know: its number.
    Unknown(u8),
}

/// The commands that this crate knows, by their numbers in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CommandId {
    /// [`Command::SendWifiSettings`]
    SendWifiSettings = 0x01,
    /// [`Command::RequestCurrentState`]
    RequestCurrentState = 0x02,
    /// [`Command::RequestDeviceInformation`]
    RequestDeviceInformation = 0x03,
    /// [`Command::RequestScannedNetworks`]
    RequestScannedNetworks = 0x04,
}

/// A packet for the device that is not a command. The client is told [`crate::ErrorState::InvalidRpc`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The packet was damaged on its way.
    #[error("the packet's bytes sum up to {expected:#04x}, its checksum says {found:#04x}: send it again")]
    Checksum {
        /// The sum of the bytes received.
        expected: u8,
        /// The packet's last byte.
        found: u8,
    },
    /// There is no command in the packet.
    #[error("expected a command and the length of its data, found {found_bytes} bytes: send both")]
    NoCommand {
        /// The length of the packet's data, in bytes.
        found_bytes: usize,
    },
    /// The command's data are shorter or longer than it says.
    #[error("expected {expected_bytes} bytes of command data, found {found_bytes}: make both lengths agree")]
    DataLength {
        /// What the command says, or 0 for a command without data.
        expected_bytes: usize,
        /// What there is.
        found_bytes: usize,
    },
    /// The Wi-Fi settings are not exactly two strings, each with its length before it.
    #[error(
        "expected an SSID and a passphrase that fill {data_bytes} bytes, found other lengths: correct them"
    )]
    SettingsLayout {
        /// The length of the command's data, in bytes.
        data_bytes: usize,
    },
    /// The SSID cannot be one.
    #[error(transparent)]
    Ssid(#[from] SsidError),
    /// The passphrase cannot be one.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
}

impl Command {
    /// Reads the data of an RPC command packet.
    pub(crate) fn decode(packet_data: &[u8]) -> Result<Self, ProtocolError> {
        let &[number, length, ref data @ ..] = packet_data else {
            return Err(ProtocolError::NoCommand { found_bytes: packet_data.len() });
        };
        let length = usize::from(length);
        if length != data.len() {
            return Err(ProtocolError::DataLength { expected_bytes: length, found_bytes: data.len() });
        }
        let Some(id) = CommandId::from_number(number) else {
            return Ok(Self::Unknown(number));
        };
        let command = match id {
            CommandId::SendWifiSettings => return decode_settings(data).map(Self::SendWifiSettings),
            CommandId::RequestCurrentState => Self::RequestCurrentState,
            CommandId::RequestDeviceInformation => Self::RequestDeviceInformation,
            CommandId::RequestScannedNetworks => Self::RequestScannedNetworks,
        };
        if !data.is_empty() {
            return Err(ProtocolError::DataLength { expected_bytes: 0, found_bytes: data.len() });
        }
        Ok(command)
    }
}

impl CommandId {
    fn from_number(number: u8) -> Option<Self> {
        let known = [
            Self::SendWifiSettings,
            Self::RequestCurrentState,
            Self::RequestDeviceInformation,
            Self::RequestScannedNetworks,
        ];
        known.into_iter().find(|id| *id as u8 == number)
    }
}

/// "RPC Command: Send Wi-Fi settings"
fn decode_settings(data: &[u8]) -> Result<WifiSettings, ProtocolError> {
    let strings = split_string(data).and_then(|(ssid, rest)| {
        let (passphrase, rest) = split_string(rest)?;
        rest.is_empty().then_some((ssid, passphrase))
    });
    let (ssid, passphrase) = strings.ok_or(ProtocolError::SettingsLayout { data_bytes: data.len() })?;
    Ok(WifiSettings { ssid: Ssid::new(ssid)?, passphrase: Passphrase::new(passphrase)? })
}

/// A string with its length before it, and what follows it.
fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}
