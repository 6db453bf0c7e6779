//! Our provider shakes hands with ring's, on either side, and refuses what has to be refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    AlertDescription, CertificateError, CipherSuite, Error, NamedGroup, PeerIncompatible, ProtocolVersion,
    SignatureAlgorithm, SignatureScheme, SupportedCipherSuite,
};
use tls_crypto::{TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256};

use common::{Ca, Pair, SERVER, Who, ours, ours_whole, receive, records, ring};

const SUITES: [SupportedCipherSuite; 2] = [TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256];

/// Every suite, with our provider as the client and as the server.
fn pairs() -> impl Iterator<Item = (CipherSuite, Pair)> {
    SUITES.into_iter().flat_map(|suite| {
        let pair = |(client, server)| (suite.suite(), Pair::new(client, server));
        [(ours(suite), ring()), (ring(), ours(suite))].map(pair)
    })
}

fn random_bytes(random: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}

#[test]
fn the_provider_offers_this_and_no_more() {
    let provider = ours_whole();
    let suites: Vec<_> = provider.cipher_suites.iter().map(|suite| suite.suite()).collect();
    assert_eq!(suites, SUITES.map(|suite| suite.suite()));
    let groups: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups, [NamedGroup::secp256r1]);
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    assert_eq!(schemes, [SignatureScheme::ECDSA_NISTP256_SHA256]);
}

#[test]
fn both_sides_authenticate_and_data_arrives() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for (suite, mut pair) in pairs() {
        pair.run().unwrap();
        assert_eq!(pair.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(common::suite(&pair.client).suite(), suite);
        assert_eq!(common::suite(&pair.server).suite(), suite);
        let group = pair.client.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), NamedGroup::secp256r1);
        assert_eq!(pair.client.peer_certificates().unwrap().len(), 1);
        assert_eq!(pair.server.peer_certificates().unwrap().len(), 1);
        for length in [1, 2, 15, 16, 17, 2047, 2048, 2049, 100_000] {
            pair.exchange(&random_bytes(&mut random, length));
        }
        for _ in 0..300 {
            let length = random.gen_range(1..5000);
            pair.exchange(&random_bytes(&mut random, length));
        }
    }
}

#[test]
fn keys_are_changed_on_the_way() {
    for (_, mut pair) in pairs() {
        pair.run().unwrap();
        for _ in 0..3 {
            pair.client.refresh_traffic_keys().unwrap();
            pair.run().unwrap();
            pair.exchange(b"after the client's change");
            pair.server.refresh_traffic_keys().unwrap();
            pair.run().unwrap();
            pair.exchange(b"after the server's change");
        }
    }
}

#[test]
fn a_changed_record_is_refused() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for suite in SUITES {
        for _ in 0..20 {
            let mut pair = Pair::new(ours(suite), ring());
            pair.run().unwrap();
            std::io::Write::write_all(&mut pair.server.writer(), b"attack at dawn").unwrap();
            let mut record = records(&mut pair.server);
            // Anywhere behind the header: content, type or tag.
            let index = random.gen_range(5..record.len());
            record[index] ^= 1 << random.gen_range(0..8);
            assert_eq!(receive(&mut pair.client, &record), Err(Error::DecryptError));
        }
    }
}

#[test]
fn a_repeated_record_is_refused() {
    for suite in SUITES {
        let mut pair = Pair::new(ours(suite), ring());
        pair.run().unwrap();
        std::io::Write::write_all(&mut pair.server.writer(), b"once").unwrap();
        let record = records(&mut pair.server);
        assert_eq!(receive(&mut pair.client, &record), Ok(()));
        assert_eq!(receive(&mut pair.client, &record), Err(Error::DecryptError));
    }
}

/// Who refuses a server with this key, and why.
fn refusal(trusted: &Ca, name: &'static str, ca: &Ca, key: CertifiedKey) -> (Who, Error) {
    let client = ours(TLS13_CHACHA20_POLY1305_SHA256);
    Pair::with(ca, trusted, name, client, ring(), key).run().unwrap_err()
}

