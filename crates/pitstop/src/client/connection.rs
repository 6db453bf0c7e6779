//! Which server a command talks to, and with which token.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use ureq::http::Uri;
use ureq::tls::TlsConfig;

use super::{Client, tls};
use crate::failure::Failure;
use crate::ui::{self, hints};

/// The file of the admin token in the server's data directory.
pub(crate) const TOKEN_FILE: &str = "admin.token";

/// Where a server listens, and keeps its data, that was told nothing else.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const DEFAULT_DATA: &str = "pitstop-data";

/// Options of every command that talks to a server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connection {
    /// The server's admin listener: http on its own machine, https behind a proxy
    #[arg(long, env = "PITSTOP_URL", hide_env_values = true, value_name = "URL", value_parser = url, default_value = DEFAULT_URL)]
    url: String,

    /// Trust a server by https that has a certificate of these CAs, in PEM [default: the system's]
    #[arg(long, env = "PITSTOP_CA_FILE", hide_env_values = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// An API token; without it, the file admin.token of --data is read
    #[arg(long, env = "PITSTOP_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// The server's data directory on this machine
    #[arg(
        long,
        env = "PITSTOP_DATA",
        hide_env_values = true,
        value_name = "DIR",
        default_value = DEFAULT_DATA
    )]
    data: PathBuf,
}

impl Connection {
    /// A client for that server.
    ///
    /// # Errors
    /// When there is no token, or nobody to trust.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let token = match &self.token {
            Some(token) => token.trim().to_owned(),
            None => admin_token(&self.data)?,
        };
        hints::talks_to(self.given());
        let tls = match host_in_clear(&self.url) {
            None => tls::config(self.ca_file.as_deref())?,
            Some(host) => {
                if !is_loopback(host) {
                    ui::warning(&format!(
                        "the API token goes to {host} in clear, and whoever is on the way can read it: use https, or \
                         tunnel to it (ssh -L 8080:127.0.0.1:8080 {host})"
                    ));
                }
                TlsConfig::default()
            }
        };
        Ok(Client::over(&self.url, &token, tls))
    }

    /// The options that were given on the command line and name the server; the next command is given them too.
    fn given(&self) -> String {
        let is_env = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
        let mut given = String::new();
        if self.url != DEFAULT_URL && !is_env("PITSTOP_URL", &self.url) {
            given += &format!(" --url {}", self.url);
        }
        if let Some(file) = self.ca_file.as_ref().map(|path| path.display().to_string())
            && !is_env("PITSTOP_CA_FILE", &file)
        {
            given += &format!(" --ca-file {}", hints::word(&file));
        }
        let data = self.data.display().to_string();
        if self.token.is_none() && data != DEFAULT_DATA && !is_env("PITSTOP_DATA", &data) {
            given += &format!(" --data {}", hints::word(&data));
        }
        given
    }
}

/// An address of an admin listener, or of a proxy in front of it.
fn url(text: &str) -> Result<String, String> {
    let is_http = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some()
            && uri.query().is_none()
    };
    match text.parse::<Uri>() {
        Ok(uri) if is_http(&uri) => Ok(text.to_owned()),
        Ok(_) | Err(_) => {
            Err("expected an address such as http://127.0.0.1:8080 or https://pitstop.example.org".to_owned())
        }
    }
}

/// The host of a URL without TLS.
fn host_in_clear(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // An IPv6 address stands in brackets (RFC 3986 section 3.2.2).
    match host.strip_prefix('[') {
        Some(address) => address.split(']').next(),
        None => host.split(':').next(),
    }
}

/// Whether what is sent to this host stays on this machine.
fn is_loopback(host: &str) -> bool {
    let is_local_name = host == "localhost" || host.ends_with(".localhost");
    is_local_name || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The admin token of the server whose data is in `data`.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) fn admin_token(data: &Path) -> Result<String, Failure> {
    let path = data.join(TOKEN_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::new(format!("no admin token: {} is not there", path.display())).hint(
                "start a server here with `pitstop serve`; for one that runs elsewhere, give --data DIR, or \
                 --token and --url",
            ))
        }
        Err(error) => {
            Err(Failure::new(format!("the admin token {} cannot be read: {error}", path.display()))
                .hint("run as the user of the server, or give the token with --token or PITSTOP_TOKEN"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine_is_known() {
        for (url, host, stays) in [
            ("http://127.0.0.1:8080", Some("127.0.0.1"), true),
            ("http://localhost", Some("localhost"), true),
            ("http://a.localhost:1/x", Some("a.localhost"), true),
            ("http://[::1]:8080/", Some("::1"), true),
            ("http://user@10.0.0.1:8080", Some("10.0.0.1"), false),
            ("http://[fe80::1]", Some("fe80::1"), false),
            ("http://localhost.example.org", Some("localhost.example.org"), false),
            ("https://example.org", None, false),
        ] {
            assert_eq!(host_in_clear(self::url(url).unwrap().as_str()), host, "{url}");
            assert_eq!(host.is_some_and(is_loopback), stays, "{url}");
        }
        for wrong in ["", "127.0.0.1:8080", "ftp://a", "https://", "https://a?b=c"] {
            assert!(url(wrong).unwrap_err().starts_with("expected "), "{wrong}");
        }
    }
}
