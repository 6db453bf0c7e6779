//! The private CA: certificates for devices and for the server itself.

use std::path::Path;

use manifest::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::StartError;
use crate::{files, secret};

/// Life of the CA: longer than that of a device in the field; rollover is by `cacerts`.
const CA_DAYS: i64 = 3652;

/// Certificates start this long before they are made, because clocks differ.
const BACKDATED: Duration = Duration::days(1);

/// The private CA with its key.
pub(crate) struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// A certificate for a device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceCertificate {
    pub(crate) der: CertificateDer<'static>,
    /// In hexadecimal.
    pub(crate) serial: String,
    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
    pub(crate) key_digest: String,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl CertificateAuthority {
    /// Reads `ca.key` and `ca.pem` in `dir`, or makes them.
    pub(crate) fn open(dir: &Path, now: OffsetDateTime) -> Result<Self, StartError> {
        let (key_path, pem_path) = (dir.join("ca.key"), dir.join("ca.pem"));
        files::create_private_dir(dir).map_err(StartError::file("make", dir))?;
        let pem = files::read_if_there(&pem_path).map_err(StartError::file("read", &pem_path))?;
        let Some(pem) = pem else {
            // The certificate is written last: a key without one was never used.
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
                .map_err(StartError::certificate("make the CA's key"))?;
            let certificate = ca_params(now)
                .self_signed(&key)
                .map_err(StartError::certificate("make the CA's certificate"))?;
            files::write_private(&key_path, key.serialize_pem().as_bytes())
                .map_err(StartError::file("write", &key_path))?;
            files::write_private(&pem_path, certificate.pem().as_bytes())
                .map_err(StartError::file("write", &pem_path))?;
            return Self::new(certificate.der().clone(), certificate.pem(), key, &pem_path);
        };
        let key_pem = std::fs::read_to_string(&key_path).map_err(StartError::file("read", &key_path))?;
        let key = KeyPair::from_pem(&key_pem).map_err(StartError::certificate("read the CA's key"))?;
        let der = pem_certificate(&pem, &pem_path)?;
        Self::new(der, pem, key, &pem_path)
    }

    fn new(
        der: CertificateDer<'static>,
        pem: String,
        key: KeyPair,
        pem_path: &Path,
    ) -> Result<Self, StartError> {
        let not_a_ca =
            || StartError::CertificateFile { expected: "the CA's certificate", path: pem_path.to_owned() };
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| not_a_ca())?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(StartError::CertificateFile {
                expected: "the certificate of the key in ca.key",
                path: pem_path.to_owned(),
            });
        }
        let not_before = certificate.validity().not_before.to_datetime();
        let not_after = certificate.validity().not_after.to_datetime();
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(StartError::certificate("read the CA's certificate"))?;
        Ok(Self { issuer, der, pem, not_before, not_after })
    }

    /// The CA's own certificate.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The CA's own certificate as PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate for a device. Everything but the key is the server's to say, never the CSR's.
    ///
    /// It starts a day ago: only the server judges it, and the server has a clock.
    pub(crate) fn issue_device(
        &self,
        device: &str,
        product: &str,
        key: &SubjectPublicKeyInfo,
        now: OffsetDateTime,
        days: u32,
    ) -> Result<DeviceCertificate, rcgen::Error> {
        let serial = new_serial();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationalUnitName, product);
        params.distinguished_name.push(DnType::CommonName, device);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = now - BACKDATED;
        params.not_after = self.not_after.min(now + Duration::days(days.into()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let (not_before, not_after) = (params.not_before, params.not_after);
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok(DeviceCertificate {
            der: certificate.der().clone(),
            serial: hex::encode(serial),
            key_digest: Digest::of(&key.subject_public_key_info()).to_string(),
            not_before,
            not_after,
        })
    }

    /// Issues a certificate for the device listener.
    ///
    /// It starts when the CA starts, whenever it is issued: a device has no clock but a time floor, which may be
    /// as old as the CA, and a certificate from its future is one that it must refuse.
    pub(crate) fn issue_server(
        &self,
        names: &[String],
        key: &KeyPair,
        now: OffsetDateTime,
        days: u32,
    ) -> Result<rcgen::Certificate, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = names.first() {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.serial_number = Some(SerialNumber::from_slice(&new_serial()));
        params.not_before = self.not_before;
        params.not_after = self.not_after.min(now + Duration::days(days.into()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer)
    }
}

/// The CA's certificate (RFC 5280 sections 4.2.1.3 and 4.2.1.9; rcgen marks both extensions critical).
fn ca_params(now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Pitstop");
    // Two CAs have two names, so that a device that meets the wrong one says "unknown issuer" and not "bad signature".
    let name = format!("Pitstop CA {}", hex::encode(secret::random::<4>()));
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&new_serial()));
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::days(CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A random serial number: 16 bytes, positive and without a leading zero, so that its DER has just these bytes
/// (RFC 5280 section 4.1.2.2).
fn new_serial() -> [u8; 16] {
    let mut serial = secret::random::<16>();
    serial[0] = serial[0] & 0x3F | 0x40;
    serial
}

/// The first certificate of a PEM text.
pub(crate) fn pem_certificate(pem: &str, path: &Path) -> Result<CertificateDer<'static>, StartError> {
    use rustls::pki_types::pem::PemObject as _;

    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| StartError::CertificateFile { expected: "a certificate in PEM", path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn the_ca_survives_a_restart_and_signs_both_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let now = clock::now_utc();
        let ca = CertificateAuthority::open(dir.path(), now).unwrap();
        let later = now + Duration::days(400);
        let ca = {
            let again = CertificateAuthority::open(dir.path(), later).unwrap();
            assert_eq!(again.der(), ca.der());
            again
        };
        let (_, root) = X509Certificate::from_der(ca.der()).unwrap();
        assert!(root.is_ca());
        let constraints = root.basic_constraints().unwrap().unwrap();
        assert_eq!((constraints.critical, constraints.value.path_len_constraint), (true, Some(0)));
        let usage = root.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let spki = SubjectPublicKeyInfo::from_der(&key.subject_public_key_info()).unwrap();
        let device = ca.issue_device("lamp-1", "lamp", &spki, later, 90).unwrap();
        let (_, leaf) = X509Certificate::from_der(&device.der).unwrap();
        leaf.verify_signature(Some(root.public_key())).unwrap();
        assert_eq!(leaf.subject().to_string(), "OU=lamp, CN=lamp-1");
        assert_eq!(hex::encode(leaf.raw_serial()), device.serial);
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);

        let server = ca.issue_server(&["localhost".to_owned()], &key, later, 730).unwrap();
        let (_, leaf) = X509Certificate::from_der(server.der()).unwrap();
        leaf.verify_signature(Some(root.public_key())).unwrap();
        assert_eq!(leaf.validity().not_before, root.validity().not_before, "devices have no clock");
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth && !usage.any);
    }

    #[test]
    fn a_certificate_of_another_key_is_noticed() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &other] {
            CertificateAuthority::open(dir.path(), clock::now_utc()).unwrap();
        }
        std::fs::copy(one.path().join("ca.key"), other.path().join("ca.key")).unwrap();
        let error = CertificateAuthority::open(other.path(), clock::now_utc()).err().unwrap();
        assert!(matches!(error, StartError::CertificateFile { .. }), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn the_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        CertificateAuthority::open(dir.path(), clock::now_utc()).unwrap();
        let mode = std::fs::metadata(dir.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
