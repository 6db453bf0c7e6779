//! What a device is told when it does not get what it asked for: a status and one line of text.

use std::error::Error;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::failing::{Failing, Fails};

/// Why a request of a device was refused. The status is decided here and nowhere else.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("expected a client certificate, found none; enroll first")]
    NoCertificate,
    #[error("expected a certificate that this server knows, found another; enroll again")]
    UnknownCertificate,
    #[error("expected the device's newest certificate, found one that was replaced; enroll again")]
    ReplacedCertificate,
    #[error("the device's certificate has ended; renew it (simplereenroll)")]
    EndedCertificate,
    #[error("the device's certificate ended longer ago than this server renews; enroll again")]
    EndedTooLong,
    #[error("this device is revoked or suspended")]
    Revoked,
    #[error("expected a device id and its enrollment token (HTTP Basic), found others; ask for a new token")]
    Credentials,
    #[error("the enrollment token was already used; ask for a new one")]
    TokenUsed,
    #[error("the enrollment waits for an operator's approval; ask again in {retry_after_s} s")]
    Pending { retry_after_s: u32 },
    #[error("expected the content type {expected}, found {found}")]
    MediaType { expected: &'static str, found: String },
    #[error("expected a body of at most {max_bytes} bytes, found more")]
    TooLarge { max_bytes: usize },
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off")]
    BrokenBody,
    #[error("{0}")]
    Bad(String),
    #[error("{0}")]
    NotFound(&'static str),
    #[error("this path has another method")]
    Method,
    #[error("expected a range within {size_bytes} bytes")]
    Range { size_bytes: u64 },
    #[error("too many requests from this address; ask again in {retry_after_s} s")]
    TooManyFromAddress { retry_after_s: u32 },
    #[error("too many requests of this device; ask again in {retry_after_s} s")]
    TooManyOfDevice { retry_after_s: u32 },
    #[error("too many renewals within 24 h; the certificate stays good, ask again in {retry_after_s} s")]
    TooManyRenewals { retry_after_s: u32 },
    #[error("too many wrong credentials at once; ask again in {retry_after_s} s")]
    TooManyGuesses { retry_after_s: u32 },
    #[error("the server is busy; ask again in {retry_after_s} s")]
    Busy { retry_after_s: u32 },
    /// What the server keeps things in does not answer, or has no room left.
    #[error("the server cannot serve this now; ask again later")]
    Away(#[source] Box<dyn Error + Send + Sync>),
    #[error("the server failed; try again later")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoCertificate | Self::Credentials | Self::TokenUsed => StatusCode::UNAUTHORIZED,
            Self::UnknownCertificate
            | Self::ReplacedCertificate
            | Self::EndedCertificate
            | Self::EndedTooLong
            | Self::Revoked => StatusCode::FORBIDDEN,
            // RFC 7030 section 4.2.3.
            Self::Pending { .. } => StatusCode::ACCEPTED,
            Self::MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenBody | Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::TooManyFromAddress { .. }
            | Self::TooManyOfDevice { .. }
            | Self::TooManyRenewals { .. }
            | Self::TooManyGuesses { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy { .. } | Self::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Hides an error of the server from the device; the log has it.
    pub(crate) fn internal(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl<E: Fails> From<E> for Refusal {
    fn from(error: E) -> Self {
        match error.failing() {
            Failing::Away | Failing::Conflict | Failing::Full | Failing::Slow => Self::Away(Box::new(error)),
            Failing::Text | Failing::Request => Self::internal(error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::Internal(error) | Self::Away(error) = &self {
            tracing::error!("a device's request failed: {error}");
        }
        let mut response = (self.status(), format!("{self}\n")).into_response();
        let headers = response.headers_mut();
        match self {
            // RFC 7030 section 3.2.3: HTTP authentication is for enrollment alone.
            Self::Credentials | Self::TokenUsed => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"pitstop\""));
            }
            // RFC 9110 section 15.5.17.
            Self::Range { size_bytes } => {
                if let Ok(value) = HeaderValue::try_from(format!("bytes */{size_bytes}")) {
                    headers.insert(header::CONTENT_RANGE, value);
                }
            }
            // RFC 6585 section 4, RFC 9110 section 15.6.4.
            Self::Pending { retry_after_s }
            | Self::TooManyFromAddress { retry_after_s }
            | Self::TooManyOfDevice { retry_after_s }
            | Self::TooManyRenewals { retry_after_s }
            | Self::TooManyGuesses { retry_after_s }
            | Self::Busy { retry_after_s } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            // As after every 503. The listener adds when to come back.
            Self::Away(_) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Self::NoCertificate
            | Self::UnknownCertificate
            | Self::ReplacedCertificate
            | Self::EndedCertificate
            | Self::EndedTooLong
            | Self::Revoked
            | Self::MediaType { .. }
            | Self::TooLarge { .. }
            | Self::TooSlow
            | Self::BrokenBody
            | Self::Bad(_)
            | Self::NotFound(_)
            | Self::Method
            | Self::Internal(_) => {}
        }
        response
    }
}
