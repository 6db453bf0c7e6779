//! The CAs that are in force: one, or two while one takes the other's place.
//!
//! ```text
//!            begin                      switch                      finish
//! Steady ─────────────► Begun ─────────────────► Switched ─────────────────► Steady
//! one CA               anchors: old, new        anchors: old, new            the new CA
//!                      devices: new             devices: new
//!                      server: old              server: new
//! ```
//!
//! Which ones they are is in the database; their keys and certificates are files in the CA's directory, found by the
//! SHA-256 of the certificate. Clients with certificates of every CA in force are let in.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use wire::AnchorsDigest;

use crate::ca::CertificateAuthority;
use crate::error::StartError;
use crate::store::{InForce, Phase, Rollover};

/// The CAs in force, with their keys.
pub(crate) struct Authorities {
    old: CertificateAuthority,
    new: Option<CertificateAuthority>,
    /// What the database said when they were read.
    pub(crate) in_force: InForce,
}

impl Authorities {
    pub(crate) fn read(dir: &Path, in_force: InForce) -> Result<Self, StartError> {
        let find = |fingerprint: &String| {
            CertificateAuthority::find(dir, fingerprint)?.ok_or_else(|| StartError::OtherCa {
                path: dir.to_owned(),
                expected: fingerprint.clone(),
                found: CertificateAuthority::fingerprint_in(dir),
            })
        };
        let old = find(&in_force.ca)?;
        let new = match &in_force.rollover {
            Some(Rollover { phase: Phase::Begun | Phase::Switched, next, .. }) => Some(find(next)?),
            Some(Rollover { phase: Phase::Finished, .. }) | None => None,
        };
        Ok(Self { old, new, in_force })
    }

    #[cfg(test)]
    pub(crate) fn of_one(ca: CertificateAuthority) -> Self {
        let in_force = InForce { ca: ca.fingerprint().to_owned(), rollover: None };
        Self { old: ca, new: None, in_force }
    }

    /// The rollover that is under way.
    pub(crate) fn rollover(&self) -> Option<&Rollover> {
        self.in_force.rollover.as_ref().filter(|_| self.new.is_some())
    }

    /// All CAs in force, the newest last.
    pub(crate) fn all(&self) -> impl Iterator<Item = &CertificateAuthority> {
        [Some(&self.old), self.new.as_ref()].into_iter().flatten()
    }

    /// Whose certificates devices get when they renew. A device that enrolls gets one of [`Self::for_server`].
    pub(crate) fn for_devices(&self) -> &CertificateAuthority {
        self.new.as_ref().unwrap_or(&self.old)
    }

    /// Whose certificate the server shows.
    pub(crate) fn for_server(&self) -> &CertificateAuthority {
        match (&self.new, &self.in_force.rollover) {
            (Some(new), Some(Rollover { phase: Phase::Switched, .. })) => new,
            (Some(_) | None, Some(_) | None) => &self.old,
        }
    }

    /// The trust anchors of devices (DER).
    pub(crate) fn anchors(&self) -> Vec<CertificateDer<'static>> {
        self.all().map(|ca| ca.der().clone()).collect()
    }

    /// The trust anchors of devices, PEM after PEM.
    pub(crate) fn pem(&self) -> String {
        self.all().map(CertificateAuthority::pem).collect()
    }

    /// The digest of the trust anchors, as check-in and decision have it.
    pub(crate) fn anchors_digest(&self) -> AnchorsDigest {
        wire::anchors_digest(self.all().map(|ca| ca.der().as_ref()))
    }

    /// What decisions announce. A server that never had a rollover announces nothing: devices may have been given
    /// further anchors by hand, and keep them.
    pub(crate) fn announced(&self) -> Option<AnchorsDigest> {
        self.in_force.rollover.as_ref().map(|_| self.anchors_digest())
    }
}
