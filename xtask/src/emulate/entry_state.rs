//! `entry-state`: what an image finds at its entry when the updater starts it is what the bootloader would have left.
//!
//! The application `entry-state` prints every register it finds; it is started once by the bootloader, in the updater's
//! place, and once by the updater. Each register that differs is on the list of those that may.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use emulator::Machine;

use super::flash::Slot;
use super::stage::{INSTALL, Outcome, START, Stage};

const IMAGE: &str = "entry-state";
const BEGINS: &str = "entry-state begins";
const ENDS: &str = "entry-state ends";

/// Registers that may differ, with the reason.
struct Allowed {
    /// As the application prints it.
    base: &'static str,
    first_offset: u32,
    last_offset: u32,
    why: &'static str,
}

const ALLOWED: &[Allowed] = &[
    allowed("cpu", 0x04, 0x04, "ra: nobody returns from an entry point"),
    allowed("cpu", 0x08, 0x08, "sp: the ROM's whole stack is free, of which the bootloader has used a part"),
    allowed("cpu", 0x0C, 0x0C, "gp: a program that uses it sets it"),
    allowed("cpu", 0x18, 0x7C, "an entry point has no caller that would pass or keep anything"),
    allowed("60002000", 0x04, 0x28, SPI1),
    allowed("60002000", 0x58, 0x94, SPI1),
    allowed("60008000", 0x00, 0x00, RTC),
    allowed("60008000", 0x1C, 0x34, RTC),
    allowed("60008000", 0x3C, 0x3C, "what wakes the chip from sleep: set before each sleep"),
    allowed("60008000", 0x50, 0x50, "STORE0 is the updater's"),
    allowed("60008000", 0x54, 0x54, "STORE1: how fast the slow clock is; each program measures it"),
    allowed("60008000", 0x58, 0x5C, NOISE),
    allowed("60008000", 0x70, 0x70, RTC),
    allowed("60008000", 0x80, 0x8C, RTC),
    allowed("60008000", 0xAC, 0xAC, "super watchdog: esp-hal and ESP-IDF's bootloader turn it off"),
    allowed("60008000", 0xC0, 0xC4, NOISE),
    allowed("60008000", 0xD8, 0xD8, "brownout: as after power-on; an emulator may begin with something else"),
    allowed(
        "6001f000",
        0x00,
        0x80,
        "timer group 0: an emulator may not reset it with the chip, as silicon does",
    ),
];

const NOISE: &str =
    "STORE2, 3, 6 and 7: nobody here writes them, and after each power on they hold something else";
const SPI1: &str = "the last command to the flash; each one sets all that it needs";

/// `rtc_init` of ESP-IDF 5.5 (`esp_hw_support/port/esp32c3/rtc_init.c`).
const RTC: &str = "power and clocks in the RTC domain, which a reset of the chip does not reach: ESP-IDF and esp-hal set \
                   them at each start";

const fn allowed(base: &'static str, first_offset: u32, last_offset: u32, why: &'static str) -> Allowed {
    Allowed { base, first_offset, last_offset, why }
}

/// The MMU's table: the same image is at other pages of the flash.
const MMU: &str = "600c5000";
/// A bit of an entry that maps nothing (`chainload::MemoryMap::ESP32C3`).
const MMU_INVALID: u32 = 0x100;

/// Where the example prints `mstatus`, and its field MPP.
const MSTATUS: u32 = 0x80;
const MPP: u32 = 3 << 11;
const PAST: &str = "what the last trap came from; a reset need not clear it (RISC-V Privileged Architecture, 3.4), and there was \
                    one in the updater's first start";

/// Where it prints `tp`.
const TP: u32 = 0x10;
const NO_TASK: &str = "tp: ROM and bootloader leave what they found; the updater leaves 0";

/// A register: its base, as it is printed, and its offset.
type Register = (String, u32);

type State = BTreeMap<Register, u32>;

pub(super) fn run(stage: &mut Stage<'_>) -> anyhow::Result<Outcome> {
    stage.world.product(stage.name, "4mb", IMAGE)?;
    let flash = stage.world.flash(stage.name)?;
    let direct = flash.copy("entry-state-direct")?;
    direct.put(Slot::Factory, &stage.world.image_bytes(IMAGE)?)?;
    let by_bootloader = found(&mut stage.power_on(&direct)?, START).context("started by the bootloader")?;
    let by_updater = found(&mut stage.power_on(&flash)?, INSTALL).context("started by the updater")?;
    let differences = differences(&by_bootloader, &by_updater);
    let mut unknown = Vec::new();
    for difference in &differences {
        match difference.allowed() {
            Some(why) => stage.log.line(&format!("--- {difference}: {why}")),
            None => unknown.push(difference.to_string()),
        }
    }
    ensure!(
        unknown.is_empty(),
        "{} registers are not as the bootloader leaves them:\n{}",
        unknown.len(),
        unknown.join("\n")
    );
    println!("  {} registers are the same, {} may differ", by_bootloader.len(), differences.len());
    Ok(Outcome::Passed)
}

