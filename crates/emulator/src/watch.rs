//! What a machine does beside printing, as lines of its console: operations on the flash, and the processor's registers at an
//! image's entry. Two emulators that run the same image can so be compared, event by event.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use chip::Chip;
use sim::flash::{BLOCK_BYTES, Operation, OperationKind, SECTOR_BYTES};

use crate::{Debugger, Log};

/// How many general registers there are.
const REGISTERS: usize = 32;
/// The first two arguments of a function: a0 and a1, and its third (RISC-V ABIs Specification).
const ARGUMENTS: [usize; 3] = [10, 11, 12];

/// How long it may take until a QEMU listens.
const BEGIN: Duration = Duration::from_secs(10);

/// Which image's entry is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its address.
    pub entry_addr: u32,
    /// Where in the flash the image is.
    pub partition: Range<u32>,
}

/// Something that a machine does. Displayed as it is on the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Flash(Operation),
    Entry([u32; REGISTERS]),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash(Operation { kind: OperationKind::Erase, address, length_bytes }) => {
                write!(f, "{}erase {address:#x} {length_bytes}", Watch::FLASH)
            }
            Self::Flash(Operation { kind: OperationKind::Write, address, length_bytes }) => {
                write!(f, "{}write {address:#x} {length_bytes}", Watch::FLASH)
            }
            Self::Entry(registers) => {
                f.write_str(Watch::ENTRY)?;
                for (index, value) in registers.iter().enumerate().skip(1) {
                    write!(f, " x{index}={value:08x}")?;
                }
                Ok(())
            }
        }
    }
}

impl Watch {
    /// How a line begins that tells an operation on the flash: `flash: write 0x110000 4096`.
    pub const FLASH: &'static str = "flash: ";
    /// How a line begins that tells the general registers at an entry: `entry: x1=00000000 ...`.
    pub const ENTRY: &'static str = "entry:";

    /// Operations since this was asked last.
    pub(crate) fn operations(chip: &mut Chip) -> impl Iterator<Item = Event> + use<> {
        chip.flash_mut().take_log().into_iter().map(Event::Flash)
    }

    /// The registers of a chip at the entry.
    pub(crate) fn entry(chip: &Chip) -> Event {
        Event::Entry(std::array::from_fn(|index| chip.x(index)))
    }
}

/// A call of the ROM's flash driver, by which every write and erase here is done.
struct Call {
    name: &'static str,
    operation: fn([u32; 3]) -> Operation,
}

/// Their arguments by `esp_rom/include/esp32c3/rom/spi_flash.h` of ESP-IDF 5.5.
const CALLS: [Call; 3] = [
    Call { name: "esp_rom_spiflash_erase_sector", operation: |[number, ..]| erase(number, SECTOR_BYTES) },
    Call { name: "esp_rom_spiflash_erase_block", operation: |[number, ..]| erase(number, BLOCK_BYTES) },
    Call {
        name: "esp_rom_spiflash_write",
        operation: |[address, _, length_bytes]| Operation {
            kind: OperationKind::Write,
            address,
            length_bytes,
        },
    },
];

fn erase(number: u32, length_bytes: u32) -> Operation {
    Operation { kind: OperationKind::Erase, address: number.wrapping_mul(length_bytes), length_bytes }
}

/// Watches a QEMU that stands still before its first instruction, in a thread that ends with it.
///
/// The entry's address may be one of another image too: each time that the processor is there is told.
pub(crate) fn watch_qemu(port: u16, watch: &Watch, console: Sender<String>, log: Log) -> io::Result<()> {
    let mut debugger = attach(port)?;
    let entry_addr = watch.entry_addr;
    let mut stops = vec![entry_addr];
    for call in &CALLS {
        stops.extend(chip::rom_addr(call.name));
    }
    for addr in &stops {
        debugger.break_at(*addr)?;
    }
    thread::spawn(move || {
        // An error is the end of the machine.
        while let Ok(registers) = debugger.go_on() {
            let pc = registers[REGISTERS];
            let call = CALLS.iter().find(|call| chip::rom_addr(call.name) == Some(pc));
            let event = match call {
                Some(call) => Event::Flash((call.operation)(ARGUMENTS.map(|index| registers[index]))),
                None => Event::Entry(std::array::from_fn(|index| registers[index])),
            };
            let line = event.to_string();
            log.line(&line);
            if console.send(line).is_err() || debugger.step_over(pc).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// A QEMU that was just started does not listen yet.
fn attach(port: u16) -> io::Result<Debugger> {
    let deadline = Instant::now() + BEGIN;
    loop {
        match Debugger::attach(port) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines() {
        let [sector, block, write] = CALLS;
        let told = |call: &Call, arguments| Event::Flash((call.operation)(arguments)).to_string();
        assert_eq!(told(&sector, [0x111, 0, 0]), "flash: erase 0x111000 4096");
        assert_eq!(told(&block, [0x12, 0, 0]), "flash: erase 0x120000 65536");
        assert_eq!(told(&write, [0x10_0040, 0x3FC9_0000, 32]), "flash: write 0x100040 32");
        let line = Event::Entry(std::array::from_fn(|index| index as u32)).to_string();
        assert!(
            line.starts_with("entry: x1=00000001 x2=00000002 ") && line.ends_with(" x31=0000001f"),
            "{line}"
        );
    }

    #[test]
    fn the_rom_has_all_functions_that_are_watched() {
        assert!(CALLS.iter().all(|call| chip::rom_addr(call.name).is_some()));
    }
}
