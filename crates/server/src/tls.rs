//! TLS of the device listener: 1.3 only, client certificates of our CA, small records for who asks for them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::authorities::Authorities;
use crate::ca::{CertificateAuthority, pem_certificate};
use crate::config::Config;
use crate::error::StartError;
use crate::files;

/// rustls counts the record header (RFC 8446 section 5.1) as part of a fragment.
const RECORD_HEADER_BYTES: usize = 5;

/// What connections are set up with. The two differ in the size of records alone.
pub(crate) struct ServerConfigs {
    /// For chips, which have a buffer for one record: [`wire::SMALL_RECORDS_ALPN`].
    small_records: Arc<ServerConfig>,
    /// For everybody else: records as long as TLS has them (RFC 8446 section 5.1), which cost a download less.
    full_records: Arc<ServerConfig>,
    not_after: OffsetDateTime,
}

impl ServerConfigs {
    /// When the certificate that they show ends.
    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// The one for the client that says this hello.
    pub(crate) fn for_client(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let asks = hello.alpn().is_some_and(|mut names| names.any(|name| name == wire::SMALL_RECORDS_ALPN));
        if asks { self.small_records.clone() } else { self.full_records.clone() }
    }
}

/// Reads the server's key and certificate in `dir`, or issues new ones: on the first start, past two thirds of
/// the certificate's life, when the names changed, and when the CA did.
pub(crate) fn server_configs(
    dir: &Path,
    authorities: &Authorities,
    options: &Config,
    now: OffsetDateTime,
) -> Result<Arc<ServerConfigs>, StartError> {
    let names = &options.server_names;
    if names.is_empty() {
        return Err(StartError::NoServerName);
    }
    files::create_private_dir(dir).map_err(StartError::file("make", dir))?;
    let (key_path, pem_path) = (dir.join("server.key"), dir.join("server.pem"));
    let (certificate, key) = match stored(dir, authorities, options, now)? {
        Some(stored) => stored,
        None => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
                .map_err(StartError::certificate("make the TLS key"))?;
            let days = options.server_certificate_days;
            let shown_until = files::read_if_there(&pem_path)
                .map_err(StartError::file("read", &pem_path))?
                .and_then(|pem| not_after(&pem_certificate(&pem, &pem_path).ok()?));
            // Devices believe the time up to a day before the end of the certificate that they are shown, and a clock that
            // was years ahead may have made that one: no later one ends before it.
            let from = shown_until.map_or(now, |end| now.max(end - Duration::days(days.into())));
            let certificate = authorities
                .for_server()
                .issue_server(names, &key, from, days)
                .map_err(StartError::certificate("issue the TLS certificate"))?;
            files::write_private(&key_path, key.serialize_pem().as_bytes())
                .map_err(StartError::file("write", &key_path))?;
            files::write_private(&pem_path, certificate.pem().as_bytes())
                .map_err(StartError::file("write", &pem_path))?;
            (certificate.der().clone(), key)
        }
    };
    let not_after = not_after(&certificate).ok_or_else(|| StartError::CertificateFile {
        expected: "the server's certificate",
        path: pem_path.clone(),
    })?;
    let full_records = config(authorities.anchors(), certificate, &key, options).map_err(StartError::Tls)?;
    let mut small_records = full_records.clone();
    small_records.max_fragment_size = Some(wire::SMALL_RECORD_BYTES + RECORD_HEADER_BYTES);
    small_records.alpn_protocols = vec![wire::SMALL_RECORDS_ALPN.to_vec()];
    Ok(Arc::new(ServerConfigs {
        small_records: Arc::new(small_records),
        full_records: Arc::new(full_records),
        not_after,
    }))
}

fn not_after(der: &CertificateDer<'_>) -> Option<OffsetDateTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.to_datetime())
}

/// Whether [`server_configs`] would issue a certificate.
pub(crate) fn is_due(
    dir: &Path,
    authorities: &Authorities,
    options: &Config,
    now: OffsetDateTime,
) -> Result<bool, StartError> {
    Ok(stored(dir, authorities, options, now)?.is_none())
}

fn stored(
    dir: &Path,
    authorities: &Authorities,
    options: &Config,
    now: OffsetDateTime,
) -> Result<Option<(CertificateDer<'static>, KeyPair)>, StartError> {
    let (key_path, pem_path) = (dir.join("server.key"), dir.join("server.pem"));
    let key_pem = files::read_if_there(&key_path).map_err(StartError::file("read", &key_path))?;
    let pem = files::read_if_there(&pem_path).map_err(StartError::file("read", &pem_path))?;
    let (ca, names, days) =
        (authorities.for_server(), &options.server_names, options.server_certificate_days);
    Ok(key_pem.zip(pem).and_then(|(key_pem, pem)| usable(&key_pem, &pem, &pem_path, ca, names, now, days)))
}

