//! `pitstop layout adopt`: a layout that leaves a chip's data where it is.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use flashfmt::layout::AdoptError;
use flashfmt::partition::TABLE_OFFSET;
use flashfmt::{Layout, Partition, PartitionTable};
use serde::Serialize;

use crate::failure::Failure;
use crate::flash::data::is_of_data;
use crate::flash::serial::SerialChip;
use crate::flash::serial_options::SerialOptions;
use crate::layouts::{self, Strategy};
use crate::ui::{Page, Ui, size};

const EXAMPLES: &str = "\
Examples:
  pitstop layout adopt --port /dev/ttyUSB0 > parts.csv     of the board on this port
  pitstop layout adopt default.csv > parts.csv             of Arduino's or ESP-IDF's CSV
  pitstop layout adopt build/partition_table/partition-table.bin --flash-size 8MB

Then: pitstop product new lamp --layout parts.csv … and pitstop flash --port …
Applications and otadata give up their places; every other partition keeps its
own. Exit code 1, with the numbers, when the updater does not fit between them.";

/// What a partition table begins with (`ESP_PARTITION_MAGIC`).
const TABLE_MAGIC: &[u8] = &[0xAA, 0x50];

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

    /// Size of the flash, such as 4MB [default: what the chip says, or the smallest that the table fits in]
    #[arg(long, value_name = "SIZE", value_parser = flash_size)]
    flash_size: Option<u32>,

    #[command(flatten)]
    serial: SerialOptions,
}

/// What was made, for scripts.
#[derive(Serialize)]
struct Report {
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

impl Adopt {
    /// Runs the command.
    pub(crate) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { table, port, flash_size, serial } = self;
        let (present, of_chip) = match (table, port) {
            (Some(path), _) => (read(&path)?, None),
            (None, Some(port)) => {
                let mut chip = SerialChip::connect(&port, &serial, ui)?;
                let (table, flash_bytes) = (chip.read_table()?, chip.flash_bytes()?);
                chip.finish()?;
                (parse_table(&table, &format!("the chip on {port}"))?, flash_bytes)
            }
            // clap says this before.
            (None, None) => return Err(Failure::usage("expected a table or --port")),
        };
        let flash_bytes = flash_size.or(of_chip).unwrap_or_else(|| layouts::flash_bytes(&present));
        let adopted = present.adopt(flash_bytes).map_err(|error| refused(&error, &present, flash_bytes))?;
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

/// A table in a file of any form that there is.
fn read(path: &Path) -> Result<Layout, Failure> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::new(format!("the partition table {name} cannot be read: {error}")))?;
    let in_flash = bytes.get(TABLE_OFFSET as usize..).unwrap_or_default();
    if bytes.starts_with(TABLE_MAGIC) {
        parse_table(&bytes, &name)
    } else if in_flash.starts_with(TABLE_MAGIC) {
        parse_table(in_flash, &name)
    } else {
        let not_csv = |reason: String| {
            Failure::new(format!("expected a partition table, as CSV or binary, in {name}: {reason}"))
                .hint("ESP-IDF leaves it in build/partition_table, Arduino's core has it in tools/partitions")
        };
        let text = layouts::text_of(bytes).map_err(|error| not_csv(error.to_string()))?;
        Layout::parse_csv(&text).map_err(|error| not_csv(error.to_string()))
    }
}

fn parse_table(bytes: &[u8], what: &str) -> Result<Layout, Failure> {
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

/// A size of flash: whole megabytes.
fn flash_size(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(['B', 'b']).trim_end_matches(['M', 'm']);
    match digits.parse::<u32>() {
        Ok(megabytes) if (1..=128).contains(&megabytes) && digits.len() < text.len() => Ok(megabytes << 20),
        Ok(_) | Err(_) => Err("expected a size of flash from 1MB to 128MB, such as 4MB".to_owned()),
    }
}
