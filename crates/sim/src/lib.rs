//! Virtual ESP32 devices: NOR flash with torn operations, bootloader model, networks, hostile servers.
//!
//! | module | what it stands for |
//! | --- | --- |
//! | [`flash`] | the SPI flash: NOR rules, wear counters, loss of power inside an operation, damaged bits |
//! | [`power`] | the power supply that flash, network and clock of one device share |
//! | [`clock`] | the device's time: what it waits for, and what its work takes |
//! | [`bootloader`] | ESP-IDF's second-stage bootloader |
//! | [`device`] | the whole device, with the real updater on it |
//! | [`net`] | Wi-Fi or Ethernet, name resolution and the clock, for the shell in `updater-io` |
//! | [`proxy`] | a bad network path: cut, stalled, reset or corrupted at a byte |
//! | [`impostor`] | a server that lies, behind a real TLS handshake |
//! | [`pki`] | certificates for tests, right and wrong |
//! | `campaign` | every fault that is promised to be survived, again and again (feature `campaign`) |
//! | [`traps`] | TLS servers that no device may talk to, each wrong in one thing |
//!
//! All servers bind 127.0.0.1. All randomness but keys and TLS is seeded.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod bootloader;
#[cfg(feature = "campaign")]
pub mod campaign;
pub mod clock;
pub mod device;
pub mod flash;
pub mod impostor;
pub mod net;
pub mod pki;
pub mod power;
pub mod proxy;
pub mod traps;

mod service;
mod strike;

pub use bootloader::{Boot, Bootloader};
pub use device::{End, RunningApp, VirtualDevice};
pub use flash::{FlashError, PowerCut, SimFlash, Tear};
pub use power::PowerSwitch;
