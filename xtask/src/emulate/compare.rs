//! `--compare`: the same starts on the crate `chip` and on a QEMU with the chip's ROM, event by event.
//!
//! Compared are the updater's lines on the console, each operation on the flash, and the general registers at the application's
//! entry. Each device has a key of its own, so that what its signatures make longer or shorter is in the vault; there the
//! erases are compared and the number of writes is shown.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use emulator::{Emulator, Log, Machine, Qemu, Symbols, Watch};
use flashfmt::layout::Layout;

use super::flash::{FlashFile, VAULT};
use super::stage::{INSTALL, PANIC};
use super::world::World;

/// Of the product; the devices' ids are as long as each other.
const PRODUCT: &str = "compare";
/// Their layout.
const LAYOUT: &str = "4mb";
/// How the updater's lines begin.
const UPDATER: &str = "pitstop ";

/// What happened in one start.
#[derive(Debug, Default, PartialEq)]
struct Recording {
    /// The updater's lines, with `#` for each number.
    lines: Vec<String>,
    /// Operations outside the vault, and erases in it.
    flash: Vec<String>,
    vault_writes: usize,
    /// General registers at the application's entry, by number.
    registers: Vec<String>,
}

/// Registers that a function may change without giving them back (RISC-V ABIs Specification, "Integer Register Convention"):
/// t0 to t2, a0 to a7, t3 to t6. The ROM's own code, which runs on QEMU, uses others of them than its functions in Rust do, and
/// who begins at an entry is passed nothing in them.
const CHANGED_BY_CALLS: [&str; 15] =
    ["x5", "x6", "x7", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x28", "x29", "x30", "x31"];

/// What a register may hold on the crate chip alone: the bootloader's watchdog as the updater found it in RTC_CNTL_WDTCONFIG0
/// (on, stage 0 resets the system). QEMU has no such watchdog, and the register reads 0 there.
const OF_THE_WATCHDOG: &str = "c007ea00";

/// Compares a first start, a start with nothing new and an update.
///
/// Errors: what differs.
pub(super) fn run(world: &World, qemu: &Qemu, symbols: Symbols, logs: &Path) -> anyhow::Result<()> {
    world.product(PRODUCT, LAYOUT, "hello-1.0.0")?;
    let chips = [Emulator::Chip(Arc::new(symbols)), Emulator::Qemu(qemu.clone())];
    let flashes = [world.flash_of(PRODUCT, "compare-chip")?, world.flash_of(PRODUCT, "compare-qemu")?];
    let log = Log::create(&logs.join("compare.log"))?;
    let mut differences = Vec::new();
    for (start, app) in [("first start", "1.0.0"), ("nothing new", "1.0.0"), ("update", "1.1.0")] {
        if start == "update" {
            world.publish(PRODUCT, "hello-1.1.0")?;
        }
        let mut recordings = Vec::new();
        for (emulator, flash) in chips.iter().zip(&flashes) {
            log.line(&format!("--- {start} on {emulator}"));
            let watch = watch(world, app)?;
            let recording = record(emulator, flash, &log, &watch, &format!("hello {app} "))
                .with_context(|| format!("{start} on {emulator}"))?;
            recordings.push(recording);
        }
        let [chip, qemu] = &recordings[..] else { continue };
        println!(
            "  {start}: {} lines, {} operations on the flash beside {} and {} writes into the vault, {} registers",
            chip.lines.len(),
            chip.flash.len(),
            chip.vault_writes,
            qemu.vault_writes,
            chip.registers.len()
        );
        differences.extend(differ(chip, qemu).into_iter().map(|text| format!("{start}: {text}")));
    }
    ensure!(
        differences.is_empty(),
        "the crate chip and QEMU differ in {} places:\n{}",
        differences.len(),
        differences.join("\n")
    );
    Ok(())
}

fn watch(world: &World, app: &str) -> anyhow::Result<Watch> {
    let image = world.image_bytes(&format!("hello-{app}"))?;
    let entry_addr = crate::lab::entry_addr(&image)?;
    let layout = Layout::builtin(LAYOUT).context("no such layout")?;
    let slot = layout.slots().next().context("a layout without a slot")?;
    Ok(Watch { entry_addr, partition: slot.offset..slot.end() })
}

fn record(
    emulator: &Emulator,
    flash: &FlashFile,
    log: &Log,
    watch: &Watch,
    ends: &str,
) -> anyhow::Result<Recording> {
    let mut machine = Machine::power_on_watched(emulator, flash.path(), log, Some(watch))?;
    let deadline = Instant::now() + INSTALL;
    let mut recording = Recording::default();
    loop {
        let line = machine.line(deadline, ends)?;
        ensure!(!line.contains(PANIC), "the updater breaks: {line}");
        if line.starts_with(ends) {
            break;
        }
        recording.add(&line, &VAULT);
    }
    // What it has written is in its file when it waits.
    std::thread::sleep(Duration::from_millis(500));
    Ok(recording)
}

impl Recording {
    fn add(&mut self, line: &str, vault: &Range<usize>) {
        if let Some(operation) = line.strip_prefix(Watch::FLASH) {
            let addr = operation.split(' ').nth(1).and_then(|addr| addr.strip_prefix("0x"));
            let addr = addr.and_then(|addr| usize::from_str_radix(addr, 16).ok());
            if operation.starts_with("write") && addr.is_some_and(|addr| vault.contains(&addr)) {
                self.vault_writes += 1;
            } else {
                self.flash.push(operation.to_owned());
            }
        } else if let Some(registers) = line.strip_prefix(Watch::ENTRY) {
            // The last time counts: the same address is in the updater too.
            self.registers = registers.split_whitespace().map(str::to_owned).collect();
        } else if let Some(at) = line.find(UPDATER) {
            self.lines.push(without_numbers(&line[at..]));
        }
    }
}

/// The line with `#` for each number: times, sizes, digests.
fn without_numbers(line: &str) -> String {
    let is_number = |word: &str| {
        let digits = word.trim_matches(|character: char| !character.is_ascii_alphanumeric());
        digits.contains(|character: char| character.is_ascii_digit())
    };
    let words = line.split(' ').map(|word| if is_number(word) { "#" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

fn differ(chip: &Recording, qemu: &Recording) -> Vec<String> {
    let mut differences = Vec::new();
    let pairs = [("console", &chip.lines, &qemu.lines), ("flash", &chip.flash, &qemu.flash)];
    for (what, chip, qemu) in pairs {
        for index in 0..chip.len().max(qemu.len()) {
            let (one, other) = (chip.get(index), qemu.get(index));
            if one != other {
                differences.push(format!("{what}, event {index}: chip {one:?}, QEMU {other:?}"));
                // Whatever comes after it is shifted.
                break;
            }
        }
    }
    if chip.registers.len() != qemu.registers.len() || chip.registers.is_empty() {
        differences.push("the application's entry was not seen on both".to_owned());
    }
    for (one, other) in chip.registers.iter().zip(&qemu.registers) {
        let (name, value) = one.split_once('=').unwrap_or((one, ""));
        if one != other && !CHANGED_BY_CALLS.contains(&name) && value != OF_THE_WATCHDOG {
            differences.push(format!("register at the entry: chip {one}, QEMU {other}"));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(lines: &[&str]) -> Recording {
        let mut recording = Recording::default();
        lines.iter().for_each(|line| recording.add(line, &VAULT));
        recording
    }

    #[test]
    fn events_are_sorted_and_numbers_do_not_count() {
        let found = recording(&[
            "I (30) pitstop 0.1.0 starts after power-on",
            "flash: erase 0x100000 4096",
            "flash: write 0x100020 32",
            "flash: write 0x110000 4096",
            "entry: x1=00000001 x2=00000002",
            "entry: x1=00000003 x2=00000004",
            "rst:0x1",
        ]);
        assert_eq!(found.lines, ["pitstop # starts after power-on"]);
        assert_eq!(found.flash, ["erase 0x100000 4096", "write 0x110000 4096"]);
        assert_eq!(
            (found.vault_writes, &found.registers[..]),
            (1, &["x1=00000003".into(), "x2=00000004".into()][..])
        );
    }

    #[test]
    fn whatever_differs_is_named() {
        let lines = ["pitstop checks in", "flash: write 0x110000 4096", "entry: x1=00000001"];
        assert!(differ(&recording(&lines), &recording(&lines)).is_empty());
        for (index, other) in
            ["pitstop enrolls", "flash: write 0x110000 4092", "entry: x1=00000002"].iter().enumerate()
        {
            let mut others = lines;
            others[index] = other;
            assert_eq!(differ(&recording(&lines), &recording(&others)).len(), 1, "{other}");
            assert_eq!(differ(&recording(&lines), &recording(&lines[..index])).len(), 3 - index, "{other}");
        }
    }
}
