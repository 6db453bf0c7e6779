//! Names that devices reach the server by.

use std::net::IpAddr;

/// The longest name, and the longest part between two dots (RFC 1035 section 2.3.4).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// A host name (RFC 1123 section 2.1) or an IP address, as it stands in a certificate and in the vault of a device. What else
/// people write there is told what it is.
pub(super) fn host(text: &str) -> Result<String, String> {
    let refuse = |what: &str| Err(format!("expected a host name or an IP address, found {what}"));
    if text.is_empty() {
        return refuse("nothing");
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if text.contains("://") || text.contains('/') {
        return refuse("a URL; leave away what is before the name and behind it");
    }
    if text.starts_with('[') {
        return refuse("brackets, which an IPv6 address has in a URL only; leave them away");
    }
    if text.contains('%') {
        return refuse("an address with a zone, which is known on one machine only");
    }
    if text.contains(':') {
        return refuse("a port; that is the one of --listen");
    }
    if text.contains('*') {
        return refuse("a wildcard; give every name that devices use");
    }
    if !text.is_ascii() {
        return refuse("letters beyond ASCII; give the name in its other form, which begins with xn--");
    }
    if text.ends_with('.') {
        return refuse("a dot at the end, which no certificate has; leave it away");
    }
    if text.len() > MAX_NAME_BYTES || text.split('.').any(|label| label.len() > MAX_LABEL_BYTES) {
        return refuse("one that is too long: 253 characters, 63 between two dots");
    }
    let is_label = |label: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.bytes().all(is_allowed) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !text.split('.').all(is_label) {
        return refuse("other characters than letters, digits and hyphens between dots");
    }
    // RFC 1123 section 2.1: what ends in a number is meant as an address.
    if text.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return refuse("digits that are no address");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_taken_and_everything_else_is_told_what_it_is() {
        for good in [
            "localhost",
            "updates.example.org",
            "10.0.0.1",
            "fe80::1",
            "a-1.b",
            "xn--mller-kva.example",
            "3com",
        ] {
            assert_eq!(host(good), Ok(good.to_owned()));
        }
        assert_eq!(host("FE80:0:0:0::1"), Ok("fe80::1".to_owned()));
        for (bad, found) in [
            ("", "nothing"),
            ("https://example.org", "a URL"),
            ("example.org/", "a URL"),
            ("example.org:8443", "a port"),
            ("[fe80::1]", "brackets"),
            ("fe80::1%eth0", "a zone"),
            ("*.example.org", "a wildcard"),
            ("example.org.", "a dot at the end"),
            ("müller.example", "letters beyond ASCII"),
            ("a b.org", "other characters"),
            ("a..org", "other characters"),
            ("-a.org", "other characters"),
            ("my_server", "other characters"),
            ("300.1.1.1", "digits that are no address"),
            ("10.0.1", "digits that are no address"),
            (&"a".repeat(64), "too long"),
            (&"a.".repeat(127).trim_end_matches('.').repeat(2), "too long"),
        ] {
            let told = host(bad).unwrap_err();
            assert!(told.contains(found), "{bad}: {told}");
        }
    }
}
