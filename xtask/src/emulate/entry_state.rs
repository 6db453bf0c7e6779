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
use super::scenario::{INSTALL, Outcome, START, Stage};

const IMAGE: &str = "entry-state";
const BEGINS: &str = "entry-state begins";
const ENDS: &str = "entry-state ends";

/// Registers that may differ, with the reason.
struct Allowed {
    /// As the application prints it.
    base: &'static str,
    first_offset: u32,
    last_offset: u32,
    #[expect(dead_code, reason = "for whoever reads the list")]
    why: &'static str,
}

const ALLOWED: &[Allowed] = &[];

/// The MMU's table: the same image is at other pages of the flash.
const MMU: &str = "600c5000";
/// A bit of an entry that maps nothing (`chainload::MemoryMap::ESP32C3`).
const MMU_INVALID: u32 = 0x100;

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
    for difference in &differences {
        stage.log.line(&format!("--- {difference}"));
    }
    let unknown: Vec<String> =
        differences.iter().filter(|difference| !difference.is_allowed()).map(ToString::to_string).collect();
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
    fn is_allowed(&self) -> bool {
        ALLOWED.iter().any(|allowed| {
            allowed.base == self.base && (allowed.first_offset..=allowed.last_offset).contains(&self.offset)
        })
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
        assert_eq!(differences(&direct, &loaded), [expected]);
        let missing = differences(&direct, &state(&["entry-state cpu+000 00000001 00000002"]));
        assert_eq!(missing.len(), 3);
        assert!(differences(&direct, &direct).is_empty());
    }
}
