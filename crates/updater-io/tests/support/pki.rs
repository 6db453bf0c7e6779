//! Certificate authorities, servers and devices.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use updater_io::tls::Identity;

/// 2026-01-01, inside the validity of every certificate here unless a test says otherwise.
pub const NOW_S: u32 = 1_767_225_600;

pub struct Authority {
    pub certificate: CertificateDer<'static>,
    pub issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Subject {
    pub certificate: CertificateDer<'static>,
    pub key: KeyPair,
}

pub fn params(common_name: &str, names: &[&str], usage: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params.extended_key_usages = usage.to_vec();
    params
}

impl Authority {
    pub fn new(common_name: &str) -> Self {
        let mut params = params(common_name, &[], &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub fn sign(&self, params: &CertificateParams) -> Subject {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Subject { certificate, key }
    }

    /// A server with the DNS name `localhost`.
    pub fn server(&self) -> Subject {
        self.sign(&params("server", &["localhost"], &[ExtendedKeyUsagePurpose::ServerAuth]))
    }

    pub fn device(&self) -> Subject {
        self.sign(&params("device", &[], &[ExtendedKeyUsagePurpose::ClientAuth]))
    }
}

impl Subject {
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    pub fn identity(&self) -> Identity {
        Identity { chain: vec![self.certificate.clone()], key_pkcs8: self.key.serialize_der().into() }
    }
}
