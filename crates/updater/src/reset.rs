//! Resets: what each of them leaves behind on a chip, and what the ROM says about it afterwards.
//!
//! One table for everybody: the firmware asks what a reset code means, the simulator what is left of the retained
//! register. Pure data, no heap.
//!
//! Sources:
//!
//! * The levels of reset: ESP32 TRM (v5.2) section 3.1, table 3-1 (three levels, "none of these clear the RAM");
//!   ESP32-S3 TRM section 7.1, table 7.1-1; ESP32-C3 and ESP32-C6 TRM, the section "Reset" of the chapter "Reset and
//!   Clock" (four levels).
//! * The codes: ESP-IDF 5.5, `components/soc/{esp32,esp32c3,esp32c6,esp32s3}/include/soc/reset_reasons.h`, whose names
//!   say the level too. A code that two chips have means the same on both, so that reading one needs no chip.
//! * The hint: ESP-IDF 5.5, `components/esp_system/port/soc/esp32c3/reset_reason.c` and its three twins.

use flashfmt::Chip;
use wire::ResetCause;

/// How a chip came to reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reset {
    /// The supply came up.
    PowerOn,
    /// The pin EN (`CHIP_PU`) was low: a reset button, a USB adapter's DTR and RTS. Looks like power on in every way.
    EnPin,
    /// The brownout detector reset the system by itself.
    Brownout,
    /// The brownout detector's interrupt reset the chip by software and left a hint, as ESP-IDF does by default
    /// (`CONFIG_ESP_SYSTEM_BROWNOUT_INTR`; `components/esp_system/port/brownout.c`).
    BrownoutInterrupt,
    /// The RTC watchdog with stage action 4, "reset system", which takes the RTC domain with it. Default of esp-hal
    /// (1.0 `RwdtStageAction`), and of the watchdog that the second-stage bootloader leaves armed
    /// (`WDT_STAGE_ACTION_RESET_RTC`, `components/bootloader_support/src/bootloader_init.c`).
    RtcWatchdogSystem,
    /// The RTC watchdog with stage action 3, "reset core".
    RtcWatchdogCore,
    /// The RTC watchdog with stage action 2, "reset CPU".
    RtcWatchdogCpu,
    /// A watchdog of a timer group, with stage action "reset core". ESP-IDF's task and interrupt watchdogs, when
    /// their own handlers do not get to run.
    TimerGroupWatchdogCore,
    /// A watchdog of a timer group, with stage action "reset CPU".
    TimerGroupWatchdogCpu,
    /// The super watchdog: nothing fed the chip's last resort.
    SuperWatchdog,
    /// Software reset the system: esp-hal's `software_reset()`, ESP-IDF's `esp_rom_software_reset_system()`.
    SoftwareSystem,
    /// Software reset the CPU: ESP-IDF's `esp_restart()`, and its panic handler, which leaves a hint.
    SoftwareCpu,
    /// A wake from deep sleep.
    DeepSleep,
    /// The USB serial port's control lines.
    UsbSerial,
    /// The USB JTAG adapter.
    UsbJtag,
}

/// How much of the chip a reset reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The processors.
    Cpu,
    /// The digital system, without the RTC domain (ESP32-C6: without the LP system).
    Core,
    /// The digital system, the RTC domain included.
    System,
    /// The chip, the analog part included.
    Chip,
}

/// What a reset leaves of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// What was in it.
    Kept,
    /// Its reset value, zero.
    Cleared,
    /// Anything: what was in it, zeros, noise. Nothing may depend on either.
    Undefined,
}

/// What is left after a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The RTC domain with its registers STORE0 to STORE7: the retained register and ESP-IDF's hint.
    pub rtc: Content,
    /// The processor's general registers. No reset gives them a value (RISC-V privileged specification 1.12, section
    /// 3.4: "unspecified"; the same for Xtensa's AR registers): after a reset they may be what they were.
    pub cpu_registers: Content,
    /// The internal SRAM, before ROM and bootloader have used their parts of it.
    pub sram: Content,
}

/// One reset on one chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The reset.
    pub reset: Reset,
    /// How far it reaches.
    pub level: Level,
    /// The codes that the ROM reports for it (`esp_rom_get_reset_reason`, esp-hal's `reset_reason()`): more than one
    /// where the source has more than one instance, or where versions of ESP-IDF differ.
    pub codes: &'static [u32],
    /// What it leaves.
    pub remains: Remains,
}

