//! The address of the server.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

/// The port of `https` where a URL has none (RFC 9110 section 4.2.2).
const HTTPS_PORT: u16 = 443;

/// The longest host name in characters (RFC 1035 section 2.3.4).
const MAX_HOST_BYTES: usize = 253;

/// Where the server is: `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// A DNS name or an IP address in text; an IPv6 address has no brackets here.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Not the address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// It does not start with `https://`.
    #[error("expected a URL that starts with https://, found another scheme or none")]
    Scheme,
    /// The host is missing, too long, or has a character that no host has.
    #[error(
        "expected https://host:port, found a host that is empty, too long, or neither a name nor an address"
    )]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("expected a port from 1 to 65535, found something else")]
    Port,
    /// It has a path, a query, a fragment or a user.
    #[error("expected https://host:port and nothing behind it")]
    Rest,
}

impl ServerUrl {
    /// Reads `https://host`, `https://host:port` or `https://[v6 address]:port`; one `/` at the end is allowed.
    ///
    /// # Errors
    /// [`ServerUrlError`]
    pub fn parse(url: &str) -> Result<Self, ServerUrlError> {
        let authority = url.strip_prefix("https://").ok_or(ServerUrlError::Scheme)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(ServerUrlError::Rest);
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or(ServerUrlError::Host)?;
                host.parse::<core::net::Ipv6Addr>().map_err(|_| ServerUrlError::Host)?;
                match behind.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if behind.is_empty() => (host, None),
                    None => return Err(ServerUrlError::Host),
                }
            }
            None => {
                let (host, port) = match authority.split_once(':') {
                    Some((host, port)) => (host, Some(port)),
                    None => (authority, None),
                };
                let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                if !(1..=MAX_HOST_BYTES).contains(&host.len()) || !host.bytes().all(is_host_byte) {
                    return Err(ServerUrlError::Host);
                }
                (host, port)
            }
        };
        let port = match port {
            None => HTTPS_PORT,
            // `parse` alone would take a sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or(ServerUrlError::Port)?
            }
            Some(_) => return Err(ServerUrlError::Port),
        };
        Ok(Self { host: host.to_string(), port })
    }

    /// The value of the Host field (RFC 9110 section 7.2): brackets around an IPv6 address, no port 443.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == HTTPS_PORT { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for (url, host, port, shown) in [
            ("https://updates.example:8443", "updates.example", 8443, "https://updates.example:8443"),
            ("https://updates.example/", "updates.example", 443, "https://updates.example"),
            ("https://127.0.0.1:1", "127.0.0.1", 1, "https://127.0.0.1:1"),
            ("https://[::1]:65535", "::1", 65535, "https://[::1]:65535"),
            ("https://[2001:db8::5]", "2001:db8::5", 443, "https://[2001:db8::5]"),
        ] {
            let parsed = ServerUrl::parse(url).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(ServerUrl::parse(shown), Ok(parsed));
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        use ServerUrlError::{Host, Port, Rest, Scheme};
        for (url, error) in [
            ("", Scheme),
            ("http://host:1", Scheme),
            ("host:8443", Scheme),
            ("https://", Host),
            ("https://:8443", Host),
            ("https://ho st", Host),
            ("https://[::1", Host),
            ("https://[::1]8443", Host),
            ("https://[host]", Host),
            ("https://host:", Port),
            ("https://host:0", Port),
            ("https://host:+1", Port),
            ("https://host:65536", Port),
            ("https://host:1:2", Port),
            ("https://host/path", Rest),
            ("https://user@host", Rest),
            ("https://host?query", Rest),
        ] {
            assert_eq!(ServerUrl::parse(url), Err(error), "{url:?}");
        }
    }
}
