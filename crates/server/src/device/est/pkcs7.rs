//! The certs-only message (RFC 8551 section 3.8): a CMS SignedData that is signed by nobody.

use cms::cert::x509::Certificate;
use cms::content_info::ContentInfo;
use der::{Decode as _, Encode as _};

/// Certificates as certs-only DER.
pub(super) fn certs_only(certificates: &[impl AsRef<[u8]>]) -> der::Result<Vec<u8>> {
    let read = |der: &_| Certificate::from_der(AsRef::as_ref(der));
    let certificates: Vec<Certificate> = certificates.iter().map(read).collect::<der::Result<_>>()?;
    ContentInfo::try_from(certificates)?.to_der()
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
        let next = CertificateAuthority::make_next(dir.path(), ca.not_before(), clock::now_utc()).unwrap();
        let message = certs_only(&[ca.der(), next.der()]).unwrap();
        for der in [ca.der(), next.der()] {
            assert!(message.windows(der.len()).any(|window| window == der.as_ref()));
        }
        assert!(certs_only(&[&ca.der()[1..]]).is_err());
    }
}
