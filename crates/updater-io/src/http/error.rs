//! What can go wrong, by who is at fault.

use crate::tls::TlsError;

/// Why a request has no usable response. `E` is the stream's error.
#[derive(Debug, thiserror::Error)]
pub enum HttpError<E = TlsError> {
    /// Network or server: the stream failed.
    #[error("the connection failed")]
    Stream(#[source] E),
    /// Network or server: the stream ended inside a response.
    #[error("the connection ended inside the response ({})", Missing(*missing_bytes))]
    ConnectionLost {
        /// How much of the body is missing; nothing when the head is not complete.
        missing_bytes: Option<u64>,
    },
    /// Server: the head of the response is not acceptable.
    #[error("the server sent a response head that is not acceptable: {0}")]
    BadHead(HeadProblem),
    /// Server: the body has a transfer coding (RFC 9112 section 6.1), for example chunked.
    #[error(
        "expected a body with a Content-Length, found one with a Transfer-Encoding; let the server or the proxy send lengths"
    )]
    UnsupportedTransferEncoding,
    /// Server: the body is longer than what was asked for may be.
    #[error("the body has {body_bytes} bytes, more than the {limit_bytes} that are accepted")]
    BodyTooLarge {
        /// What the server announced and has not sent yet.
        body_bytes: u64,
        /// What is accepted.
        limit_bytes: usize,
    },
    /// Device: no memory for a body.
    #[error("no memory for a body of {wanted_bytes} bytes")]
    OutOfMemory {
        /// What was asked for.
        wanted_bytes: usize,
    },
    /// Caller: the body of the last response was not read, and too much of it is left to be thrown away.
    #[error("{left_bytes} bytes of the last response were not read; read them, or use a new connection")]
    BodyUnread {
        /// What is left.
        left_bytes: u64,
    },
    /// Caller: the server said that it closes the connection, or an earlier request failed on it.
    #[error("the connection takes no further request; use a new one")]
    ConnectionClosed,
    /// Caller: a path, host or field has a character that is not allowed in it, or a GET has a body.
    #[error("the request has a character that is not allowed in a path, host or field, or a GET with a body")]
    BadRequest,
}

/// What is wrong with the head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadProblem {
    /// It is longer than [`MAX_HEAD_BYTES`](super::MAX_HEAD_BYTES).
    #[error("it is longer than {} bytes", super::MAX_HEAD_BYTES)]
    TooLong,
    /// It has more fields than [`MAX_HEADERS`](super::MAX_HEADERS).
    #[error("it has more than {} fields", super::MAX_HEADERS)]
    TooManyFields,
    /// It is not HTTP/1.
    #[error("it is not HTTP/1")]
    Syntax,
    /// Content-Length is no number, or there are two different ones (RFC 9112 section 6.3).
    #[error("its Content-Length is no number, or there are several")]
    ContentLength,
    /// A success without a Content-Length, so that nobody can tell whether the body is complete.
    #[error("it has no Content-Length")]
    NoContentLength,
    /// Content-Range is not `bytes first-last/total` (RFC 9110 section 14.4).
    #[error("its Content-Range is not \"bytes first-last/total\"")]
    ContentRange,
    /// 101 Switching Protocols.
    #[error("it changes to another protocol")]
    Upgrade,
    /// Interim responses without an end.
    #[error("too many interim responses came before it")]
    InterimResponses,
    /// Bytes came that no request asked for.
    #[error("bytes came before the request was made")]
    Unasked,
}

struct Missing(Option<u64>);

impl core::fmt::Display for Missing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes} bytes of the body are missing"),
            None => f.write_str("its head is incomplete"),
        }
    }
}
