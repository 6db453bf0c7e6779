//! What the admin API answers when it refuses: a problem detail (RFC 9457). Status and type are decided here and
//! nowhere else.

use std::fmt;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use manifest::Digest;
use serde::Serialize;
use utoipa::ToSchema;

use crate::artifact_store::{ArtifactError, UploadError};
use crate::crl::CrlError;
use crate::gate::Denial;
use crate::publish::{PublishError, Unpublishable};
use crate::quota::OverQuota;
use crate::role::Role;
use crate::store::{Failing, RolloutRefusal, StoreError};

/// Media type of problem details (RFC 9457 section 3).
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// Why a request of the admin API was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("expected `Authorization: Bearer` with an API token; the first one is in the file admin.token")]
    Unauthorized,
    #[error("this API token is not known here: it is mistyped, of another server, or was never made")]
    TokenUnknown,
    #[error("this API token expired at {at}; ask an admin for a new one")]
    TokenExpired { at: String },
    #[error("this API token was revoked at {at}; ask an admin for a new one")]
    TokenRevoked { at: String },
    #[error("expected a token of role {needed} (or admin) for this, found one of role {found}")]
    Forbidden { needed: Role, found: Role },
    #[error("expected a token that is for all products, found one for {product} only")]
    Scoped { product: String },
    #[error(
        "{id} is the last token of an admin for all products that does not expire; make another one first"
    )]
    LastAdmin { id: String },
    #[error("{kind} {name} is at {found} now, which If-Match does not name; read it again, then change it")]
    PreconditionFailed { kind: &'static str, name: String, found: String },
    #[error("expected a path of the admin API, found another")]
    NoSuchPath,
    #[error("expected another method on this path")]
    Method,
    #[error("there is no {kind} {name}")]
    NotFound { kind: &'static str, name: String },
    #[error("there is a {kind} {name} already; choose another name")]
    Exists { kind: &'static str, name: String },
    #[error("device {id} is revoked, which is final; make a device with another id")]
    DeviceRevoked { id: String },
    /// Not of the form that the OpenAPI document tells: 400.
    #[error("{0}")]
    Invalid(String),
    /// Of the right form, and yet it cannot be meant (RFC 9110 section 15.5.21): 422.
    #[error("{0}")]
    Unsuitable(String),
    #[error("{0}")]
    Json(String, StatusCode),
    #[error("the body broke off: {0}")]
    BrokenBody(String),
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("too many wrong tokens at once; ask again in {retry_after_s} s")]
    TooManyGuesses { retry_after_s: u32 },
    #[error("this session ended at {at}; log in again")]
    SessionExpired { at: String },
    #[error("expected an API token, found the secret of a session; a session makes no other one")]
    NoToken,
    #[error("expected the secret of a session, found an API token; `POST /tokens/{{id}}/revoke` ends that")]
    NoSession,
    #[error(transparent)]
    Rollout(#[from] RolloutRefusal),
    #[error(transparent)]
    Upload(UploadError),
    #[error(transparent)]
    Publish(PublishError),
    #[error("expected {expected}, found {found}; see `GET /api/v1/ca`")]
    RolloverPhase { expected: &'static str, found: &'static str },
    #[error("{devices} devices {lack}{}; wait until they have checked in, or force it: they need a new vault then", Examples(.examples))]
    DevicesBehind { devices: i64, examples: Vec<String>, lack: &'static str },
    #[error("the server is busy; ask again in {retry_after_s} s")]
    Busy { retry_after_s: u32 },
    #[error("the database or the artifact store does not answer; try again, `/readyz` says which")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "artifact {digest} was stored and reads back as something else; see that the disk or the store is well"
    )]
    NotKept { digest: Digest },
    #[error(transparent)]
    Quota(#[from] OverQuota),
    #[error("the server has no room left; make room where it keeps its data, then try again")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it takes too long to find out; ask for less, such as one product or one health")]
    TooLong(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the server failed; its log says why")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Some of many, in parentheses.
struct Examples<'a>(&'a [String]);

impl fmt::Display for Examples<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " ({})", self.0.join(", ")) }
    }
}

impl Problem {
    /// For a cursor that no list of this kind has given.
    pub(crate) fn cursor(found: &str) -> Self {
        Self::Unsuitable(format!("expected the next_cursor of a page of this list, found {found:?}"))
    }

