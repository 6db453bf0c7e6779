//! What a hostile server says, and how it says it.

use std::borrow::Cow;
use std::future::pending;
use std::io;
use std::ops::Range;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The largest piece written at once.
const PIECE_BYTES: u64 = 4096;

/// An answer: three things that can be wrong, each by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What is said.
    pub content: Content,
    /// What is said about the length of the body.
    pub length: Length,
    /// How the body arrives.
    pub delivery: Delivery,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Any status, headers and body.
    Answer {
        /// Status code.
        status: u16,
        /// Headers, without Content-Length.
        headers: Vec<(String, String)>,
        /// Body.
        body: Vec<u8>,
    },
    /// An artifact, of which a range may be asked.
    Artifact {
        /// The whole artifact.
        bytes: Vec<u8>,
        /// How a Range header is treated.
        range: RangeAnswer,
    },
    /// 200 with zeros without end.
    Endless,
    /// These bytes instead of HTTP; then the connection is closed.
    Garbage(Vec<u8>),
    /// Nothing; the connection is closed.
    Close,
}

/// How a Range header (RFC 9110 section 14) is treated. A request without one is answered with 200 by all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeAnswer {
    /// 206 with the range, or 416.
    Right,
    /// 200 with the whole artifact.
    Ignored,
    /// 206 with the bytes asked for, but Content-Range names the artifact's beginning.
    WrongContentRange,
    /// 206 with the Content-Range asked for, but the bytes of the artifact's beginning.
    WrongBytes,
}

/// What is said about the length of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Content-Length as it is; the largest number for an endless body.
    Right,
    /// Content-Length larger than the body; after the body the connection is closed.
    TooLarge {
        /// How much larger, in bytes.
        by_bytes: u64,
    },
    /// Content-Length smaller than the body.
    TooSmall {
        /// How much smaller, in bytes.
        by_bytes: u64,
    },
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Nothing: the body ends with the connection.
    Absent,
}

/// How the body arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As it is.
    Whole,
    /// With the lowest bit of one byte inverted.
    CorruptByte {
        /// Which byte of the body.
        offset: u64,
    },
    /// The connection is closed in the middle.
    CloseAfter {
        /// Bytes of the body before that.
        bytes: u64,
        /// Whether TLS says so (`close_notify`); without it, it is a truncation attack.
        close_notify: bool,
    },
    /// Nothing comes after the first bytes, and the connection stays open.
    StallAfter {
        /// Bytes of the body before that; at 0 even the head is held back.
        bytes: u64,
    },
    /// One byte at a time.
    Trickle {
        /// Milliseconds before each byte.
        per_byte_ms: u64,
    },
}

impl Reply {
    /// A right answer.
    pub fn new(content: Content) -> Self {
        Self { content, length: Length::Right, delivery: Delivery::Whole }
    }

    /// A right answer with this status and no body.
    pub fn status(status: u16) -> Self {
        Self::new(Content::Answer { status, headers: Vec::new(), body: Vec::new() })
    }

    /// A right answer with status 200.
    pub fn ok(content_type: &str, body: &[u8]) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self::new(Content::Answer { status: 200, headers, body: body.to_owned() })
    }

    /// An artifact, told rightly.
    pub fn artifact(bytes: &[u8]) -> Self {
        Self::new(Content::Artifact { bytes: bytes.to_owned(), range: RangeAnswer::Right })
    }

    /// A redirect.
    pub fn redirect(location: &str) -> Self {
        let headers = vec![("Location".to_owned(), location.to_owned())];
        Self::new(Content::Answer { status: 302, headers, body: Vec::new() })
    }

    /// The same with another word on the length.
    #[must_use]
    pub fn length(mut self, length: Length) -> Self {
        self.length = length;
        self
    }

    /// The same, delivered in another way.
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It may carry another request.
    KeepAlive,
    /// It is over.
    Close,
}

/// Sends the answer to a request with this Range header.
pub(super) async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    reply: Reply,
    range: Option<&str>,
) -> io::Result<Next> {
    let Reply { content, length, delivery } = reply;
    let (status, mut headers, body) = match content {
        Content::Answer { status, headers, body } => (status, headers, Body::Bytes(body)),
        Content::Artifact { bytes, range: treatment } => artifact(bytes, treatment, range),
        Content::Endless => (200, Vec::new(), Body::Endless),
        Content::Garbage(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            return Ok(Next::Close);
        }
        Content::Close => {
            stream.shutdown().await?;
            return Ok(Next::Close);
        }
    };
    headers.extend(length_header(length, body.length_bytes()));
    if delivery == (Delivery::StallAfter { bytes: 0 }) {
        pending::<()>().await;
    }
    stream.write_all(head(status, &headers).as_bytes()).await?;
    if send_body(stream, &body, length == Length::Chunked, delivery).await? == Next::Close {
        return Ok(Next::Close);
    }
    match length {
        Length::Right | Length::Chunked => Ok(Next::KeepAlive),
        Length::TooLarge { .. } | Length::TooSmall { .. } | Length::Absent => {
            stream.shutdown().await?;
            Ok(Next::Close)
        }
    }
}

