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

/// Where devices reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicUrl {
    pub(super) url: String,
    /// The name or address in it.
    pub(super) host: String,
}

/// A URL for the vaults of devices: `https://`, a host as `--name` takes it (an IPv6 address in brackets), and a port if there
/// is one.
pub(super) fn public_url(text: &str) -> Result<PublicUrl, String> {
    let refuse =
        |what: &str| Err(format!("expected a URL such as https://updates.example.org:8443, found {what}"));
    let Some(authority) = text.strip_prefix("https://") else { return refuse("one that is not https") };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '#', '@']) {
        return refuse("one with more than a host and a port");
    }
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, behind)) if behind.is_empty() || behind.starts_with(':') => (name, behind),
            Some(_) | None => return refuse("a bracket that does not end"),
        },
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let host = host(name)?;
    let port = port.strip_prefix(':');
    if port.is_some_and(|port| {
        !port.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(port.parse::<u16>(), Ok(1..))
    }) {
        return refuse("a port that is no number from 1 to 65535");
    }
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let url = match port {
        Some(port) => format!("https://{bracketed}:{port}"),
        None => format!("https://{bracketed}"),
    };
    Ok(PublicUrl { url, host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_a_host_and_a_port() {
        for (text, url, host) in [
            ("https://updates.example.org:443/", "https://updates.example.org:443", "updates.example.org"),
            ("https://10.0.0.1", "https://10.0.0.1", "10.0.0.1"),
            ("https://[FD00::1]:8443", "https://[fd00::1]:8443", "fd00::1"),
        ] {
            let expected = PublicUrl { url: url.to_owned(), host: host.to_owned() };
            assert_eq!(public_url(text), Ok(expected), "{text}");
            assert!(updater_io::vault::ServerUrl::parse(url).is_ok(), "{url}");
        }
        for (bad, found) in [
            ("", "not https"),
            ("http://a", "not https"),
            ("a:8443", "not https"),
            ("https://a/b", "more than a host"),
            ("https://u@a", "more than a host"),
            ("https://", "nothing"),
            ("https://a:", "a port that"),
            ("https://a:0", "a port that"),
            ("https://a:+1", "a port that"),
            ("https://a:65536", "a port that"),
            ("https://[::1", "a bracket"),
            ("https://[::1]x", "a bracket"),
            ("https://*.a", "a wildcard"),
            ("https://my_server", "other characters"),
        ] {
            let told = public_url(bad).unwrap_err();
            assert!(told.contains(found), "{bad}: {told}");
        }
    }

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
