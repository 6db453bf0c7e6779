//! TLS to the admin API: whom the client trusts, and what is said of a certificate that it does not trust.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, OtherError};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::failure::Failure;

/// For servers with a certificate of these CAs: those of the file alone, or the system's without one.
///
/// # Errors
/// When there is none.
pub(super) fn config(ca_file: Option<&Path>) -> Result<TlsConfig, Failure> {
    let roots = match ca_file {
        Some(path) => of_file(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if roots.is_empty() {
        return Err(Failure::new("this system has no CA certificates by which a server could be trusted")
            .hint("install its ca-certificates, or give the server's CA with --ca-file"));
    }
    let roots = roots.iter().map(|root| Certificate::from_der(root).to_owned());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}

fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let name = path.display();
    let pem = std::fs::read(path)
        .map_err(|error| Failure::new(format!("the CA file {name} cannot be read: {error}")))?;
    let none = |found: String| {
        Failure::new(format!("expected CA certificates in PEM in {name}, found {found}"))
            .hint("a file of lines between BEGIN CERTIFICATE and END CERTIFICATE, as the proxy's CA gave it")
    };
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err(none("none".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(none(error.to_string())),
    }
}

/// What is wrong with the server's side of TLS, and the next step; `None` when TLS is not what failed.
pub(super) fn refused(error: &ureq::Error) -> Option<(String, &'static str)> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref::<rustls::Error>()?,
        _ => return None,
    };
    let rustls::Error::InvalidCertificate(why) = error else {
        let what = match error {
            rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
            other => format!("TLS failed: {other}"),
        };
        return Some((
            what,
            "is it https there, and not http? `pitstop serve` itself speaks http; a proxy adds TLS",
        ));
    };
    Some(match why {
        // A CA of the same name with another key, such as one that was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "its certificate is of a CA that is not trusted here".to_owned(),
            "give that CA's certificate with --ca-file FILE (or PITSTOP_CA_FILE)",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("its certificate is for other names: {why}"),
            "name the server in --url as its certificate does",
        ),
        CertificateError::ExpiredContext { not_after, .. } => (
            format!("its certificate expired at {}", moment(*not_after)),
            "renew the certificate of the proxy there; --ca-file does not help",
        ),
        CertificateError::NotValidYetContext { not_before, .. } => (
            format!("its certificate is good from {} on only", moment(*not_before)),
            "see that the clock of this machine is right",
        ),
        CertificateError::Other(OtherError(why))
            if matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity)) =>
        {
            (
                "its certificate is marked as a CA's, which no server may show".to_owned(),
                "make the server a certificate of that CA, or one without CA:TRUE (openssl req -x509 -addext \
             basicConstraints=critical,CA:FALSE), and give it with --ca-file",
            )
        }
        other => (format!("its certificate is refused: {other}"), "give the proxy there another certificate"),
    })
}

fn moment(time: UnixTime) -> String {
    let seconds = time.as_secs();
    let at =
        i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{seconds} s after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_a_cas_is_told_as_that() {
        let why = OtherError(Arc::new(webpki::Error::CaUsedAsEndEntity));
        let error = rustls::Error::InvalidCertificate(CertificateError::Other(why));
        let (what, hint) = refused(&ureq::Error::Rustls(error)).unwrap();
        assert!(what.contains("marked as a CA's") && hint.contains("CA:FALSE"), "{what}; {hint}");
    }
}
