//! What an operator can set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::location::{Artifacts, Database};

/// How a server runs. [`Config::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory that holds everything that is not elsewhere; made when it is not there.
    pub data_dir: PathBuf,
    /// Where the database is.
    pub database: Database,
    /// Where the artifacts are.
    pub artifacts: Artifacts,
    /// Where devices connect (TLS). Port 0 takes any free port.
    pub device_addr: SocketAddr,
    /// Where the operator's tools connect (HTTP). It has no TLS: keep it on loopback.
    pub admin_addr: SocketAddr,
    /// Whether browsers reach the admin listener by HTTPS, through a proxy: the dashboard's cookies say so then.
    pub admin_https: bool,
    /// DNS names and IP addresses in the TLS certificate; the first one is the name that devices are given.
    pub server_names: Vec<String>,
    /// Life of a device certificate, in days. Devices renew at two thirds of it.
    pub device_certificate_days: u32,
    /// Life of the server's TLS certificate, in days. It is issued again at a start past two thirds of it.
    pub server_certificate_days: u32,
    /// After a device refused a release, the same release is offered again only after this long, in seconds.
    pub refusal_backoff_s: u32,
    /// Hint in every decision: when the device should check in again, in seconds.
    pub next_check_s: Option<u32>,
    /// How often the fleet is counted, for plots and metrics.
    pub fleet_sample: Duration,
    /// Bounds on connections and requests.
    pub limits: Limits,
}

/// Bounds on connections and requests, for both listeners.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for a TLS handshake. A chip without a fast multiplier needs up to 3 s for its part.
    pub handshake_timeout: Duration,
    /// Time for a request head, and for a connection to stay idle between requests: a device writes up to 64 KiB
    /// of flash between two requests, which takes about 2 s.
    pub header_timeout: Duration,
    /// Time for a whole small request body, and for each part of an upload.
    pub body_timeout: Duration,
    /// Life of a connection: 16 MiB at 5 KB/s need 56 min.
    pub connection_lifetime: Duration,
    /// Time that open requests get when the server shuts down.
    pub shutdown_grace: Duration,
    /// Connections served at once, per listener; more wait in the backlog.
    pub max_connections: usize,
}

impl Config {
    /// The defaults: devices at 127.0.0.1:8443, tools at 127.0.0.1:8080, the name `localhost`.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            database: Database::Sqlite,
            artifacts: Artifacts::Local,
            device_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)),
            admin_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_https: false,
            server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            device_certificate_days: 90,
            server_certificate_days: 730,
            refusal_backoff_s: 3600,
            next_check_s: None,
            fleet_sample: Duration::from_secs(5 * 60),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(15),
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            connection_lifetime: Duration::from_secs(60 * 60),
            shutdown_grace: Duration::from_secs(10),
            max_connections: 4096,
        }
    }
}
