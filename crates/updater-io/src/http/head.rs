//! The head of a response.

use alloc::borrow::ToOwned;
use alloc::string::String;

use httparse::{EMPTY_HEADER, Response, Status};

use super::{HeadProblem, MAX_HEADERS};

/// What the head of a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Status code (RFC 9110 section 15).
    pub status: u16,
    /// Length of the body in bytes; 0 for a status that has none (204, 304), and for a failure without a length,
    /// whose body is given up together with the connection.
    pub content_length: u64,
    /// Content-Type as it is.
    pub content_type: Option<String>,
    /// Content-Range of a 206.
    pub content_range: Option<ContentRange>,
    /// Retry-After in seconds. Off-spec: its other form, a date (RFC 9110 section 10.2.3), is ignored.
    pub retry_after_s: Option<u32>,
    /// The server closes the connection after the body.
    pub connection_close: bool,
    pub(super) transfer_encoding: bool,
}

impl ResponseHead {
    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..=299).contains(&self.status)
    }
}

/// The part of a resource that a 206 brings (RFC 9110 section 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte, not before `first`.
    pub last: u64,
    /// Length of the whole resource, more than `last`, where the server tells it.
    pub total_bytes: Option<u64>,
}

impl ContentRange {
    /// Reads `bytes first-last/total`; the total may be `*`.
    fn parse(value: &str) -> Option<Self> {
        let (range, total) = value.strip_prefix("bytes ")?.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total_bytes = if total == "*" { None } else { Some(number(total)?) };
        let in_order = first <= last && total_bytes.is_none_or(|total_bytes| last < total_bytes);
        in_order.then_some(Self { first, last, total_bytes })
    }
}

/// Digits and nothing else; `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Reads a head with its length in bytes; nothing when it is not complete yet.
pub(super) fn parse(received: &[u8]) -> Result<Option<(ResponseHead, usize)>, HeadProblem> {
    let mut fields = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = Response::new(&mut fields);
    let head_bytes = match response.parse(received) {
        Ok(Status::Complete(head_bytes)) => head_bytes,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadProblem::TooManyFields),
        Err(_) => return Err(HeadProblem::Syntax),
    };
    let status = response.code.ok_or(HeadProblem::Syntax)?;
    let mut head = ResponseHead {
        status,
        content_length: 0,
        content_type: None,
        content_range: None,
        retry_after_s: None,
        // HTTP/1.0 closes unless it says otherwise (RFC 9112 section 9.3); this client does not listen for that.
        connection_close: response.version != Some(1),
        transfer_encoding: false,
    };
    let mut content_length = None;
    for field in response.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        // No field of interest has a value outside ASCII; one that has is as good as absent.
        let value = core::str::from_utf8(field.value).unwrap_or_default().trim();
        if is("content-length") {
            let length = number(value).filter(|_| !value.is_empty()).ok_or(HeadProblem::ContentLength)?;
            if content_length.replace(length).is_some_and(|other| other != length) {
                return Err(HeadProblem::ContentLength);
            }
        } else if is("transfer-encoding") {
            head.transfer_encoding = true;
        } else if is("content-type") {
            head.content_type = Some(value.to_owned());
        } else if is("content-range") && status == 206 {
            head.content_range = Some(ContentRange::parse(value).ok_or(HeadProblem::ContentRange)?);
        } else if is("retry-after") {
            head.retry_after_s = number(value).and_then(|seconds| u32::try_from(seconds).ok());
        } else if is("connection") {
            let close = value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"));
            head.connection_close |= close;
        }
    }
    let has_body = !matches!(status, 100..=199 | 204 | 304);
    match content_length {
        _ if !has_body => {}
        Some(length) if !head.transfer_encoding => head.content_length = length,
        // Of a failure the status is what matters. Where its body ends is not known, so nothing can follow it.
        _ if !head.is_success() => head.connection_close = true,
        // The caller refuses the transfer coding.
        _ if head.transfer_encoding => {}
        _ => return Err(HeadProblem::NoContentLength),
    }
    Ok(Some((head, head_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(text: &str) -> Result<ResponseHead, HeadProblem> {
        parse(text.as_bytes()).map(|parsed| parsed.unwrap().0)
    }

    #[test]
    fn everything_of_interest_is_read() {
        let head = head_of(
            "HTTP/1.1 206 Partial Content\r\ncontent-length: 10\r\nContent-Type: application/octet-stream\r\n\
             Content-Range: bytes 10-19/100\r\nRetry-After: 120\r\nConnection: Keep-Alive, Close\r\n\r\n",
        );
        assert_eq!(
            head,
            Ok(ResponseHead {
                status: 206,
                content_length: 10,
                content_type: Some("application/octet-stream".into()),
                content_range: Some(ContentRange { first: 10, last: 19, total_bytes: Some(100) }),
                retry_after_s: Some(120),
                connection_close: true,
                transfer_encoding: false,
            })
        );
    }

    #[test]
    fn lengths_that_leave_a_doubt_are_refused() {
        for length in ["", "+1", "-1", "1 2", "0x10", "1, 2", "99999999999999999999"] {
            assert_eq!(
                head_of(&alloc::format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")),
                Err(HeadProblem::ContentLength),
                "{length:?}"
            );
        }
        let twice = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(head_of(twice), Err(HeadProblem::ContentLength));
        assert_eq!(head_of("HTTP/1.1 200 OK\r\n\r\n"), Err(HeadProblem::NoContentLength));
    }

    #[test]
    fn content_ranges() {
        let range = |value| ContentRange::parse(value);
        assert_eq!(range("bytes 0-0/*"), Some(ContentRange { first: 0, last: 0, total_bytes: None }));
        for bad in
            ["", "bytes */5", "bytes 5-4/9", "bytes 0-9/9", "bytes -1-2/9", "octets 0-1/2", "bytes 1/2"]
        {
            assert_eq!(range(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_failure_without_a_length_keeps_its_status_and_ends_the_connection() {
        let head = head_of("HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!((head.status, head.content_length, head.connection_close), (503, 0, true));
        let head = head_of("HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!((head.status, head.content_length, head.connection_close), (204, 0, false));
    }
}
