//! A small HTTP/1.1 client (RFC 9110, RFC 9112) over any byte stream, kept alive for several requests.
//!
//! It reads what the server of this project sends and refuses the rest with a typed error: a response head of at
//! most [`MAX_HEAD_BYTES`] with at most [`MAX_HEADERS`] fields, and a body with a Content-Length. Redirects are
//! not followed; their status is what the caller gets.

mod error;
mod head;

pub use error::{HeadProblem, HttpError};
pub use head::{ContentRange, ResponseHead};

use alloc::vec::Vec;
use core::fmt::Write as _;

use embedded_io_async::{Read, Write};

/// The longest response head that is accepted, in bytes, with its empty line.
pub const MAX_HEAD_BYTES: usize = 2048;

/// The most fields that a response head may have.
pub const MAX_HEADERS: usize = 24;

/// The longest rest of a body, in bytes, that is read and thrown away so that the connection can be used again.
pub const MAX_DRAIN_BYTES: u64 = 4096;

/// How many interim responses (status 1xx, RFC 9110 section 15.2) one request may have.
const MAX_INTERIM_RESPONSES: usize = 4;

/// The first write takes as much of the body as fits into this many bytes with the head: a check-in leaves in one
/// piece, and no small second piece waits for an acknowledgement (RFC 896).
const FIRST_WRITE_BYTES: usize = 2048;

/// The request methods that the updater needs (RFC 9110 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads a resource.
    Get,
    /// Sends a body.
    Post,
}

impl Method {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A request.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What to do.
    pub method: Method,
    /// Path and query, starting with `/`.
    pub path: &'a str,
    /// Value of the Host field: the name of the server, and its port unless it is 443.
    pub host: &'a str,
    /// Further fields; Host and Content-Length are not among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; a GET has none.
    pub body: &'a [u8],
}

/// A connection on which one request at a time is made.
///
/// Reads and writes are not cancel-safe: after one that was dropped before it ended (a deadline), drop the client.
pub struct HttpClient<S> {
    stream: S,
    /// What arrived after the last thing that was taken; at most [`MAX_HEAD_BYTES`].
    received: Vec<u8>,
    state: State,
    requests: u32,
    bytes_received: u64,
}

/// ```text
/// Ready ─ send ─▶ Unusable (while under way) ─ head ─▶ Body ─ whole body read ─▶ Ready, or Unusable
///                                                      Body ─ send, little left ─▶ Ready ...
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next request may be sent.
    Ready,
    /// The body of the last response, of which `left_bytes` have not been read.
    Body { left_bytes: u64, then_close: bool },
    /// The server closes the connection, or an error left it in the middle of something.
    Unusable,
}

impl State {
    fn in_body(left_bytes: u64, then_close: bool) -> Self {
        match (left_bytes, then_close) {
            (0, false) => Self::Ready,
            (0, true) => Self::Unusable,
            (left_bytes, then_close) => Self::Body { left_bytes, then_close },
        }
    }
}

impl<S: Read + Write> HttpClient<S> {
    /// A client on an open connection.
    pub fn new(stream: S) -> Self {
        Self { stream, received: Vec::new(), state: State::Ready, requests: 0, bytes_received: 0 }
    }

