//! Small programs on the chip: an assembler, a flash with a program in it, and runs.
//!
//! A program leaves its results in registers, and ends with `Code::end`.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod asm;

use std::time::Duration;

use chip::{Chip, Stopped};
use flashfmt::image::compose::Composer;
use flashfmt::layout::Layout;
use sim::bootloader::Bootloader;
use sim::flash::SimFlash;

use asm::*;

/// Code that runs from the flash, the first bytes of a page are the headers'.
pub(crate) const FLASH: u32 = 0x4200_0020;
/// Code that runs from the SRAM.
pub(crate) const RAM: u32 = 0x4038_0000;
/// SRAM that no program here uses otherwise, on the data bus and on the instruction bus.
pub(crate) const DATA: u32 = 0x3FC9_0000;
pub(crate) const DATA_CODE: u32 = 0x4039_0000;
pub(crate) const RTC_FAST: u32 = 0x5000_1000;
/// A part of the flash for a program's own use: `ota_0`.
pub(crate) const SCRATCH: u32 = 0x11_0000;
pub(crate) const SECTOR: u32 = 0x1000;

pub(crate) const STORE0: u32 = 0x6000_8050;
pub(crate) const RANDOM: u32 = 0x6002_60B0;
pub(crate) const FROM_CPU0: u32 = 0x600C_0028;
pub(crate) const MATRIX: u32 = 0x600C_2000;
pub(crate) const ENABLE: u32 = MATRIX + 0x104;
pub(crate) const PRIORITY0: u32 = MATRIX + 0x114;
pub(crate) const SYSTIMER: u32 = 0x6002_3000;
/// The source of the system timer's first alarm.
pub(crate) const ALARM0: u32 = 37;

pub(crate) const SYSTIMER_HZ: u32 = 16_000_000;
pub(crate) const MS: Duration = Duration::from_millis(1);

/// A flash of 4 MB with the default layout and a program as the updater; its first part begins with its
/// entry.
pub(crate) fn flash(parts: &[Code]) -> Vec<u8> {
    let parts: Vec<_> = parts.iter().map(|part| (part.addr(), part.bytes())).collect();
    flash_of(&parts)
}

/// The same, of addresses and bytes.
pub(crate) fn flash_of(parts: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let composer = Composer::new(flashfmt::Chip::Esp32C3, parts[0].0);
    let image = parts.iter().fold(composer, |composer, (addr, bytes)| composer.segment(*addr, bytes));
    let layout = Layout::builtin("4mb").unwrap();
    let mut flash = vec![0xFF; 4 << 20];
    let mut put = |offset: u32, bytes: &[u8]| flash[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    put(flashfmt::partition::TABLE_OFFSET, &layout.to_binary());
    put(layout.factory().unwrap().offset, &image.build().unwrap());
    flash
}

pub(crate) fn chip_with_seed(flash: Vec<u8>, seed: u64) -> Chip {
    Chip::new(SimFlash::from_bytes(flash), Bootloader::new(flashfmt::Chip::Esp32C3), seed)
}

pub(crate) fn chip(parts: &[Code]) -> Chip {
    chip_with_seed(flash(parts), 1)
}

/// Runs a flash for so long after power on: the chip, why it stopped, and what it printed.
pub(crate) fn run(flash: Vec<u8>, time: Duration) -> (Chip, Stopped, String) {
    let mut chip = chip_with_seed(flash, 1);
    let stopped = go(&mut chip, time);
    let console = String::from_utf8(chip.take_console()).unwrap();
    (chip, stopped, console)
}

/// Runs until then, and lets time pass where the processor waits for something that comes earlier.
pub(crate) fn go(chip: &mut Chip, until: Duration) -> Stopped {
    loop {
        match chip.run(until) {
            Stopped::Idle { until: event } if event < until => {
                chip.pass(event.saturating_sub(chip.time()).max(Duration::from_nanos(1)));
            }
            stopped => return stopped,
        }
    }
}

/// Runs a program to its end, which comes within a second.
pub(crate) fn finish(chip: &mut Chip) {
    let stopped = go(chip, chip.time() + Duration::from_secs(1));
    assert!(matches!(stopped, Stopped::Idle { .. }), "{stopped:?} at {:#x}", chip.pc());
}

/// A program that ran to its end.
pub(crate) fn finished(parts: &[Code]) -> Chip {
    let mut chip = chip(parts);
    finish(&mut chip);
    chip
}

/// The registers of a program that ran to its end.
pub(crate) fn results<const N: usize>(parts: &[Code], registers: [Reg; N]) -> [u32; N] {
    let chip = finished(parts);
    registers.map(|register| chip.x(register as usize))
}

/// The words that a program told since its start, or since this was asked last.
pub(crate) fn told(chip: &mut Chip) -> Vec<u32> {
    let console = chip.take_console();
    let start = b"at offset 0x10000\r\n";
    let found = console.windows(start.len()).rposition(|window| window == start);
    let words = &console[found.map_or(0, |index| index + start.len())..];
    assert!(words.len().is_multiple_of(4), "{}", String::from_utf8_lossy(&console));
    words.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// What a program told that ran to its end.
pub(crate) fn telling(parts: &[Code]) -> Vec<u32> {
    told(&mut finished(parts))
}

/// Parts of programs.
impl Code {
    /// The table of vectors and the beginning of their handler, which keeps T0 to T2.
    pub(crate) fn handler(self) -> Self {
        self.vectors("vectors", "handler").label("handler").mv(A3, T0).mv(A4, T1).mv(A5, T2)
    }

    /// The end of the handler.
    pub(crate) fn leave(self) -> Self {
        self.mv(T0, A3).mv(T1, A4).mv(T2, A5).mret()
    }

    /// Leads a source of interrupts to a line of some priority, and listens to it.
    pub(crate) fn route(self, source: u32, line: u32, priority: u32) -> Self {
        self.store(MATRIX + 4 * source, line)
            .store(PRIORITY0 + 4 * line, priority)
            .load(T2, ENABLE)
            .li(T1, 1 << line)
            .or(T1, T1, T2)
            .store_reg(ENABLE, T1)
    }

    /// The system timer's lower word.
    pub(crate) fn now(self, rd: Reg) -> Self {
        self.store(SYSTIMER + 0x04, 1 << 30).load(rd, SYSTIMER + 0x44)
    }

    /// Sets the first alarm so many periods from now; the time at which it goes off is in `rd`.
    pub(crate) fn alarm_after(self, rd: Reg, periods: u32) -> Self {
        self.now(rd)
            .li(T0, periods)
            .add(rd, rd, T0)
            .store(SYSTIMER + 0x1C, 0)
            .store_reg(SYSTIMER + 0x20, rd)
            .store(SYSTIMER + 0x34, 0)
            .store(SYSTIMER, 0x4700_0000)
            .store(SYSTIMER + 0x50, 1)
            .store(SYSTIMER + 0x64, 1)
    }

    /// Acknowledges the first alarm.
    pub(crate) fn alarm_is_seen(self) -> Self {
        self.store(SYSTIMER + 0x6C, 1)
    }
}
