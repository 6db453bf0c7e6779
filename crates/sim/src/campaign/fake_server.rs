//! A good server within the process: real TLS, no sockets, no clock, no database. What it does not do by itself, a
//! campaign tells it to do wrong ([`Twist`]).
//!
//! It stands for `crates/server` where ten thousand starts are wanted in minutes; the tests beside the campaigns use
//! the real one. Its keys are fixed, and its signatures deterministic (RFC 6979), so that a device stores the same
//! bytes in every run.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cms::cert::CertificateChoices;
use cms::cert::x509::Certificate;
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::{Any, Decode as _, Encode as _};
use manifest::{Digest, Manifest, PublisherKey, PublisherSigningKey, Sequence, Signed};
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::EncodePrivateKey as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
    date_time_ymd,
};
use rustls::crypto::CryptoProvider;
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use wire::{CheckIn, Decision, Message as _, Outcome, Report};

use crate::impostor::tls::{server_config, server_config_with};
use crate::impostor::{ReceivedRequest, Reply, converse};
use crate::pki::Identity;

/// Name of the server, as the devices know it.
pub const HOST: &str = "updates.test";
/// Its port.
pub const PORT: u16 = 8443;
/// Kind of all devices.
pub const PRODUCT: &str = "lamp";
/// The server's clock at first, seconds since 1970: November 2026.
pub const START_S: u64 = 1_795_000_000;
/// Life of a device's certificate, in seconds: 90 days, so that some are renewed in a year.
pub const CERTIFICATE_S: u64 = 90 * 24 * 3600;

/// The requests that a device makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exchange {
    /// EST `simpleenroll`.
    Enroll,
    /// EST `simplereenroll`.
    Renew,
    /// EST `cacerts`.
    Anchors,
    /// The check-in.
    CheckIn,
    /// A part of an artifact.
    Artifact,
    /// A report.
    Report,
}

/// A release that the server has.
#[derive(Clone, Debug)]
pub struct Release {
    /// What the publisher says of it.
    pub manifest: Manifest,
    /// The manifest with its signature.
    pub signed: Vec<u8>,
    /// The image.
    pub image: Arc<Vec<u8>>,
}

/// What the server knows of a device, from what the device said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Digest of what runs.
    pub running_digest: Option<Digest>,
    /// Number of what runs.
    pub running_sequence: Option<u64>,
    /// The last outcome, from a check-in or a report.
    pub last_outcome: Option<Outcome>,
    /// Critical errors of the updater.
    pub critical_errors: u32,
    /// Check-ins so far.
    pub check_ins: u32,
}

/// A wrong answer to one kind of request.
#[derive(Clone, Copy, Debug)]
pub struct Twist {
    /// Which requests.
    pub exchange: Exchange,
    /// What becomes of the right answer.
    pub apply: Apply,
}

/// How a right answer becomes a wrong one.
#[derive(Clone, Copy, Debug)]
pub enum Apply {
    /// By what it says alone.
    ToReply(fn(Reply) -> Reply),
    /// By one who knows the state.
    WithState(fn(&ServerState, &ReceivedRequest, Reply) -> anyhow::Result<Reply>),
}

/// Everything that a server remembers.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// Seconds since 1970.
    pub time_s: u64,
    /// The releases, by publication.
    pub releases: Vec<Release>,
    /// Which of them every device is to run.
    pub offer: Option<usize>,
    /// Whether a second CA is to be trusted beside the first.
    pub next_ca: bool,
    /// What is said wrongly.
    pub twists: Vec<Twist>,
    /// Tokens by device, with the key that has used it.
    tokens: BTreeMap<String, (String, Option<Vec<u8>>)>,
    /// Devices by certificate.
    certificates: BTreeMap<Vec<u8>, String>,
    pictures: BTreeMap<String, Picture>,
    requests: BTreeMap<Exchange, u32>,
}

/// A running server.
#[derive(Clone, Debug)]
pub struct FakeServer(Arc<Mutex<ServerState>>);

impl ServerState {
    /// Of a server that has nothing yet.
    pub fn new() -> Self {
        Self {
            time_s: START_S,
            releases: Vec::new(),
            offer: None,
            next_ca: false,
            twists: Vec::new(),
            tokens: BTreeMap::new(),
            certificates: BTreeMap::new(),
            pictures: BTreeMap::new(),
            requests: BTreeMap::new(),
        }
    }

    /// Makes a device id known, with its one-time token.
    pub fn expect_device(&mut self, id: &str, token: &str) {
        self.tokens.insert(id.to_owned(), (token.to_owned(), None));
    }

