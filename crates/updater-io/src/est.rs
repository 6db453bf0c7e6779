//! Enrollment over Secure Transport: how the device gets its certificate (RFC 7030 section 4.2, with the
//! clarifications of RFC 8951).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use base64ct::{Base64, Encoding};
use embedded_io_async::{Read, Write};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::http::{HttpClient, HttpError, Method, Request, ResponseHead};
use crate::pki::{self, DeviceKey, PkiError};
use crate::tls::TlsError;

/// The longest response that is accepted, in bytes: a chain of three certificates of 1 KiB in base64 takes half.
pub const MAX_RESPONSE_BYTES: usize = 8 * 1024;

/// The most trust anchors that are taken from a server: the present one, the next one, and one in reserve.
pub const MAX_ANCHORS: usize = 3;

/// RFC 7030 section 3.2.2.
const ANCHORS_PATH: &str = "/.well-known/est/cacerts";
const ENROLL_PATH: &str = "/.well-known/est/simpleenroll";
const REENROLL_PATH: &str = "/.well-known/est/simplereenroll";

/// A certificate for the device's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledChain {
    /// DER certificates, the device's own first, the others in the order in which the server sent them.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Why there is no new certificate. `E` is the stream's error.
#[derive(Debug, thiserror::Error)]
pub enum EstError<E = TlsError> {
    /// Network or server: there is no usable response.
    #[error("the enrollment request has no usable response")]
    Http(#[from] HttpError<E>),
    /// Server: somebody has to agree first (RFC 7030 section 4.2.3); ask again.
    #[error("the enrollment waits for an approval{}", After(*retry_after_s))]
    Pending {
        /// How long to wait, if the server says so.
        retry_after_s: Option<u32>,
    },
    /// Server: it does not accept the device or its enrollment token.
    #[error(
        "the server refused the enrollment (status {status}); check that the device exists and that its enrollment token was not used before"
    )]
    Refused {
        /// 401 or 403.
        status: u16,
    },
    /// Server: any other status.
    #[error("expected status 200 or 202 to an EST request, found {status}{}", After(*retry_after_s))]
    Status {
        /// The status.
        status: u16,
        /// When to ask again, if the server says so.
        retry_after_s: Option<u32>,
    },
    /// Server: the response is not base64 of a certs-only message (RFC 7030 section 4.2.3).
    #[error("expected an application/pkcs7-mime body in base64, found something else")]
    NotPkcs7,
    /// Server: the certificates in the response cannot be read. Device: no request could be made.
    #[error("the enrollment's request or response is malformed")]
    Pki(#[from] PkiError),
    /// Server: no certificate in the response is for the device's key.
    #[error("expected a certificate for the device's key, found certificates for other keys only")]
    CertificateMismatch,
    /// Server: no trust anchor, or more than a device keeps.
    #[error("expected 1 to {} self-issued certificates as trust anchors, found {found}", MAX_ANCHORS)]
    AnchorCount {
        /// How many.
        found: usize,
    },
}

struct After(Option<u32>);

impl core::fmt::Display for After {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.map_or(Ok(()), |seconds| write!(f, "; ask again in {seconds} s"))
    }
}

/// Asks for the first certificate; the device shows its one-time enrollment token (HTTP Basic, RFC 7617, with the
/// device id as user). `host` is the value of the Host field.
///
/// # Errors
/// [`EstError`]
pub async fn simpleenroll<S: Read + Write>(
    http: &mut HttpClient<S>,
    host: &str,
    key: &DeviceKey,
    device_id: &str,
    token: &str,
) -> Result<EnrolledChain, EstError<S::Error>> {
    let credentials = Zeroizing::new(format!("{device_id}:{token}"));
    let credentials = Zeroizing::new(Base64::encode_string(credentials.as_bytes()));
    let authorization = Zeroizing::new(format!("Basic {}", credentials.as_str()));
    enroll(http, host, ENROLL_PATH, &[("Authorization", &authorization)], key, device_id).await
}

/// Asks for a certificate that follows the present one, which the device shows in the TLS handshake. `key` may be
/// the present key or a new one.
///
/// # Errors
/// [`EstError`]
pub async fn simplereenroll<S: Read + Write>(
    http: &mut HttpClient<S>,
    host: &str,
    key: &DeviceKey,
    device_id: &str,
) -> Result<EnrolledChain, EstError<S::Error>> {
    enroll(http, host, REENROLL_PATH, &[], key, device_id).await
}

