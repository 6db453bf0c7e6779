//! Header fields of requests to the server: Range with If-Range, and HTTP Basic.

/// The server's files themselves: they are private there.
#[path = "../../../crates/server/src/device/est/basic.rs"]
mod basic;
#[path = "../../../crates/server/src/device/range.rs"]
mod range;

use arbitrary::Arbitrary;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use range::Selection;

#[derive(Arbitrary, Debug)]
pub enum Input<'a> {
    Range {
        size_bytes: u64,
        if_range: Option<&'a [u8]>,
        range: &'a [u8],
    },
    /// What the client means to ask for, in the form that it is asked in.
    Meant {
        size_bytes: u64,
        first_byte: u64,
        last_byte: Option<u64>,
    },
    Basic(&'a [u8]),
    Credentials(&'a [u8]),
}

const ETAG: &str = "\"abc\"";

pub fn run(input: Input<'_>) {
    let mut headers = HeaderMap::new();
    match input {
        Input::Range { size_bytes, if_range, range } => {
            let Ok(range) = HeaderValue::from_bytes(range) else { return };
            headers.insert(header::RANGE, range);
            if let Some(Ok(condition)) = if_range.map(HeaderValue::from_bytes) {
                headers.insert(header::IF_RANGE, condition);
            }
            let selection = range::select(&headers, ETAG, size_bytes);
            inside(selection, size_bytes);
            if headers.get(header::IF_RANGE).is_some_and(|condition| condition != ETAG) {
                assert_eq!(selection, Selection::Whole);
            }
        }
        Input::Meant { size_bytes, first_byte, last_byte } => {
            let last = last_byte.map_or(String::new(), |last_byte| last_byte.to_string());
            headers.insert(header::RANGE, format!("bytes={first_byte}-{last}").parse().unwrap());
            let selection = range::select(&headers, ETAG, size_bytes);
            inside(selection, size_bytes);
            let last_byte = last_byte.unwrap_or(u64::MAX);
            let expected = if first_byte > last_byte {
                Selection::Whole
            } else if first_byte >= size_bytes {
                Selection::Unsatisfiable
            } else {
                let last_byte = last_byte.min(size_bytes - 1);
                Selection::Part { first_byte, length_bytes: last_byte - first_byte + 1 }
            };
            assert_eq!(selection, expected);
        }
        Input::Basic(value) => {
            let Ok(value) = HeaderValue::from_bytes(value) else { return };
            headers.insert(header::AUTHORIZATION, value);
            if let Some((user, password)) = basic::credentials(&headers) {
                clean(&user, &password);
            }
        }
        Input::Credentials(credentials) => {
            let value = format!("Basic {}", BASE64_STANDARD.encode(credentials));
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            if let Some((user, password)) = basic::credentials(&headers) {
                clean(&user, &password);
                assert_eq!(format!("{user}:{password}").as_bytes(), credentials);
            }
        }
    }
}

fn inside(selection: Selection, size_bytes: u64) {
    if let Selection::Part { first_byte, length_bytes } = selection {
        assert!(
            length_bytes > 0 && first_byte.checked_add(length_bytes).is_some_and(|end| end <= size_bytes)
        );
    }
}

fn clean(user: &str, password: &str) {
    assert!(
        !password.contains(':') && !user.contains(char::is_control) && !password.contains(char::is_control)
    );
}
