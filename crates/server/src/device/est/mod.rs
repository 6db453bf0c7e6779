//! Enrollment over Secure Transport (RFC 7030 as clarified by RFC 8951).
//!
//! Bodies are base64 of DER, with or without line breaks (RFC 8951 section 3).
//!
//! Off-spec: erratum 5107 of RFC 7030, which RFC 8951 took up, would have servers leave out
//! `Content-Transfer-Encoding`. It is sent, because clients made for RFC 7030 may ask for it; no other needs to
//! look at it.

mod basic;
mod csr;
mod pkcs7;

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use manifest::Digest;
use rcgen::{PublicKeyData as _, SubjectPublicKeyInfo};
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::body::{read_body, require_media_type};
use super::{Device, Renewer};
use crate::app::App;
use crate::ca::CertificateAuthority;
use crate::gate::retry_after_s;
use crate::guesses::TooMany;
use crate::refusal::Refusal;
use crate::store::{DeviceCertificate, EnrollmentRow, Event, Redemption, Renewal, UsedCertificate};
use crate::{clock, secret};

/// The longest enrollment body, in bytes: a CSR with a P-256 key is about 400 bytes of base64.
const MAX_CSR_BYTES: usize = 8 * 1024;

/// What a certificate comes as (section 4.2.3).
const CERTS_ONLY: &str = "application/pkcs7-mime; smime-type=certs-only";

/// An enrollment that waits for approval is asked about no more often: people are slower than that.
const APPROVAL_WAIT: Duration = Duration::from_secs(60);

/// A device that renewed too often is to ask again no earlier: its certificate has a third of its life left.
const RENEWAL_WAIT_S: u32 = 3600;

/// `GET cacerts` (section 4.1): the certificates of the CAs in force. There are none between an old and a new one
/// (section 4.1.3): ours are not for other CAs (path length 0), and a new one reaches devices over a connection that the
/// old one vouches for.
pub(crate) async fn ca_certificates(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    // Section 4.1.3: the media type alone.
    certs_only(&app.ca.get().anchors(), "application/pkcs7-mime")
}

/// `GET csrattrs` (section 4.5.2): 204, the server asks for nothing beyond a P-256 key.
pub(crate) async fn csr_attributes() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `POST simpleenroll` (section 4.2.1): device id and one-time token (HTTP Basic) against a certificate.
///
/// A device that lost power before it stored the certificate asks again: the same key may redeem the same token
/// until the device was first seen with its certificate. Within a day it gets the same one, so that asking without end
/// stores nothing ([decision 0067](../../../../docs/decisions/0067-asked-again-the-same-certificate.md)).
pub(crate) async fn enroll(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let device =
        authenticate(&app, &headers).await.inspect_err(|_| app.metrics.enrollments.add("refused"))?;
    let key = read_csr(&headers, body).await?;
    let now_ms = app.config.clock.now_ms();
    if device.waits_for_approval() {
        return Err(await_approval(&app, &device, &key, now_ms).await?);
    }
    // The device verifies it, and may have no other anchor yet than the one that vouched for this connection.
    let authorities = app.ca.get();
    if let Some(der) = issued_before(&app, authorities.for_server(), &device, &key, now_ms).await? {
        return certs_only(slice::from_ref(&der), CERTS_ONLY);
    }
    let certificate = issue(&app, authorities.for_server(), &device.id, &device.product, &key, now_ms)?;
    match app.store.redeem_token(&device, &certificate, now_ms).await? {
        Redemption::First => {
            app.metrics.enrollments.add("enrolled");
            tracing::info!(device = device.id, "enrolled");
        }
        Redemption::Again => {
            app.metrics.enrollments.add("enrolled-again");
            tracing::info!(device = device.id, "enrolled again with the same key");
        }
        Redemption::Used => return Err(token_used(&app, &device, &certificate.key_digest, now_ms).await?),
    }
    certs_only(slice::from_ref(&certificate.der), CERTS_ONLY)
}

/// The certificate that the same key was issued lately by the same CA, if the device was not seen with it.
async fn issued_before(
    app: &App,
    ca: &CertificateAuthority,
    device: &EnrollmentRow,
    key: &SubjectPublicKeyInfo,
    now_ms: i64,
) -> Result<Option<CertificateDer<'static>>, Refusal> {
    let key_digest = Digest::of(&key.subject_public_key_info()).to_string();
    if device.token_redeemed_key.as_ref() != Some(&key_digest) {
        return Ok(None);
    }
    let unseen = app.store.unseen_certificate(device, &key_digest, now_ms).await?;
    let Some(unseen) = unseen.filter(|unseen| unseen.issuer.as_deref() == Some(ca.fingerprint())) else {
        return Ok(None);
    };
    let Some(der) = unseen.der() else { return Ok(None) };
    let detail = json!({ "serial": unseen.serial });
    let event = Event { device: &device.id, at_ms: now_ms, kind: "enrolled-again", detail };
    app.store.add_event(&event).await?;
    app.metrics.enrollments.add("enrolled-again");
    tracing::debug!(device = device.id, "enrolled again with the same key: the same certificate");
    Ok(Some(der))
}