    /// A failure of the server's own.
    pub(crate) fn internal(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(source))
    }

    /// A failure of what the server keeps things in.
    fn of_store(source: impl std::error::Error + Send + Sync + 'static, failing: Failing) -> Self {
        match failing {
            Failing::Away | Failing::Conflict => Self::Away(Box::new(source)),
            Failing::Full => Self::Full(Box::new(source)),
            Failing::Slow => Self::TooLong(Box::new(source)),
            Failing::Request => Self::internal(source),
        }
    }

    /// Status, kebab-case type, and title.
    fn classify(&self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;

        match self {
            Self::Unauthorized => (S::UNAUTHORIZED, "unauthorized", "No valid API token"),
            Self::TokenUnknown => (S::UNAUTHORIZED, "token-unknown", "The API token is not known"),
            Self::TokenExpired { .. } => (S::UNAUTHORIZED, "token-expired", "The API token expired"),
            Self::TokenRevoked { .. } => (S::UNAUTHORIZED, "token-revoked", "The API token is revoked"),
            Self::SessionExpired { .. } => (S::UNAUTHORIZED, "session-expired", "The session expired"),
            Self::TooManyGuesses { .. } => {
                (S::TOO_MANY_REQUESTS, "too-many-guesses", "Too many wrong tokens")
            }
            Self::Quota(_) => (S::CONFLICT, "quota", "The quota is used up"),
            Self::NoToken => (S::FORBIDDEN, "forbidden", "An API token is needed"),
            Self::NoSession => (S::UNPROCESSABLE_ENTITY, "no-session", "No session"),
            Self::Forbidden { .. } => (S::FORBIDDEN, "forbidden", "Another role is needed"),
            Self::Scoped { .. } => (S::FORBIDDEN, "forbidden", "The API token is for one product"),
            Self::LastAdmin { .. } => (S::CONFLICT, "last-admin-token", "The last admin token"),
            Self::PreconditionFailed { .. } => {
                (S::PRECONDITION_FAILED, "precondition-failed", "Somebody else was faster")
            }
            Self::NoSuchPath => (S::NOT_FOUND, "no-such-path", "No such path"),
            Self::Method => (S::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed"),
            Self::NotFound { .. } => (S::NOT_FOUND, "not-found", "Not found"),
            Self::Exists { .. } => (S::CONFLICT, "exists", "Already there"),
            Self::DeviceRevoked { .. } => (S::CONFLICT, "device-revoked", "The device is revoked"),
            Self::Invalid(_) => (S::BAD_REQUEST, "invalid", "Invalid value"),
            Self::Unsuitable(_) => (S::UNPROCESSABLE_ENTITY, "unsuitable", "A value that does not suit"),
            Self::Json(_, status) => (*status, "unreadable", "Unreadable request"),
            Self::BrokenBody(_) => (S::BAD_REQUEST, "broken-body", "The body broke off"),
            Self::TooSlow => (S::REQUEST_TIMEOUT, "too-slow", "The body was too slow"),
            Self::Rollout(refusal) => classify_rollout(refusal),
            Self::Upload(error) => match error {
                UploadError::Digest { .. } => (S::UNPROCESSABLE_ENTITY, "digest-mismatch", "Another digest"),
                UploadError::TooLarge => (S::PAYLOAD_TOO_LARGE, "artifact-too-large", "Artifact too large"),
                UploadError::Store(_) => internal(),
            },
            Self::Publish(error) => classify_publish(error),
            Self::RolloverPhase { .. } => (S::CONFLICT, "rollover-phase", "Not at this point of a rollover"),
            Self::DevicesBehind { .. } => (S::CONFLICT, "devices-behind", "Devices would be left behind"),
            Self::Busy { .. } => (S::SERVICE_UNAVAILABLE, "busy", "The server is busy"),
            Self::Away(_) => (S::SERVICE_UNAVAILABLE, "unavailable", "The database or store is away"),
            Self::TooLong(_) => (S::SERVICE_UNAVAILABLE, "too-long", "The answer takes too long"),
            Self::NotKept { .. } => {
                (S::SERVICE_UNAVAILABLE, "not-kept", "What was stored reads back otherwise")
            }
            // RFC 4918 section 11.5.
            Self::Full(_) => (S::INSUFFICIENT_STORAGE, "storage-full", "No room left"),
            Self::Internal(_) => internal(),
        }
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        match denial {
            // Clients of the admin listener are not told apart.
            Denial::Address { retry_after_s }
            | Denial::Device { retry_after_s }
            | Denial::Busy { retry_after_s } => Self::Busy { retry_after_s },
            Denial::TooSlow => Self::TooSlow,
            Denial::BrokenBody => Self::BrokenBody("it ended too early".to_owned()),
            Denial::Host => Self::Invalid("expected one Host, found none or several".to_owned()),
        }
    }
}