    /// Publishes a release, signed with the server's publisher key, and offers it to all.
    ///
    /// # Errors
    /// The image is empty or larger than any flash.
    pub fn publish(
        &mut self,
        sequence: u64,
        version: &str,
        image: Vec<u8>,
        revert_to: Vec<Sequence>,
    ) -> anyhow::Result<usize> {
        let chip_id = flashfmt::Chip::Esp32C3.id();
        let mut manifest = Manifest::describe(&image, Sequence(sequence), PRODUCT, chip_id, version)?;
        manifest.revert_to = (!revert_to.is_empty()).then_some(revert_to);
        let signed = Signed::sign(&manifest, &publisher()?)?.as_bytes().to_vec();
        self.releases.push(Release { manifest, signed, image: Arc::new(image) });
        self.offer = Some(self.releases.len() - 1);
        Ok(self.releases.len() - 1)
    }

    /// What is known of a device.
    pub fn picture(&self, id: &str) -> Picture {
        self.pictures.get(id).cloned().unwrap_or_default()
    }

    /// How many requests of this kind came.
    pub fn requests(&self, exchange: Exchange) -> u32 {
        self.requests.get(&exchange).copied().unwrap_or(0)
    }

    /// How many requests came.
    pub fn all_requests(&self) -> u32 {
        self.requests.values().sum()
    }

    fn answer(&mut self, request: &ReceivedRequest) -> Reply {
        let Some(exchange) = exchange_of(request) else { return Reply::status(404) };
        *self.requests.entry(exchange).or_default() += 1;
        let device =
            request.client_certificate.as_ref().and_then(|leaf| self.certificates.get(leaf)).cloned();
        let right = match (exchange, device) {
            (Exchange::Enroll, _) => self.enroll(request),
            (Exchange::Anchors, _) => self.cacerts(),
            (_, None) => Reply::status(401),
            (Exchange::Renew, Some(device)) => self.issue(&device, request),
            (Exchange::CheckIn, Some(device)) => self.check_in(&device, request),
            (Exchange::Artifact, Some(_)) => self.artifact(request),
            (Exchange::Report, Some(device)) => self.report(&device, request),
        };
        match self.twists.iter().find(|twist| twist.exchange == exchange).map(|twist| twist.apply) {
            Some(Apply::ToReply(apply)) => apply(right),
            Some(Apply::WithState(apply)) => {
                apply(self, request, right).unwrap_or_else(|_| Reply::status(500))
            }
            None => right,
        }
    }

    /// The token is good for the first key that comes with it.
    fn enroll(&mut self, request: &ReceivedRequest) -> Reply {
        let credentials = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Basic "))
            .and_then(|value| STANDARD.decode(value).ok())
            .and_then(|value| String::from_utf8(value).ok());
        let Some((id, token)) = credentials.as_deref().and_then(|text| text.rsplit_once(':')) else {
            return Reply::status(401);
        };
        let Ok(csr) = csr(request) else { return Reply::status(400) };
        let key = csr.public_key.der_bytes().to_vec();
        match self.tokens.get_mut(id) {
            Some((expected, used_by))
                if expected == token && used_by.as_ref().is_none_or(|by| *by == key) =>
            {
                *used_by = Some(key);
                let id = id.to_owned();
                self.issue(&id, request)
            }
            Some(_) | None => Reply::status(401),
        }
    }

    fn issue(&mut self, device: &str, request: &ReceivedRequest) -> Reply {
        match csr(request).and_then(|csr| certify(ca()?, device, &csr.public_key, self.time_s)) {
            Ok((certificate, reply)) => {
                self.certificates.insert(certificate, device.to_owned());
                reply
            }
            Err(_) => Reply::status(400),
        }
    }

    fn check_in(&mut self, device: &str, request: &ReceivedRequest) -> Reply {
        let Ok(said) = CheckIn::from_cbor(&request.body) else { return Reply::status(400) };
        let picture = self.pictures.entry(device.to_owned()).or_default();
        picture.running_digest = said.running.as_ref().map(|running| Digest(*running.digest));
        picture.running_sequence = said.running.as_ref().and_then(|running| running.sequence);
        picture.last_outcome = said.last_outcome;
        picture.critical_errors = said.critical_errors;
        picture.check_ins += 1;
        let offer = self.offer.and_then(|index| self.releases.get(index));
        let mut decision = Decision::new(self.time_s, offer.map(|release| release.signed.clone()));
        decision.anchors = self.anchors().ok().map(wire::anchors_digest);
        Reply::ok(wire::MEDIA_TYPE, &decision.to_cbor())
    }