impl Reset {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::PowerOn,
        Self::EnPin,
        Self::Brownout,
        Self::BrownoutInterrupt,
        Self::RtcWatchdogSystem,
        Self::RtcWatchdogCore,
        Self::RtcWatchdogCpu,
        Self::TimerGroupWatchdogCore,
        Self::TimerGroupWatchdogCpu,
        Self::SuperWatchdog,
        Self::SoftwareSystem,
        Self::SoftwareCpu,
        Self::DeepSleep,
        Self::UsbSerial,
        Self::UsbJtag,
    ];

    /// This reset on `chip`; `None` where the chip has no such thing, or is not in the table.
    #[must_use]
    pub const fn on(self, chip: Chip) -> Option<Entry> {
        // What all four chips have in common, and then the exceptions.
        let (level, codes): (Level, &'static [u32]) = match self {
            Self::PowerOn | Self::EnPin => (Level::Chip, &[0x01]),
            Self::Brownout => (Level::System, &[0x0f]),
            // `esp_restart_noos()` up to ESP-IDF 5.4, `esp_rom_software_reset_system()` after it.
            Self::BrownoutInterrupt => (Level::Core, &[0x0c, 0x03]),
            Self::RtcWatchdogSystem => (Level::System, &[0x10]),
            Self::RtcWatchdogCore => (Level::Core, &[0x09]),
            Self::RtcWatchdogCpu => (Level::Cpu, &[0x0d]),
            Self::TimerGroupWatchdogCore => (Level::Core, &[0x07, 0x08]),
            Self::TimerGroupWatchdogCpu => match chip {
                // Each group resets its own processor, with one code.
                Chip::Esp32 => (Level::Cpu, &[0x0b]),
                _ => (Level::Cpu, &[0x0b, 0x11]),
            },
            Self::SuperWatchdog => (Level::System, &[0x12]),
            Self::SoftwareSystem => (Level::Core, &[0x03]),
            Self::SoftwareCpu => (Level::Cpu, &[0x0c]),
            Self::DeepSleep => (Level::Core, &[0x05]),
            Self::UsbSerial => (Level::Core, &[0x15]),
            Self::UsbJtag => match chip {
                Chip::Esp32C6 => (Level::Core, &[0x16, 0x18]),
                _ => (Level::Core, &[0x16]),
            },
        };
        let on_this_chip = match chip {
            // It has neither a super watchdog nor USB.
            Chip::Esp32 => !matches!(self, Self::SuperWatchdog | Self::UsbSerial | Self::UsbJtag),
            Chip::Esp32C3 | Chip::Esp32C6 | Chip::Esp32S3 => true,
            _ => false,
        };
        if on_this_chip {
            Some(Entry { reset: self, level, codes, remains: self.remains(level) })
        } else {
            None
        }
    }

    const fn remains(self, level: Level) -> Remains {
        let by_level = match level {
            Level::Cpu | Level::Core => {
                Remains { rtc: Content::Kept, cpu_registers: Content::Undefined, sram: Content::Kept }
            }
            Level::System => {
                Remains { rtc: Content::Cleared, cpu_registers: Content::Undefined, sram: Content::Kept }
            }
            Level::Chip => Remains {
                rtc: Content::Undefined,
                cpu_registers: Content::Undefined,
                sram: Content::Undefined,
            },
        };
        match self {
            // The SRAM has no power in deep sleep.
            Self::DeepSleep => Remains { sram: Content::Undefined, ..by_level },
            // By its level it keeps the RTC domain; on an ESP32-S3 it was seen to lose it (espressif/esp-idf issue
            // 17718), and a supply that sags may go on sagging.
            Self::BrownoutInterrupt => Remains { rtc: Content::Undefined, ..by_level },
            _ => by_level,
        }
    }

    /// Whether a watchdog did it.
    #[must_use]
    pub const fn is_watchdog(self) -> bool {
        match self {
            Self::RtcWatchdogSystem
            | Self::RtcWatchdogCore
            | Self::RtcWatchdogCpu
            | Self::TimerGroupWatchdogCore
            | Self::TimerGroupWatchdogCpu
            | Self::SuperWatchdog => true,
            Self::PowerOn
            | Self::EnPin
            | Self::Brownout
            | Self::BrownoutInterrupt
            | Self::SoftwareSystem
            | Self::SoftwareCpu
            | Self::DeepSleep
            | Self::UsbSerial
            | Self::UsbJtag => false,
        }
    }
}

