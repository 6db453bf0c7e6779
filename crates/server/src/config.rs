//! What an operator can set.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::Clock;
use crate::location::{Artifacts, Database};

const DAY_MS: i64 = 24 * 3_600_000;

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
    /// The URL that devices are given, where it is another than the first name with the port of the listener: behind a balancer.
    pub public_url: Option<String>,
    /// Life of a device certificate, in days. Devices renew at two thirds of it.
    pub device_certificate_days: u32,
    /// How long ago a device's certificate may have ended that is still good for its own renewal, in days; `None` for any time.
    pub renew_ended_days: Option<u32>,
    /// Life of the server's TLS certificate, in days. The server issues another one past two thirds of it.
    pub server_certificate_days: u32,
    /// After a release failed on a device it is offered there again only after this long, in seconds; twice as long after each
    /// further failure.
    pub refusal_backoff_s: u32,
    /// Hint in every decision: when the device should check in again, in seconds.
    pub next_check_s: Option<u32>,
    /// How often the fleet is counted, for plots and metrics.
    pub fleet_sample: Duration,
    /// All artifacts are read, to see that they are whole, once in this time.
    pub scrub_period: Duration,
    /// How long things are kept.
    pub retention: Retention,
    /// How many bytes of artifacts may be uploaded for one product, and for none.
    pub artifact_quota_bytes: u64,
    /// Whether a client may resume a TLS session by a ticket (RFC 8446 section 2.2). The updater never does.
    pub tls_tickets: bool,
    /// Balancers before the device listener that tell whom a connection is of, by the PROXY protocol. They must tell, and
    /// nobody else is believed.
    pub proxies: Vec<IpNet>,
    /// Bounds on connections and requests.
    pub limits: Limits,
    /// The clock.
    pub clock: Clock,
}

/// How long things are kept, in days; 0 for ever.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Events of devices.
    pub events_days: u32,
    /// Certificates of devices, after they have ended. What a device had last is kept as long as the device.
    pub certificates_days: u32,
    /// Lines of the audit log.
    pub audit_days: u32,
    /// What is too old is looked for so often.
    pub period: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { events_days: 365, certificates_days: 90, audit_days: 0, period: Duration::from_secs(60 * 60) }
    }
}

/// Bounds on connections and requests, for both listeners; those by address or certificate for the device listener
/// alone. A whole fleet behind one address (NAT) stays within the defaults.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for a TLS handshake. A chip without a fast multiplier needs up to 3 s for its part.
    pub handshake_timeout: Duration,
    /// Time for a request head, and for a connection to stay idle between requests: a device writes up to 64 KiB
    /// of flash between two requests, which takes about 2 s.
    pub header_timeout: Duration,
    /// Time for a whole request body, and for each part of an upload (`PUT`).
    pub body_timeout: Duration,
    /// Life of a connection: 16 MiB at 5 KB/s need 56 min.
    pub connection_lifetime: Duration,
    /// Time that open requests get when the server shuts down.
    pub shutdown_grace: Duration,
    /// Time in which a client must take something of an answer that waits for it: a device erases 64 KiB of flash
    /// while an answer is on its way, which takes about 2 s.
    pub write_timeout: Duration,
    /// Time for an answer once the request is there: a request is not held longer by a database or an artifact store that
    /// does not answer, but refused with 503. Longer than a commit may take (10 s), or an S3 store to be asked again (20 s).
    pub answer_timeout: Duration,
    /// Connections served at once, per listener, each about 40 KB. Of the device listener's a quarter may be without a client
    /// certificate; past fifteen sixteenths those without one give way.
    pub max_connections: usize,
    /// Of those, at most so many from one address (IPv6: from one network of 64 bits); 0 for no such bound.
    pub max_connections_per_address: usize,
    /// Connections that are told at once that there is no place for them; more are closed or wait in the backlog.
    pub max_refused_connections: usize,
    /// Requests of a listener that are being handled at once; more are answered 503. Half of them may still await their body.
    pub max_requests_in_flight: usize,
    /// Requests and connections from one address, per second, in the long run; more requests are answered 429, more
    /// connections closed. 0 for no limit.
    pub address_requests_per_s: u32,
    /// So many from one address at once: a fleet behind one address that comes back after a power failure.
    pub address_burst: u32,
    /// Requests of one device, by its certificate's subject, per second, in the long run; more are answered 429. 0 for no
    /// limit.
    pub certificate_requests_per_s: u32,
    /// So many of one device at once: an install has up to 256 chunks.
    pub certificate_burst: u32,
    /// Whether connections from this machine are counted by address too: they are tools, or a proxy that stands for
    /// many clients.
    pub limit_loopback: bool,
    /// The least that `Retry-After` says.
    pub retry_after: Duration,
    /// Up to so much more, at random.
    pub retry_spread: Duration,
}

impl Config {
    /// Certificates of devices that ended before this moment are not good for their renewal.
    pub(crate) fn renewable_after_ms(&self) -> i64 {
        self.renew_ended_days.map_or(i64::MIN, |days| self.clock.now_ms() - i64::from(days) * DAY_MS)
    }

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
            public_url: None,
            device_certificate_days: 365,
            renew_ended_days: None,
            server_certificate_days: 730,
            refusal_backoff_s: 3600,
            next_check_s: None,
            fleet_sample: Duration::from_secs(5 * 60),
            retention: Retention::default(),
            artifact_quota_bytes: 8 << 30,
            scrub_period: Duration::from_secs(7 * 24 * 3600),
            tls_tickets: false,
            proxies: Vec::new(),
            limits: Limits::default(),
            clock: Clock::default(),
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
            write_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(30),
            max_connections: 4096,
            max_connections_per_address: 1024,
            max_refused_connections: 512,
            max_requests_in_flight: 2048,
            address_requests_per_s: 1000,
            address_burst: 20_000,
            certificate_requests_per_s: 50,
            certificate_burst: 1000,
            limit_loopback: false,
            retry_after: Duration::from_secs(5),
            retry_spread: Duration::from_secs(55),
        }
    }
}
