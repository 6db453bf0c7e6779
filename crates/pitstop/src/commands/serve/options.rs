//! Everything that can be set of a server, by clap.
//!
//! One name for each setting: `--max-connections` on the command line, `PITSTOP_MAX_CONNECTIONS` in the environment,
//! `max-connections` in the file. Tests hold names, headings and docs/operations.md to it.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use server::{Config, Limits, LocationError, Retention};

use super::host::{PublicUrl, host, public_url};
use crate::failure::Failure;

/// A day has no more: a certificate for ten years is no short-lived one.
const MAX_CERTIFICATE_DAYS: i64 = 3650;

/// Options of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// A file with settings in TOML [default: pitstop.toml in the data directory, if it is there]
    #[arg(long, env = "PITSTOP_CONFIG", hide_env_values = true, value_name = "FILE", help_heading = CONFIGURATION)]
    pub(super) config: Option<PathBuf>,

    /// Show every setting and where it comes from, and do not start
    #[arg(long, help_heading = CONFIGURATION)]
    pub(super) show_config: bool,

    /// Where everything is kept: database, artifacts, CA, keys
    #[arg(
        long,
        env = "PITSTOP_DATA",
        hide_env_values = true,
        value_name = "DIR",
        default_value = "pitstop-data",
        help_heading = STORAGE
    )]
    pub(super) data: PathBuf,

    /// Where the database is: `sqlite` (in the data directory) or `postgres://user:password@host/database`
    #[arg(
        long,
        env = "PITSTOP_DATABASE",
        hide_env_values = true,
        value_name = "PLACE",
        default_value = "sqlite",
        help_heading = STORAGE
    )]
    // Text and not `Database`: what clap refuses it shows, and there may be a password in it.
    pub(super) database: String,

    /// Where artifacts are: `local` (in the data directory) or `s3://bucket/prefix`, with the usual AWS_ variables
    #[arg(
        long,
        env = "PITSTOP_ARTIFACTS",
        hide_env_values = true,
        value_name = "PLACE",
        default_value = "local",
        help_heading = STORAGE
    )]
    pub(super) artifacts: String,

    /// How much may be uploaded for one product, in MiB
    #[arg(
        long,
        env = "PITSTOP_ARTIFACT_QUOTA_MIB",
        hide_env_values = true,
        value_name = "MIB",
        default_value = "8192",
        help_heading = STORAGE
    )]
    pub(super) artifact_quota_mib: NonZeroU32,

    /// How long events of devices are kept; 0 for ever
    #[arg(
        long,
        env = "PITSTOP_KEEP_EVENTS_DAYS",
        hide_env_values = true,
        value_name = "DAYS",
        default_value = "365",
        help_heading = STORAGE
    )]
    pub(super) keep_events_days: u32,

    /// How long certificates of devices are kept that have ended; 0 for ever
    #[arg(
        long,
        env = "PITSTOP_KEEP_CERTIFICATES_DAYS",
        hide_env_values = true,
        value_name = "DAYS",
        default_value = "90",
        help_heading = STORAGE
    )]
    pub(super) keep_certificates_days: u32,

    /// How long lines of the audit log are kept; 0 for ever. Export those that are to be kept elsewhere first
    #[arg(
        long,
        env = "PITSTOP_KEEP_AUDIT_DAYS",
        hide_env_values = true,
        value_name = "DAYS",
        default_value = "0",
        help_heading = STORAGE
    )]
    pub(super) keep_audit_days: u32,

    /// The device listener: mutual TLS
    #[arg(
        long,
        env = "PITSTOP_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8443",
        help_heading = LISTENERS
    )]
    pub(super) listen: SocketAddr,

    /// The admin listener: plain HTTP, so keep it on loopback
    #[arg(
        long,
        env = "PITSTOP_ADMIN",
        hide_env_values = true,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080",
        help_heading = LISTENERS
    )]
    pub(super) admin: SocketAddr,

    /// Browsers reach the dashboard by HTTPS, through a proxy in front of the admin listener: its cookies are for HTTPS
    /// only then
    #[arg(long, env = "PITSTOP_ADMIN_HTTPS", hide_env_values = true, help_heading = LISTENERS)]
    pub(super) admin_https: bool,

    /// Let clients resume a TLS session by a ticket; the updater never does
    #[arg(long, env = "PITSTOP_TLS_TICKETS", hide_env_values = true, help_heading = LISTENERS)]
    pub(super) tls_tickets: bool,

    /// Names and IP addresses that devices reach the server by; the first is the one they are given, all are in
    /// the TLS certificate
    #[arg(
        long,
        env = "PITSTOP_NAME",
        hide_env_values = true,
        value_name = "HOST",
        value_delimiter = ',',
        value_parser = host,
        default_values = ["localhost", "127.0.0.1"],
        help_heading = LISTENERS
    )]
    pub(super) name: Vec<String>,

    /// The URL that devices are given, where a balancer has another name or port; its host is in the TLS certificate too
    /// [default: the first name and the port of --listen]
    #[arg(
        long,
        env = "PITSTOP_PUBLIC_URL",
        hide_env_values = true,
        value_name = "URL",
        value_parser = public_url,
        help_heading = LISTENERS
    )]
    pub(super) public_url: Option<PublicUrl>,

    /// Balancers before the device listener, which have to send the PROXY protocol, version 2: addresses, or networks such
    /// as 10.0.0.0/24
    #[arg(
        long,
        env = "PITSTOP_PROXY_PROTOCOL_FROM",
        hide_env_values = true,
        value_name = "ADDRESS",
        value_delimiter = ',',
        value_parser = network,
        help_heading = LISTENERS
    )]
    pub(super) proxy_protocol_from: Vec<IpNet>,

    /// Life of a device's certificate; devices renew at two thirds of it
    #[arg(
        long,
        env = "PITSTOP_DEVICE_CERTIFICATE_DAYS",
        hide_env_values = true,
        value_name = "DAYS",
        default_value = "365",
        value_parser = clap::value_parser!(u32).range(1..=MAX_CERTIFICATE_DAYS),
        help_heading = CERTIFICATES
    )]
    pub(super) device_certificate_days: u32,

    /// How long ago a certificate may have ended that is still good for its renewal [default: no limit]
    #[arg(
        long,
        env = "PITSTOP_RENEW_ENDED_DAYS",
        hide_env_values = true,
        value_name = "DAYS",
        help_heading = CERTIFICATES
    )]
    pub(super) renew_ended_days: Option<u32>,

    /// Life of the server's own certificate; past two thirds of it the server makes a new one
    #[arg(
        long,
        env = "PITSTOP_SERVER_CERTIFICATE_DAYS",
        hide_env_values = true,
        value_name = "DAYS",
        default_value = "730",
        value_parser = clap::value_parser!(u32).range(1..=MAX_CERTIFICATE_DAYS),
        help_heading = CERTIFICATES
    )]
    pub(super) server_certificate_days: u32,

    /// How long a release that failed on a device is not offered to it again; each further failure doubles it
    #[arg(
        long,
        env = "PITSTOP_REFUSAL_BACKOFF_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "3600",
        help_heading = DEVICES
    )]
    pub(super) refusal_backoff_s: u32,

    /// When devices are asked to check in again: a hint that the present updater does not act on [default: none]
    #[arg(
        long,
        env = "PITSTOP_NEXT_CHECK_S",
        hide_env_values = true,
        value_name = "SECONDS",
        help_heading = DEVICES
    )]
    pub(super) next_check_s: Option<NonZeroU32>,

    /// How often the fleet is counted, for the dashboard's plots and the metrics
    #[arg(
        long,
        env = "PITSTOP_FLEET_SAMPLE_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "300",
        help_heading = DEVICES
    )]
    pub(super) fleet_sample_s: NonZeroU32,

    /// All artifacts are read, to see that they are whole, once in this time
    #[arg(
        long,
        env = "PITSTOP_SCRUB_PERIOD_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "604800",
        help_heading = DEVICES
    )]
    pub(super) scrub_period_s: NonZeroU32,

    #[command(flatten)]
    pub(super) limits: LimitOptions,

    #[command(flatten)]
    pub(super) log: LogOptions,
}

