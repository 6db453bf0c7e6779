//! The updater's TLS client against every trap, with what it computes with on the chip and with ring. Then a client
//! that believes any certificate, which shows that the traps are traps.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{ErrorType, Read, Write};
use flashfmt::Layout;
use flashfmt::partition::TABLE_OFFSET;
use rand::RngCore;
use rustls::ExtendedKeyPurpose::ServerAuth;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, HandshakeType,
    SignatureScheme,
};
use sim::SimFlash;
use sim::traps::{ANSWER, Observation, RunningTrap, TIME_FLOOR_S, TlsTrap, TrapError};
use tls_crypto::Secp256r1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use updater_io::map::Map;
use updater_io::time::FloorClock;
use updater_io::tls::{Identity, TlsError, TlsSession, client_config};
use updater_io::vault::Vault;

const HOST: &str = "localhost";

const REQUEST: &[u8] = b"POST /v1/check-in HTTP/1.1\r\n\r\n";

/// 2026-01-01 UTC, when the certificates of the trap [`TlsTrap::Expired`] are good.
const Y2026_S: u32 = 1_767_225_600;
/// 2098-07-01 UTC, when those of [`TlsTrap::NotYetValid`] are.
const Y2098_S: u32 = 4_055_011_200;

/// Longer than the longest handshake here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct HostRandom;

impl SecureRandom for HostRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        rand::rngs::OsRng.try_fill_bytes(bytes).map_err(|_| GetRandomFailed)
    }
}

static KEY_EXCHANGE: Secp256r1 = Secp256r1::new(&HostRandom);

/// As on the chip.
fn chip_provider() -> Arc<CryptoProvider> {
    Arc::new(tls_crypto::provider(&KEY_EXCHANGE))
}

/// ring, with P-256 first: the hand-written server knows no other group.
fn ring_provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![ring::kx_group::SECP256R1], ..ring::default_provider() })
}

