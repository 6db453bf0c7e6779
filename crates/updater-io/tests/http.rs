//! The HTTP client over scripted streams.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use embedded_io_async::ErrorKind;
use proptest::prelude::*;
use support::run;
use support::stream::Script;
use updater_io::http::{
    ContentRange, HeadProblem, HttpClient, HttpError, MAX_HEAD_BYTES, Method, Request, ResponseHead,
};

const GET: Request<'_> =
    Request { method: Method::Get, path: "/v1/thing?x=1", host: "server:8443", headers: &[], body: &[] };

type Fetched = Result<(ResponseHead, Vec<u8>), HttpError<ErrorKind>>;

/// Sends a GET and reads the whole response.
async fn get(client: &mut HttpClient<Script>) -> Fetched {
    let head = client.send(&GET).await?;
    let body = client.read_body_to_vec(10_000).await?;
    Ok((head, body))
}

fn fetch(response: &[u8]) -> Fetched {
    run(get(&mut HttpClient::new(Script::whole(response))))
}

#[test]
fn requests_are_written_as_they_should_be() {
    let mut client = HttpClient::new(Script::whole(b"HTTP/1.1 204 No Content\r\n\r\n"));
    let headers = [("Range", "bytes=0-9"), ("Accept", "application/cbor")];
    run(client.send(&Request { headers: &headers, ..GET })).unwrap();
    assert_eq!(
        client.into_stream().written,
        b"GET /v1/thing?x=1 HTTP/1.1\r\nHost: server:8443\r\nRange: bytes=0-9\r\nAccept: application/cbor\r\n\r\n"
    );
    for body_bytes in [0, 1, 1900, 5000] {
        let body = vec![7; body_bytes];
        let mut client = HttpClient::new(Script::whole(b"HTTP/1.1 204 No Content\r\n\r\n"));
        run(client.send(&Request { method: Method::Post, path: "/p", body: &body, ..GET })).unwrap();
        let head = format!("POST /p HTTP/1.1\r\nHost: server:8443\r\nContent-Length: {body_bytes}\r\n\r\n");
        assert!(client.into_stream().written == [head.as_bytes(), &body].concat());
    }
}

#[test]
fn requests_that_would_smuggle_something_are_refused_and_nothing_is_sent() {
    let mut client = HttpClient::new(Script::whole(b"HTTP/1.1 204 No Content\r\n\r\n"));
    for bad in [
        Request { path: "/a b", ..GET },
        Request { path: "a", ..GET },
        Request { path: "/a\r\nX: y", ..GET },
        Request { host: "h\r\nX: y", ..GET },
        Request { host: "", ..GET },
        Request { headers: &[("A:", "b")], ..GET },
        Request { headers: &[("", "b")], ..GET },
        Request { headers: &[("A", "b\r\nX: y")], ..GET },
        Request { body: b"x", ..GET },
    ] {
        assert!(matches!(run(client.send(&bad)), Err(HttpError::BadRequest)));
    }
    assert!(client.is_reusable());
    run(client.send(&GET)).unwrap();
    assert_eq!(client.requests(), 1);
}

#[test]
fn several_requests_share_a_connection_and_are_counted() {
    let one = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes 5-7/9\r\n\r\nabc";
    let two =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nde";
    let mut client = HttpClient::new(Script::new([one.to_vec(), two.to_vec()]));
    let (head, body) = run(get(&mut client)).unwrap();
    assert_eq!((head.status, body.as_slice()), (206, &b"abc"[..]));
    assert_eq!(head.content_range, Some(ContentRange { first: 5, last: 7, total_bytes: Some(9) }));
    let (head, body) = run(get(&mut client)).unwrap();
    assert_eq!((head.status, body.as_slice(), head.connection_close), (200, &b"de"[..], true));
    assert_eq!((client.requests(), client.bytes_received()), (2, (one.len() + two.len()) as u64));
    assert!(!client.is_reusable());
    assert!(matches!(run(client.send(&GET)), Err(HttpError::ConnectionClosed)));
}

#[test]
fn a_response_may_arrive_in_any_two_pieces() {
    let response =
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n0123456789";
    for split in 0..response.len() {
        let (first, second) = response.split_at(split);
        let mut client = HttpClient::new(Script::new([first.to_vec(), second.to_vec()]));
        let (head, body) = run(get(&mut client)).unwrap();
        assert_eq!((head.status, body.as_slice()), (200, &b"0123456789"[..]), "split at {split}");
        assert_eq!(head.content_type.as_deref(), Some("text/plain"));
        // And it may end in the middle.
        let mut client = HttpClient::new(Script::whole(first));
        let error = run(get(&mut client)).unwrap_err();
        assert!(matches!(error, HttpError::ConnectionLost { .. }), "cut at {split}: {error:?}");
        assert!(!client.is_reusable());
    }
}

