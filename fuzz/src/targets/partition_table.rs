//! Any bytes as a binary partition table; an odd first byte gives entries the magics and the MD5 that they need.

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use flashfmt::image::Target;
use flashfmt::layout::{LayoutError, LineError};
use flashfmt::partition::{
    ENTRY_BYTES, FIRST_PARTITION_OFFSET, MAX_PARTITIONS, Partition, PartitionTable, TABLE_BYTES,
    TABLE_OFFSET, emit,
};
use flashfmt::{Chip, Layout};
use md5::{Digest, Md5};
use updater::{Phase, Retained};
use updater_io::early::{self, Begun, Depth, EarlyBoard};
use updater_io::map::Map;
use updater_io::region::Region;
use wire::ResetCause;

const FLASH_BYTES: u32 = 0x100_0000;

pub type Input<'a> = &'a [u8];

pub fn run(data: Input<'_>) {
    let (choice, bytes) = crate::choice(data);
    let binary = if choice & 1 == 1 { with_md5(bytes) } else { bytes.to_vec() };
    let parsed = PartitionTable::parse(&binary);
    if let Ok(table) = parsed {
        let partitions: Vec<Partition> = table.iter().collect();
        check(&partitions);
        assert!(table.as_bytes().len() <= binary.len());

        // What was read can be written, and reads the same.
        let mut written = [0; TABLE_BYTES];
        emit(&partitions, &mut written).unwrap();
        assert!(PartitionTable::parse(&written).unwrap().iter().eq(table.iter()));
        csv(&Layout::from(table));
    }

    // What a device makes of it.
    let mut flash = TableFlash(&binary);
    let fits = parsed.is_ok_and(|table| table.check_fits(FLASH_BYTES).is_ok());
    let map = Map::read(&mut flash);
    assert_eq!(map.is_ok(), fits, "{map:?}");
    let phase = if choice & 2 == 2 { Phase::Ticket } else { Phase::Application };
    let bits = Retained { phase, ..Retained::default() }.to_bits();
    let cause = if choice & 4 == 4 { ResetCause::DeepSleep } else { ResetCause::Software };
    if let Begun::HandOver(hand_over) = early::begin(&mut Accepting, &mut flash, bits, cause) {
        let slots = map.unwrap().slots;
        assert_eq!(slots.get(usize::from(hand_over.slot.0)).map(|slot| slot.region), Some(hand_over.region));
        let retained = Retained::from_bits(hand_over.retained_bits).unwrap();
        assert!(choice & 6 != 0 && retained.phase == Phase::Application);
    }
}

/// Entries with their magic, the MD5 over them, and the end mark.
fn with_md5(bytes: &[u8]) -> Vec<u8> {
    let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
    let mut table = Vec::new();
    for entry in entries.iter().take(MAX_PARTITIONS) {
        table.extend([0xAA, 0x50]);
        table.extend(&entry[2..]);
    }
    let digest = Md5::digest(&table);
    table.extend([0xEB, 0xEB]);
    table.extend([0xFF; 14]);
    table.extend(digest);
    table.extend([0xFF; ENTRY_BYTES]);
    table
}

/// What an accepted table promises to everybody who reads it.
fn check(partitions: &[Partition]) {
    for (index, one) in partitions.iter().enumerate() {
        assert!(one.size > 0 && one.offset.checked_add(one.size).is_some(), "{one:?}");
        assert!(one.offset >= FIRST_PARTITION_OFFSET || one.slot().is_none(), "{one:?}");
        for other in &partitions[..index] {
            assert!(one.label != other.label, "{one:?} {other:?}");
            assert!(one.end() <= other.offset || other.end() <= one.offset, "{one:?} {other:?}");
            assert!(one.slot().is_none() || one.slot() != other.slot(), "{one:?} {other:?}");
        }
    }
}

/// As a CSV file it has the same partitions, where a CSV file can say it: entries in order, types and labels of text.
fn csv(layout: &Layout) {
    let sayable = |partition: &Partition| {
        let label = partition.label.as_str();
        let (type_, _) = partition.kind.to_bytes();
        !label.is_empty()
            && !label.contains([',', '\n', '\r'])
            && label.trim() == label
            && !label.starts_with(['#', '\u{FEFF}'])
            && type_ != 0xFF
            // Where those two are is known, whatever a file says.
            && !matches!(type_, 2 | 3)
    };
    let in_order = layout.partitions().is_sorted_by_key(|partition| partition.offset);
    if in_order && layout.partitions().iter().all(sayable) {
        let text = layout.to_csv();
        match Layout::parse_csv(&text) {
            Ok(again) => assert!(again.partitions() == layout.partitions(), "{text}"),
            // What is on a chip already may be more than what is put there.
            Err(LayoutError::Line {
                error:
                    LineError::NvsTooSmall { .. } | LineError::Readonly { .. } | LineError::TeeOtaSize { .. },
                ..
            }) => {}
            Err(error) => panic!("{error}: {text}"),
        }
    }
}

/// A flash with nothing but a partition table in it.
struct TableFlash<'a>(&'a [u8]);

impl ErrorType for TableFlash<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for TableFlash<'_> {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        assert!(offset as usize + bytes.len() <= self.capacity(), "read past the flash");
        for (place, byte) in (offset..).zip(bytes) {
            let index = place.checked_sub(TABLE_OFFSET).map(|index| index as usize);
            *byte = index.and_then(|index| self.0.get(index)).copied().unwrap_or(0xFF);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_BYTES as usize
    }
}

impl NorFlash for TableFlash<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, _: u32, _: u32) -> Result<(), NorFlashErrorKind> {
        panic!("erases at a start that hides no crash");
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), NorFlashErrorKind> {
        panic!("writes at a start that hides no crash");
    }
}

/// A chip that could start what is in any slot.
struct Accepting;

impl<F> EarlyBoard<F> for Accepting {
    type Checked = ();
    type Sha256 = sha2::Sha256;

    fn target(&self) -> Target {
        Target { chip: Chip::Esp32C3, revision: None, efuse_blocks: None }
    }

    fn retain_bits(&mut self, _: u32) {}

    fn feed_watchdog(&mut self) {}

    fn check(&mut self, _: &mut F, slot: Region, _: Depth) -> Option<()> {
        assert!(slot.end().is_some_and(|end| end <= FLASH_BYTES));
        Some(())
    }
}
