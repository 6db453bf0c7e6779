//! Which device makes a request: the one that its client certificate was issued to.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Refusal;
use crate::app::App;
use crate::listener::PeerCertificate;
use crate::store::{DeviceWrite, Known};

/// A device that may make requests: its certificate is of our CA and in time (checked in the TLS handshake), is
/// the device's newest or the one before (until the newest is first used), and it is not revoked. The database is
/// asked at every request, so that a revocation holds from the next one on.
pub(crate) struct Device {
    pub(crate) known: Known,
    /// Serial number of the certificate that the request came with.
    pub(crate) serial: String,
    /// Whether that certificate is one of a CA that is being replaced.
    pub(crate) should_renew: bool,
}

impl FromRequestParts<Arc<App>> for Device {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let Some(PeerCertificate(Some(der))) = parts.extensions.get() else {
            return Err(Refusal::NoCertificate);
        };
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Refusal::UnknownCertificate)?;
        // A connection outlives its handshake, and a resumed session the check of the first one.
        if certificate.validity().not_after.timestamp() < app.config.clock.now_ms() / 1000 {
            return Err(Refusal::ExpiredCertificate);
        }
        let serial = hex::encode(certificate.raw_serial());
        let known = app.store.device_by_serial(serial.clone()).await?.ok_or(Refusal::UnknownCertificate)?;
        if let Some(reason) = known.revoked_reason {
            return Err(Refusal::Revoked(reason));
        }
        let is_current = known.certificate_serial.as_deref() == Some(&serial);
        let is_previous = known.previous_serial.as_deref() == Some(&serial);
        if !is_current && !is_previous {
            return Err(Refusal::ReplacedCertificate);
        }
        let token_open = known.token_redeemed_key.is_some() && known.token_void_at_ms.is_none();
        if is_current && (token_open || known.previous_serial.is_some()) {
            let now_ms = app.config.clock.now_ms();
            app.store.write(DeviceWrite::certificate(known.id.clone(), serial.clone(), now_ms)).await?;
        }
        let should_renew = certificate.issuer().as_raw() != app.ca.get().for_devices().subject();
        Ok(Self { known, serial, should_renew })
    }
}
