//! Which device makes a request: the one that its client certificate was issued to. One that has ended is good for one
//! thing: the next one.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::app::App;
use crate::listener::PeerCertificate;
use crate::refusal::Refusal;
use crate::store::{Change, DeviceWrite, Known};

/// A device that may make requests: its certificate is of our CA (checked in the TLS handshake), in time, is the device's
/// newest or the one before (until the newest is first used), and it is not revoked. The database is asked at every
/// request, so that a revocation holds from the next one on.
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
        Ok(identify(parts, app, Purpose::Service).await?.device)
    }
}

/// A device that may ask for its next certificate: as [`Device`], and its certificate may have ended, no longer ago than the
/// operator set. So no absence locks a device out
/// ([decision 0080](../../../../docs/decisions/0080-no-absence-locks-a-device-out.md)).
pub(crate) struct Renewer {
    pub(crate) device: Device,
    /// When its certificate ended, if it has.
    pub(crate) ended_at_ms: Option<i64>,
}

impl FromRequestParts<Arc<App>> for Renewer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        identify(parts, app, Purpose::Renewal).await
    }
}

/// A refusal of a certificate that has ended is noted with its device no more often: whoever has one writes no more.
const NOTED_AGAIN_AFTER_MS: u64 = 3_600_000;

/// What a device comes for.
#[derive(Clone, Copy)]
enum Purpose {
    Service,
    Renewal,
}

async fn identify(parts: &Parts, app: &App, purpose: Purpose) -> Result<Renewer, Refusal> {
    let Some(PeerCertificate(Some(der))) = parts.extensions.get() else {
        return Err(Refusal::NoCertificate);
    };
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Refusal::UnknownCertificate)?;
    let serial = hex::encode(certificate.raw_serial());
    let now_ms = app.config.clock.now_ms();
    // A connection outlives its handshake, and a resumed session the check of the first one.
    let not_after_s = certificate.validity().not_after.timestamp();
    let ended_at_ms = (not_after_s < now_ms / 1000).then(|| not_after_s.saturating_mul(1000));
    let known = match app.store.device_by_certificate(serial.clone(), der).await? {
        Some(known) => Some(known),
        None => adopt(app, der, &certificate).await?,
    };
    let Some(known) = known else {
        return Err(match ended_at_ms {
            Some(_) => Refusal::EndedCertificate,
            None => Refusal::UnknownCertificate,
        });
    };
    if let Err((refusal, cause)) = judge(app, &known, &serial, ended_at_ms, purpose) {
        let noted_lately =
            known.refused_at_ms.is_some_and(|at_ms| now_ms.abs_diff(at_ms) < NOTED_AGAIN_AFTER_MS);
        if ended_at_ms.is_some() && !noted_lately {
            app.store.note_refusal(&known.id, cause, now_ms).await?;
        }
        return Err(refusal);
    }
    let token_open = known.token_redeemed_key.is_some() && known.token_void_at_ms.is_none();
    let is_current = known.certificate_serial.as_deref() == Some(&serial);
    if is_current && (token_open || known.previous_serial.is_some()) {
        app.store.write(DeviceWrite::certificate(known.id.clone(), serial.clone(), now_ms)).await?;
    }
    let should_renew = certificate.issuer().as_raw() != app.ca.get().for_devices().subject();
    Ok(Renewer { device: Device { known, serial, should_renew }, ended_at_ms })
}

/// Whether a device is served that comes with this certificate; with the cause, as its page has it.
fn judge(
    app: &App,
    known: &Known,
    serial: &str,
    ended_at_ms: Option<i64>,
    purpose: Purpose,
) -> Result<(), (Refusal, &'static str)> {
    if known.revoked_at_ms.is_some() {
        return Err((Refusal::Revoked, "revoked"));
    }
    let is_current = known.certificate_serial.as_deref() == Some(serial);
    let is_previous = known.previous_serial.as_deref() == Some(serial);
    if !is_current && !is_previous {
        return Err((Refusal::ReplacedCertificate, "certificate-replaced"));
    }
    let Some(ended_at_ms) = ended_at_ms else { return Ok(()) };
    if ended_at_ms < app.config.renewable_after_ms() {
        return Err((Refusal::EndedTooLong, "certificate-ended-too-long"));
    }
    match purpose {
        Purpose::Service => Err((Refusal::EndedCertificate, "certificate-ended")),
        Purpose::Renewal => Ok(()),
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
