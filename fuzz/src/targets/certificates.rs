//! Any bytes as a certificate, as certificates one after the other, as a CMS message; what x509-parser makes of the same
//! bytes must not contradict.

use updater_io::pki::{MAX_CERTIFICATES, certs_only, is_self_issued, leaf_facts, split_certificates};
use x509_parser::prelude::{FromDer, X509Certificate};

pub type Input<'a> = &'a [u8];

pub fn run(der: Input<'_>) {
    if let Ok(certificates) = split_certificates(der) {
        assert!((1..=MAX_CERTIFICATES).contains(&certificates.len()));
        assert_eq!(certificates.concat(), der, "every byte belongs to one");
    }
    if let Ok(certificates) = certs_only(der) {
        assert!((1..=MAX_CERTIFICATES).contains(&certificates.len()));
        let bytes = der.as_ptr_range();
        for certificate in certificates {
            let part = certificate.as_ptr_range();
            assert!(bytes.start <= part.start && part.end <= bytes.end);
        }
    }
    let self_issued = is_self_issued(der);
    let facts = leaf_facts(der);
    let Ok((rest, other)) = X509Certificate::from_der(der) else { return };
    // Of a malformed name x509-parser takes the part before the fault: equal names are equal there too.
    if self_issued == Ok(true) {
        assert_eq!(other.issuer().as_raw(), other.subject().as_raw());
    }
    if let Ok(facts) = facts {
        assert!(rest.is_empty());
        assert_eq!(i64::try_from(facts.not_before_s), Ok(other.validity().not_before.timestamp()));
        assert_eq!(i64::try_from(facts.not_after_s), Ok(other.validity().not_after.timestamp()));
        assert_eq!(facts.public_key, &*other.public_key().subject_public_key.data);
    }
}
