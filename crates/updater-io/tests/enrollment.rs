//! Keys, certificate requests, certificates and the EST exchange.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::Command;

use embedded_io_async::ErrorKind;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rcgen::{CertificateSigningRequestParams, KeyPair};
use support::pki::{Authority, params};
use support::run;
use support::stream::Script;
use updater_io::est::{EnrolledChain, EstError, simpleenroll, simplereenroll};
use updater_io::http::{HttpClient, HttpError};
use updater_io::pki::{
    DeviceKey, MAX_CERTIFICATES, PkiError, certs_only, csr, leaf_facts, split_certificates,
};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

const LEAF: &[u8] = include_bytes!("golden/leaf.der");
const CA: &[u8] = include_bytes!("golden/ca.der");
const CERTS_ONLY: &[u8] = include_bytes!("golden/certs-only.p7");

/// Seeded, so that a failure comes again.
fn rng() -> StdRng {
    StdRng::seed_from_u64(7030)
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let length = value.len() as u16;
    let mut encoded = match length {
        0..128 => vec![tag, length as u8],
        _ => [&[tag, 0x82], length.to_be_bytes().as_slice()].concat(),
    };
    encoded.extend_from_slice(&value);
    encoded
}

/// A certs-only message as RFC 5652 section 5 has it.
fn pkcs7(certificates: &[&[u8]]) -> Vec<u8> {
    const SIGNED_DATA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
    const DATA: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
    let signed_data =
        tlv(0x30, &[&[2, 1, 1], &[0x31, 0], &tlv(0x30, &[DATA]), &tlv(0xa0, certificates), &[0x31, 0]]);
    tlv(0x30, &[SIGNED_DATA, &tlv(0xa0, &[&signed_data])])
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    Base64::encode_string(bytes)
}

#[test]
fn a_request_is_accepted_by_other_implementations() {
    let key = DeviceKey::generate(&mut rng()).unwrap();
    for device_id in ["device-1", &"x".repeat(64)] {
        let request = csr(&key, device_id).unwrap();
        assert_eq!(csr(&key, device_id).unwrap(), request, "the signature is deterministic");

        let (rest, parsed) = X509CertificationRequest::from_der(&request).unwrap();
        assert!(rest.is_empty());
        parsed.verify_signature().unwrap();
        let info = &parsed.certification_request_info;
        assert_eq!(info.subject.to_string(), format!("CN={device_id}"));
        assert_eq!(*info.subject_pki.subject_public_key.data, key.public_key());

        CertificateSigningRequestParams::from_der(&request.as_slice().into()).unwrap();

        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &request).unwrap();
        let openssl = Command::new("openssl")
            .args(["req", "-inform", "DER", "-verify", "-noout", "-subject", "-in"])
            .arg(file.path())
            .output();
        match openssl {
            Ok(output) => {
                let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                assert!(output.status.success() && said.contains("verify OK"), "{said}");
                assert!(said.contains(device_id), "{said}");
            }
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "openssl must be there in CI: {error}");
                eprintln!("SKIPPED: openssl cannot be run ({error}); install it to run this check");
            }
        }
    }
    assert_eq!(csr(&key, "").unwrap_err(), PkiError::BadDeviceId { found_bytes: 0 });
    assert_eq!(csr(&key, &"x".repeat(65)).unwrap_err(), PkiError::BadDeviceId { found_bytes: 65 });
}

#[test]
fn keys_are_what_ring_and_rcgen_take() {
    let key = DeviceKey::generate(&mut rng()).unwrap();
    let stored = key.to_pkcs8();
    let other = KeyPair::try_from(stored.as_slice()).unwrap();
    assert_eq!(other.public_key_raw(), key.public_key());
    assert_eq!(DeviceKey::from_pkcs8(&other.serialize_der()).unwrap().public_key(), key.public_key());
}