    /// Requests sent so far.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Bytes received so far: heads and bodies, without TLS.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Whether the connection can take a further request.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        match self.state {
            State::Ready => true,
            State::Body { left_bytes, then_close } => !then_close && left_bytes <= MAX_DRAIN_BYTES,
            State::Unusable => false,
        }
    }

    /// The connection, for looking at it.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The connection, for closing it.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Sends a request and reads the head of the response. What is left of the last response's body is thrown
    /// away first when it is short.
    ///
    /// # Errors
    /// [`HttpError`]; after [`HttpError::BadRequest`] the connection is as before, after any other it is of no
    /// further use.
    pub async fn send(&mut self, request: &Request<'_>) -> Result<ResponseHead, HttpError<S::Error>> {
        let mut message = request_head(request).ok_or(HttpError::BadRequest)?;
        self.drain().await?;
        self.state = State::Unusable;

        let with_head_bytes = FIRST_WRITE_BYTES.saturating_sub(message.len()).min(request.body.len());
        let (with_head, rest) = request.body.split_at(with_head_bytes);
        message.extend_from_slice(with_head);
        self.write(&message).await?;
        drop(message);
        self.write(rest).await?;
        self.stream.flush().await.map_err(HttpError::Stream)?;
        self.requests = self.requests.saturating_add(1);

        for _ in 0..=MAX_INTERIM_RESPONSES {
            let head = self.read_head().await?;
            // 101 announces another protocol, which nobody asked for.
            if head.status == 101 {
                return Err(HttpError::BadHead(HeadProblem::Upgrade));
            }
            if !(100..=199).contains(&head.status) {
                self.state = State::in_body(head.content_length, head.connection_close);
                return Ok(head);
            }
        }
        Err(HttpError::BadHead(HeadProblem::InterimResponses))
    }

    /// Reads the next bytes of the body. 0 means that the body is complete (or that `buffer` is empty).
    ///
    /// # Errors
    /// [`HttpError::Stream`], and [`HttpError::ConnectionLost`] when the stream ends before the body.
    pub async fn read_body(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError<S::Error>> {
        let State::Body { left_bytes, then_close } = self.state else {
            return Ok(0);
        };
        let wanted_bytes = usize::try_from(left_bytes).unwrap_or(usize::MAX).min(buffer.len());
        if wanted_bytes == 0 {
            return Ok(0);
        }
        let bytes = if self.received.is_empty() {
            self.state = State::Unusable;
            let read = self.stream.read(&mut buffer[..wanted_bytes]).await;
            let bytes = read.map_err(HttpError::Stream)?;
            if bytes == 0 {
                return Err(HttpError::ConnectionLost { missing_bytes: Some(left_bytes) });
            }
            self.bytes_received += bytes as u64;
            bytes
        } else {
            let bytes = wanted_bytes.min(self.received.len());
            buffer[..bytes].copy_from_slice(&self.received[..bytes]);
            self.received.drain(..bytes);
            bytes
        };
        self.state = State::in_body(left_bytes.saturating_sub(bytes as u64), then_close);
        Ok(bytes)
    }

    /// Reads the rest of the body into memory.
    ///
    /// # Errors
    /// [`HttpError::BodyTooLarge`] before anything is allocated; [`HttpError::OutOfMemory`]; those of
    /// [`read_body`](Self::read_body).
    pub async fn read_body_to_vec(&mut self, limit_bytes: usize) -> Result<Vec<u8>, HttpError<S::Error>> {
        let State::Body { left_bytes, .. } = self.state else {
            return Ok(Vec::new());
        };
        let body_bytes = match usize::try_from(left_bytes) {
            Ok(body_bytes) if body_bytes <= limit_bytes => body_bytes,
            _ => return Err(HttpError::BodyTooLarge { body_bytes: left_bytes, limit_bytes }),
        };
        let mut body = Vec::new();
        body.try_reserve_exact(body_bytes)
            .map_err(|_| HttpError::OutOfMemory { wanted_bytes: body_bytes })?;
        body.resize(body_bytes, 0);
        let mut filled_bytes = 0;
        while filled_bytes < body_bytes {
            filled_bytes += self.read_body(&mut body[filled_bytes..]).await?;
        }
        Ok(body)
    }

    /// Gets the last body out of the way.
    async fn drain(&mut self) -> Result<(), HttpError<S::Error>> {
        if let State::Body { left_bytes, then_close } = self.state {
            if then_close {
                return Err(HttpError::ConnectionClosed);
            }
            if left_bytes > MAX_DRAIN_BYTES {
                return Err(HttpError::BodyUnread { left_bytes });
            }
            let mut scrap = [0; 128];
            while self.read_body(&mut scrap).await? > 0 {}
        }
        match self.state {
            State::Ready if self.received.is_empty() => Ok(()),
            // Bytes that no request asked for would be taken for the next response.
            State::Ready => Err(HttpError::BadHead(HeadProblem::Unasked)),
            State::Body { .. } | State::Unusable => Err(HttpError::ConnectionClosed),
        }
    }

    async fn read_head(&mut self) -> Result<ResponseHead, HttpError<S::Error>> {
        loop {
            if let Some((head, head_bytes)) = head::parse(&self.received).map_err(HttpError::BadHead)? {
                self.received.drain(..head_bytes);
                if head.transfer_encoding && head.is_success() {
                    return Err(HttpError::UnsupportedTransferEncoding);
                }
                return Ok(head);
            }
            let filled_bytes = self.received.len();
            if filled_bytes >= MAX_HEAD_BYTES {
                return Err(HttpError::BadHead(HeadProblem::TooLong));
            }
            self.received.resize(MAX_HEAD_BYTES, 0);
            let read = self.stream.read(&mut self.received[filled_bytes..]).await;
            self.received.truncate(filled_bytes + *read.as_ref().unwrap_or(&0));
            let bytes = read.map_err(HttpError::Stream)?;
            if bytes == 0 {
                return Err(HttpError::ConnectionLost { missing_bytes: None });
            }
            self.bytes_received += bytes as u64;
        }
    }

    async fn write(&mut self, mut bytes: &[u8]) -> Result<(), HttpError<S::Error>> {
        // Not `write_all`: it panics on a stream that takes nothing.
        while !bytes.is_empty() {
            match self.stream.write(bytes).await.map_err(HttpError::Stream)? {
                0 => return Err(HttpError::ConnectionLost { missing_bytes: None }),
                sent_bytes => bytes = bytes.get(sent_bytes..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}

/// The head of a request, or nothing when a part of it has a character that would end that part.
fn request_head(request: &Request<'_>) -> Option<Vec<u8>> {
    let is_target = |text: &str| text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_host = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_value = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let fields = request.headers;
    if !(is_target(request.path)
        && is_host(request.host)
        && fields.iter().all(|(name, value)| is_name(name) && is_value(value)))
    {
        return None;
    }
    let mut head = alloc::string::String::with_capacity(FIRST_WRITE_BYTES / 4);
    // Writing into a `String` does not fail.
    let _ =
        write!(head, "{} {} HTTP/1.1\r\nHost: {}\r\n", request.method.as_str(), request.path, request.host);
    for (name, value) in fields {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    match request.method {
        Method::Get if request.body.is_empty() => {}
        Method::Get => return None,
        Method::Post => {
            let _ = write!(head, "Content-Length: {}\r\n", request.body.len());
        }
    }
    head.push_str("\r\n");
    Some(head.into_bytes())
}
