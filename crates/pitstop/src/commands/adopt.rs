//! `pitstop layout adopt`: a layout that leaves a chip's data where it is.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use flashfmt::layout::AdoptError;
use flashfmt::partition::TABLE_OFFSET;
use flashfmt::{Chip, ImageHeader, Layout, Partition, PartitionTable, SECTOR_BYTES};
use serde::Serialize;

use crate::commands::options;
use crate::failure::Failure;
use crate::flash::data::is_of_data;
use crate::flash::serial::SerialChip;
use crate::flash::serial_options::SerialOptions;
use crate::flash::updater;
use crate::inspect::ImageFile;
use crate::layouts::{self, Places, Strategy};
use crate::text_file;
use crate::ui::{Page, Ui, size};

const EXAMPLES: &str = "\
Examples:
  pitstop layout adopt --port /dev/ttyUSB0 > parts.csv      of a board
  pitstop layout adopt default.csv --chip esp32c3 > parts.csv
  pitstop layout adopt partition-table.bin --chip esp32c3 --flash-size 8MB

A table is Arduino's or ESP-IDF's CSV, a binary one, or all of a flash.

Then: pitstop product new lamp --layout parts.csv … and pitstop flash --port …
Applications and otadata give up their places; every other partition keeps its
own. Exit code 1, with the numbers, when the updater does not fit between them,
or when the updater of the chip cannot work on what there would be.";

/// What a partition table begins with (`ESP_PARTITION_MAGIC`).
const TABLE_MAGIC: &[u8] = &[0xAA, 0x50];

/// How much is searched for a partition table, from its usual place on, to tell that it is elsewhere: 96 KiB, behind which no
/// bootloader goes.
const SEARCHED_BYTES: u32 = 0x1_8000;

/// `layout adopt`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, group = ArgGroup::new("source").args(["table", "port"]).required(true))]
pub(crate) struct Adopt {
    /// A partition table: CSV, binary, or all of a flash
    #[arg(value_name = "TABLE")]
    table: Option<PathBuf>,

    /// Read it from the chip on this serial port
    #[arg(long, value_name = "PORT")]
    port: Option<String>,

    /// The chip, such as esp32c3 [default: the one on the port, or of the bootloader in the file]
    #[arg(long, value_name = "CHIP", value_parser = options::chip, conflicts_with = "port")]
    chip: Option<Chip>,

    /// Size of the flash, such as 4MB [default: what the chip says, or the smallest that the table fits in]
    #[arg(long, value_name = "SIZE", value_parser = options::flash_size)]
    flash_size: Option<u32>,

    #[command(flatten)]
    serial: SerialOptions,
}

/// What was made, for scripts.
#[derive(Serialize)]
struct Report {
    /// If it is known.
    chip: Option<&'static str>,
    flash_bytes: u32,
    strategy: &'static str,
    /// Data partitions that stay where they are.
    kept: Vec<String>,
    slots: Vec<Slot>,
    /// The largest partition for an application before.
    largest_app_bytes: u32,
    csv: String,
}

#[derive(Serialize)]
struct Slot {
    label: String,
    offset: u32,
    size_bytes: u32,
}

/// What is there already.
struct Present {
    layout: Layout,
    chip: Option<Chip>,
    flash_bytes: Option<u32>,
}

