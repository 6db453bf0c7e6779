//! What the admin API answers when it refuses: a problem detail (RFC 9457). A leaf: parts that refuse in
//! their own words make a [`Refused`] of them.

use std::fmt;

use api::access::Role;
use api::problem::{self, MEDIA_TYPE, URN};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use manifest::Digest;

use crate::counted::counted;
use crate::failing::{Failing, Fails};

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
    #[error("expected a token of role {} for this, found one of role {found}", or_admin(*.needed))]
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
    #[error(
        "expected {} of this filter, found {found}; look at them again, then say that number",
        counted(*.expected, "device")
    )]
    CountDiffers { expected: i64, found: i64 },
    #[error("device {id} is suspended; resume it first")]
    DeviceSuspended { id: String },
    #[error(
        "{key} is the last publisher key of product {product}: without one nothing can be published, and {}; add another \
         key and provision devices with it, then revoke this one, or force it", Trusting(*.trusting, *.others, *.in_part)
    )]
    LastPublisherKey { product: String, key: String, trusting: i64, others: i64, in_part: bool },
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
    /// What another part has against it, in its words.
    #[error("{}", .0.detail)]
    Refused(Refused),
    #[error("expected {expected}, found {found}")]
    RolloverPhase { expected: &'static str, found: &'static str },
    #[error(
        "{} {lack} would be left behind{}; wait until all have checked in, or force it: they need a new vault then",
        counted(*.devices, "device"), Examples(.examples)
    )]
    DevicesBehind { devices: i64, examples: Vec<String>, lack: &'static str },
    #[error("the server is busy; ask again in {retry_after_s} s")]
    Busy { retry_after_s: u32 },
    #[error("the database or the artifact store does not answer; try again, `/readyz` says which")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "artifact {digest} was stored and reads back as something else; see that the disk or the store is well"
    )]
    NotKept { digest: Digest },
    #[error("the server has no room left; make room where it keeps its data, then try again")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("it takes too long to find out; ask for less, such as one product or one health")]
    TooLong(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the server failed; its log says why")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A refusal that is told as it is: RFC 9457 section 3.1.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    /// In kebab-case.
    pub(crate) kind: &'static str,
    pub(crate) title: &'static str,
    /// What was expected, what was found, what to do.
    pub(crate) detail: String,
}

/// How many devices trust a key, do not, and whether there are more than were counted.
struct Trusting(i64, i64, bool);

impl fmt::Display for Trusting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(trusting, others, in_part) = self;
        let of = if *in_part { "the first " } else { "" };
        let devices = counted(trusting + others, "device");
        let tell = if trusting + others == 1 { "tells its" } else { "tell their" };
        write!(f, "{trusting} of {of}{devices} that {tell} keys trust it")
    }
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
            Self::CountDiffers { .. } => (S::CONFLICT, "count-differs", "Another number of devices"),
            Self::DeviceSuspended { .. } => (S::CONFLICT, "device-suspended", "The device is suspended"),
            Self::LastPublisherKey { .. } => (S::CONFLICT, "last-publisher-key", "The last publisher key"),
            Self::Invalid(_) => (S::BAD_REQUEST, "invalid", "Invalid value"),
            Self::Unsuitable(_) => (S::UNPROCESSABLE_ENTITY, "unsuitable", "A value that does not suit"),
            Self::Json(_, status) => (*status, "unreadable", "Unreadable request"),
            Self::BrokenBody(_) => (S::BAD_REQUEST, "broken-body", "The body broke off"),
            Self::TooSlow => (S::REQUEST_TIMEOUT, "too-slow", "The body was too slow"),
            Self::Refused(Refused { status, kind, title, .. }) => (*status, kind, title),
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

impl<E: Fails> From<E> for Problem {
    fn from(error: E) -> Self {
        match error.failing() {
            Failing::Away | Failing::Conflict => Self::Away(Box::new(error)),
            Failing::Full => Self::Full(Box::new(error)),
            Failing::Slow => Self::TooLong(Box::new(error)),
            Failing::Text => {
                Self::Invalid("expected text without the character U+0000, found one with it".to_owned())
            }
            Failing::Request => Self::internal(error),
        }
    }
}

fn internal() -> (StatusCode, &'static str, &'static str) {
    (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed")
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::Internal(Box::new(error))
    }
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
        let body = problem::Problem {
            r#type: format!("{URN}{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
        };
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
/// The roles that may do what this one may.
fn or_admin(needed: Role) -> String {
    if needed == Role::Admin { needed.to_string() } else { format!("{needed} (or admin)") }
}
