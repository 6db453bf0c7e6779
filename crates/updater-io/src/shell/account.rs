//! Who the device is to its server, and the connection to it.

use rustls::pki_types::ServerName;
use updater::CertificateLife;

use super::fault::ProtocolFault;
use crate::board::Board;
use crate::http::HttpClient;
use crate::pki;
use crate::platform::{AccessPoint, Network};
use crate::tls::{self, TlsSession};
use crate::vault::Settings;

pub(super) type Client<B> = HttpClient<TlsSession<<<B as Board>::Network as Network>::Connection>>;

/// An open connection to the server.
pub(super) struct Online<B: Board> {
    pub(super) http: Client<B>,
    /// Whether the device showed its certificate on it.
    pub(super) identified: bool,
}

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

/// When a certificate is valid.
pub(super) fn life(leaf: &pki::LeafFacts<'_>) -> CertificateLife {
    CertificateLife { not_before_s: leaf.not_before_s, not_after_s: leaf.not_after_s }
}
