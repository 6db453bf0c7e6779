//! Reading requests (RFC 9112), as far as the devices of this project send them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::ReceivedRequest;

/// Longest head of a request.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Longest body of a request.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// Reads one request; `None` when the client has closed the connection between two. `received` keeps what belongs
/// to the next one.
///
/// # Errors
/// The connection broke, or what came is no HTTP or too long.
pub(super) async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    received: &mut Vec<u8>,
) -> io::Result<Option<ReceivedRequest>> {
    let (mut request, head_bytes) = loop {
        if let Some(parsed) = parse_head(received)? {
            break parsed;
        }
        if received.len() > MAX_HEAD_BYTES {
            return Err(invalid("request head too long"));
        }
        if stream.read_buf(received).await? == 0 {
            return if received.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    };
    received.drain(..head_bytes);
    let body_bytes = match request.header("content-length") {
        Some(length) => length.parse().map_err(|_| invalid("content-length is no number"))?,
        None => 0,
    };
    if body_bytes > MAX_BODY_BYTES {
        return Err(invalid("request body too long"));
    }
    while received.len() < body_bytes {
        if stream.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    request.body = received.drain(..body_bytes).collect();
    Ok(Some(request))
}

/// The request without its body, and how long its head is; `None` while the head is incomplete.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(ReceivedRequest, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let status = parsed.parse(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(head_bytes) = status else {
        return Ok(None);
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = ReceivedRequest {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        headers: parsed.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect(),
        body: Vec::new(),
        client_certificate: None,
    };
    Ok(Some((request, head_bytes)))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
