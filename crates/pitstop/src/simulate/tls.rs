//! TLS as the updater speaks it (1.3, P-256, ChaCha20-Poly1305), computed by the host's provider.

use std::sync::Arc;

use rustls::client::{ClientSessionMemoryCache, Resumption, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

/// Tickets that a device keeps for one server: the newest.
const KEPT_SESSIONS: usize = 1;

/// What all devices share: the provider, and the trust anchor.
#[derive(Clone)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    verifier: Arc<WebPkiServerVerifier>,
    /// A device keeps the session ticket of its last connection.
    pub(super) is_resuming: bool,
    /// It does not ask for small records, as a chip does.
    pub(super) has_full_records: bool,
}

impl Tls {
    /// For servers with a certificate of this CA, as a chip speaks it.
    pub(super) fn new(ca: CertificateDer<'static>) -> Result<Self, String> {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
            kx_groups: vec![ring::kx_group::SECP256R1],
            ..ring::default_provider()
        });
        let mut roots = RootCertStore::empty();
        roots.add(ca).map_err(|error| error.to_string())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { provider, verifier, is_resuming: false, has_full_records: false })
    }

    /// Handshakes without a certificate, for an enrollment.
    pub(super) fn anonymous(&self) -> Result<Arc<ClientConfig>, String> {
        Ok(self.finished(self.builder()?.with_no_client_auth()))
    }

    /// Handshakes of a device.
    pub(super) fn device(
        &self,
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<ClientConfig>, String> {
        let config = self.builder()?.with_client_auth_cert(vec![certificate], key);
        Ok(self.finished(config.map_err(|error| error.to_string())?))
    }

    fn builder(&self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?;
        Ok(builder.with_webpki_verifier(self.verifier.clone()))
    }

    fn finished(&self, mut config: ClientConfig) -> Arc<ClientConfig> {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if !self.has_full_records {
            config.alpn_protocols.insert(0, wire::SMALL_RECORDS_ALPN.to_vec());
        }
        config.resumption = if self.is_resuming {
            Resumption::store(Arc::new(ClientSessionMemoryCache::new(KEPT_SESSIONS)))
        } else {
            Resumption::disabled()
        };
        Arc::new(config)
    }
}
