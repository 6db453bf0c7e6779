//! HTTP Basic authentication (RFC 7617).

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// User and password; `None` when there are none or they cannot be read.
pub(super) fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    // Control characters have no place in either (RFC 7617 section 2), and Postgres cannot be asked for U+0000.
    if text.contains(char::is_control) {
        return None;
    }
    // Off-spec: the first colon ends the user (RFC 7617 section 2). Device ids may have some, tokens have none.
    let (user, password) = text.rsplit_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        credentials(&headers)
    }

    #[test]
    fn the_example_of_the_rfc() {
        let expected = Some(("Aladdin".to_owned(), "open sesame".to_owned()));
        assert_eq!(read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), expected);
        assert_eq!(read("basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), expected);
    }

    #[test]
    fn a_user_may_be_an_address_with_colons() {
        let value = format!("Basic {}", BASE64_STANDARD.encode("AA:BB:CC:DD:EE:FF:token"));
        assert_eq!(read(&value), Some(("AA:BB:CC:DD:EE:FF".to_owned(), "token".to_owned())));
    }

    #[test]
    fn anything_else_is_none() {
        for value in [
            "Bearer abc",
            "Basic",
            "Basic ",
            "Basic !!!",
            "Basic QWxhZGRpbg==",
            "Basic /w==",
            "Basic YQBiOmM=",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(credentials(&HeaderMap::new()), None);
    }
}
