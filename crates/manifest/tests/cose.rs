//! Signed manifests against the crate `coset`, in both directions, and against every changed byte.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use coset::{CborSerializable, CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana};
use manifest::{Manifest, PublisherKeys, PublisherSigningKey, Sequence, Signed, VerifyError};
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey};
use proptest::prelude::*;

fn secret(seed: u8) -> p256::SecretKey {
    p256::SecretKey::from_slice(&[seed; 32]).unwrap()
}

fn key(seed: u8) -> PublisherSigningKey {
    PublisherSigningKey::new(secret(seed))
}

fn keys(seeds: &[u8]) -> PublisherKeys {
    seeds.iter().map(|seed| key(*seed).publisher_key()).collect()
}

fn example() -> Manifest {
    let mut manifest = Manifest::describe(&[0xa5; 70_000], Sequence(3), "lamp", 5, "1.1.0").unwrap();
    manifest.min_slot_bytes = 131_072;
    manifest.expires_at_s = Some(1_900_000_000);
    manifest.revert_to = Some(vec![Sequence(2)]);
    manifest
}

#[test]
fn signing_and_verifying_round_trips() {
    let signed = Signed::sign(&example(), &key(1)).unwrap();
    assert_eq!(signed.verify(&keys(&[2, 1])).unwrap(), example());
    assert!(matches!(signed.verify(&keys(&[2])), Err(VerifyError::Signature)));
    assert!(matches!(signed.verify(&keys(&[])), Err(VerifyError::Signature)));
}

#[test]
fn coset_reads_what_we_write() {
    let signed = Signed::sign(&example(), &key(1)).unwrap();
    let message = CoseSign1::from_tagged_slice(signed.as_bytes()).unwrap();
    assert_eq!(message.unprotected.key_id, key(1).publisher_key().id());
    message
        .verify_signature(&[], |signature, signed| {
            let signature = Signature::from_slice(signature).unwrap();
            SigningKey::from(secret(1)).verifying_key().verify(signed, &signature)
        })
        .unwrap();
}

fn by_coset(algorithm: iana::Algorithm, payload: Vec<u8>, tagged: bool) -> Vec<u8> {
    signed_by_coset(HeaderBuilder::new().algorithm(algorithm), payload, tagged)
}

fn signed_by_coset(protected: HeaderBuilder, payload: Vec<u8>, tagged: bool) -> Vec<u8> {
    let message = CoseSign1Builder::new()
        .protected(protected.build())
        .payload(payload)
        .create_signature(&[], |bytes| {
            let signature: Signature = SigningKey::from(secret(1)).sign(bytes);
            signature.to_bytes().to_vec()
        })
        .build();
    if tagged { message.to_tagged_vec().unwrap() } else { message.to_vec().unwrap() }
}

#[test]
fn we_read_what_coset_writes_tagged_or_not() {
    let payload = minicbor::to_vec(example()).unwrap();
    for tagged in [true, false] {
        let bytes = by_coset(iana::Algorithm::ES256, payload.clone(), tagged);
        assert_eq!(Signed::from_bytes(bytes).verify(&keys(&[1])).unwrap(), example());
    }
}

#[test]
fn another_algorithm_is_refused_even_with_a_good_signature() {
    let bytes = by_coset(iana::Algorithm::ES384, minicbor::to_vec(example()).unwrap(), true);
    let error = Signed::<Manifest>::from_bytes(bytes).verify(&keys(&[1])).unwrap_err();
    assert!(matches!(error, VerifyError::Algorithm { found: -35 }), "{error}");
}

/// What else is protected may be critical, and this crate understands nothing else.
#[test]
fn a_protected_header_with_more_than_the_algorithm_is_refused() {
    let protected = HeaderBuilder::new().algorithm(iana::Algorithm::ES256).key_id(b"key".to_vec());
    let bytes = signed_by_coset(protected, minicbor::to_vec(example()).unwrap(), true);
    let error = Signed::<Manifest>::from_bytes(bytes).verify(&keys(&[1])).unwrap_err();
    assert!(matches!(error, VerifyError::Malformed(_)), "{error}");
}