/// Why ESP-IDF restarted the chip by software: of `esp_reset_reason_t` (ESP-IDF 5.5,
/// `components/esp_system/include/esp_system.h`) those that `esp_reset_reason()` takes from the hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Hint {
    /// `ESP_RST_PANIC`
    Panic = 4,
    /// `ESP_RST_INT_WDT`
    InterruptWatchdog = 5,
    /// `ESP_RST_TASK_WDT`
    TaskWatchdog = 6,
    /// `ESP_RST_BROWNOUT`
    Brownout = 9,
}

/// The hint stands in both halves of STORE6, the upper one with its top bit set (`RST_REASON_SHIFT`,
/// `RST_REASON_BIT`, `RST_REASON_MASK`).
const HINT_SHIFT: u32 = 16;
const HINT_BIT: u32 = 0x8000_0000;
const HINT_MASK: u32 = 0x7fff;

impl Hint {
    /// The hint in STORE6 (`esp_reset_reason_get_hint`); `None` where there is none, or one that says nothing here.
    #[must_use]
    pub const fn from_store6(bits: u32) -> Option<Self> {
        let (low, high) = (bits & HINT_MASK, (bits >> HINT_SHIFT) & HINT_MASK);
        if bits & HINT_BIT == 0 || low != high {
            return None;
        }
        match low {
            4 => Some(Self::Panic),
            5 => Some(Self::InterruptWatchdog),
            6 => Some(Self::TaskWatchdog),
            9 => Some(Self::Brownout),
            _ => None,
        }
    }

    /// The content of STORE6 (`esp_reset_reason_set_hint`).
    #[must_use]
    pub const fn to_store6(self) -> u32 {
        let reason = self as u32;
        reason | (reason << HINT_SHIFT) | HINT_BIT
    }
}

/// Why the chip reset, from the ROM's code and the hint in STORE6. The hardware cannot tell a panic from a wished
/// restart; the hint does.
#[must_use]
pub const fn cause(code: u32, hint: Option<Hint>) -> ResetCause {
    match (code, hint) {
        (0x01, _) => ResetCause::PowerOn,
        (0x03 | 0x0c, Some(Hint::Panic)) => ResetCause::Panic,
        (0x03 | 0x0c, Some(Hint::InterruptWatchdog | Hint::TaskWatchdog)) => ResetCause::Watchdog,
        (0x03 | 0x0c, Some(Hint::Brownout)) | (0x0f, _) => ResetCause::Brownout,
        (0x03 | 0x0c, None) => ResetCause::Software,
        (0x05, _) => ResetCause::DeepSleep,
        (0x15 | 0x16 | 0x18, _) => ResetCause::External,
        (code, _) if is_watchdog(code) => ResetCause::Watchdog,
        _ => ResetCause::Unknown,
    }
}

/// Whether the hardware of a watchdog reset the chip.
#[must_use]
pub const fn is_watchdog(code: u32) -> bool {
    matches!(code, 0x07 | 0x08 | 0x09 | 0x0b | 0x0d | 0x10 | 0x11 | 0x12)
}

