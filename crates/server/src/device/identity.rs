//! Which device makes a request: the one that its client certificate was issued to.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::app::App;
use crate::listener::PeerCertificate;
use crate::refusal::Refusal;
use crate::store::{Change, DeviceWrite, Known};

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
        let known = match app.store.device_by_certificate(serial.clone(), der).await? {
            Some(known) => Some(known),
            None => adopt(app, der, &certificate).await?,
        };
        let known = known.ok_or(Refusal::UnknownCertificate)?;
        if known.revoked_at_ms.is_some() {
            return Err(Refusal::Revoked);
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

/// The device of a certificate that our CA issued and the database does not know: since the backup that it was restored
/// from, the device has renewed or enrolled.
async fn adopt(
    app: &App,
    der: &CertificateDer<'static>,
    certificate: &X509Certificate<'_>,
) -> Result<Option<Known>, Refusal> {
    let authorities = app.ca.get();
    let issuer = authorities.all().find(|ca| ca.subject() == certificate.issuer().as_raw());
    let Some((device, product, certificate)) = issuer.and_then(|ca| ca.read_device(der, certificate)) else {
        return Ok(None);
    };
    let change = Change::by_server(app.config.clock.now_ms());
    if !app.store.adopt_certificate(&device, &product, &certificate, &change).await? {
        return Ok(None);
    }
    tracing::warn!(device, "a certificate that the database did not know is the device's: it is newer");
    app.metrics.enrollments.add("adopted");
    Ok(app.store.device_by_certificate(certificate.serial, der).await?)
}