fn internal() -> (StatusCode, &'static str, &'static str) {
    (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed")
}

fn classify_rollout(refusal: &RolloutRefusal) -> (StatusCode, &'static str, &'static str) {
    use RolloutRefusal as R;
    match refusal {
        R::Action(_) | R::Soaks { .. } => {
            (StatusCode::CONFLICT, "rollout-state", "The rollout is in another state")
        }
        R::Unfinished { .. } => (StatusCode::CONFLICT, "rollout-unfinished", "The release has a rollout"),
        R::Newer { .. } => (StatusCode::CONFLICT, "rollout-newer", "A newer rollout is under way"),
        R::NoWayBack { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "no-way-back", "No way back"),
    }
}

fn classify_publish(error: &PublishError) -> (StatusCode, &'static str, &'static str) {
    use PublishError as E;
    let (kind, title) = match error {
        E::Base64 | E::Manifest(_) => ("manifest-malformed", "Not a signed manifest"),
        E::NoPublisherKey { .. } => ("no-publisher-key", "The product has no publisher key"),
        E::Signature { .. } => ("manifest-signature", "Signed by a stranger"),
        E::RevokedKey { .. } => ("publisher-key-revoked", "Signed with a revoked key"),
        E::Product { .. } => ("product-mismatch", "For another product"),
        E::Chip { .. } => ("chip-mismatch", "For another chip"),
        E::ArtifactMissing { .. } => ("artifact-missing", "The artifact is not on the server"),
        E::Image(_) | E::Unpublishable(Unpublishable::Tail { .. } | Unpublishable::Revisions { .. }) => {
            ("image-invalid", "Not a bootable image")
        }
        E::NotAnApplication(_) => ("image-not-an-application", "Not an application"),
        E::ConfirmsItself { .. } => ("image-confirms-itself", "The updater would not run again"),
        E::UntrustedKey { .. } => ("publisher-key-untrusted", "No device trusts the key"),
        E::ConstantVersion { .. } => ("version-of-arduino", "Not a version of its own"),
        E::SameImage { .. } => {
            return (StatusCode::CONFLICT, "image-published", "The image is that of another release");
        }
        E::NoDescriptor(_) => ("image-without-descriptor", "No app descriptor"),
        E::ImageChip { .. } => ("image-chip-mismatch", "An image for another chip"),
        E::ImageRevision { .. } => ("image-chip-revision", "An image for newer chips"),
        E::Unpublishable(Unpublishable::NotStarted { .. }) => {
            ("image-not-chain-loadable", "The updater cannot start this image")
        }
        E::Rollout { refusal, .. } => return classify_rollout(refusal),
        E::RevertTo { .. } => ("revert-to-unknown", "A release to return to is not there"),
        E::Requires { .. } => ("requires-unknown", "The release that it requires is not there"),
        E::ElfMissing { .. } => ("elf-missing", "The ELF file is not on the server"),
        E::TooLarge { .. } => ("image-too-large", "The image does not fit a slot"),
        E::MinSlot { .. } => ("min-slot-too-large", "The minimum slot is larger than a slot"),
        E::Size { .. } | E::Chunk { .. } => ("artifact-mismatch", "Manifest and artifact differ"),
        E::Sequence { .. } => {
            return (StatusCode::CONFLICT, "sequence-not-newer", "The sequence number is not new");
        }
        // `From` makes other problems of the last three.
        E::Stored(..) | E::Store(_) | E::Artifacts(_) | E::Quota(_) => return internal(),
    };
    (StatusCode::UNPROCESSABLE_ENTITY, kind, title)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_unstorable_text() {
            return Self::Invalid("expected text without the character U+0000, found one with it".to_owned());
        }
        let failing = error.failing();
        Self::of_store(error, failing)
    }
}

impl From<ArtifactError> for Problem {
    fn from(error: ArtifactError) -> Self {
        let failing = error.failing();
        Self::of_store(error, failing)
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Store(error) => error.into(),
            UploadError::Digest { .. } | UploadError::TooLarge => Self::Upload(error),
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(error) => error.into(),
            PublishError::Artifacts(error) => error.into(),
            PublishError::Quota(error) => error.into(),
            other => Self::Publish(other),
        }
    }
}

impl From<CrlError> for Problem {
    fn from(error: CrlError) -> Self {
        match error {
            CrlError::Store(error) => error.into(),
            CrlError::Make(_) => Self::internal(error),
        }
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}

/// Problem details (RFC 9457 section 3.1).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body {
    /// `urn:pitstop:problem:` and the kind of problem.
    #[schema(examples("urn:pitstop:problem:not-found"))]
    r#type: String,
    /// A few words, the same for every problem of this kind.
    title: &'static str,
    /// The status code of the answer.
    status: u16,
    /// What was expected, what was found, what to do.
    detail: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, kind, title) = self.classify();
        let mut detail = self.to_string();
        if let Self::Away(source) | Self::Full(source) | Self::TooLong(source) = &self {
            tracing::error!("an admin request failed: {source}");
        }
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            match &self {
                Self::Internal(source) => tracing::error!("an admin request failed: {source}"),
                other => tracing::error!("an admin request failed: {other}"),
            }
            detail = "the server failed; its log says why".to_owned();
        }
        let body =
            Body { r#type: format!("urn:pitstop:problem:{kind}"), title, status: status.as_u16(), detail };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Self::Busy { retry_after_s } | Self::TooManyGuesses { retry_after_s } = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pitstop\""));
        }
        response
    }
}