/// The stored pair, when it still serves.
fn usable(
    key_pem: &str,
    pem: &str,
    pem_path: &Path,
    ca: &CertificateAuthority,
    names: &[String],
    now: OffsetDateTime,
    days: u32,
) -> Option<(CertificateDer<'static>, KeyPair)> {
    let key = KeyPair::from_pem(key_pem).ok()?;
    let der = pem_certificate(pem, pem_path).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let (_, root) = X509Certificate::from_der(ca.der()).ok()?;
    // The certificate starts with the CA, so its life counts from its end.
    let a_third = Duration::days(days.into()) / 3;
    let fresh = certificate.validity().not_after.to_datetime() - now > a_third;
    let ours = certificate.verify_signature(Some(root.public_key())).is_ok();
    let same_key = certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw();
    let same_names =
        alternative_names(&certificate)? == names.iter().map(|name| canonical(name)).collect::<BTreeSet<_>>();
    (fresh && ours && same_key && same_names).then_some((der, key))
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Option<BTreeSet<String>> {
    let names = certificate.subject_alternative_name().ok()??;
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(v4), _) => IpAddr::from(v4).to_string(),
            (_, Ok(v6)) => IpAddr::from(v6).to_string(),
            (Err(_), Err(_)) => hex::encode(bytes),
        },
        other => other.to_string(),
    };
    Some(names.value.general_names.iter().map(text).collect())
}

/// IP addresses have more than one spelling.
fn canonical(name: &str) -> String {
    name.parse::<IpAddr>().map_or_else(|_| name.to_owned(), |address| address.to_string())
}

fn config(
    anchors: Vec<CertificateDer<'static>>,
    certificate: CertificateDer<'static>,
    key: &KeyPair,
    options: &Config,
) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for anchor in anchors {
        roots.add(anchor).map_err(|error| error.to_string())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())?;
    let key =
        PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).map_err(|error| error.to_string())?;
    // The leaf alone: devices have the CA pinned, and each byte of a handshake costs a chip heap.
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(options.clock.clone()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(Arc::new(Issued(verifier)))
                .with_single_cert(vec![certificate], key)
        })
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A pit stop is one connection and a chip keeps no tickets over a reset: they would only cost bytes. For others
    // tickets are stateless. They carry the client's certificate; whether it is good is judged at every request.
    config.send_tls13_tickets = usize::from(options.tls_tickets);
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    if options.tls_tickets {
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| error.to_string())?;
    }
    Ok(config)
}

/// Judges client certificates as webpki does, each at a moment of its own life. None comes from the future: the server
/// issued it, so that a clock before its begin is wrong, and devices keep their connection when a clock without a battery
/// starts in the past. One that has ended may still ask for the next one: what a certificate is good for is judged at each
/// request ([`crate::device`]).
#[derive(Debug)]
struct Issued(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Issued {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let (_, certificate) =
            X509Certificate::from_der(end_entity).map_err(|_| rustls::CertificateError::BadEncoding)?;
        let validity = certificate.validity();
        let [begin, end] = [&validity.not_before, &validity.not_after].map(|at| {
            let since = u64::try_from(at.timestamp()).unwrap_or_default();
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(since))
        });
        self.0.verify_client_cert(end_entity, intermediates, now.max(begin).min(end))
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_certificate_is_kept_until_it_no_longer_serves() {
        let dir = tempfile::tempdir().unwrap();
        let now = clock::now_utc();
        let ca = Authorities::of_one(CertificateAuthority::open(&dir.path().join("ca"), now).unwrap());
        let tls = dir.path().join("tls");
        let options = |names: &[&str]| Config {
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            server_certificate_days: 90,
            ..Config::new(dir.path())
        };
        let pem_after = |ca: &Authorities, server_names: &[&str], day: i64| {
            let (options, now) = (options(server_names), now + Duration::days(day));
            let before = std::fs::read_to_string(tls.join("server.pem")).ok();
            let is_due = is_due(&tls, ca, &options, now).unwrap();
            server_configs(&tls, ca, &options, now).unwrap();
            let after = std::fs::read_to_string(tls.join("server.pem")).unwrap();
            assert_eq!(is_due, before.as_ref() != Some(&after));
            after
        };
        let first = pem_after(&ca, &["localhost", "127.0.0.1", "::1"], 0);
        assert_eq!(pem_after(&ca, &["localhost", "127.0.0.1", "::1"], 59), first);
        let renewed = pem_after(&ca, &["localhost", "127.0.0.1", "::1"], 61);
        assert_ne!(renewed, first, "past two thirds of its life");
        let renamed = pem_after(&ca, &["ota.example", "127.0.0.1"], 61);
        assert_ne!(renamed, renewed, "other names");
        assert_eq!(pem_after(&ca, &["127.0.0.1", "ota.example"], 61), renamed, "the same names");
        let end = |pem: &str| not_after(&pem_certificate(pem, &tls).unwrap()).unwrap();
        let ahead = pem_after(&ca, &["127.0.0.1", "ota.example"], 1000);
        let renamed = pem_after(&ca, &["127.0.0.1", "other.example"], 61);
        assert_eq!(end(&renamed), end(&ahead), "a device may take it to be the year of the one before");
        let other_ca =
            Authorities::of_one(CertificateAuthority::open(&dir.path().join("other"), now).unwrap());
        assert_ne!(pem_after(&other_ca, &["127.0.0.1", "other.example"], 61), renamed, "another CA");
        assert!(matches!(server_configs(&tls, &ca, &options(&[]), now), Err(StartError::NoServerName)));
    }
}
