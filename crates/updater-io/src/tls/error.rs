//! What can go wrong, by whose fault it is.

use core::fmt;

use embedded_io_async::ErrorKind;
use rustls::{AlertDescription, CertificateError, Error};

/// Why there is no TLS connection, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Network: the connection broke.
    #[error("the connection to the server was lost; try again later")]
    ConnectionLost {
        /// The transport's kind of error.
        kind: ErrorKind,
    },
    /// Network or server: the connection ended without a close_notify (RFC 8446 section 6.1), so something may
    /// be missing.
    #[error("the connection to the server ended without a close_notify; what was received is incomplete")]
    Truncated,
    /// Server: its certificate or its offer was refused.
    #[error("the server is not to be trusted; check its certificate and the trust anchors in the vault")]
    ServerRefused(#[source] RustlsError),
    /// Server: it refused the device with an alert, which may be the device's certificate's fault.
    #[error(
        "the server refused the device with TLS alert {} (RFC 8446 section 6); check the device's certificate",
        u8::from(*alert)
    )]
    RefusedByServer {
        /// The alert (RFC 8446 section 6).
        alert: AlertDescription,
    },
    /// Server: it broke the protocol, or somebody changed bytes on the way.
    #[error("the server broke the TLS protocol")]
    Protocol(#[source] RustlsError),
    /// Server: a record or handshake message longer than the device has room for.
    #[error(
        "the server sent a TLS record or handshake message of more than {} bytes; let it send records of at most 2 KiB",
        super::MAX_INCOMING_BYTES
    )]
    RecordTooLong,
    /// Device: a buffer could not be had.
    #[error("no memory for {wanted_bytes} bytes of TLS buffers")]
    OutOfMemory {
        /// What was asked for.
        wanted_bytes: usize,
    },
    /// Device: the vault holds no trust anchor, so no server can be trusted.
    #[error("expected at least one trust anchor, found none; provision the device again")]
    NoAnchors,
    /// Device: a trust anchor is no certificate.
    #[error("trust anchor number {index} is not an X.509 certificate; provision the device again")]
    BadAnchor {
        /// Its place in the list, from 0.
        index: usize,
        /// Why.
        source: RustlsError,
    },
    /// Device: the device's key or certificate cannot be used, or they do not belong together.
    #[error("the device's key and certificate cannot be used; enroll the device again")]
    BadIdentity(#[source] RustlsError),
    /// Server: it issued a certificate that no server of this device would take.
    #[error(
        "the certificate issued is of no CA that this device trusts, or has ended; check the server's CA"
    )]
    UntrustedIdentity,
    /// Device: there were no random numbers.
    #[error("the device has no random numbers now")]
    NoRandomness,
    /// Device: the crypto provider or the clock failed.
    #[error("the device's own TLS stack failed")]
    Device(#[source] RustlsError),
    /// Device: rustls is in a state that a client cannot be in.
    #[error("the device's own TLS stack is in an unexpected state; please report this")]
    Unexpected,
}

impl TlsError {
    /// Sorts what rustls reports about a connection by whose fault it is.
    pub(super) fn from_rustls(error: Error) -> Self {
        match error {
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::UnsupportedNameType
            | Error::PeerIncompatible(_)
            | Error::InvalidCertRevocationList(_)
            | Error::NoApplicationProtocol => Self::ServerRefused(RustlsError(error)),
            Error::AlertReceived(alert) => Self::RefusedByServer { alert },
            Error::PeerSentOversizedRecord => Self::RecordTooLong,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidMessage(_)
            | Error::DecryptError
            | Error::PeerMisbehaved(_)
            | Error::InvalidEncryptedClientHello(_) => Self::Protocol(RustlsError(error)),
            Error::FailedToGetRandomBytes => Self::NoRandomness,
            // What remains concerns this side; rustls may add to it in a minor version.
            _ => Self::Device(RustlsError(error)),
        }
    }
}