    /// The trust anchors that devices are to have, DER.
    ///
    /// # Errors
    /// They could not be made.
    pub fn anchors(&self) -> anyhow::Result<impl Iterator<Item = &'static [u8]> + use<>> {
        let (first, next) =
            (anchor()?, NEXT_CA.as_ref().map_err(|error| anyhow!("no second CA: {error:#}"))?);
        Ok([first].into_iter().chain(self.next_ca.then_some(next.der.as_slice())))
    }

    fn cacerts(&self) -> Reply {
        let reply = self.anchors().and_then(|anchors| certs_only(&anchors.collect::<Vec<_>>()));
        reply.unwrap_or_else(|_| Reply::status(500))
    }

    fn artifact(&self, request: &ReceivedRequest) -> Reply {
        let name = request.path.strip_prefix(wire::ARTIFACTS_PATH).unwrap_or_default();
        let named = |release: &&Release| release.manifest.artifact.digest.to_string() == name;
        match self.releases.iter().find(named) {
            Some(release) => Reply::artifact(&release.image),
            None => Reply::status(404),
        }
    }

    fn report(&mut self, device: &str, request: &ReceivedRequest) -> Reply {
        let Ok(said) = Report::from_cbor(&request.body) else { return Reply::status(400) };
        let picture = self.pictures.entry(device.to_owned()).or_default();
        picture.last_outcome = Some(said.outcome);
        picture.running_digest = said.running_digest.map(|digest| Digest(*digest));
        Reply::status(204)
    }
}

impl Default for ServerState {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeServer {
    /// A server in this state.
    pub fn open(state: ServerState) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// What it remembers.
    pub fn state(&self) -> MutexGuard<'_, ServerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where devices connect to. Serves as long as the runtime that this is called in.
    ///
    /// # Errors
    /// The server's certificate could not be made.
    pub fn door(&self) -> anyhow::Result<UnboundedSender<DuplexStream>> {
        Ok(self.door_with(acceptor()?))
    }

    /// The same with another certificate, such as one of [`acceptor_for`].
    pub fn door_with(&self, acceptor: TlsAcceptor) -> UnboundedSender<DuplexStream> {
        let (door, mut visitors) = unbounded_channel::<DuplexStream>();
        let state = self.clone();
        tokio::spawn(async move {
            while let Some(stream) = visitors.recv().await {
                let (acceptor, state) = (acceptor.clone(), state.clone());
                // A handshake that fails is the device's to report.
                tokio::spawn(async move {
                    let _ = converse(&acceptor, stream, |request| state.state().answer(&request)).await;
                });
            }
        });
        door
    }
}

fn exchange_of(request: &ReceivedRequest) -> Option<Exchange> {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/.well-known/est/simpleenroll") => Some(Exchange::Enroll),
        ("POST", "/.well-known/est/simplereenroll") => Some(Exchange::Renew),
        ("GET", "/.well-known/est/cacerts") => Some(Exchange::Anchors),
        ("POST", wire::CHECK_IN_PATH) => Some(Exchange::CheckIn),
        ("POST", wire::REPORTS_PATH) => Some(Exchange::Report),
        ("GET", path) if path.starts_with(wire::ARTIFACTS_PATH) => Some(Exchange::Artifact),
        _ => None,
    }
}

/// A P-256 key whose signatures are deterministic.
pub struct FixedKey {
    signing: p256::ecdsa::SigningKey,
    point: Vec<u8>,
}

impl FixedKey {
    /// The key with this number.
    ///
    /// # Errors
    /// 0 is none.
    pub fn new(seed: u8) -> anyhow::Result<Self> {
        let signing = p256::ecdsa::SigningKey::from_slice(&[seed; 32])?;
        let point = signing.verifying_key().to_encoded_point(false).as_bytes().to_vec();
        Ok(Self { signing, point })
    }
}

impl PublicKeyData for FixedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for FixedKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: p256::ecdsa::Signature = self.signing.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// The server's CA, and its certificate in DER.
pub struct Ca {
    issuer: Issuer<'static, FixedKey>,
    /// Its certificate.
    pub der: Vec<u8>,
}

static CA: LazyLock<anyhow::Result<Ca>> = LazyLock::new(|| Ca::new("server CA", 3));
static NEXT_CA: LazyLock<anyhow::Result<Ca>> = LazyLock::new(|| Ca::new("next server CA", 4));

impl Ca {
    /// A CA with this name, whose key has this number.
    ///
    /// # Errors
    /// It could not be made.
    pub fn new(name: &str, seed: u8) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2099, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let der = params.self_signed(&FixedKey::new(seed)?)?.der().to_vec();
        Ok(Self { issuer: Issuer::new(params, FixedKey::new(seed)?), der })
    }
}

