//! What the server counts, for Prometheus: `GET /metrics` of the admin listener, in OpenMetrics text.
//!
//! Counters are of this process and start at 0 with it. What describes the fleet (`pitstop_devices`,
//! `pitstop_rollouts`) is set by the sampler, so that no scrape counts rows. docs/operations.md lists every metric
//! with its unit; a test compares the two.
//!
//! Labels have few values, whatever a client sends: routes stand as they are declared, methods that are not in use
//! count as `other`.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::http::Method;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use rollout::Verdict;

/// The device listener: one more header would be one more line for a chip to read.
pub(crate) const DEVICE: &str = "device";

/// The admin listener.
pub(crate) const ADMIN: &str = "admin";

/// Media type of [`Metrics::encode`]'s text.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds for durations, in seconds: from a read in memory to the longest that a request may take.
const DURATION_BOUNDS_S: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Upper bounds for the writes of one commit.
const BATCH_BOUNDS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

type Labels<const N: usize> = [(&'static str, String); N];

/// All metrics of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels<4>, Counter>,
    request_durations: Family<Labels<3>, Histogram, fn() -> Histogram>,
    /// Connections that are being served, by listener.
    pub(crate) open_connections: Family<Labels<1>, Gauge>,
    /// TLS handshakes: `full`, `resumed`, `failed`, `timed-out`.
    pub(crate) tls_handshakes: Counts,
    /// Check-ins that were answered, by what the device was told.
    pub(crate) check_ins: Counts,
    /// Enrollments and renewals by how they ended.
    pub(crate) enrollments: Counts,
    /// Devices of which two boards seem to have the identity, each time that this is news.
    pub(crate) clones_suspected: Counter,
    /// Bytes of artifacts that went out.
    pub(crate) artifact_bytes: Counter,
    /// Artifacts of releases that are damaged or not there, as they were read last.
    pub(crate) artifacts_damaged: Gauge,
    /// When certificates end, in seconds since 1970: `ca` and `server`.
    pub(crate) certificate_ends: Family<Labels<1>, Gauge>,
    /// Rows that were deleted because they are kept for a time only.
    pub(crate) expired_rows: Counts,
    /// What was sent to webhooks.
    pub(crate) webhook_deliveries: Counts,
    /// Requests that were refused with 429, by what there were too many of.
    pub(crate) rate_limited: Counts,
    /// Connections that do not suit the addresses which send PROXY protocol headers.
    pub(crate) proxy_misfits: Counts,
    /// Wrong tokens of enrollments and of the API, by listener.
    pub(crate) wrong_credentials: Counts,
    /// Rollouts by state, sampled.
    pub(crate) rollouts: Family<Labels<1>, Gauge>,
    /// Rollouts that this process halted, by cause.
    pub(crate) halts: Counts,
    /// Devices by product and health, sampled.
    pub(crate) devices: Family<Labels<2>, Gauge>,
    /// Devices by product and by what is about to happen to their certificate, counted with `devices`.
    pub(crate) device_certificates: Family<Labels<2>, Gauge>,
    /// When `rollouts` and `devices` were set last, in seconds since 1970.
    pub(crate) sampled_at: Gauge<f64, AtomicU64>,
    /// Writes that were committed together.
    pub(crate) write_batch: Histogram,
    /// How long a commit took, in seconds.
    pub(crate) write_duration: Histogram,
}

/// A counter with one label, whose values are known: each is there from the start, with 0.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    label: &'static str,
    family: Family<Labels<1>, Counter>,
}

impl Counts {
    fn new(label: &'static str, values: &[&'static str]) -> Self {
        let counts = Self { label, family: Family::default() };
        for value in values {
            drop(counts.family.get_or_create(&[(label, (*value).to_owned())]));
        }
        counts
    }

    /// Counts so many more.
    pub(crate) fn add_many(&self, value: &'static str, count: u64) {
        self.family.get_or_create(&[(self.label, value.to_owned())]).inc_by(count);
    }

    /// Counts one more.
    pub(crate) fn add(&self, value: &'static str) {
        self.family.get_or_create(&[(self.label, value.to_owned())]).inc();
    }
}

