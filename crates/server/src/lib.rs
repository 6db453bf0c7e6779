//! The Pitstop server: enrolls, publishes, decides, watches.
//!
//! [`start`] opens a data directory (making CA, TLS certificate, database and admin token on the first start) and
//! serves two listeners:
//!
//! | listener | who | what |
//! | --- | --- | --- |
//! | device (TLS 1.3) | devices | EST (RFC 7030), check-in, reports, artifacts |
//! | admin (HTTP, loopback) | the operator's tools | JSON REST under `/api/v1`, `/healthz`, `/readyz`, `/metrics` |
//!
//! Client certificates are optional at the handshake and enforced per route; every request of a device is checked
//! against the database, so that a revoked device is refused at its next request, on an open connection too.
//!
//! In the data directory:
//!
//! | path | content |
//! | --- | --- |
//! | `pitstop.db` | SQLite database |
//! | `artifacts/ab/ab…` | artifacts by their SHA-256 |
//! | `ca/ca.key`, `ca/ca.pem` | the private CA; the key is readable by its owner only |
//! | `tls/server.key`, `tls/server.pem` | the device listener's certificate, issued by the CA |
//! | `admin.token` | the first admin token, for tools on this machine; the database has its SHA-256 only |
//! | `lock` | held while a server runs |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod api;
mod app;
mod arrivals;
mod artifact_store;
mod authorities;
mod backup;
mod ca;
mod ca_keeper;
mod clock;
mod clones;
mod config;
mod counted;
mod crl;
mod deadline;
mod device;
mod endings;
mod error;
mod failing;
mod files;
mod fleet;
mod gate;
mod guesses;
mod guests;
mod health;
mod lingering;
mod listener;
#[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "who opens an S3 store asks for its parts"))]
mod location;
mod metrics;
mod observe;
mod plans;
mod problem;
mod publish;
mod quota;
mod refusal;
mod retention;
mod rollout_problem;
mod rollouts;
mod scrub;
mod secret;
mod server;
mod store;
mod tls;
mod webhooks;

pub use backup::{BackupError, BackupSummary, backup, restore};
pub use clock::Clock;
pub use config::{Config, Limits, Retention};
pub use error::StartError;
pub use listener::PeerCertificate;
pub use location::{Artifacts, Database, LocationError, PostgresUrl, S3Location};
pub use publish::{ChipProblem, Unpublishable, check_chip, check_image, check_start};
pub use server::{RunningServer, start};

/// The strategy of a product whose layout has an otadata partition (docs/handover.md).
const OTADATA_ROLLBACK: &str = "otadata-rollback";

/// The largest artifact that the server takes, in bytes: the largest flash of an ESP32-C3 or -C6.
pub const MAX_ARTIFACT_BYTES: u64 = 16 * 1024 * 1024;
const _: () = assert!(MAX_ARTIFACT_BYTES == manifest::CHUNK_BYTES as u64 * manifest::MAX_CHUNKS as u64);
