//! Certificate signing requests: PKCS#10 (RFC 2986) in base64.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

/// Why a CSR was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum CsrError {
    #[error("expected a CSR in base64 (RFC 8951 section 3), found other characters")]
    Base64,
    #[error("expected one PKCS#10 certificate signing request in DER, found other bytes")]
    Der,
    #[error("expected an EC P-256 public key, found another")]
    Curve,
    #[error("the CSR is not signed by its own key; sign it with ECDSA and SHA-256")]
    ProofOfPossession,
}

/// The public key of a CSR that proves to have the private one. Nothing else of it is used: who the device is, the
/// server knows better.
pub(super) fn public_key(body: &[u8]) -> Result<SubjectPublicKeyInfo, CsrError> {
    let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = BASE64_STANDARD.decode(text).map_err(|_| CsrError::Base64)?;
    let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError::Der)?;
    if !rest.is_empty() {
        return Err(CsrError::Der);
    }
    let key = SubjectPublicKeyInfo::from_der(csr.certification_request_info.subject_pki.raw)
        .map_err(|_| CsrError::Curve)?;
    if *key.algorithm() != PKCS_ECDSA_P256_SHA256 {
        return Err(CsrError::Curve);
    }
    csr.verify_signature().map_err(|_| CsrError::ProofOfPossession)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    fn csr(key: &KeyPair) -> Vec<u8> {
        CertificateParams::new(vec!["ignored".to_owned()])
            .unwrap()
            .serialize_request(key)
            .unwrap()
            .der()
            .to_vec()
    }

    fn p256() -> KeyPair {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
    }

    #[test]
    fn base64_is_read_with_and_without_line_breaks() {
        let key = p256();
        let plain = BASE64_STANDARD.encode(csr(&key));
        let lines = |separator: &str| {
            let lines: Vec<_> =
                plain.as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
            lines.join(separator) + separator
        };
        for text in [plain.clone(), lines("\n"), lines("\r\n"), lines(" \t")] {
            assert_eq!(public_key(text.as_bytes()).unwrap().der_bytes(), key.der_bytes());
        }
    }

    #[test]
    fn every_changed_byte_of_the_signed_part_is_noticed() {
        let der = csr(&p256());
        let (_, parsed) = X509CertificationRequest::from_der(&der).unwrap();
        let signed = parsed.certification_request_info.raw;
        let first = der.windows(signed.len()).position(|window| window == signed).unwrap();
        for index in first..first + signed.len() {
            let mut changed = der.clone();
            changed[index] ^= 1;
            let text = BASE64_STANDARD.encode(changed);
            assert!(public_key(text.as_bytes()).is_err(), "byte {index}");
        }
    }

    #[test]
    fn other_keys_and_other_bytes_are_refused() {
        for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let text = BASE64_STANDARD.encode(csr(&KeyPair::generate_for(algorithm).unwrap()));
            assert!(matches!(public_key(text.as_bytes()), Err(CsrError::Curve)));
        }
        let der = csr(&p256());
        assert!(matches!(public_key(&der), Err(CsrError::Base64)), "DER as it is");
        let twice = BASE64_STANDARD.encode([der.clone(), der].concat());
        assert!(matches!(public_key(twice.as_bytes()), Err(CsrError::Der)));
        assert!(matches!(public_key(b""), Err(CsrError::Der)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = public_key(&bytes);
            let _ = public_key(BASE64_STANDARD.encode(&bytes).as_bytes());
        }
    }
}