impl embedded_io_async::Error for TlsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::ConnectionLost { kind } => *kind,
            Self::Truncated => ErrorKind::ConnectionAborted,
            Self::ServerRefused(_) | Self::UntrustedIdentity | Self::BadIdentity(_) => {
                ErrorKind::PermissionDenied
            }
            Self::RefusedByServer { .. } => ErrorKind::ConnectionRefused,
            Self::Protocol(_) | Self::RecordTooLong => ErrorKind::InvalidData,
            Self::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Self::NoAnchors | Self::BadAnchor { .. } => ErrorKind::InvalidInput,
            Self::NoRandomness | Self::Device(_) | Self::Unexpected => ErrorKind::Other,
        }
    }
}

/// An error of rustls, which is a [`core::error::Error`] by itself only with its feature `std`.
///
/// What a person can do something about has words of its own here: rustls has none for it but the names of its types, which
/// the firmware is built without (`-Zfmt-debug=none`).
#[derive(Clone, Debug)]
pub struct RustlsError(pub Error);

impl fmt::Display for RustlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Error::InvalidCertificate(error) => match certificate(error) {
                Some(text) => write!(f, "the certificate {text}"),
                // Those with times and purposes, which rustls tells in words.
                None => error.fmt(f),
            },
            Error::InappropriateHandshakeMessage { expect_types, got_type } => {
                write!(
                    f,
                    "handshake message {} came (RFC 8446 section 4), expected was",
                    u8::from(*got_type)
                )?;
                expect_types.iter().enumerate().try_for_each(|(index, expected)| {
                    let separator = if index == 0 { "" } else { " or" };
                    write!(f, "{separator} {}", u8::from(*expected))
                })
            }
            Error::InappropriateMessage { got_type, .. } => {
                write!(f, "a TLS record of type {} came out of turn", u8::from(*got_type))
            }
            Error::InvalidMessage(_) => f.write_str("a TLS message is malformed"),
            Error::PeerIncompatible(_) => f.write_str("no TLS version, cipher suite or group in common"),
            Error::PeerMisbehaved(_) => f.write_str("a TLS message is against the protocol"),
            Error::InconsistentKeys(_) => f.write_str("key and certificate do not belong together"),
            error => error.fmt(f),
        }
    }
}

/// What is wrong with a certificate; `None` where more is known than a fixed text could say.
fn certificate(error: &CertificateError) -> Option<&'static str> {
    Some(match error {
        CertificateError::BadEncoding => "is not an X.509 certificate",
        CertificateError::UnknownIssuer => "is of an issuer that is not trusted",
        CertificateError::BadSignature => "has a wrong signature",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name"
        }
        CertificateError::UnhandledCriticalExtension => "has a critical extension that is not known",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed with an algorithm other than ECDSA on P-256 with SHA-256"
        }
        CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYetContext { .. }
        | CertificateError::InvalidPurposeContext { .. } => return None,
        // Without `std`, rustls keeps no more of it.
        _ => "breaks a rule for certificates (RFC 5280)",
    })
}

impl core::error::Error for RustlsError {}

#[cfg(test)]
mod tests {
    use alloc::format;

    use rustls::HandshakeType;

    use super::*;

    /// The firmware prints nothing for `{:?}`.
    #[test]
    fn what_is_wrong_is_told_without_the_names_of_types() {
        let told = |error: Error| format!("{}", RustlsError(error));
        assert_eq!(
            told(CertificateError::UnknownIssuer.into()),
            "the certificate is of an issuer that is not trusted"
        );
        let message = Error::InappropriateHandshakeMessage {
            expect_types: [HandshakeType::Certificate, HandshakeType::CertificateRequest].into(),
            got_type: HandshakeType::Finished,
        };
        assert_eq!(told(message), "handshake message 20 came (RFC 8446 section 4), expected was 11 or 13");
        let refused = TlsError::RefusedByServer { alert: AlertDescription::BadCertificate };
        assert!(format!("{refused}").contains("TLS alert 42 "), "{refused}");
    }
}
