//! Who the device is to its server, and the connection to it.

use rustls::pki_types::ServerName;

use super::online::{Online, ProtocolFault};
use crate::board::Board;
use crate::platform::AccessPoint;
use crate::tls;
use crate::vault::Settings;

/// What a survey found in the vault, and what became of it since.
pub(super) struct Account<B: Board> {
    pub(super) settings: Settings,
    /// What it shows in a handshake, once it has a certificate.
    pub(super) identity: Option<tls::Identity>,
    pub(super) access_point: Option<AccessPoint>,
    /// The connection, while one is open.
    pub(super) online: Option<Online<B>>,
}

impl<B: Board> Account<B> {
    /// The server's name, as its certificate has it.
    pub(super) fn server_name(&self) -> Result<ServerName<'static>, ProtocolFault> {
        let host = self.settings.server.host.clone();
        ServerName::try_from(host.clone()).map_err(|_| ProtocolFault::ServerName { found: host })
    }
}