#[test]
fn the_server_needs_a_certificate_of_the_right_ca_for_the_right_name() {
    let ca = Ca::new("CA");
    let key = || ca.issue(SERVER).certified(&ring());
    let unknown = CertificateError::UnknownIssuer.into();
    assert_eq!(refusal(&Ca::new("other CA"), SERVER, &ca, key()), (Who::Client, unknown));
    // One that calls itself the same: its key does not fit.
    let bad = CertificateError::BadSignature.into();
    assert_eq!(refusal(&Ca::new("CA"), SERVER, &ca, key()), (Who::Client, bad));
    let (who, error) = refusal(&ca, "other.invalid", &ca, key());
    let wrong_name =
        |error: &CertificateError| matches!(error, CertificateError::NotValidForNameContext { .. });
    assert!(matches!(&error, Error::InvalidCertificate(found) if wrong_name(found)), "{error:?}");
    assert_eq!(who, Who::Client);
}

#[test]
fn a_changed_certificate_is_refused() {
    let ca = Ca::new("CA");
    let mut key = ca.issue(SERVER).certified(&ring());
    let mut der = key.cert[0].to_vec();
    // The signature's s is what the certificate ends with.
    *der.last_mut().unwrap() ^= 1;
    key.cert[0] = der.into();
    let bad = CertificateError::BadSignature.into();
    assert_eq!(refusal(&ca, SERVER, &ca, key), (Who::Client, bad));
}

/// Signs with the right key, and then changes the signature.
#[derive(Debug)]
struct Forger(Arc<dyn SigningKey>);

#[derive(Debug)]
struct Forgery(Box<dyn Signer>);

impl SigningKey for Forger {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Forgery(self.0.choose_scheme(offered)?)))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl Signer for Forgery {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut signature = self.0.sign(message)?;
        *signature.last_mut().unwrap() ^= 1;
        Ok(signature)
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}

#[test]
fn a_changed_certificate_verify_is_refused() {
    let ca = Ca::new("CA");
    let mut key = ca.issue(SERVER).certified(&ring());
    key.key = Arc::new(Forger(key.key));
    let bad = CertificateError::BadSignature.into();
    assert_eq!(refusal(&ca, SERVER, &ca, key), (Who::Client, bad));
}

#[test]
fn a_certificate_verify_of_another_key_is_refused() {
    let ca = Ca::new("CA");
    let mut key = ca.issue(SERVER).certified(&ring());
    key.key = ca.issue(SERVER).certified(&ring()).key;
    let bad = CertificateError::BadSignature.into();
    assert_eq!(refusal(&ca, SERVER, &ca, key), (Who::Client, bad));
}

#[test]
fn there_is_nothing_but_p_256() {
    let ca = Ca::new("CA");
    let p384 = ca.issue_with(SERVER, &rcgen::PKCS_ECDSA_P384_SHA384).certified(&ring());
    let no_scheme = Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon);
    assert_eq!(refusal(&ca, SERVER, &ca, p384), (Who::Server, no_scheme));

    let mut x25519 = ring();
    x25519.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
    let mut pair = Pair::new(ours(TLS13_CHACHA20_POLY1305_SHA256), x25519);
    let no_group = Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon);
    assert_eq!(pair.run(), Err((Who::Server, no_group)));
    let alert = receive(&mut pair.client, &records(&mut pair.server));
    assert_eq!(alert, Err(Error::AlertReceived(AlertDescription::HandshakeFailure)));
}

#[test]
fn a_device_key_that_is_not_its_certificates_is_refused() {
    let ca = Ca::new("CA");
    let mut device = ca.issue("device.invalid");
    device.key_pkcs8 = ca.issue("device.invalid").key_pkcs8;
    let provider = ours(TLS13_CHACHA20_POLY1305_SHA256);
    let found = CertifiedKey::from_der(vec![device.certificate.clone()], device.key(), &provider);
    assert!(matches!(found, Err(Error::InconsistentKeys(_))), "{found:?}");
}