/// Asks for the server's trust anchors (RFC 7030 section 4.1). Certificates that are not self-issued, such as those
/// between an old and a new CA (section 4.1.3), are left out. What is trusted is for the caller to say.
///
/// # Errors
/// [`EstError`]
pub async fn cacerts<S: Read + Write>(
    http: &mut HttpClient<S>,
    host: &str,
) -> Result<Vec<CertificateDer<'static>>, EstError<S::Error>> {
    let request = Request { method: Method::Get, path: ANCHORS_PATH, host, headers: &[], body: &[] };
    let head = http.send(&request).await?;
    if head.status != 200 {
        return Err(EstError::Status { status: head.status, retry_after_s: head.retry_after_s });
    }
    let message = read_pkcs7(http, &head).await?;
    let mut anchors = Vec::new();
    for der in pki::certs_only(&message)? {
        if pki::is_self_issued(der)? {
            anchors.push(CertificateDer::from(der.to_vec()));
        }
    }
    match anchors.len() {
        1..=MAX_ANCHORS => Ok(anchors),
        found => Err(EstError::AnchorCount { found }),
    }
}

async fn enroll<S: Read + Write>(
    http: &mut HttpClient<S>,
    host: &str,
    path: &str,
    authorization: &[(&str, &str)],
    key: &DeviceKey,
    device_id: &str,
) -> Result<EnrolledChain, EstError<S::Error>> {
    let body = Base64::encode_string(&pki::csr(key, device_id)?);
    let mut headers = Vec::from(authorization);
    // RFC 8951 section 3.1 makes the second field superfluous; servers of RFC 7030 want it.
    headers.extend([("Content-Type", "application/pkcs10"), ("Content-Transfer-Encoding", "base64")]);
    let request = Request { method: Method::Post, path, host, headers: &headers, body: body.as_bytes() };
    let head = http.send(&request).await?;
    match head.status {
        200 => {}
        202 => return Err(EstError::Pending { retry_after_s: head.retry_after_s }),
        status @ (401 | 403) => return Err(EstError::Refused { status }),
        status => return Err(EstError::Status { status, retry_after_s: head.retry_after_s }),
    }
    let message = read_pkcs7(http, &head).await?;
    chain_for(key, &message)?.ok_or(EstError::CertificateMismatch)
}

/// Reads the body of a response that has a CMS message in base64.
async fn read_pkcs7<S: Read + Write>(
    http: &mut HttpClient<S>,
    head: &ResponseHead,
) -> Result<Vec<u8>, EstError<S::Error>> {
    if !is_pkcs7(head) {
        return Err(EstError::NotPkcs7);
    }
    let body = http.read_body_to_vec(MAX_RESPONSE_BYTES).await?;
    decode_base64(body).ok_or(EstError::NotPkcs7)
}

/// Parameters, such as `smime-type=certs-only`, may follow the media type.
fn is_pkcs7(head: &ResponseHead) -> bool {
    let content_type = head.content_type.as_deref().unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/pkcs7-mime")
}

/// Decodes base64 with or without line breaks (RFC 8951 section 3.2).
fn decode_base64(mut text: Vec<u8>) -> Option<Vec<u8>> {
    text.retain(|byte| !byte.is_ascii_whitespace());
    Base64::decode_vec(&String::from_utf8(text).ok()?).ok()
}

/// The certificates with the one for `key` first; nothing when there is none for it.
fn chain_for(key: &DeviceKey, message: &[u8]) -> Result<Option<EnrolledChain>, PkiError> {
    let certificates = pki::certs_only(message)?;
    let public_key = key.public_key();
    let is_ours = |der: &&[u8]| pki::leaf_facts(der).is_ok_and(|facts| facts.public_key == public_key);
    let Some(leaf) = certificates.iter().position(is_ours) else {
        return Ok(None);
    };
    let mut certificates: Vec<_> =
        certificates.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    certificates[..=leaf].rotate_right(1);
    Ok(Some(EnrolledChain { certificates }))
}
