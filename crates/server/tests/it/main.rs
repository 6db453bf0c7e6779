//! The server from outside: real listeners, real TLS, one [`app::TestApp`] per test.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admin;
mod app;
mod artifacts;
mod audit;
mod backup;
mod ca;
mod check_in;
mod client;
mod clones;
mod deletion;
mod device_bulk;
mod devices;
mod enrollment;
mod evidence;
mod faults;
mod fleet;
mod fuzz;
mod idempotency;
mod limits;
mod lists;
mod observability;
mod openapi;
mod openssl;
mod place;
mod product_layout;
mod publish;
mod publish_checks;
mod restart;
mod retention;
mod roles;
mod rollouts;
mod shared;
mod tls;
mod webhooks;
