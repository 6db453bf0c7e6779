//! Certificates, and a client and a server that talk through memory.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SignatureAlgorithm,
};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, Error, RootCertStore, ServerConfig, ServerConnection,
    SideData, SupportedCipherSuite,
};
use tls_crypto::Secp256r1;

/// The name in the server's certificate.
pub(crate) const SERVER: &str = "server.invalid";

/// Records of 2 KiB of plaintext, as rustls counts them: with the header of 5 bytes.
pub(crate) const MAX_FRAGMENT_BYTES: usize = 5 + 2048;

/// The host's random numbers.
#[derive(Debug)]
struct OsRandom;

impl SecureRandom for OsRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        rand::rngs::OsRng.try_fill_bytes(buffer).map_err(|_| GetRandomFailed)
    }
}

/// Our provider with all that it has.
pub(crate) fn ours_whole() -> CryptoProvider {
    static KEY_EXCHANGE: Secp256r1 = Secp256r1::new(&OsRandom);
    tls_crypto::provider(&KEY_EXCHANGE)
}

/// Our provider with one suite.
pub(crate) fn ours(suite: SupportedCipherSuite) -> CryptoProvider {
    CryptoProvider { cipher_suites: vec![suite], ..ours_whole() }
}

/// Ring's provider, with all that it has.
pub(crate) fn ring() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// An issuer of certificates.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A certificate for `name` with a P-256 key.
    pub(crate) fn issue(&self, name: &str) -> Identity {
        self.issue_with(name, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// A certificate for `name` with a key of the given kind.
    pub(crate) fn issue_with(&self, name: &str, kind: &'static SignatureAlgorithm) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate_for(kind).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        Identity { certificate, key_pkcs8: key.serialize_der() }
    }
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key_pkcs8: Vec<u8>,
}

impl Identity {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key_pkcs8.clone().into())
    }

    pub(crate) fn certified(&self, provider: &CryptoProvider) -> CertifiedKey {
        CertifiedKey::from_der(vec![self.certificate.clone()], self.key(), provider).unwrap()
    }
}

/// A client and its server.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

impl Pair {
    /// Both with certificates of one CA.
    pub(crate) fn new(client: CryptoProvider, server: CryptoProvider) -> Self {
        let ca = Ca::new("CA");
        let server_key = ca.issue(SERVER).certified(&server);
        Self::with(&ca, &ca, SERVER, client, server, server_key)
    }

    /// A client with a certificate of `client_ca` that trusts `trusted`, and a server that trusts `client_ca` and
    /// shows `server_key`.
    pub(crate) fn with(
        client_ca: &Ca,
        trusted: &Ca,
        name: &'static str,
        client: CryptoProvider,
        server: CryptoProvider,
        server_key: CertifiedKey,
    ) -> Self {
        let device = client_ca.issue("device.invalid");
        let mut client_config = ClientConfig::builder_with_provider(Arc::new(client))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(trusted.roots())
            .with_client_auth_cert(vec![device.certificate.clone()], device.key())
            .unwrap();
        client_config.max_fragment_size = Some(MAX_FRAGMENT_BYTES);

        let server = Arc::new(server);
        let verifier = WebPkiClientVerifier::builder_with_provider(client_ca.roots(), Arc::clone(&server));
        let mut server_config = ServerConfig::builder_with_provider(server)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(server_key)));
        server_config.max_fragment_size = Some(MAX_FRAGMENT_BYTES);

        let name = ServerName::try_from(name).unwrap();
        Self {
            client: ClientConnection::new(Arc::new(client_config), name).unwrap(),
            server: ServerConnection::new(Arc::new(server_config)).unwrap(),
        }
    }

    /// Carries records to and fro until both are silent. An error says who found it.
    pub(crate) fn run(&mut self) -> Result<(), (Who, Error)> {
        loop {
            let to_server = records(&mut self.client);
            let to_client = records(&mut self.server);
            if to_server.is_empty() && to_client.is_empty() {
                return Ok(());
            }
            receive(&mut self.server, &to_server).map_err(|error| (Who::Server, error))?;
            receive(&mut self.client, &to_client).map_err(|error| (Who::Client, error))?;
        }
    }

    /// Sends `bytes` both ways, and checks that they arrive.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) {
        carry(&mut self.client, &mut self.server, bytes);
        carry(&mut self.server, &mut self.client, bytes);
    }
}

/// Who found a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Client,
    Server,
}

/// What a side wants to send.
pub(crate) fn records<S: SideData>(side: &mut impl DerefMut<Target = ConnectionCommon<S>>) -> Vec<u8> {
    let mut records = Vec::new();
    while side.wants_write() {
        side.write_tls(&mut records).unwrap();
    }
    records
}

/// Gives records to a side.
pub(crate) fn receive<S: SideData>(
    side: &mut impl DerefMut<Target = ConnectionCommon<S>>,
    mut records: &[u8],
) -> Result<(), Error> {
    while !records.is_empty() {
        side.read_tls(&mut records).unwrap();
        side.process_new_packets()?;
    }
    Ok(())
}

/// Lengths of the records in a stream, without their headers.
pub(crate) fn record_lengths(mut records: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = records {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        lengths.push(length);
        records = &rest[length..];
    }
    lengths
}

fn carry<S: SideData, R: SideData>(
    from: &mut impl DerefMut<Target = ConnectionCommon<S>>,
    to: &mut impl DerefMut<Target = ConnectionCommon<R>>,
    bytes: &[u8],
) {
    // 8 KiB at a time: rustls buffers no more than 64 KiB, on either side.
    for part in bytes.chunks(8192) {
        from.writer().write_all(part).unwrap();
        let records = records(from);
        for length in record_lengths(&records) {
            // Plaintext, content type, tag.
            assert!(length <= 2048 + 1 + 16, "a record of {length} bytes");
        }
        receive(to, &records).unwrap();
        let mut got = vec![0; part.len()];
        to.reader().read_exact(&mut got).unwrap();
        assert!(got == part, "other bytes arrived");
    }
}

/// `Deref` is what both kinds of connection have in common.
pub(crate) fn suite<S: SideData>(side: &impl Deref<Target = ConnectionCommon<S>>) -> SupportedCipherSuite {
    side.negotiated_cipher_suite().unwrap()
}