static ACCEPTOR: LazyLock<anyhow::Result<TlsAcceptor>> = LazyLock::new(|| {
    let key = KeyPair::generate()?;
    let identity = identity(HOST, &key, key.serialize_pem())?;
    Ok(TlsAcceptor::from(Arc::new(server_config(&identity)?)))
});

/// TLS of a server with this name, whose key is always the same, computed by `provider`. If the provider's random numbers are
/// always the same too, so is every connection.
///
/// # Errors
/// It could not be made.
pub fn acceptor_for(host: &str, provider: CryptoProvider) -> anyhow::Result<TlsAcceptor> {
    let secret = p256::SecretKey::from_slice(&[5; 32])?;
    let key = STANDARD.encode(secret.to_pkcs8_der()?.as_bytes());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n");
    let identity = identity(host, &FixedKey::new(5)?, pem)?;
    Ok(TlsAcceptor::from(Arc::new(server_config_with(provider, &identity)?)))
}

fn identity(host: &str, key: &impl PublicKeyData, key_pem: String) -> anyhow::Result<Identity> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(key, &ca()?.issuer)?;
    Ok(Identity { chain_pem: certificate.pem(), certificate_der: certificate.der().to_vec(), key_pem })
}

/// The server's CA.
///
/// # Errors
/// It could not be made.
pub fn ca() -> anyhow::Result<&'static Ca> {
    CA.as_ref().map_err(|error| anyhow!("the server has no CA: {error:#}"))
}

fn acceptor() -> anyhow::Result<TlsAcceptor> {
    ACCEPTOR.as_ref().cloned().map_err(|error| anyhow!("the server has no certificate: {error:#}"))
}

/// The server's CA certificate, DER: the trust anchor of its devices.
///
/// # Errors
/// It could not be made.
pub fn anchor() -> anyhow::Result<&'static [u8]> {
    Ok(&ca()?.der)
}

/// The key that signs the server's releases.
///
/// # Errors
/// It could not be made.
pub fn publisher() -> anyhow::Result<PublisherSigningKey> {
    Ok(PublisherSigningKey::new(p256::SecretKey::from_slice(&[1; 32])?))
}

/// The key that devices trust releases by.
///
/// # Errors
/// It could not be made.
pub fn publisher_key() -> anyhow::Result<PublisherKey> {
    Ok(publisher()?.publisher_key())
}

/// The certificate request in a request.
///
/// # Errors
/// There is none.
pub fn csr(request: &ReceivedRequest) -> anyhow::Result<CertificateSigningRequestParams> {
    let der = STANDARD.decode(&request.body)?;
    Ok(CertificateSigningRequestParams::from_der(&der.as_slice().into())?)
}

/// Issues a certificate; returns it, and the answer that brings it.
///
/// # Errors
/// It could not be made.
pub fn certify(
    ca: &Ca,
    device: &str,
    key: &impl PublicKeyData,
    now_s: u64,
) -> anyhow::Result<(Vec<u8>, Reply)> {
    let at = |time_s: u64| -> anyhow::Result<_> {
        let since = std::time::Duration::from_secs(time_s);
        date_time_ymd(1970, 1, 1).checked_add(since.try_into()?).context("a time past the calendar")
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, device);
    // One serial number for each moment, so that no two certificates of a device are the same.
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&(now_s | 1 << 62).to_be_bytes()));
    params.not_before = at(now_s - 24 * 3600)?;
    params.not_after = at(now_s + CERTIFICATE_S)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(key, &ca.issuer)?.der().to_vec();
    let reply = certs_only(&[&certificate])?;
    Ok((certificate, reply))
}

/// An answer with a certs-only message (RFC 8551 section 3.8).
///
/// # Errors
/// There is no certificate among them, or something else.
pub fn certs_only(certificates: &[&[u8]]) -> anyhow::Result<Reply> {
    let (first, others) = certificates.split_first().context("no certificates to send")?;
    let mut info = ContentInfo::try_from(Certificate::from_der(first)?)?;
    let mut signed: SignedData = info.content.decode_as()?;
    let all = &mut signed.certificates.as_mut().context("a message without certificates")?.0;
    for other in others {
        all.insert(CertificateChoices::Certificate(Certificate::from_der(other)?))?;
    }
    info.content = Any::encode_from(&signed)?;
    let body = STANDARD.encode(info.to_der()?);
    Ok(Reply::ok("application/pkcs7-mime; smime-type=certs-only", body.as_bytes()))
}
