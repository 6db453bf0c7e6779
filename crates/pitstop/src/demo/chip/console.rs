//! What the lines of the chip's console say.
//!
//! The updater's are those of `firmware/updater/src/console.rs` and `panic.rs`; each begins with `pitstop `.

use wire::Reason;

use crate::demo::stage::Step;

/// How every line of the updater begins.
const UPDATER: &str = "pitstop ";

/// What the bootloader says last, before the updater's image runs (ESP-IDF, components/bootloader_support,
/// `bootloader_utility.c`).
const LOADED: &str = "boot: Loaded app from partition";

/// How a line begins that the emulated chip itself says (`crates/emulator/src/board.rs`).
const CHIP: &str = "chip: ";

/// What the ROM says first after a reset.
const ROM: &str = "ESP-ROM:";

/// A line of the console.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// The chip was reset, or power came on.
    Reset,
    /// The bootloader starts the updater's image, which may hand over at once.
    Loaded,
    /// The updater does something.
    Step(Step),
    /// An install is under way.
    Installs { version: &'a str, percent: u64 },
    /// All of an image is in the slot.
    Verifies,
    /// Something failed, and the updater goes on.
    Fault { text: &'a str },
    /// The updater's last words before an application.
    HandsOver { slot: usize, reason: Option<Reason> },
    /// The updater's last words without an application.
    Waits { text: &'a str },
    /// The updater breaks.
    Breaks { text: &'a str },
    /// The emulated chip does not go on.
    Stops { text: &'a str },
    /// The updater says something else.
    Updater,
    /// ROM and bootloader say more, or it is the application.
    Other(&'a str),
}

impl<'a> Line<'a> {
    /// Reads a line.
    pub(super) fn read(line: &'a str) -> Self {
        let Some(text) = line.strip_prefix(UPDATER) else {
            return match line {
                rom if rom.starts_with(ROM) => Self::Reset,
                chip if chip.starts_with(CHIP) => Self::Stops { text: &chip[CHIP.len()..] },
                bootloader if bootloader.contains(LOADED) => Self::Loaded,
                other => Self::Other(other),
            };
        };
        if let Some(install) = text.strip_prefix("installs ") {
            return installs(install).unwrap_or(Self::Updater);
        }
        if let Some(hand_over) = text.strip_prefix("hands over to slot ") {
            return hands_over(hand_over).unwrap_or(Self::Updater);
        }
        if text.starts_with("fault") {
            return Self::Fault { text };
        }
        if text.starts_with("has nothing to start") {
            return Self::Waits { text };
        }
        if text.starts_with("breaks") {
            return Self::Breaks { text };
        }
        match text {
            "joins the network" => Self::Step(Step::JOINING_ETHERNET),
            "makes its key" => Self::Step(Step::MAKING_KEY),
            "enrolls" => Self::Step(Step::ENROLLING),
            "has a new certificate" => Self::Step(Step::ENROLLED),
            "checks in" => Self::Step(Step::CHECKING_IN),
            "renews its certificate" => Self::Step(Step::RENEWING),
            "verifies the image" => Self::Verifies,
            "has installed the release" => Self::Step(Step::RECORDING),
            "reports" => Self::Step(Step::REPORTING),
            _ => Self::Updater,
        }
    }
}

/// `1.1.0: 42 %`
fn installs(text: &str) -> Option<Line<'_>> {
    let (version, percent) = text.strip_suffix(" %")?.rsplit_once(": ")?;
    Some(Line::Installs { version, percent: percent.parse().ok()? })
}

/// `0`, or with the reason `0: the release was installed (1)`.
fn hands_over(text: &str) -> Option<Line<'_>> {
    let (slot, reason) = match text.split_once(": ") {
        Some((slot, reason)) => {
            let (_, code) = reason.strip_suffix(')')?.rsplit_once('(')?;
            (slot, Some(Reason::from_code(code.parse().ok()?)?))
        }
        None => (text, None),
    };
    Some(Line::HandsOver { slot: slot.parse().ok()?, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_start_is_read() {
        let console = "\
ESP-ROM:esp32c3-api1-20210207
rst:0x1 (POWERON),boot:0x8 (SPI_FAST_FLASH_BOOT)
I (209) boot: Loaded app from partition at offset 0x10000
pitstop 0.1.0 on esp32c3, reset by power-on
pitstop joins the network
pitstop has the address 10.0.2.15/24
pitstop installs 1.0.0: 15 %
pitstop verifies the image
pitstop hands over to slot 0: the release was installed (1)
hello 1.0.0 reset=CoreSw boot=1 uptime_s=0";
        let lines: Vec<_> = console.lines().map(Line::read).collect();
        let expected = [
            Line::Reset,
            Line::Other("rst:0x1 (POWERON),boot:0x8 (SPI_FAST_FLASH_BOOT)"),
            Line::Loaded,
            Line::Updater,
            Line::Step(Step::JOINING_ETHERNET),
            Line::Updater,
            Line::Installs { version: "1.0.0", percent: 15 },
            Line::Verifies,
            Line::HandsOver { slot: 0, reason: Some(Reason::Installed) },
            Line::Other("hello 1.0.0 reset=CoreSw boot=1 uptime_s=0"),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_goes_wrong_is_read() {
        assert_eq!(
            Line::read("pitstop hands over to slot 1: the server refused this device (307)"),
            Line::HandsOver { slot: 1, reason: Some(Reason::DeviceRefused) }
        );
        assert_eq!(Line::read("pitstop hands over to slot 0"), Line::HandsOver { slot: 0, reason: None });
        assert_eq!(
            Line::read("pitstop fault 302: the server cannot be reached"),
            Line::Fault { text: "fault 302: the server cannot be reached" }
        );
        assert_eq!(
            Line::read("chip: Store of register GPIO.out at 0x60004004, which is not modelled"),
            Line::Stops { text: "Store of register GPIO.out at 0x60004004, which is not modelled" }
        );
        assert!(matches!(Line::read("pitstop breaks: panicked at x"), Line::Breaks { .. }));
        let waits = "pitstop has nothing to start, tries again in 5 s: no slot holds an image (505)";
        assert!(matches!(Line::read(waits), Line::Waits { .. }));
    }

    #[test]
    fn words_of_another_updater_are_no_fault() {
        for line in
            ["pitstop installs soon", "pitstop hands over to slot x", "pitstop hands over to slot 0: (9999)"]
        {
            assert_eq!(Line::read(line), Line::Updater, "{line}");
        }
    }
}
