//! The private CA: certificates for devices and for the server itself.

use std::io;
use std::path::{Path, PathBuf};

use manifest::Digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, RevocationReason, RevokedCertParams, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

use crate::clock::{self, EARLIEST};
use crate::error::StartError;
use crate::store::{BACKDATED, DeviceCertificate, Revoked};
use crate::{files, secret};

/// Life of the CA: longer than that of a device in the field; rollover is by `cacerts`.
const CA_DAYS: i64 = 3652;

/// The private CA with its key.
pub(crate) struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
    /// SHA-256 of the certificate, in hexadecimal.
    fingerprint: String,
    /// The subject's DER.
    subject: Vec<u8>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl CertificateAuthority {
    /// Reads `ca.key` and `ca.pem` in `dir`, or makes them. The first CA is valid from [`EARLIEST`] on: made by a clock that
    /// is ahead, it is good when the clock is right.
    pub(crate) fn open(dir: &Path, now: OffsetDateTime) -> Result<Self, StartError> {
        files::create_private_dir(dir).map_err(StartError::file("make", dir))?;
        match Self::read(dir, "ca")? {
            Some(ca) => Ok(ca),
            None => Self::make(dir, "ca", EARLIEST, now),
        }
    }

    /// The CA in `dir` whose certificate has this SHA-256, under whatever name.
    pub(crate) fn find(dir: &Path, fingerprint: &str) -> Result<Option<Self>, StartError> {
        let files = match std::fs::read_dir(dir) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StartError::file("read", dir)(error)),
        };
        for file in files {
            let path = file.map_err(StartError::file("read", dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(name) = name.strip_suffix(".pem") else { continue };
            let pem = std::fs::read_to_string(&path).map_err(StartError::file("read", &path))?;
            let is_it = pem_certificate(&pem, &path).is_ok_and(|der| fingerprint_of(&der) == fingerprint);
            if is_it {
                return Self::read(dir, name);
            }
        }
        Ok(None)
    }

    /// SHA-256 of the certificate in `ca.pem`, if there is one.
    pub(crate) fn fingerprint_in(dir: &Path) -> Option<String> {
        let path = dir.join("ca.pem");
        let pem = std::fs::read_to_string(&path).ok()?;
        pem_certificate(&pem, &path).ok().map(|der| fingerprint_of(&der))
    }

    /// Makes a CA beside the present one, valid from `not_before` on.
    pub(crate) fn make_next(
        dir: &Path,
        not_before: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<Self, StartError> {
        Self::make(dir, &format!("ca-{}", hex::encode(secret::random::<4>())), not_before, now)
    }

    fn make(
        dir: &Path,
        name: &str,
        not_before: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<Self, StartError> {
        if now < EARLIEST {
            return Err(StartError::Clock { found: clock::rfc3339(now.unix_timestamp() * 1000) });
        }
        let (key_path, pem_path) = paths(dir, name);
        // The certificate is written last: a key without one was never used.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(StartError::certificate("make the CA's key"))?;
        let certificate = ca_params(not_before, now)
            .self_signed(&key)
            .map_err(StartError::certificate("make the CA's certificate"))?;
        files::write_private(&key_path, key.serialize_pem().as_bytes())
            .map_err(StartError::file("write", &key_path))?;
        files::write_private(&pem_path, certificate.pem().as_bytes())
            .map_err(StartError::file("write", &pem_path))?;
        Self::new(certificate.der().clone(), certificate.pem(), key, &pem_path)
    }

    fn read(dir: &Path, name: &str) -> Result<Option<Self>, StartError> {
        let (key_path, pem_path) = paths(dir, name);
        let pem = files::read_if_there(&pem_path).map_err(StartError::file("read", &pem_path))?;
        let Some(pem) = pem else { return Ok(None) };
        require_private(&key_path)?;
        let key_pem = std::fs::read_to_string(&key_path).map_err(StartError::file("read", &key_path))?;
        let key = KeyPair::from_pem(&key_pem).map_err(StartError::certificate("read the CA's key"))?;
        let der = pem_certificate(&pem, &pem_path)?;
        Self::new(der, pem, key, &pem_path).map(Some)
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
                expected: "the certificate of the key beside it",
                path: pem_path.to_owned(),
            });
        }
        let not_before = certificate.validity().not_before.to_datetime();
        let not_after = certificate.validity().not_after.to_datetime();
        let (subject, fingerprint) = (certificate.subject().as_raw().to_vec(), fingerprint_of(&der));
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(StartError::certificate("read the CA's certificate"))?;
        Ok(Self { issuer, der, pem, fingerprint, subject, not_before, not_after })
    }

    /// SHA-256 of its certificate, in hexadecimal.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Its subject, which is the issuer of its certificates, in DER.
    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// Since when it is valid.
    pub(crate) fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Until when it is valid.
    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Issues a certificate revocation list (RFC 5280 section 5). Its number grows with the time.
    pub(crate) fn issue_crl(
        &self,
        revoked: &[Revoked],
        now: OffsetDateTime,
        life: Duration,
    ) -> Result<CertificateRevocationList, rcgen::Error> {
        let number = u64::try_from(now.unix_timestamp_nanos()).unwrap_or_default();
        let revoked_certs = revoked.iter().map(|revoked| RevokedCertParams {
            serial_number: SerialNumber::from(hex::decode(&revoked.serial).unwrap_or_default()),
            revocation_time: clock::from_ms(revoked.revoked_at_ms),
            // RFC 5280 section 5.3.1: absent where there is nothing to say.
            reason_code: (revoked.suspended == 1).then_some(RevocationReason::CertificateHold),
            invalidity_date: None,
        });
        CertificateRevocationListParams {
            // Clocks differ.
            this_update: now - Duration::minutes(5),
            next_update: now + life,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer)
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
    /// It starts a day ago: only the server judges it, and the server has a clock. Its life counts from `newest`, which
    /// is `now` unless the clock went back ([`crate::ca_keeper::CaKeeper::newest`]).
    pub(crate) fn issue_device(
        &self,
        device: &str,
        product: &str,
        key: &SubjectPublicKeyInfo,
        now: OffsetDateTime,
        newest: OffsetDateTime,
        days: u32,
    ) -> Result<DeviceCertificate, rcgen::Error> {
        let serial = new_serial();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationalUnitName, product);
        params.distinguished_name.push(DnType::CommonName, device);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = now - BACKDATED;
        params.not_after = self.not_after.min(newest + Duration::days(days.into()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let (not_before, not_after) = (params.not_before, params.not_after);
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok(DeviceCertificate {
            der: certificate.der().clone(),
            serial: hex::encode(serial),
            issuer: self.fingerprint.clone(),
            key_digest: Digest::of(&key.subject_public_key_info()).to_string(),
            not_before,
            not_after,
        })
    }

    /// Reads a certificate that this CA issued for a device, as TLS has verified it, with the device's id and product.
    pub(crate) fn read_device(
        &self,
        der: &CertificateDer<'static>,
        certificate: &X509Certificate<'_>,
    ) -> Option<(String, String, DeviceCertificate)> {
        let subject = certificate.subject();
        let text = |attribute: &AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
        let device = subject.iter_common_name().next().and_then(text)?;
        let product = subject.iter_organizational_unit().next().and_then(text)?;
        let validity = certificate.validity();
        let certificate = DeviceCertificate {
            der: der.clone(),
            serial: hex::encode(certificate.raw_serial()),
            issuer: self.fingerprint.clone(),
            key_digest: Digest::of(certificate.public_key().raw).to_string(),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
        };
        Some((device, product, certificate))
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
fn ca_params(not_before: OffsetDateTime, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Pitstop");
    // Two CAs have two names, so that a device that meets the wrong one says "unknown issuer" and not "bad signature".
    let name = format!("Pitstop CA {}", hex::encode(secret::random::<4>()));
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&new_serial()));
    params.not_before = not_before;
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

fn paths(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{name}.key")), dir.join(format!("{name}.pem")))
}

fn fingerprint_of(der: &CertificateDer<'_>) -> String {
    Digest::of(der).to_string()
}

/// Refuses a key that others than its owner may read: somebody may have.
fn require_private(path: &Path) -> Result<(), StartError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;

        let metadata = std::fs::metadata(path).map_err(StartError::file("read", path))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StartError::KeyMode { path: path.to_owned(), mode });
        }
    }
    Ok(())
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
        let device = ca.issue_device("lamp-1", "lamp", &spki, later, later, 90).unwrap();
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
    fn no_certificate_outlasts_its_ca() {
        let dir = tempfile::tempdir().unwrap();
        let now = clock::now_utc();
        let ca = CertificateAuthority::open(dir.path(), now).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let spki = SubjectPublicKeyInfo::from_der(&key.subject_public_key_info()).unwrap();
        for (days_left, days, expected) in [(100, 90, 90), (80, 90, 80)] {
            let now = ca.not_after() - Duration::days(days_left);
            let device = ca.issue_device("lamp-1", "lamp", &spki, now, now, days).unwrap();
            let server = ca.issue_server(&["localhost".to_owned()], &key, now, days).unwrap();
            for der in [device.der.as_ref(), server.der().as_ref()] {
                let (_, leaf) = X509Certificate::from_der(der).unwrap();
                assert_eq!(leaf.validity().not_after.to_datetime(), now + Duration::days(expected));
            }
            assert_eq!(device.not_after, now + Duration::days(expected));
        }
    }

    #[test]
    fn the_next_ca_is_as_old_as_the_present_one_and_both_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let now = clock::now_utc();
        let ca = CertificateAuthority::open(dir.path(), now).unwrap();
        let later = now + Duration::days(3000);
        let next = CertificateAuthority::make_next(dir.path(), ca.not_before(), later).unwrap();
        assert_eq!(next.not_before(), ca.not_before(), "devices have no clock");
        assert!(next.not_after() > ca.not_after());
        assert_ne!(next.subject(), ca.subject());
        for ca in [&ca, &next] {
            let found = CertificateAuthority::find(dir.path(), ca.fingerprint()).unwrap().unwrap();
            assert_eq!(found.der(), ca.der());
        }
        assert!(CertificateAuthority::find(dir.path(), &"0".repeat(64)).unwrap().is_none());
        assert_eq!(CertificateAuthority::fingerprint_in(dir.path()).unwrap(), ca.fingerprint());
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
        let path = dir.path().join("ca.key");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for mode in [0o640, 0o604] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = CertificateAuthority::open(dir.path(), clock::now_utc()).err().unwrap();
            let text = error.to_string();
            let command = format!("chmod 600 {}", path.display());
            assert!(text.contains(&format!("{mode:04o}")) && text.contains(&command), "{text}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        CertificateAuthority::open(dir.path(), clock::now_utc()).unwrap();
    }
}