#[test]
fn facts_of_certificates_agree_with_another_parser() {
    let authority = Authority::new("Test CA");
    let mut far = params("far", &[], &[]);
    // From 2050 on, times are GeneralizedTime (RFC 5280 section 4.1.2.5).
    far.not_after = rcgen::date_time_ymd(2099, 12, 31);
    let far = authority.sign(&far).certificate;
    let device = authority.device().certificate;
    for der in [LEAF, CA, &far, &device, &authority.certificate] {
        let (_, expected) = X509Certificate::from_der(der).unwrap();
        let facts = leaf_facts(der).unwrap();
        assert_eq!(facts.not_before_s as i64, expected.validity().not_before.timestamp());
        assert_eq!(facts.not_after_s as i64, expected.validity().not_after.timestamp());
        assert_eq!(facts.public_key, &*expected.public_key().subject_public_key.data);
    }

    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let other_kind = params("x", &[], &[]).signed_by(&ed25519, &authority.issuer).unwrap();
    assert_eq!(leaf_facts(other_kind.der()), Err(PkiError::NotP256));
    assert!(matches!(leaf_facts(b""), Err(PkiError::Malformed { .. })));
}

#[test]
fn bundles_are_taken_apart() {
    assert_eq!(certs_only(CERTS_ONLY).unwrap(), [LEAF, CA], "as openssl makes them");
    assert_eq!(certs_only(&pkcs7(&[CA, LEAF])).unwrap(), [CA, LEAF]);
    assert_eq!(certs_only(&pkcs7(&[CA; 9])), Err(PkiError::TooManyCertificates));
    assert_eq!(certs_only(&pkcs7(&[CA; MAX_CERTIFICATES])).unwrap().len(), MAX_CERTIFICATES);
    assert!(matches!(certs_only(&pkcs7(&[])), Err(PkiError::Malformed { .. })));
    assert!(matches!(certs_only(CA), Err(PkiError::Malformed { .. })));
    for end in 0..CERTS_ONLY.len() {
        assert!(certs_only(&CERTS_ONLY[..end]).is_err(), "cut at {end}");
    }
    assert!(certs_only(&[CERTS_ONLY, &[0]].concat()).is_err());
    assert_eq!(split_certificates(&[CA, LEAF].concat()).unwrap(), [CA, LEAF]);
    assert!(split_certificates(&[CA, &LEAF[..20]].concat()).is_err());
    assert!(split_certificates(&[]).is_err());
}

/// A certificate for `key`, and its issuer's.
fn certify(key: &DeviceKey) -> (Vec<u8>, Vec<u8>) {
    let authority = Authority::new("Test CA");
    let request = csr(key, "device-1").unwrap();
    let request = CertificateSigningRequestParams::from_der(&request.as_slice().into()).unwrap();
    let certificate = request.signed_by(&authority.issuer).unwrap();
    (certificate.der().to_vec(), authority.certificate.to_vec())
}

fn response(status: &str, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len()).into_bytes()
}

const PKCS7: &str =
    "Content-Type: application/pkcs7-mime; smime-type=certs-only\r\nContent-Transfer-Encoding: base64\r\n";

fn enroll(key: &DeviceKey, response: &[u8]) -> Result<EnrolledChain, EstError<ErrorKind>> {
    let mut http = HttpClient::new(Script::whole(response));
    run(simpleenroll(&mut http, "localhost:8443", key, "device-1", "token"))
}

#[test]
fn an_enrollment_asks_as_rfc_7030_says() {
    let key = DeviceKey::generate(&mut rng()).unwrap();
    let request = base64(&csr(&key, "device-1").unwrap());
    let mut http = HttpClient::new(Script::whole(&response("401 Unauthorized", "", "")));
    let refused = run(simpleenroll(&mut http, "localhost:8443", &key, "device-1", "to:ken"));
    assert!(matches!(refused, Err(EstError::Refused { status: 401 })));
    let expected = format!(
        "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost:8443\r\n\
         Authorization: Basic {}\r\nContent-Type: application/pkcs10\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Length: {}\r\n\r\n{request}",
        base64(b"device-1:to:ken"),
        request.len()
    );
    assert_eq!(String::from_utf8(http.into_stream().written).unwrap(), expected);

    let mut http = HttpClient::new(Script::whole(&response("403 Forbidden", "", "")));
    let refused = run(simplereenroll(&mut http, "localhost", &key, "device-1"));
    assert!(matches!(refused, Err(EstError::Refused { status: 403 })));
    let written = String::from_utf8(http.into_stream().written).unwrap();
    assert!(written.starts_with("POST /.well-known/est/simplereenroll HTTP/1.1\r\n"));
    assert!(!written.contains("Authorization"));
}

