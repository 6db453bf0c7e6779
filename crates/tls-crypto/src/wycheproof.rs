//! Wycheproof's vectors (<https://github.com/C2SP/wycheproof>), through the code that rustls calls.
//!
//! Each test states how many vectors it took from a set and how many of them had to be refused, so that a set that is
//! empty, or read wrongly, cannot pass.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use chacha20poly1305::aead::KeyInit;
use rustls::Error;
use rustls::crypto::cipher::PrefixedPayload;
use rustls::crypto::hmac::Hmac;
use rustls::crypto::tls13::Hkdf;
use rustls::crypto::{GetRandomFailed, SecureRandom, SupportedKxGroup};
use rustls_pki_types::SignatureVerificationAlgorithm;
use wycheproof::{TestResult, aead, ecdh, ecdsa, hkdf, mac};

use crate::aead::{RecordAead, open, seal};
use crate::hkdf::HkdfSha256;
use crate::hmac::HmacSha256;
use crate::kx::Secp256r1;
use crate::verify::EcdsaP256Sha256;

/// Vectors that were run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    accepted: usize,
    refused: usize,
}

impl Count {
    /// Counts a vector, after checking that `accepted` is what its `result` asks for.
    fn add(&mut self, id: usize, result: TestResult, accepted: bool) {
        match result {
            TestResult::Valid => assert!(accepted, "vector {id} is right, but was refused"),
            TestResult::Invalid => assert!(!accepted, "vector {id} is wrong, but was accepted"),
            TestResult::Acceptable => panic!("vector {id} leaves it open; the test has to decide"),
        }
        *(if accepted { &mut self.accepted } else { &mut self.refused }) += 1;
    }
}

#[test]
fn ecdsa_p256_sha256() {
    let set = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256).unwrap();
    let mut count = Count::default();
    for group in &set.test_groups {
        for test in &group.tests {
            let verified = EcdsaP256Sha256.verify_signature(&group.key.key, &test.msg, &test.sig);
            count.add(test.tc_id, test.result, verified.is_ok());
        }
    }
    assert_eq!(count, Count { accepted: 174, refused: 310 });
}

/// Gives out a private key where random bytes are asked for.
#[derive(Debug)]
struct Chosen([u8; 32]);

impl SecureRandom for Chosen {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        buffer.copy_from_slice(&self.0);
        Ok(())
    }
}

#[test]
fn ecdh_secp256r1() {
    let set = ecdh::TestSet::load(ecdh::TestName::EcdhSecp256r1Ecpoint).unwrap();
    let (mut count, mut compressed) = (Count::default(), 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // Numbers come without leading zeros, or with one more than fits.
        let mut private = [0; 32];
        for (to, from) in private.iter_mut().rev().zip(test.private_key.iter().rev()) {
            *to = *from;
        }
        let exchange = Secp256r1::new(Box::leak(Box::new(Chosen(private)))).start().unwrap();
        let shared = exchange.complete(&test.public_key);
        if test.flags.contains(&ecdh::TestFlag::CompressedPoint) {
            assert!(shared.is_err(), "vector {} is a compressed point", test.tc_id);
            compressed += 1;
            continue;
        }
        if let Ok(shared) = &shared {
            assert_eq!(shared.secret_bytes(), &test.shared_secret[..], "vector {}", test.tc_id);
        }
        count.add(test.tc_id, test.result, shared.is_ok());
    }
    assert_eq!((count, compressed), (Count { accepted: 330, refused: 17 }, 8));
}

#[test]
fn chacha20_poly1305() {
    let count = aead::<chacha20poly1305::ChaCha20Poly1305>(aead::TestName::ChaCha20Poly1305);
    assert_eq!(count, Count { accepted: 256, refused: 60 });
}

#[cfg(feature = "aes-gcm")]
#[test]
fn aes_128_gcm() {
    assert_eq!(aead::<aes_gcm::Aes128Gcm>(aead::TestName::AesGcm), Count { accepted: 40, refused: 27 });
}

/// Runs the vectors with the key length of `A`, nonces of 96 bits and tags of 128.
fn aead<A: RecordAead>(name: aead::TestName) -> Count {
    let set = aead::TestSet::load(name).unwrap();
    let sizes = (8 * A::key_size(), 96, 128);
    let mut count = Count::default();
    for group in set.test_groups.iter().filter(|g| (g.key_size, g.nonce_size, g.tag_size) == sizes) {
        for test in &group.tests {
            let cipher = <A as KeyInit>::new_from_slice(&test.key).unwrap();
            let nonce = <[u8; 12]>::try_from(&test.nonce[..]).unwrap();
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            if test.result == TestResult::Valid {
                let mut payload = PrefixedPayload::from(&test.pt[..]);
                seal(&cipher, &nonce, &test.aad, &mut payload).unwrap();
                assert_eq!(payload.as_ref(), sealed, "vector {}", test.tc_id);
            }
            let mut buffer = sealed;
            let opened = open(&cipher, &nonce, &test.aad, &mut buffer).ok();
            if let Some(plain_bytes) = opened {
                assert_eq!(buffer[..plain_bytes], test.pt[..], "vector {}", test.tc_id);
            }
            count.add(test.tc_id, test.result, opened.is_some());
        }
    }
    count
}

#[test]
fn less_than_a_tag_is_no_record() {
    let cipher = chacha20poly1305::ChaCha20Poly1305::new(&[0; 32].into());
    for length in 0..16 {
        assert_eq!(open(&cipher, &[0; 12], b"", &mut vec![0; length]), Err(Error::DecryptError));
    }
}

#[test]
fn hmac_sha256() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut count = Count::default();
    for group in &set.test_groups {
        for test in &group.tests {
            let tag = HmacSha256.with_key(&test.key).sign(&[&test.msg]);
            count.add(test.tc_id, test.result, tag.as_ref()[..group.tag_size / 8] == test.tag[..]);
        }
    }
    assert_eq!(count, Count { accepted: 66, refused: 108 });
}

#[test]
fn hkdf_sha256() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let mut count = Count::default();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut okm = vec![0; test.size];
        let expander = HkdfSha256.extract_from_secret(Some(&test.salt), &test.ikm);
        let expanded = expander.expand_slice(&[&test.info], &mut okm);
        if expanded.is_ok() {
            assert_eq!(okm, test.okm[..], "vector {}", test.tc_id);
        }
        count.add(test.tc_id, test.result, expanded.is_ok());
    }
    assert_eq!(count, Count { accepted: 83, refused: 3 });
}

#[test]
fn no_salt_and_no_secret_are_zeros() {
    let bytes = |expander: Box<dyn rustls::crypto::tls13::HkdfExpander>| -> Vec<u8> {
        expander.expand_block(&[b"info"]).as_ref().to_vec()
    };
    let zeros = bytes(HkdfSha256.extract_from_secret(Some(&[0; 32]), &[0; 32]));
    assert_eq!(bytes(HkdfSha256.extract_from_zero_ikm(None)), zeros);
    assert_eq!(bytes(HkdfSha256.extract_from_secret(None, &[0; 32])), zeros);
}