/// Bounds on connections and requests.
#[derive(Debug, Args)]
#[command(next_help_heading = LIMITS)]
pub(crate) struct LimitOptions {
    /// Time for a TLS handshake
    #[arg(
        long,
        env = "PITSTOP_HANDSHAKE_TIMEOUT_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "15"
    )]
    handshake_timeout_s: NonZeroU32,

    /// Time for a request's head, and for a connection to stay idle
    #[arg(
        long,
        env = "PITSTOP_HEADER_TIMEOUT_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "30"
    )]
    header_timeout_s: NonZeroU32,

    /// Time for a request's body, and for each part of an upload
    #[arg(
        long,
        env = "PITSTOP_BODY_TIMEOUT_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "30"
    )]
    body_timeout_s: NonZeroU32,

    /// Life of a connection
    #[arg(
        long,
        env = "PITSTOP_CONNECTION_LIFETIME_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "3600"
    )]
    connection_lifetime_s: NonZeroU32,

    /// Time that open requests get at a shutdown
    #[arg(
        long,
        env = "PITSTOP_SHUTDOWN_GRACE_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "10"
    )]
    shutdown_grace_s: NonZeroU32,

    /// Time in which a client must take something of an answer
    #[arg(
        long,
        env = "PITSTOP_WRITE_TIMEOUT_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "30"
    )]
    write_timeout_s: NonZeroU32,

    /// Time for an answer once the request is there; then 503, because database or artifact store do not answer
    #[arg(
        long,
        env = "PITSTOP_ANSWER_TIMEOUT_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "30"
    )]
    answer_timeout_s: NonZeroU32,

    /// Connections served at once, per listener; more wait
    #[arg(
        long,
        env = "PITSTOP_MAX_CONNECTIONS",
        hide_env_values = true,
        value_name = "NUMBER",
        default_value = "4096"
    )]
    max_connections: NonZeroU32,

    /// Of those, from one address (IPv6: one network of 64 bits); 0 for no bound
    #[arg(
        long,
        env = "PITSTOP_MAX_CONNECTIONS_PER_ADDRESS",
        hide_env_values = true,
        value_name = "NUMBER",
        default_value = "1024"
    )]
    max_connections_per_address: u32,

    /// Connections told at once that there is no place; more are closed or wait
    #[arg(
        long,
        env = "PITSTOP_MAX_REFUSED_CONNECTIONS",
        hide_env_values = true,
        value_name = "NUMBER",
        default_value = "512"
    )]
    max_refused_connections: u32,

    /// Requests handled at once, per listener; more are answered 503
    #[arg(
        long,
        env = "PITSTOP_MAX_REQUESTS_IN_FLIGHT",
        hide_env_values = true,
        value_name = "NUMBER",
        default_value = "2048"
    )]
    max_requests_in_flight: NonZeroU32,

    /// Requests from one address in the long run; more are answered 429, 0 for no limit
    #[arg(
        long,
        env = "PITSTOP_ADDRESS_REQUESTS_PER_S",
        hide_env_values = true,
        value_name = "NUMBER",
        default_value = "1000"
    )]
    address_requests_per_s: u32,

    /// Requests from one address at once
    #[arg(
        long,
        env = "PITSTOP_ADDRESS_BURST",
        hide_env_values = true,
        value_name = "NUMBER",
        default_value = "20000"
    )]
    address_burst: u32,

    /// Requests of one device in the long run; more are answered 429, 0 for no limit
    #[arg(
        long,
        env = "PITSTOP_CERTIFICATE_REQUESTS_PER_S",
        hide_env_values = true,
        value_name = "NUMBER",
        default_value = "50"
    )]
    certificate_requests_per_s: u32,

    /// Requests of one device at once: an install has up to 256
    #[arg(
        long,
        env = "PITSTOP_CERTIFICATE_BURST",
        hide_env_values = true,
        value_name = "NUMBER",
        default_value = "1000"
    )]
    certificate_burst: u32,

    /// Count connections from this machine by address too; they are tools or a proxy
    #[arg(long, env = "PITSTOP_LIMIT_LOOPBACK", hide_env_values = true)]
    limit_loopback: bool,

    /// The least that Retry-After says
    #[arg(
        long,
        env = "PITSTOP_RETRY_AFTER_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "5"
    )]
    retry_after_s: u32,

    /// Up to so much more in Retry-After, at random
    #[arg(
        long,
        env = "PITSTOP_RETRY_SPREAD_S",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "55"
    )]
    retry_spread_s: u32,
}

