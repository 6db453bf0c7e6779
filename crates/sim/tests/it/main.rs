//! Virtual devices: their life, their faults, and who is against them. One program, because each has to be linked to the server.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod absence;
mod campaigns;
mod common;
mod damaged_flash;
mod faults;
mod heap;
mod hostile;
mod lifecycle;
mod new_keys;
mod nvs;
mod power_cuts;
mod rollback;
mod rollover;
mod ten_years;
mod tls_traps;
mod wear;
mod world;
