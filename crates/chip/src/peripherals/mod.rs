//! The peripherals, each by its registers: what is not in here stops the run.
//!
//! `read` and `write` take the offset of a register in its peripheral, and answer `None` where there is none that is
//! modelled. Times are ticks (`crate::time`).

pub(crate) mod cache;
pub(crate) mod efuse;
pub(crate) mod ethernet;
pub(crate) mod interrupts;
pub(crate) mod plain;
pub(crate) mod rtc;
pub(crate) mod sha;
pub(crate) mod spi_flash;
pub(crate) mod systimer;
pub(crate) mod timer_group;
pub(crate) mod uart;
pub(crate) mod watchdog;