#[test]
fn a_certificate_is_taken_in_any_order_and_with_or_without_line_breaks() {
    let key = DeviceKey::generate(&mut rng()).unwrap();
    let (leaf, ca) = certify(&key);
    for certificates in [vec![&leaf[..], &ca], vec![&ca, &leaf], vec![LEAF, &ca, &leaf], vec![&leaf]] {
        let text = base64(&pkcs7(&certificates));
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        for body in [text.clone(), lines.join("\r\n"), lines.join("\n") + "\n"] {
            let chain = enroll(&key, &response("200 OK", PKCS7, &body)).unwrap();
            assert_eq!(chain.certificates[0].as_ref(), leaf);
            let others: Vec<_> = certificates.iter().filter(|der| **der != leaf).copied().collect();
            let found: Vec<&[u8]> = chain.certificates[1..].iter().map(AsRef::as_ref).collect();
            assert_eq!(found, others, "the others keep their order");
        }
    }
}

#[test]
fn whatever_else_a_server_answers_has_its_own_error() {
    let key = DeviceKey::generate(&mut rng()).unwrap();
    let pending = |fields| enroll(&key, &response("202 Accepted", fields, ""));
    assert!(matches!(pending("Retry-After: 120\r\n"), Err(EstError::Pending { retry_after_s: Some(120) })));
    assert!(matches!(pending(""), Err(EstError::Pending { retry_after_s: None })));
    assert!(matches!(
        pending("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n"),
        Err(EstError::Pending { retry_after_s: None })
    ));
    for status in [400, 404, 302, 500] {
        let answer = enroll(&key, &response(&format!("{status} X"), "", "why"));
        assert!(matches!(answer, Err(EstError::Status { status: found, .. }) if found == status));
    }
    let good = base64(&pkcs7(&[LEAF, CA]));
    assert!(matches!(enroll(&key, &response("200 OK", PKCS7, &good)), Err(EstError::CertificateMismatch)));
    let html = "Content-Type: text/html\r\n";
    assert!(matches!(enroll(&key, &response("200 OK", html, &good)), Err(EstError::NotPkcs7)));
    assert!(matches!(enroll(&key, &response("200 OK", PKCS7, "!")), Err(EstError::NotPkcs7)));
    assert!(matches!(enroll(&key, &response("200 OK", PKCS7, &base64(CA))), Err(EstError::Pki(_))));
    let long = "A".repeat(8193);
    assert!(matches!(
        enroll(&key, &response("200 OK", PKCS7, &long)),
        Err(EstError::Http(HttpError::BodyTooLarge { body_bytes: 8193, .. }))
    ));
    assert!(matches!(enroll(&key, b""), Err(EstError::Http(HttpError::ConnectionLost { .. }))));
}

fn walk_everything(bytes: &[u8]) {
    let _ = leaf_facts(bytes);
    let _ = certs_only(bytes);
    let _ = split_certificates(bytes);
    let _ = DeviceKey::from_pkcs8(bytes);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        walk_everything(&bytes);
    }

    #[test]
    fn changed_bytes_never_panic(
        which in 0usize..3,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = [LEAF, CA, CERTS_ONLY][which].to_vec();
        for (index, byte) in changes {
            let place = index.index(bytes.len());
            bytes[place] = byte;
        }
        walk_everything(&bytes);
    }
}

#[test]
fn flipped_bits_never_panic() {
    for original in [LEAF, CA, CERTS_ONLY] {
        for bit in 0..original.len() * 8 {
            let mut bytes = original.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            walk_everything(&bytes);
        }
    }
}
