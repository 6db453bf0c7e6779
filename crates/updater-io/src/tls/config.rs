//! Whom the device trusts and who it is, as rustls wants it.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};
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
/// name, key usage and validity are judged by rustls's own functions against `time`; no session is resumed, so
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
    let verifier = Verifier::new(&provider, anchors)?;
    let builder = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| TlsError::Device(RustlsError(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
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
    provider: &CryptoProvider,
    time: &dyn TimeProvider,
    anchors: &[CertificateDer<'_>],
    server: &CertificateDer<'_>,
    name: &ServerName<'_>,
) -> Result<(), TlsError> {
    let refused = |error| TlsError::ServerRefused(RustlsError(error));
    let verifier = Verifier::new(provider, anchors)?;
    let now = time.current_time().ok_or_else(|| refused(rustls::Error::FailedToGetCurrentTime))?;
    verifier.verify_server_cert(server, &[], name, &[], now).map_err(refused).map(|_| ())
}

/// Whether a device with these trust anchors should show this chain, its leaf first: whoever issues for the device is
/// who issues for its server. `now_s` is in seconds since 1970.
///
/// # Errors
/// [`TlsError::NoAnchors`], [`TlsError::BadAnchor`], and [`TlsError::UntrustedIdentity`] when it should not.
pub fn try_identity(
    provider: &CryptoProvider,
    now_s: u64,
    anchors: &[CertificateDer<'_>],
    chain: &[CertificateDer<'_>],
) -> Result<(), TlsError> {
    let (leaf, others) = chain.split_first().ok_or(TlsError::UntrustedIdentity)?;
    let roots = roots(anchors)?.roots;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
    let (algorithms, usage) = (provider.signature_verification_algorithms.all, KeyUsage::client_auth());
    // As rustls's own verifier of clients does it.
    EndEntityCert::try_from(leaf)
        .and_then(|leaf| {
            leaf.verify_for_usage(algorithms, &roots, others, now, usage, None, None).map(|_| ())
        })
        .map_err(|_| TlsError::UntrustedIdentity)
}

/// Judges servers by rustls's own functions, and no revocation lists: rustls's `WebPkiServerVerifier` brings the reader of
/// them into every updater, a hundredth of its slot.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(provider: &CryptoProvider, anchors: &[CertificateDer<'_>]) -> Result<Self, TlsError> {
        Ok(Self { roots: roots(anchors)?, algorithms: provider.signature_verification_algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        verify_server_name(&certificate, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    /// Never asked: TLS 1.3 alone is offered.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
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
