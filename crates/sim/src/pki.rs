//! Certificates for tests: a CA, what it may issue, and what it should never have issued.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// rcgen refused: a name that no certificate can carry, or no randomness.
#[derive(Debug, thiserror::Error)]
#[error("a test certificate could not be made; check its names")]
pub struct PkiError(#[from] rcgen::Error);

/// A key and the certificates for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and after it those of issuers that are no trust anchor; PEM.
    pub chain_pem: String,
    /// The certificate alone, DER.
    pub certificate_der: Vec<u8>,
    /// The private key, PKCS#8 in PEM.
    pub key_pem: String,
}

/// A day, as year, month (1 to 12) and day of the month.
pub type Date = (i32, u8, u8);

/// First and last day of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Valid from the beginning of this day (UTC).
    pub not_before: Date,
    /// Valid to the beginning of this day (UTC).
    pub not_after: Date,
}

impl Validity {
    /// Valid whenever these tests run.
    pub const GOOD: Self = Self { not_before: (2024, 1, 1), not_after: (2099, 1, 1) };
    /// Over before this project began.
    pub const EXPIRED: Self = Self { not_before: (2020, 1, 1), not_after: (2021, 1, 1) };
    /// Far in the future.
    pub const NOT_YET: Self = Self { not_before: (2098, 1, 1), not_after: (2099, 1, 1) };
}

/// A server certificate, right or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLeaf {
    /// Subject alternative names: DNS names and IP addresses in text.
    pub names: Vec<String>,
    /// When it is valid.
    pub validity: Validity,
    /// What it may be used for (RFC 5280 section 4.2.1.12).
    pub usage: Usage,
}

/// Extended key usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `id-kp-serverAuth`.
    Server,
    /// `id-kp-clientAuth` only: a device's certificate.
    Client,
}

impl ServerLeaf {
    /// A right certificate for `localhost` and 127.0.0.1.
    pub fn good() -> Self {
        Self {
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            validity: Validity::GOOD,
            usage: Usage::Server,
        }
    }

    /// A certificate for another name.
    pub fn wrong_name() -> Self {
        Self { names: vec!["other.invalid".to_owned()], ..Self::good() }
    }

    /// A certificate that is over.
    pub fn expired() -> Self {
        Self { validity: Validity::EXPIRED, ..Self::good() }
    }

    /// A certificate whose time has not come.
    pub fn not_yet_valid() -> Self {
        Self { validity: Validity::NOT_YET, ..Self::good() }
    }

    /// A certificate with the right name that is for clients only.
    pub fn client_only() -> Self {
        Self { usage: Usage::Client, ..Self::good() }
    }
}

/// An issuer. [`TestCa::new`] makes one that may be one; [`TestCa::usurped`] one that may not.
#[derive(Debug)]
pub struct TestCa {
    certificate_pem: String,
    certificate_der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    /// What to send after a certificate of this issuer so that it leads to a trust anchor.
    links_pem: String,
}

impl TestCa {
    /// A self-signed CA with a P-256 key.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn new(name: &str) -> Result<Self, PkiError> {
        let mut params = params(name, Vec::new(), Validity::GOOD)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = CertifiedIssuer::self_signed(params.clone(), &key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
            links_pem: String::new(),
        })
    }

    /// An attacker who holds a device's key and issues certificates with it, as if the device were a CA.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn usurped(device: &Identity) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(&device.key_pem)?;
        let certificate = device.certificate_der.as_slice().into();
        Ok(Self {
            certificate_pem: device.chain_pem.clone(),
            certificate_der: device.certificate_der.clone(),
            issuer: Issuer::from_ca_cert_der(&certificate, key)?,
            links_pem: device.chain_pem.clone(),
        })
    }

    /// The issuer's own certificate, PEM: a trust anchor for whoever trusts it.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The issuer's own certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// Issues a server certificate for a new key.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn server(&self, leaf: &ServerLeaf) -> Result<Identity, PkiError> {
        let params = params("Pitstop test server", leaf.names.clone(), leaf.validity)?;
        self.issue(params, leaf.usage)
    }

    /// Issues a device certificate for a new key; the subject is the device id.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn device(&self, device_id: &str, validity: Validity) -> Result<Identity, PkiError> {
        self.issue(params(device_id, Vec::new(), validity)?, Usage::Client)
    }

    fn issue(&self, mut params: CertificateParams, usage: Usage) -> Result<Identity, PkiError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            chain_pem: certificate.pem() + &self.links_pem,
            certificate_der: certificate.der().to_vec(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn params(name: &str, alt_names: Vec<String>, validity: Validity) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(alt_names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let date = |(year, month, day)| date_time_ymd(year, month, day);
    params.not_before = date(validity.not_before);
    params.not_after = date(validity.not_after);
    Ok(params)
}
