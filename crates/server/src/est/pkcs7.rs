//! The certs-only message (RFC 8551 section 3.8): a CMS SignedData that is signed by nobody.

use cms::cert::x509::Certificate;
use cms::content_info::ContentInfo;
use der::{Decode as _, Encode as _};

/// A certificate as certs-only DER.
pub(super) fn certs_only(certificate: &[u8]) -> der::Result<Vec<u8>> {
    ContentInfo::try_from(Certificate::from_der(certificate)?)?.to_der()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::CertificateAuthority;
    use crate::clock;

    #[test]
    fn the_certificate_is_within_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CertificateAuthority::open(dir.path(), clock::now_utc()).unwrap();
        let message = certs_only(ca.der()).unwrap();
        let der: &[u8] = ca.der();
        assert!(message.windows(der.len()).any(|window| window == der));
        assert!(certs_only(&der[1..]).is_err());
    }
}