#[test]
fn a_body_that_is_not_read_is_thrown_away_when_short_and_refused_when_long() {
    for (body_bytes, reusable) in [(100, true), (4096, true), (4097, false)] {
        let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {body_bytes}\r\n\r\n").into_bytes();
        response.resize(response.len() + body_bytes, b'x');
        let next = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
        let mut client = HttpClient::new(Script::new([response, next]));
        assert_eq!(run(client.send(&GET)).unwrap().status, 200);
        assert_eq!(client.is_reusable(), reusable);
        match run(client.send(&GET)) {
            Ok(head) => assert!(reusable && head.status == 204),
            Err(error) => assert!(!reusable && matches!(error, HttpError::BodyUnread { left_bytes: 4097 })),
        }
    }
}

#[test]
fn bodies_with_the_wrong_length_are_errors_that_say_so() {
    let mut client = HttpClient::new(Script::whole(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n"));
    run(client.send(&GET)).unwrap();
    let error = run(client.read_body_to_vec(1000)).unwrap_err();
    assert!(matches!(error, HttpError::BodyTooLarge { body_bytes: 4_000_000_000, limit_bytes: 1000 }));
    assert!(error.to_string().contains("4000000000") && error.to_string().contains("1000"));

    let error = fetch(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").unwrap_err();
    assert!(matches!(error, HttpError::ConnectionLost { missing_bytes: Some(2) }), "{error:?}");
    // More than announced: the rest must not be taken for the next response.
    let mut client = HttpClient::new(Script::whole(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc"));
    assert_eq!(run(get(&mut client)).unwrap().1, b"a");
    assert!(matches!(run(client.send(&GET)), Err(HttpError::BadHead(HeadProblem::Unasked))));
}

#[test]
fn heads_that_are_not_acceptable_are_refused_with_the_reason() {
    let problem = |response: &[u8]| match fetch(response).unwrap_err() {
        HttpError::BadHead(problem) => problem,
        error => panic!("{error:?}"),
    };
    assert_eq!(problem(b"SSH-2.0-OpenSSH_9.9\r\n"), HeadProblem::Syntax);
    assert_eq!(problem(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), HeadProblem::Upgrade);
    assert_eq!(problem(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(9)), HeadProblem::InterimResponses);
    assert_eq!(problem(b"HTTP/1.1 200 OK\r\n\r\n"), HeadProblem::NoContentLength);
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(25));
    assert_eq!(problem(fields.as_bytes()), HeadProblem::TooManyFields);
    let endless = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'a'; 100_000]].concat();
    assert_eq!(problem(&endless), HeadProblem::TooLong);
    let error =
        fetch(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\na").unwrap_err();
    assert!(matches!(error, HttpError::UnsupportedTransferEncoding));
    // A redirect is a status like any other.
    let (head, _) =
        fetch(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(head.status, 302);
}

#[test]
fn an_endless_head_costs_a_bounded_number_of_bytes() {
    let head = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(100_000));
    let mut client = HttpClient::new(Script::whole(head.as_bytes()));
    let error = run(client.send(&GET)).unwrap_err();
    assert!(matches!(error, HttpError::BadHead(HeadProblem::TooLong)), "{error}");
    assert!(client.bytes_received() <= MAX_HEAD_BYTES as u64);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 0..8),
        start in prop_oneof![Just(""), Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.1 206 P\r\nContent-Length: 9\r\n")],
    ) {
        let pieces = std::iter::once(start.as_bytes().to_vec()).chain(pieces);
        let mut client = HttpClient::new(Script::new(pieces));
        let _ = run(get(&mut client));
    }

    #[test]
    fn a_changed_byte_never_panics_and_never_yields_a_longer_body(place in 0usize..70, byte in any::<u8>()) {
        let mut response = *b"HTTP/1.1 206 Partial\r\nContent-Length: 4\r\nContent-Range: bytes 0-3/9\r\n\r\nabcd";
        response[place % 75] = byte;
        if let Ok((_, body)) = fetch(&response) {
            prop_assert!(body.len() <= 4);
        }
    }
}
