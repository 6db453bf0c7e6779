//! An ESP32-C3 in software, as much of it as Pitstop's own images need, and harsher than silicon.
//!
//! An access to anything that is not modelled ends the run with the address and the register's name. What is modelled, by
//! which source, where it differs from silicon and from QEMU, and which registers are only storage, is in docs/fidelity.md.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod boot;
mod bus;
mod chip;
pub mod cpu;
mod fault;
pub mod net;
mod peripherals;
mod registers;
mod rom;
mod time;

pub use chip::{Chip, Stopped};
pub use fault::{Access, Fault};
pub use registers::rom_addr;
pub use updater::reset::Reset;