/// 202 (section 4.2.3) until an operator approves: the client asks again with the same key.
async fn await_approval(
    app: &App,
    device: &EnrollmentRow,
    key: &SubjectPublicKeyInfo,
    now_ms: i64,
) -> Result<Refusal, Refusal> {
    let key_digest = Digest::of(&key.subject_public_key_info()).to_string();
    if !app.store.await_approval(device, &key_digest, now_ms).await? {
        return token_used(app, device, &key_digest, now_ms).await;
    }
    app.metrics.enrollments.add("pending");
    // Who asks again writes no other line.
    if device.enrollment_pending_at_ms.is_none() {
        tracing::info!(device = device.id, key = key_digest, "an enrollment waits for approval");
    }
    Ok(Refusal::Pending { retry_after_s: retry_after_s(&app.config.limits, APPROVAL_WAIT) })
}

/// Somebody comes with a token that another key has used: the device's page shows it.
async fn token_used(
    app: &App,
    device: &EnrollmentRow,
    key_digest: &str,
    now_ms: i64,
) -> Result<Refusal, Refusal> {
    app.metrics.enrollments.add("refused");
    let detail = json!({ "reason": "token already used", "key": key_digest });
    let event = Event { device: &device.id, at_ms: now_ms, kind: "enrollment-refused", detail };
    app.store.add_event(&event).await?;
    Ok(Refusal::TokenUsed)
}

/// `POST simplereenroll` (section 4.2.2): the current certificate against a new one, for the same key or another. The
/// current one may have ended.
pub(crate) async fn reenroll(
    State(app): State<Arc<App>>,
    Renewer { device, ended_at_ms }: Renewer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let key = read_csr(&headers, body).await?;
    let now_ms = app.config.clock.now_ms();
    let Device { known, serial, .. } = device;
    let authorities = app.ca.get();
    // Who has not checked in since the certificate ended may have no other anchor yet than the one that vouched for this
    // connection, and verifies what it gets.
    let ca = if ended_at_ms.is_some() { authorities.for_server() } else { authorities.for_devices() };
    let certificate = issue(&app, ca, &known.id, &known.product, &key, now_ms)?;
    let used = UsedCertificate { serial: &serial, ended_at_ms };
    match app.store.renew_certificate(&known.id, &known.product, used, &certificate, now_ms).await? {
        Renewal::Done => {
            let outcome = if ended_at_ms.is_some() { "renewed-after-end" } else { "renewed" };
            app.metrics.enrollments.add(outcome);
        }
        Renewal::Replaced => {
            app.metrics.enrollments.add("refused");
            return Err(Refusal::ReplacedCertificate);
        }
        Renewal::TooMany => {
            app.metrics.enrollments.add("refused");
            app.metrics.rate_limited.add("renewals");
            return Err(Refusal::TooManyRenewals { retry_after_s: RENEWAL_WAIT_S });
        }
    }
    certs_only(slice::from_ref(&certificate.der), CERTS_ONLY)
}

/// The device whose token this is. An unknown device and a wrong token look the same, in text and in time.
async fn authenticate(app: &App, headers: &HeaderMap) -> Result<EnrollmentRow, Refusal> {
    let (id, token) = basic::credentials(headers).ok_or(Refusal::Credentials)?;
    let device = app.store.enrollment(&id).await?;
    let stored_hash = device.as_ref().map_or("", |device| &device.token_hash);
    let is_right = secret::matches(&token, stored_hash);
    let Some(device) = device.filter(|_| is_right) else {
        return Err(match app.guesses.device.wrong(&app.metrics).await {
            Ok(()) => Refusal::Credentials,
            Err(TooMany) => {
                let retry_after_s = retry_after_s(&app.config.limits, Duration::ZERO);
                Refusal::TooManyGuesses { retry_after_s }
            }
        });
    };
    if device.revoked_at_ms.is_some() {
        return Err(Refusal::Revoked);
    }
    if device.token_void_at_ms.is_some() {
        return Err(Refusal::TokenUsed);
    }
    Ok(device)
}

async fn read_csr(headers: &HeaderMap, body: Body) -> Result<SubjectPublicKeyInfo, Refusal> {
    require_media_type(headers, "application/pkcs10")?;
    let body = read_body(body, MAX_CSR_BYTES).await?;
    csr::public_key(&body).map_err(|error| Refusal::Bad(error.to_string()))
}

fn issue(
    app: &App,
    ca: &CertificateAuthority,
    device: &str,
    product: &str,
    key: &SubjectPublicKeyInfo,
    now_ms: i64,
) -> Result<DeviceCertificate, Refusal> {
    let now = clock::from_ms(now_ms);
    ca.issue_device(device, product, key, now, app.ca.newest(now), app.config.device_certificate_days)
        .map_err(Refusal::internal)
}

fn certs_only(certificates: &[CertificateDer<'_>], media_type: &'static str) -> Result<Response, Refusal> {
    let der = pkcs7::certs_only(certificates).map_err(Refusal::internal)?;
    let headers = [(header::CONTENT_TYPE.as_str(), media_type), ("content-transfer-encoding", "base64")];
    // One line: clients that decode strictly (RFC 4648 section 3.1) take it, and so do all others.
    Ok((headers, BASE64_STANDARD.encode(der)).into_response())
}