/// What goes to standard error.
#[derive(Debug, Args)]
#[command(next_help_heading = LOGGING)]
pub(crate) struct LogOptions {
    /// What is logged: error, warn, info, debug or trace; for one module `server=debug`
    #[arg(
        long = "log",
        env = "PITSTOP_LOG",
        hide_env_values = true,
        value_name = "FILTER",
        default_value = "info,rustls=off"
    )]
    pub(super) filter: String,

    /// How it is written: lines for people, or one JSON object a line
    #[arg(
        long = "log-format",
        env = "PITSTOP_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub(super) format: LogFormat,

    /// A collector that gets a span of each request, such as http://127.0.0.1:4318 (builds with the feature `otlp`)
    #[arg(long, env = "PITSTOP_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub(super) otlp_endpoint: Option<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    // Lines for people, with colours on a terminal.
    Text,
    // One object a line.
    Json,
}

const CONFIGURATION: &str = "Configuration";
const LISTENERS: &str = "Listeners";
const STORAGE: &str = "Storage";
const CERTIFICATES: &str = "Certificates";
const DEVICES: &str = "Devices";
const LIMITS: &str = "Limits";
const LOGGING: &str = "Logging";

impl ServeOptions {
    /// The server's configuration.
    ///
    /// # Errors
    /// When a place is none.
    pub(super) fn server_config(self) -> Result<Config, Failure> {
        let mut config = Config::new(self.data);
        config.database = self
            .database
            .parse()
            .map_err(|error: LocationError| Failure::usage(format!("setting `database`: {error}")))?;
        config.artifacts = self
            .artifacts
            .parse()
            .map_err(|error: LocationError| Failure::usage(format!("setting `artifacts`: {error}")))?;
        config.device_addr = self.listen;
        config.admin_addr = self.admin;
        config.admin_https = self.admin_https;
        config.tls_tickets = self.tls_tickets;
        config.server_names = self.name;
        if let Some(PublicUrl { url, host }) = self.public_url {
            config.public_url = Some(url);
            if !config.server_names.contains(&host) {
                config.server_names.push(host);
            }
        }
        config.device_certificate_days = self.device_certificate_days;
        config.renew_ended_days = self.renew_ended_days;
        config.server_certificate_days = self.server_certificate_days;
        config.refusal_backoff_s = self.refusal_backoff_s;
        config.next_check_s = self.next_check_s.map(NonZeroU32::get);
        config.fleet_sample = seconds(self.fleet_sample_s);
        config.artifact_quota_bytes = u64::from(self.artifact_quota_mib.get()) << 20;
        config.scrub_period = seconds(self.scrub_period_s);
        config.retention = Retention {
            events_days: self.keep_events_days,
            certificates_days: self.keep_certificates_days,
            audit_days: self.keep_audit_days,
            ..Retention::default()
        };
        config.proxies = self.proxy_protocol_from;
        config.limits = self.limits.limits();
        Ok(config)
    }
}