fn providers() -> [(&'static str, Arc<CryptoProvider>); 2] {
    [("tls-crypto", chip_provider()), ("ring", ring_provider())]
}

/// The updater's client: what it received after [`REQUEST`].
async fn updater(
    trap: &RunningTrap,
    provider: Arc<CryptoProvider>,
    now_s: u32,
    identity: Option<Identity>,
) -> Result<Vec<u8>, TlsError> {
    let clock = Arc::new(FloorClock::new(now_s));
    let config = client_config(provider, clock, std::slice::from_ref(trap.anchor()), identity).unwrap();
    let stream = TcpStream::connect(trap.address()).await.unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let mut session = TlsSession::handshake(FromTokio::new(stream), Arc::new(config), name).await?;
    session.write_all(REQUEST).await?;
    let mut received = vec![0; ANSWER.len()];
    let mut received_bytes = 0;
    while received_bytes < received.len() {
        match session.read(&mut received[received_bytes..]).await? {
            0 => break,
            bytes => received_bytes += bytes,
        }
    }
    received.truncate(received_bytes);
    Ok(received)
}

async fn observe(trap: &mut RunningTrap) -> Observation {
    tokio::time::timeout(PATIENCE, trap.observe()).await.expect("the trap sees something").unwrap()
}

/// How a trap is to be refused.
struct Refusal {
    is_reason: fn(&TlsError) -> bool,
    alert: AlertDescription,
}

/// How a trap is to be refused; nothing for the right servers.
fn refusal(trap: TlsTrap) -> Option<Refusal> {
    let (is_reason, alert): (fn(&TlsError) -> bool, _) = match trap {
        TlsTrap::Good | TlsTrap::Fragmented | TlsTrap::ByHand => return None,
        TlsTrap::WrongName => (
            |error| matches!(certificate_error(error), Some(CertificateError::NotValidForNameContext { .. })),
            AlertDescription::BadCertificate,
        ),
        TlsTrap::UnknownCa => (
            |error| matches!(certificate_error(error), Some(CertificateError::UnknownIssuer)),
            AlertDescription::UnknownCA,
        ),
        TlsTrap::CaOfSameName | TlsTrap::ForeignSignature => (
            |error| matches!(certificate_error(error), Some(CertificateError::BadSignature)),
            AlertDescription::DecryptError,
        ),
        TlsTrap::ClientCertificate => (
            |error| {
                let found = certificate_error(error);
                matches!(found, Some(CertificateError::InvalidPurposeContext { required: ServerAuth, .. }))
            },
            AlertDescription::UnsupportedCertificate,
        ),
        // rustls has no name of its own for it, and keeps webpki's.
        TlsTrap::DeviceAsCa => (
            |error| {
                let found = certificate_error(error);
                matches!(found, Some(CertificateError::Other(other)) if other.to_string() == "EndEntityUsedAsCa")
            },
            AlertDescription::CertificateUnknown,
        ),
        TlsTrap::Expired => (
            |error| matches!(certificate_error(error), Some(CertificateError::ExpiredContext { .. })),
            AlertDescription::CertificateExpired,
        ),
        TlsTrap::NotYetValid => (
            |error| matches!(certificate_error(error), Some(CertificateError::NotValidYetContext { .. })),
            AlertDescription::CertificateExpired,
        ),
        TlsTrap::NoSignature | TlsTrap::NoCertificate => (
            |error| {
                let TlsError::Protocol(source) = error else { return false };
                matches!(
                    &source.0,
                    Error::InappropriateHandshakeMessage { got_type: HandshakeType::Finished, .. }
                )
            },
            AlertDescription::UnexpectedMessage,
        ),
    };
    Some(Refusal { is_reason, alert })
}

fn certificate_error(error: &TlsError) -> Option<&CertificateError> {
    match error {
        TlsError::ServerRefused(source) => match &source.0 {
            Error::InvalidCertificate(error) => Some(error),
            _ => None,
        },
        _ => None,
    }
}

/// The certificate that a server which asks for one sees.
fn shown(trap: TlsTrap, device: &Identity) -> Option<Vec<u8>> {
    match trap {
        TlsTrap::ByHand | TlsTrap::ForeignSignature | TlsTrap::NoSignature | TlsTrap::NoCertificate => None,
        TlsTrap::Good
        | TlsTrap::Fragmented
        | TlsTrap::WrongName
        | TlsTrap::UnknownCa
        | TlsTrap::CaOfSameName
        | TlsTrap::ClientCertificate
        | TlsTrap::DeviceAsCa
        | TlsTrap::Expired
        | TlsTrap::NotYetValid => device.chain.first().map(|leaf| leaf.to_vec()),
    }
}

#[tokio::test]
async fn every_trap_is_refused_for_its_reason_and_the_right_servers_are_not() {
    for trap in TlsTrap::ALL {
        let mut running = trap.start(HOST).await.unwrap();
        for (name, provider) in providers() {
            let device = Some(running.device().clone());
            let result = updater(&running, provider, TIME_FLOOR_S, device).await;
            let observation = observe(&mut running).await;
            let Some(Refusal { is_reason, alert }) = refusal(trap) else {
                assert_eq!(result.unwrap(), ANSWER, "{trap:?} with {name}");
                let client_certificate = shown(trap, running.device());
                let received = REQUEST.to_vec();
                assert_eq!(observation, Observation::Trusted { client_certificate, received });
                continue;
            };
            let error = result.expect_err("a trap is refused");
            println!("{trap:?} with {name}: {error:?}, {observation:?}");
            assert!(is_reason(&error), "{trap:?} with {name}: {error:?}");
            assert_eq!(observation, Observation::Refused { alert }, "{trap:?} with {name}");
        }
    }
}

#[tokio::test]
async fn a_certificate_is_judged_by_the_time_floor_alone() {
    for (trap, good_s) in [(TlsTrap::Expired, Y2026_S), (TlsTrap::NotYetValid, Y2098_S)] {
        let mut running = trap.start(HOST).await.unwrap();
        let device = running.device().clone();
        let answer = updater(&running, chip_provider(), good_s, Some(device.clone())).await;
        assert_eq!(answer.unwrap(), ANSWER, "{trap:?}");
        assert!(matches!(observe(&mut running).await, Observation::Trusted { .. }));
        updater(&running, chip_provider(), TIME_FLOOR_S, Some(device)).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_no_device() {
    let mut running = TlsTrap::Good.start(HOST).await.unwrap();
    let error = updater(&running, chip_provider(), TIME_FLOOR_S, None).await.unwrap_err();
    let expected = AlertDescription::CertificateRequired;
    assert!(matches!(error, TlsError::RefusedByServer { alert } if alert == expected), "{error:?}");
    assert!(matches!(observe(&mut running).await, Observation::Broken { .. }));
}

/// A connection that counts how often something arrives.
struct Counted<C> {
    connection: C,
    reads: usize,
}

impl<C: ErrorType> ErrorType for Counted<C> {
    type Error = C::Error;
}

impl<C: Read> Read for Counted<C> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, C::Error> {
        self.reads += 1;
        self.connection.read(buffer).await
    }
}

impl<C: Write> Write for Counted<C> {
    async fn write(&mut self, buffer: &[u8]) -> Result<usize, C::Error> {
        self.connection.write(buffer).await
    }

    async fn flush(&mut self) -> Result<(), C::Error> {
        self.connection.flush().await
    }
}

#[tokio::test]
async fn a_fragmented_handshake_is_one() {
    for (trap, reads) in [(TlsTrap::Good, 1..5), (TlsTrap::Fragmented, 100..10_000)] {
        let running = trap.start(HOST).await.unwrap();
        let clock = Arc::new(FloorClock::new(TIME_FLOOR_S));
        let anchors = std::slice::from_ref(running.anchor());
        let config = client_config(chip_provider(), clock, anchors, None).unwrap();
        let stream = TcpStream::connect(running.address()).await.unwrap();
        let mut counted = Counted { connection: FromTokio::new(stream), reads: 0 };
        let name = ServerName::try_from(HOST).unwrap();
        TlsSession::handshake(&mut counted, Arc::new(config), name).await.unwrap();
        assert!(reads.contains(&counted.reads), "{trap:?}: {} reads", counted.reads);
    }
}

#[tokio::test]
async fn the_vault_leads_to_the_trap() {
    let running = TlsTrap::Good.start(HOST).await.unwrap();
    let mut flash = SimFlash::new(4 << 20);
    let error = running.provision(&mut flash).unwrap_err();
    assert!(matches!(error, TrapError::Flash(_)), "{error:?}");
    flash.put(TABLE_OFFSET, &Layout::builtin("4mb").unwrap().to_binary()).unwrap();
    running.provision(&mut flash).unwrap();
    let region = Map::read(&mut flash).unwrap().vault.unwrap();
    let vault = Vault::open(&mut flash, region).unwrap().load().unwrap();
    let settings = vault.settings.unwrap();
    assert_eq!((settings.server.host.as_str(), settings.server.port), (HOST, running.address().port()));
    assert_eq!(settings.anchors, [running.anchor().clone()]);
    assert_eq!(vault.chain.unwrap().as_ref(), Some(&running.device().chain));
    assert_eq!(vault.key.unwrap().as_ref(), Some(&running.device().key_pkcs8));
    assert_eq!(vault.time_floor_s.unwrap(), Some(TIME_FLOOR_S));
}

/// Believes any certificate, and any signature with it. Counts what it was shown.
#[derive(Debug, Default)]
struct Gullible {
    certificates: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.certificates.lock().unwrap().push(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// rustls with verification switched off falls into every trap that shows a certificate and a signature. For the two
/// that do not, `traps::by_hand` has a client of its own.
#[tokio::test]
async fn a_gullible_client_falls_into_the_traps() {
    let with_signature = |trap: &TlsTrap| !matches!(trap, TlsTrap::NoSignature | TlsTrap::NoCertificate);
    for trap in TlsTrap::ALL.into_iter().filter(with_signature) {
        let mut running = trap.start(HOST).await.unwrap();
        let device = running.device().clone();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(device.key_pkcs8.to_vec());
        let verifier = Arc::new(Gullible::default());
        let config = ClientConfig::builder_with_provider(ring_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_client_auth_cert(device.chain.clone(), key.into())
            .unwrap();
        let stream = TcpStream::connect(running.address()).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut session = connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap();
        session.write_all(REQUEST).await.unwrap();
        let mut received = vec![0; ANSWER.len()];
        session.read_exact(&mut received).await.unwrap();
        assert_eq!(received, ANSWER, "{trap:?}");
        session.shutdown().await.unwrap();
        drop(session);
        let client_certificate = shown(trap, &device);
        let trusted = Observation::Trusted { client_certificate, received: REQUEST.to_vec() };
        assert_eq!(observe(&mut running).await, trusted, "{trap:?}");
        assert_eq!(verifier.certificates.lock().unwrap().len(), 1);
    }
}