impl Adopt {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { table, port, chip: asked, flash_size, serial } = self;
        let Present { layout: present, chip, flash_bytes } = match (table, port) {
            (Some(path), _) => read(&path)?,
            (None, Some(port)) => on_port(&port, &serial, ui)?,
            // clap says this before.
            (None, None) => return Err(Failure::usage("expected a table or --port")),
        };
        if let (Some(asked), Some(found)) = (asked, chip)
            && asked != found
        {
            return Err(Failure::new(format!(
                "expected a flash of {asked}, found the bootloader of {found}"
            ))
            .hint("leave --chip away: the file tells it"));
        }
        let chip = asked.or(chip);
        let flash_bytes = flash_size.or(flash_bytes).unwrap_or_else(|| layouts::flash_bytes(&present));
        let adopted = present.adopt(flash_bytes).map_err(|error| refused(&error, &present, flash_bytes))?;
        if let Some(chip) = chip {
            check(chip, &adopted)?;
        }
        let slots: Vec<_> = adopted
            .slots()
            .map(|Partition { label, offset, size, .. }| Slot {
                label: label.to_string(),
                offset,
                size_bytes: size,
            })
            .collect();
        let largest_app_bytes = present.largest_app_bytes();
        if let Some(slot) = slots.iter().find(|slot| slot.size_bytes < largest_app_bytes) {
            ui.warning(&format!(
                "the slot {} has {}, the largest partition for an application had {}: see that yours fits with `pitstop layout \
                 check`",
                slot.label,
                size(slot.size_bytes.into()),
                size(largest_app_bytes.into())
            ));
        }
        let comment = "# Made by `pitstop layout adopt`: data partitions are where they were.\n";
        let report = Report {
            chip: chip.map(Chip::name),
            flash_bytes,
            strategy: Strategy::of(&adopted).name(),
            kept: kept(&present).map(|partition| partition.label.to_string()).collect(),
            slots,
            largest_app_bytes,
            csv: format!("{comment}{}", adopted.to_csv()),
        };
        // Nothing but the file, so that it can be written to one.
        ui.result(&report, || Page::verbatim(&report.csv))
    }
}

fn kept(layout: &Layout) -> impl Iterator<Item = &Partition> {
    layout.partitions().iter().filter(|partition| is_of_data(partition))
}

/// Whether the updater of a chip can work on a layout: hand over, and be in its place.
fn check(chip: Chip, layout: &Layout) -> Result<(), Failure> {
    server::check_chip(chip, layout).map_err(|problem| {
        Failure::new(problem.to_string())
            .hint("`pitstop layout list` shows the built-in layouts, and how each hands over")
    })?;
    let built = || updater::built_before(chip).and_then(|path| ImageFile::read(&path).ok());
    let updater = updater::carried(chip)?.or_else(built);
    check_place(chip, updater.map(|updater| updater.bytes.len()), &Places::find(layout)?)
}

/// Whether the updater, if it is here, has its place.
fn check_place(chip: Chip, updater_bytes: Option<usize>, places: &Places) -> Result<(), Failure> {
    match updater_bytes {
        Some(found_bytes) if found_bytes > places.updater.size as usize => Err(Failure::new(format!(
            "expected a place for the updater of {chip}, which has {found_bytes} bytes, found `{}` with {}",
            places.updater.label, places.updater.size
        ))
        .hint("give that partition 0xf0000 bytes, as `pitstop layout show 4mb` has it")),
        Some(_) | None => Ok(()),
    }
}

/// What the chip on a port has.
fn on_port(port: &str, serial: &SerialOptions, ui: &Ui) -> Result<Present, Failure> {
    let mut device = SerialChip::connect(port, serial, ui)?;
    let (name, flash_bytes) = (device.name(), device.flash_bytes()?);
    let mut table = device.read_table()?;
    if !table.starts_with(TABLE_MAGIC) {
        let _spinner = ui.spinner("looking for a partition table");
        table = device.read(TABLE_OFFSET, SEARCHED_BYTES)?;
    }
    device.finish()?;
    let chip = options::chip(&name).map_err(Failure::new)?;
    let layout = table_of(&table, &format!("the chip on {port}"))?;
    Ok(Present { layout, chip: Some(chip), flash_bytes })
}

