//! Who the device is to its server, and the connection to it.

use alloc::string::String;
use alloc::vec::Vec;

use rustls::pki_types::{CertificateDer, ServerName};
use zeroize::Zeroizing;

use super::online::{Online, ProtocolFault};
use crate::board::Board;
use crate::platform::AccessPoint;
use crate::tls;
use crate::vault::Settings;

/// What a survey found in the vault, and what became of it since.
pub(super) struct Account<B: Board> {
    pub(super) settings: Settings,
    pub(super) token: Option<Zeroizing<String>>,
    pub(super) key: Option<Zeroizing<Vec<u8>>>,
    pub(super) chain: Option<Vec<CertificateDer<'static>>>,
    pub(super) access_point: Option<AccessPoint>,
    /// The connection, while one is open.
    pub(super) online: Option<Online<B>>,
}

impl<B: Board> Account<B> {
    /// Key and certificate for mutual TLS, when there are both.
    pub(super) fn tls_identity(&self) -> Option<tls::Identity> {
        Some(tls::Identity { chain: self.chain.clone()?, key_pkcs8: self.key.clone()? })
    }

    /// The Host field.
    pub(super) fn authority(&self) -> String {
        self.settings.server.authority()
    }

    /// The server's name, as its certificate has it.
    pub(super) fn server_name(&self) -> Result<ServerName<'static>, ProtocolFault> {
        let host = self.settings.server.host.clone();
        ServerName::try_from(host.clone()).map_err(|_| ProtocolFault::ServerName { found: host })
    }
}