#[test]
fn bytes_after_a_manifest_are_refused_though_they_are_signed() {
    let mut payload = minicbor::to_vec(example()).unwrap();
    payload.push(0);
    let bytes = by_coset(iana::Algorithm::ES256, payload, true);
    let error = Signed::<Manifest>::from_bytes(bytes).verify(&keys(&[1])).unwrap_err();
    assert!(matches!(error, VerifyError::Malformed(_)), "{error}");
}

#[test]
fn a_signed_manifest_that_contradicts_itself_is_refused() {
    let mut wrong = example();
    wrong.artifact.size_bytes = 1;
    let bytes = by_coset(iana::Algorithm::ES256, minicbor::to_vec(&wrong).unwrap(), true);
    let error = Signed::<Manifest>::from_bytes(bytes).verify(&keys(&[1])).unwrap_err();
    assert!(matches!(error, VerifyError::Manifest(_)), "{error}");
    assert!(Signed::sign(&wrong, &key(1)).is_err(), "and we do not sign one");
}

#[test]
fn fields_of_a_later_publisher_are_ignored() {
    let mut payload = minicbor::to_vec(example()).unwrap();
    // One more entry of the map: 99 => "later".
    assert_eq!(payload[0], 0xa9);
    payload[0] = 0xaa;
    payload.extend([0x18, 99, 0x65]);
    payload.extend(b"later");
    let bytes = by_coset(iana::Algorithm::ES256, payload, true);
    assert_eq!(Signed::from_bytes(bytes).verify(&keys(&[1])).unwrap(), example());
}

/// If this fails, do not change the file: devices in the field verify these bytes.
#[test]
fn golden_bytes_of_format_1() {
    let golden = hex::decode(include_str!("golden/manifest-1.hex").trim()).unwrap();
    let signed = Signed::from_bytes(golden.clone());
    assert_eq!(signed.verify(&keys(&[1])).unwrap(), example());
    // Signatures are deterministic (RFC 6979), so writing gives the same bytes.
    assert_eq!(Signed::sign(&example(), &key(1)).unwrap().as_bytes(), golden);
}

#[test]
fn every_changed_byte_is_refused_or_only_a_hint() {
    let signed = Signed::sign(&example(), &key(1)).unwrap();
    let bytes = signed.as_bytes();
    let kid = bytes.windows(8).position(|window| window == key(1).publisher_key().id()).unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            let verdict = Signed::<Manifest>::from_bytes(changed).verify(&keys(&[1]));
            // The unprotected header is the only part that may change: kid's label, head and value.
            let hint = (kid - 2..kid + 8).contains(&at);
            match verdict {
                Ok(manifest) => {
                    assert!(hint, "byte {at}, bit {bit}");
                    assert_eq!(manifest, example());
                }
                Err(_) => assert!(!hint || at < kid, "byte {at}, bit {bit}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn rubbish_never_panics_and_never_verifies(bytes: Vec<u8>) {
        prop_assert!(Signed::<Manifest>::from_bytes(bytes).verify(&keys(&[1])).is_err());
    }

    #[test]
    fn signed_rubbish_never_panics(payload: Vec<u8>) {
        let bytes = by_coset(iana::Algorithm::ES256, payload, true);
        prop_assert!(Signed::<Manifest>::from_bytes(bytes).verify(&keys(&[1])).is_err());
    }

    #[test]
    fn any_manifest_round_trips(
        size in 1..300_000usize,
        sequence: u64,
        chip_id: u16,
        version in "[ -~]{1,64}",
        product in "[a-z0-9-]{1,64}",
        expires_at_s: Option<u64>,
        reverts in proptest::option::of(proptest::collection::vec(any::<u64>().prop_map(Sequence), 0..16)),
    ) {
        let image = vec![7; size];
        let mut manifest =
            Manifest::describe(&image, Sequence(sequence), &product, chip_id, &version).unwrap();
        manifest.expires_at_s = expires_at_s;
        manifest.revert_to = reverts;
        let signed = Signed::sign(&manifest, &key(1)).unwrap();
        prop_assert_eq!(signed.verify(&keys(&[1])).unwrap(), manifest);
    }
}