fn head(status: u16, headers: &[(String, String)]) -> String {
    // The reason phrase may be anything (RFC 9112 section 4).
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

fn length_header(length: Length, body_bytes: u64) -> Option<(String, String)> {
    let content_length = |bytes: u64| Some(("Content-Length".to_owned(), bytes.to_string()));
    match length {
        Length::Right => content_length(body_bytes),
        Length::TooLarge { by_bytes } => content_length(body_bytes.saturating_add(by_bytes)),
        Length::TooSmall { by_bytes } => content_length(body_bytes.saturating_sub(by_bytes)),
        Length::Chunked => Some(("Transfer-Encoding".to_owned(), "chunked".to_owned())),
        Length::Absent => None,
    }
}

fn artifact(
    bytes: Vec<u8>,
    treatment: RangeAnswer,
    range: Option<&str>,
) -> (u16, Vec<(String, String)>, Body) {
    let mut headers = vec![
        ("Content-Type".to_owned(), "application/octet-stream".to_owned()),
        ("Accept-Ranges".to_owned(), "bytes".to_owned()),
    ];
    let total = bytes.len();
    let Some(range) = range.filter(|_| treatment != RangeAnswer::Ignored) else {
        return (200, headers, Body::Bytes(bytes));
    };
    let Some(asked) = parse_range(range, total) else {
        headers.push(("Content-Range".to_owned(), format!("bytes */{total}")));
        return (416, headers, Body::Bytes(Vec::new()));
    };
    let beginning = 0..asked.len();
    let (named, sent) = match treatment {
        RangeAnswer::Right | RangeAnswer::Ignored => (asked.clone(), asked),
        RangeAnswer::WrongContentRange => (beginning, asked),
        RangeAnswer::WrongBytes => (asked, beginning),
    };
    let (first, last) = (named.start, named.end - 1);
    headers.push(("Content-Range".to_owned(), format!("bytes {first}-{last}/{total}")));
    (206, headers, Body::Bytes(bytes[sent].to_vec()))
}

/// One range of bytes, not empty and within `total` bytes.
fn parse_range(header: &str, total: usize) -> Option<Range<usize>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let start = first.parse::<usize>().ok()?;
    let end = if last.is_empty() { total } else { last.parse::<usize>().ok()?.checked_add(1)?.min(total) };
    (start < end).then_some(start..end)
}

enum Body {
    Bytes(Vec<u8>),
    Endless,
}

impl Body {
    fn length_bytes(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Endless => u64::MAX,
        }
    }

    /// Up to `limit` bytes from `offset`; none at the end.
    fn piece(&self, offset: u64, limit: u64) -> Cow<'_, [u8]> {
        match self {
            Body::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(usize::try_from(limit).unwrap_or(usize::MAX)).min(bytes.len());
                Cow::Borrowed(&bytes[start..end])
            }
            Body::Endless => Cow::Owned(vec![0; limit.min(PIECE_BYTES) as usize]),
        }
    }
}

async fn send_body<S: AsyncWrite + Unpin>(
    stream: &mut S,
    body: &Body,
    chunked: bool,
    delivery: Delivery,
) -> io::Result<Next> {
    let mut offset = 0_u64;
    loop {
        let limit = match delivery {
            Delivery::Whole | Delivery::CorruptByte { .. } => PIECE_BYTES,
            Delivery::CloseAfter { bytes, close_notify } if offset == bytes => {
                stream.flush().await?;
                if close_notify {
                    stream.shutdown().await?;
                }
                return Ok(Next::Close);
            }
            Delivery::StallAfter { bytes } if offset == bytes => {
                stream.flush().await?;
                pending().await
            }
            Delivery::CloseAfter { bytes, .. } | Delivery::StallAfter { bytes } => {
                PIECE_BYTES.min(bytes - offset)
            }
            Delivery::Trickle { per_byte_ms } => {
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(per_byte_ms)).await;
                1
            }
        };
        let mut piece = body.piece(offset, limit);
        if piece.is_empty() {
            break;
        }
        if let Delivery::CorruptByte { offset: wrong } = delivery
            && let Some(index) = wrong.checked_sub(offset).and_then(|index| usize::try_from(index).ok())
            && index < piece.len()
        {
            piece.to_mut()[index] ^= 1;
        }
        if chunked {
            stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        }
        stream.write_all(&piece).await?;
        if chunked {
            stream.write_all(b"\r\n").await?;
        }
        offset += piece.len() as u64;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    stream.flush().await?;
    Ok(Next::KeepAlive)
}