/// What a file of any form has.
fn read(path: &Path) -> Result<Present, Failure> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::new(format!("the partition table {name} cannot be read: {error}")))?;
    let alone = |layout| Present { layout, chip: None, flash_bytes: None };
    if bytes.starts_with(TABLE_MAGIC) {
        return table_of(&bytes, &name).map(alone);
    }
    let behind = bytes.get(TABLE_OFFSET as usize..).unwrap_or_default();
    let behind = &behind[..behind.len().min(SEARCHED_BYTES as usize)];
    if place_of_table(behind).is_some() {
        // All of a flash is as long as it is; a part of one says nothing of its size.
        let flash_bytes = u32::try_from(bytes.len()).ok();
        let flash_bytes = flash_bytes.filter(|bytes| bytes.is_power_of_two() && *bytes >= 1 << 20);
        return Ok(Present { layout: table_of(behind, &name)?, chip: chip_of(&bytes), flash_bytes });
    }
    let not_csv = |reason: String| {
        Failure::new(format!("expected a partition table, as CSV or binary, in {name}: {reason}"))
            .hint("ESP-IDF leaves it in build/partition_table, Arduino's core has it in tools/partitions")
    };
    let text = text_file::text_of(bytes).map_err(|error| not_csv(error.to_string()))?;
    Layout::parse_csv(&text).map(alone).map_err(|error| not_csv(error.to_string()))
}

/// The chip that a flash is of: the one whose bootloader is where that chip's ROM looks for it.
fn chip_of(flash: &[u8]) -> Option<Chip> {
    let is_of = |chip: &Chip| {
        let bootloader = flash.get(chip.bootloader_offset() as usize..).unwrap_or_default();
        ImageHeader::parse(bootloader).is_ok_and(|header| header.chip == *chip)
    };
    Chip::ALL.into_iter().find(is_of)
}

/// In which sector of what is in flash a partition table begins.
fn place_of_table(bytes: &[u8]) -> Option<usize> {
    bytes.chunks(SECTOR_BYTES as usize).position(|sector| sector.starts_with(TABLE_MAGIC))
}

/// The table of what is in flash from the usual place of a table on. One further behind is told.
fn table_of(bytes: &[u8], what: &str) -> Result<Layout, Failure> {
    if let Some(sectors) = place_of_table(bytes).filter(|sectors| *sectors > 0) {
        let found = TABLE_OFFSET + sectors as u32 * SECTOR_BYTES;
        return Err(Failure::new(format!(
            "{what}: expected the partition table at {TABLE_OFFSET:#x}, found it at {found:#x}"
        ))
        .hint(format!(
            "the application looks for its data through the table where it was built for: build it with \
             CONFIG_PARTITION_TABLE_OFFSET={TABLE_OFFSET:#x}, and give the CSV of that build"
        )));
    }
    PartitionTable::parse(bytes).map(Layout::from).map_err(|error| {
        Failure::new(format!("{what}: {error}")).hint(
            "a chip without a table has no data to keep: `pitstop layout list` shows the built-in layouts",
        )
    })
}

/// What has to stay, and what there would be room for without it.
fn refused(error: &AdoptError, present: &Layout, flash_bytes: u32) -> Failure {
    let place = |partition: &Partition| {
        format!("{} {:#x} to {:#x}", partition.label, partition.offset, partition.end())
    };
    let kept: Vec<_> = kept(present).map(place).collect();
    let message = format!(
        "no layout of {} keeps what is there: {error}; it would keep {}",
        size(flash_bytes.into()),
        if kept.is_empty() { "nothing".to_owned() } else { kept.join(", ") }
    );
    let hint = match error {
        AdoptError::NoRoom { .. } => {
            "back up the largest of them, take a layout of `pitstop layout list`, and bring the data back with `pitstop flash \
             --partition LABEL=FILE`; or give --flash-size when the flash is larger"
        }
        AdoptError::NameTaken { .. } => {
            "give that partition another name where the application looks for it, too"
        }
        AdoptError::Label(_) | AdoptError::Partition(_) => "give the size of the flash with --flash-size",
    };
    Failure::new(message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_the_updater_does_not_fit_in_is_told() {
        let places = Places::find(&Layout::builtin("4mb").unwrap()).unwrap();
        let check = |bytes| check_place(Chip::Esp32C3, bytes, &places);
        assert_eq!((check(None), check(Some(0xF_0000))), (Ok(()), Ok(())));
        let told = check(Some(0xF_0001)).unwrap_err();
        assert!(told.message().contains("983041 bytes, found `factory` with 983040"), "{}", told.message());
    }
}