/// What the reset with this code left of the RTC domain, and so of the retained register. [`Content::Undefined`] for a
/// code that is not in the table.
#[must_use]
pub const fn rtc_after(code: u32, hint: Option<Hint>) -> Content {
    match (code, hint) {
        (0x03 | 0x0c, Some(Hint::Brownout)) => Content::Undefined,
        (0x03 | 0x05 | 0x07 | 0x08 | 0x09 | 0x0b | 0x0c | 0x0d | 0x11 | 0x15 | 0x16 | 0x18, _) => {
            Content::Kept
        }
        (0x0f | 0x10 | 0x12, _) => Content::Cleared,
        _ => Content::Undefined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHIPS: [Chip; 4] = [Chip::Esp32, Chip::Esp32C3, Chip::Esp32C6, Chip::Esp32S3];

    fn entries() -> impl Iterator<Item = (Chip, Entry)> {
        let on = |chip| move |reset: Reset| Some((chip, reset.on(chip)?));
        CHIPS.into_iter().flat_map(move |chip| Reset::ALL.into_iter().filter_map(on(chip)))
    }

    /// What ESP-IDF leaves in STORE6 for a reset that it makes itself.
    fn hint(reset: Reset) -> Option<Hint> {
        (reset == Reset::BrownoutInterrupt).then_some(Hint::Brownout)
    }

    #[test]
    fn the_rtc_domain_survives_up_to_a_reset_of_the_core() {
        for (chip, Entry { reset, level, remains, .. }) in entries() {
            let expected = match level {
                _ if reset == Reset::BrownoutInterrupt => Content::Undefined,
                Level::Cpu | Level::Core => Content::Kept,
                Level::System => Content::Cleared,
                Level::Chip => Content::Undefined,
            };
            assert_eq!(remains.rtc, expected, "{reset:?} on {chip:?}");
            assert_eq!(remains.cpu_registers, Content::Undefined, "{reset:?} on {chip:?}");
        }
    }

    /// The counters of the updater depend on this pair.
    #[test]
    fn of_the_watchdogs_resets_one_keeps_the_retained_register() {
        for chip in CHIPS {
            assert_eq!(Reset::RtcWatchdogCore.on(chip).unwrap().remains.rtc, Content::Kept);
            assert_eq!(Reset::RtcWatchdogSystem.on(chip).unwrap().remains.rtc, Content::Cleared);
        }
    }

    /// What is known after the reset, from the code alone, is what the table says of the reset.
    #[test]
    fn codes_say_what_the_table_says() {
        for (chip, Entry { reset, codes, remains, .. }) in entries() {
            for &code in codes {
                assert_eq!(
                    rtc_after(code, hint(reset)),
                    remains.rtc,
                    "{reset:?} on {chip:?}, code {code:#x}"
                );
                assert_eq!(is_watchdog(code), reset.is_watchdog(), "{reset:?} on {chip:?}, code {code:#x}");
                let expected = match reset {
                    Reset::PowerOn | Reset::EnPin => ResetCause::PowerOn,
                    Reset::Brownout | Reset::BrownoutInterrupt => ResetCause::Brownout,
                    Reset::RtcWatchdogSystem
                    | Reset::RtcWatchdogCore
                    | Reset::RtcWatchdogCpu
                    | Reset::TimerGroupWatchdogCore
                    | Reset::TimerGroupWatchdogCpu
                    | Reset::SuperWatchdog => ResetCause::Watchdog,
                    Reset::SoftwareSystem | Reset::SoftwareCpu => ResetCause::Software,
                    Reset::DeepSleep => ResetCause::DeepSleep,
                    Reset::UsbSerial | Reset::UsbJtag => ResetCause::External,
                };
                assert_eq!(cause(code, hint(reset)), expected, "{reset:?} on {chip:?}, code {code:#x}");
            }
        }
    }

    #[test]
    fn chips_have_what_their_manuals_say() {
        assert_eq!(Reset::SuperWatchdog.on(Chip::Esp32), None);
        assert_eq!(Reset::UsbJtag.on(Chip::Esp32), None);
        assert_eq!(Reset::UsbJtag.on(Chip::Esp32C6).unwrap().codes, [0x16, 0x18]);
        assert_eq!(Reset::TimerGroupWatchdogCpu.on(Chip::Esp32).unwrap().codes, [0x0b]);
        assert_eq!(Reset::PowerOn.on(Chip::Esp32H2), None, "not in the table");
        for reset in Reset::ALL {
            assert!(reset.on(Chip::Esp32C3).is_some(), "{reset:?}");
        }
    }

    #[test]
    fn an_unknown_code_promises_nothing() {
        for code in [0x00, 0x02, 0x13, 0x14, 0x17, 0x19, u32::MAX] {
            assert_eq!(cause(code, None), ResetCause::Unknown, "{code:#x}");
            assert_eq!(rtc_after(code, None), Content::Undefined, "{code:#x}");
        }
    }

    #[test]
    fn the_hint_tells_what_a_software_reset_was() {
        for (hint, expected) in [
            (Hint::Panic, ResetCause::Panic),
            (Hint::InterruptWatchdog, ResetCause::Watchdog),
            (Hint::TaskWatchdog, ResetCause::Watchdog),
            (Hint::Brownout, ResetCause::Brownout),
        ] {
            assert_eq!(Hint::from_store6(hint.to_store6()), Some(hint));
            assert_eq!(cause(0x03, Some(hint)), expected);
            assert_eq!(cause(0x0c, Some(hint)), expected);
            // It is old when something else reset the chip.
            assert_eq!(cause(0x01, Some(hint)), ResetCause::PowerOn);
            assert_eq!(cause(0x09, Some(hint)), ResetCause::Watchdog);
            assert_eq!(cause(0x05, Some(hint)), ResetCause::DeepSleep);
        }
        // The bytes that ESP-IDF writes for a panic.
        assert_eq!(Hint::Panic.to_store6(), 0x8004_0004);
        // A wake stub's address, halves that differ, a reason that no handler leaves, nothing.
        for bits in [0x4037_0000, 0x8004_0005, 0x8003_0003, 0] {
            assert_eq!(Hint::from_store6(bits), None, "{bits:#x}");
        }
    }
}