impl Metrics {
    /// Metrics that are all 0.
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("pitstop"),
            requests: Family::default(),
            request_durations: Family::new_with_constructor(durations),
            open_connections: Family::default(),
            tls_handshakes: Counts::new("outcome", &["full", "resumed", "failed", "timed-out"]),
            check_ins: Counts::new("verdict", &Verdict::NAMES),
            enrollments: Counts::new(
                "outcome",
                &[
                    "enrolled",
                    "enrolled-again",
                    "pending",
                    "renewed",
                    "renewed-after-end",
                    "adopted",
                    "refused",
                ],
            ),
            clones_suspected: Counter::default(),
            artifact_bytes: Counter::default(),
            artifacts_damaged: Gauge::default(),
            certificate_ends: Family::default(),
            expired_rows: Counts::new("kind", &["events", "certificates", "audit", "idempotency-keys"]),
            webhook_deliveries: Counts::new("outcome", &["delivered", "failed"]),
            rate_limited: Counts::new("by", &["address", "certificate", "renewals", "wrong-credentials"]),
            proxy_misfits: Counts::new("kind", &["missing", "unexpected"]),
            wrong_credentials: Counts::new("listener", &[DEVICE, ADMIN]),
            rollouts: Family::default(),
            halts: Counts::new("cause", &["failures", "crashes", "silence"]),
            devices: Family::default(),
            device_certificates: Family::default(),
            sampled_at: Gauge::default(),
            write_batch: Histogram::new(BATCH_BOUNDS),
            write_duration: durations(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let to = &mut self.registry;
        to.register("build", "The server's version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        to.register("http_requests", "Requests answered", self.requests.clone());
        to.register_with_unit(
            "http_request_duration",
            "Time from a request's head to its answer's head",
            Unit::Seconds,
            self.request_durations.clone(),
        );
        to.register("connections_open", "Connections being served", self.open_connections.clone());
        to.register("tls_handshakes", "TLS handshakes ended", self.tls_handshakes.family.clone());
        to.register("check_ins", "Check-ins answered", self.check_ins.family.clone());
        to.register("enrollments", "Enrollments and renewals ended", self.enrollments.family.clone());
        to.register(
            "clones_suspected",
            "Devices that seem to be two boards, each when it was noticed",
            self.clones_suspected.clone(),
        );
        to.register_with_unit(
            "artifact_sent",
            "Artifact bytes sent to devices",
            Unit::Bytes,
            self.artifact_bytes.clone(),
        );
        to.register(
            "artifacts_damaged",
            "Artifacts of releases that are damaged or missing",
            self.artifacts_damaged.clone(),
        );
        to.register_with_unit(
            "certificate_end_timestamp",
            "When a certificate of the server ends, since 1970",
            Unit::Seconds,
            self.certificate_ends.clone(),
        );
        to.register("expired_rows", "Rows deleted by age", self.expired_rows.family.clone());
        to.register(
            "webhook_deliveries",
            "Requests to webhooks by how they ended",
            self.webhook_deliveries.family.clone(),
        );
        to.register("rate_limited_requests", "Requests refused with 429", self.rate_limited.family.clone());
        to.register(
            "proxy_protocol_misfits",
            "Connections that do not suit proxy-protocol-from",
            self.proxy_misfits.family.clone(),
        );
        to.register("wrong_credentials", "Wrong tokens", self.wrong_credentials.family.clone());
        to.register("rollouts", "Rollouts by state, sampled", self.rollouts.clone());
        to.register("rollout_halts", "Rollouts halted by this process", self.halts.family.clone());
        to.register("devices", "Devices by product and health, sampled", self.devices.clone());
        to.register(
            "device_certificates",
            "Devices whose certificate has ended, is about to or was refused, sampled",
            self.device_certificates.clone(),
        );
        to.register_with_unit(
            "fleet_sampled_timestamp",
            "When devices and rollouts were sampled last, since 1970",
            Unit::Seconds,
            self.sampled_at.clone(),
        );
        to.register("database_write_batch_size", "Writes committed together", self.write_batch.clone());
        to.register_with_unit(
            "database_write_duration",
            "Time of one commit",
            Unit::Seconds,
            self.write_duration.clone(),
        );
        self
    }

    /// Counts a request that was answered.
    pub(crate) fn request(
        &self,
        listener: &'static str,
        method: &Method,
        route: &str,
        status: u16,
        took: Duration,
    ) {
        let listener = ("listener", listener.to_owned());
        let method = ("method", method_label(method).to_owned());
        let route = ("route", route.to_owned());
        let labels = [listener, method, route];
        self.request_durations.get_or_create(&labels).observe(took.as_secs_f64());
        let [listener, method, route] = labels;
        self.requests.get_or_create(&[listener, method, route, ("status", status.to_string())]).inc();
    }

    /// The metrics as OpenMetrics text.
    ///
    /// # Errors
    /// None in practice: writing into a string does not fail.
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn durations() -> Histogram {
    Histogram::new(DURATION_BOUNDS_S)
}

/// Anybody may send any method: the ones that no route takes are one.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [Method; 6] =
        [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD];
    const NAMES: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];
    KNOWN.iter().position(|known| known == method).map_or("other", |index| NAMES[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_there_before_anything_happened() {
        let text = Metrics::new().encode().unwrap();
        assert!(text.contains("pitstop_tls_handshakes_total{outcome=\"failed\"} 0\n"), "{text}");
        assert!(text.contains("pitstop_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_stranger_cannot_make_labels() {
        let metrics = Metrics::new();
        let odd = Method::from_bytes(b"BREW").unwrap();
        metrics.request("admin", &odd, "other", 404, Duration::from_millis(3));
        metrics.request("admin", &Method::GET, "/healthz", 200, Duration::from_millis(3));
        let text = metrics.encode().unwrap();
        assert!(!text.contains("BREW"), "{text}");
        for line in [
            "pitstop_http_requests_total{listener=\"admin\",method=\"other\",route=\"other\",status=\"404\"} 1\n",
            "pitstop_http_request_duration_seconds_count{listener=\"admin\",method=\"GET\",route=\"/healthz\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