impl LimitOptions {
    fn limits(&self) -> Limits {
        Limits {
            handshake_timeout: seconds(self.handshake_timeout_s),
            header_timeout: seconds(self.header_timeout_s),
            body_timeout: seconds(self.body_timeout_s),
            connection_lifetime: seconds(self.connection_lifetime_s),
            shutdown_grace: seconds(self.shutdown_grace_s),
            write_timeout: seconds(self.write_timeout_s),
            answer_timeout: seconds(self.answer_timeout_s),
            max_connections: count(self.max_connections.get()),
            max_connections_per_address: count(self.max_connections_per_address),
            max_refused_connections: count(self.max_refused_connections),
            max_requests_in_flight: count(self.max_requests_in_flight.get()),
            address_requests_per_s: self.address_requests_per_s,
            address_burst: self.address_burst,
            certificate_requests_per_s: self.certificate_requests_per_s,
            certificate_burst: self.certificate_burst,
            limit_loopback: self.limit_loopback,
            retry_after: Duration::from_secs(u64::from(self.retry_after_s)),
            retry_spread: Duration::from_secs(u64::from(self.retry_spread_s)),
        }
    }
}

/// A network, or an address by itself.
fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    network.ok_or_else(|| format!("expected an IP address or a network such as 10.0.0.0/24, found {text:?}"))
}

fn seconds(value: NonZeroU32) -> Duration {
    Duration::from_secs(u64::from(value.get()))
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
