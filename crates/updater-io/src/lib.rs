//! The async shell of the update engine: flash, TLS, HTTP, EST, vault, journal.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

extern crate alloc;

pub mod board;
pub mod country;
pub mod early;
pub mod est;
pub mod flash;
pub mod handover;
pub mod http;
pub mod journal;
pub mod map;
pub mod pki;
pub mod platform;
pub mod region;
pub mod shell;
pub mod time;
pub mod tls;
pub mod vault;
pub mod wifi;
