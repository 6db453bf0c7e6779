//! What the shell asks of the machine that it runs on. A chip and the simulator implement these traits; there is
//! no other difference between them.

use alloc::string::String;
use core::fmt;

use embedded_io_async::{Read, Write};
use zeroize::Zeroizing;

use crate::country::CountryCode;

/// A Wi-Fi network that the vault knows. The passphrase is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct WifiCredentials {
    /// Name of the network, up to 32 bytes (IEEE 802.11-2020 section 9.4.2.2).
    pub ssid: String,
    /// Passphrase; empty for an open network.
    pub passphrase: Zeroizing<String>,
}

impl fmt::Debug for WifiCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WifiCredentials").field("ssid", &self.ssid).finish_non_exhaustive()
    }
}

/// The access point that was joined last: asking it first, on its channel, saves a scan of all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessPoint {
    /// Which of the known networks it belongs to.
    pub network: u8,
    /// Its address (BSSID, IEEE 802.11-2020 section 9.4.1.3).
    pub bssid: [u8; 6],
    /// Its channel.
    pub channel: u8,
}

impl AccessPoint {
    /// As it stands in the vault: network, BSSID, channel.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.bssid;
        [self.network, a, b, c, d, e, f, self.channel]
    }

    /// Reads what [`AccessPoint::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let [network, a, b, c, d, e, f, channel] = bytes;
        Self { network, bssid: [a, b, c, d, e, f], channel }
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No known network is in reach, or none accepted the credentials, or there was no address (DHCP).
    #[error("no known network could be joined")]
    Join,
    /// The only access points of a known network ask for WPA3.
    #[error(
        "the access points of a known network ask for WPA3, which this radio's software lacks; allow WPA2 beside it"
    )]
    Wpa3Only,
    /// The name of the server has no address.
    #[error("the server's name could not be resolved")]
    Resolve,
    /// The server did not accept a TCP connection.
    #[error("the server did not accept a connection")]
    Connect,
}

/// What is needed to join a network. A wired one needs nothing of it.
#[derive(Clone, Copy, Debug)]
pub struct JoinRequest<'a> {
    /// The networks that the vault knows, best first.
    pub networks: &'a [WifiCredentials],
    /// Where the device is.
    pub country: CountryCode,
    /// The access point that was joined last.
    pub last: Option<AccessPoint>,
    /// The count of starts, by which networks take turns (see [`crate::wifi::plan`]).
    pub turn: u16,
}

/// A way to the server: a radio and an IP stack, or the simulator's.
#[allow(async_fn_in_trait, reason = "one task runs the updater; nothing asks the futures to be Send")]
pub trait Network {
    /// An open TCP connection; dropping it closes it.
    type Connection: Read + Write;

    /// Joins the access point of last time, or else one that [`crate::wifi::plan`] names after a scan. Says which it was;
    /// a wired network has none.
    ///
    /// # Errors
    /// [`NetworkError::Join`] or [`NetworkError::Wpa3Only`].
    async fn join(&mut self, request: JoinRequest<'_>) -> Result<Option<AccessPoint>, NetworkError>;

    /// Connects to `host`, a DNS name or an IP address in text.
    ///
    /// # Errors
    /// [`NetworkError::Resolve`] or [`NetworkError::Connect`].
    async fn connect(&mut self, host: &str, port: u16) -> Result<Self::Connection, NetworkError>;
}

/// Monotonic time since the start of the updater.
#[allow(async_fn_in_trait, reason = "one task runs the updater; nothing asks the futures to be Send")]
pub trait Timer {
    /// Milliseconds since the start.
    fn now_ms(&self) -> u64;

    /// Waits.
    async fn sleep_ms(&self, duration_ms: u64);
}
