//! Whom the device trusts and who it is, as rustls wants it.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::{MAX_OUTGOING_RECORD_BYTES, RustlsError, TlsError};

/// The device's certificate and key, for mutual TLS.
#[derive(Clone)]
pub struct Identity {
    /// DER certificates, the device's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key that belongs to the first certificate, as PKCS#8 DER (RFC 5958).
    pub key_pkcs8: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("chain_len", &self.chain.len()).finish_non_exhaustive()
    }
}

/// The configuration of every connection to the server: TLS 1.3 only; nobody is trusted but `anchors`; chain,
/// name, key usage and validity are judged by rustls's own verifier against `time`; no session is resumed, so
/// that tickets cost no memory. `identity` is absent before enrollment.
///
/// # Errors
/// [`TlsError::NoAnchors`], [`TlsError::BadAnchor`], [`TlsError::BadIdentity`], and [`TlsError::Device`] when the
/// provider has no TLS 1.3 cipher suite.
pub fn client_config(
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
    anchors: &[CertificateDer<'_>],
    identity: Option<Identity>,
) -> Result<ClientConfig, TlsError> {
    let roots = roots(anchors)?;
    let builder = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TlsError::Device(RustlsError(error)))?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { chain, key_pkcs8 }) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_pkcs8.to_vec()));
            let configured = builder.with_client_auth_cert(chain, key);
            configured.map_err(|error| TlsError::BadIdentity(RustlsError(error)))?
        }
    };
    config.alpn_protocols = vec![wire::SMALL_RECORDS_ALPN.to_vec(), b"http/1.1".to_vec()];
    config.enable_sni = true;
    config.resumption = Resumption::disabled();
    config.max_fragment_size = Some(MAX_OUTGOING_RECORD_BYTES);
    Ok(config)
}

/// Whether a server with this certificate and this name would be accepted under other trust anchors than those that
/// led to it: chain, name, key usage and validity, as in a handshake.
///
/// # Errors
/// [`TlsError::NoAnchors`], [`TlsError::BadAnchor`], and [`TlsError::ServerRefused`] when it would not.
pub fn try_anchors(
    provider: Arc<CryptoProvider>,
    time: &dyn TimeProvider,
    anchors: &[CertificateDer<'_>],
    server: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), TlsError> {
    let refused = |error| TlsError::ServerRefused(RustlsError(error));
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(anchors)?), provider)
        .build()
        .map_err(|_| TlsError::NoAnchors)?;
    let now = time.current_time().ok_or_else(|| refused(rustls::Error::FailedToGetCurrentTime))?;
    verifier.verify_server_cert(server, &[], name, &[], now).map_err(refused).map(|_| ())
}

/// Whether a device with these trust anchors should show this chain, its leaf first: whoever issues for the device is
/// who issues for its server. `now_s` is in seconds since 1970.
///
/// # Errors
/// [`TlsError::NoAnchors`], [`TlsError::BadAnchor`], and [`TlsError::UntrustedIdentity`] when it should not.
pub fn try_identity(
    provider: Arc<CryptoProvider>,
    now_s: u64,
    anchors: &[CertificateDer<'_>],
    chain: &[CertificateDer<'_>],
) -> Result<(), TlsError> {
    let untrusted = |error| TlsError::UntrustedIdentity(RustlsError(error));
    let (leaf, others) =
        chain.split_first().ok_or_else(|| untrusted(rustls::Error::NoCertificatesPresented))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(anchors)?), provider)
        .build()
        .map_err(|_| TlsError::NoAnchors)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    verifier.verify_client_cert(leaf, others, now).map_err(untrusted).map(|_| ())
}

fn roots(anchors: &[CertificateDer<'_>]) -> Result<RootCertStore, TlsError> {
    if anchors.is_empty() {
        return Err(TlsError::NoAnchors);
    }
    let mut roots = RootCertStore::empty();
    for (index, anchor) in anchors.iter().enumerate() {
        let added = roots.add(anchor.clone().into_owned());
        added.map_err(|error| TlsError::BadAnchor { index, source: RustlsError(error) })?;
    }
    Ok(roots)
}