/// Reads what the application prints.
fn found(machine: &mut Machine, timeout: Duration) -> anyhow::Result<State> {
    machine.expect(BEGINS, &[], timeout)?;
    let deadline = Instant::now() + START;
    let mut state = State::new();
    loop {
        let line = machine.line(deadline, ENDS)?;
        if line.contains(ENDS) {
            break;
        }
        state.extend(parse(&line).with_context(|| format!("no registers in {line:?}"))?);
    }
    ensure!(!state.is_empty(), "the application printed no register");
    Ok(without_place(state))
}

/// The registers of a line.
fn parse(line: &str) -> Option<Vec<(Register, u32)>> {
    let mut words = line.strip_prefix("entry-state ")?.split(' ');
    let (base, offset) = words.next()?.split_once('+')?;
    let offset = u32::from_str_radix(offset, 16).ok()?;
    words
        .zip((offset..).step_by(size_of::<u32>()))
        .map(|(word, offset)| Some(((base.to_owned(), offset), u32::from_str_radix(word, 16).ok()?)))
        .collect()
}

/// Counts the flash pages that the MMU maps from the first of them.
fn without_place(mut state: State) -> State {
    let is_page = |base: &str, value: u32| base == MMU && value & MMU_INVALID == 0;
    let pages = state.iter().filter(|((base, _), value)| is_page(base, **value)).map(|(_, value)| *value);
    let Some(first) = pages.min() else { return state };
    for ((base, _), value) in &mut state {
        if is_page(base, *value) {
            *value -= first;
        }
    }
    state
}

/// A register that is not the same.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    base: String,
    offset: u32,
    by_bootloader: Option<u32>,
    by_updater: Option<u32>,
}

impl Difference {
    /// Why it may differ.
    fn allowed(&self) -> Option<&'static str> {
        let is_this = |allowed: &&Allowed| {
            allowed.base == self.base && (allowed.first_offset..=allowed.last_offset).contains(&self.offset)
        };
        let differing = self.by_bootloader.unwrap_or(0) ^ self.by_updater.unwrap_or(0);
        let is_mpp = self.base == "cpu" && self.offset == MSTATUS && differing & !MPP == 0;
        let is_tp = self.base == "cpu" && self.offset == TP && self.by_updater == Some(0);
        let listed = ALLOWED.iter().find(is_this).map(|allowed| allowed.why);
        listed.or(is_mpp.then_some(PAST)).or(is_tp.then_some(NO_TASK))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: Option<u32>| value.map_or("nothing".to_owned(), |value| format!("{value:08x}"));
        let (base, offset) = (&self.base, self.offset);
        write!(
            f,
            "{base}+{offset:03x}: {} by the bootloader, {} by the updater",
            shown(self.by_bootloader),
            shown(self.by_updater)
        )
    }
}

fn differences(by_bootloader: &State, by_updater: &State) -> Vec<Difference> {
    let registers =
        by_bootloader.keys().chain(by_updater.keys().filter(|key| !by_bootloader.contains_key(*key)));
    registers
        .map(|register| Difference {
            base: register.0.clone(),
            offset: register.1,
            by_bootloader: by_bootloader.get(register).copied(),
            by_updater: by_updater.get(register).copied(),
        })
        .filter(|difference| difference.by_bootloader != difference.by_updater)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(lines: &[&str]) -> State {
        without_place(lines.iter().flat_map(|line| parse(line).unwrap()).collect())
    }

    #[test]
    fn lines_are_read_and_others_are_not() {
        let registers = parse("entry-state 600c2000+020 00000001 0000beef").unwrap();
        let register = |offset, value| (("600c2000".to_owned(), offset), value);
        assert_eq!(registers, [register(0x20, 1), register(0x24, 0xBEEF)]);
        for line in
            ["ESP-ROM:esp32c3", "entry-state 600c2000 1", "entry-state cpu+x 1", "entry-state cpu+0 x"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn what_differs_is_found_and_the_place_in_flash_is_not() {
        let direct = state(&[
            "entry-state cpu+000 00000001 00000002",
            "entry-state 600c5000+000 00000001 00000002 00000100",
        ]);
        let loaded = state(&[
            "entry-state cpu+000 00000001 00000003",
            "entry-state 600c5000+000 00000011 00000012 00000100",
        ]);
        let expected =
            Difference { base: "cpu".to_owned(), offset: 4, by_bootloader: Some(2), by_updater: Some(3) };
        assert!(expected.allowed().is_some());
        assert_eq!(differences(&direct, &loaded), [expected]);
        let missing = differences(&direct, &state(&["entry-state cpu+000 00000001 00000002"]));
        assert_eq!(missing.len(), 3);
        assert!(differences(&direct, &direct).is_empty());
        let interrupts_off = state(&["entry-state cpu+080 00000000"]);
        let unknown = differences(&state(&["entry-state cpu+080 00000008"]), &interrupts_off);
        assert_eq!(unknown[0].allowed(), None);
    }
}
