//! Preparing a hand-over: what is written, where, and what a torn write leaves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use flashfmt::layout::Layout;
use flashfmt::otadata::{self, OTADATA_BYTES, OtaEntry, OtaState};
use flashfmt::partition::{PartitionError, TABLE_OFFSET};
use support::flash::NorMock;
use updater::SlotIndex;
use updater_io::handover::{HandOverFault, prepare};
use updater_io::map::{Map, Strategy};
use updater_io::shell::FlashFault;
use wire::{HandOverStrategy, Reason};

/// The classic layout with two applications.
const TWO_APPLICATIONS: &str = "
otadata, data, ota,   0xe000,  0x2000
ota_0,   app,  ota_0, 0x10000, 0xf0000
ota_1,   app,  ota_1, ,        0x80000
ota_2,   app,  ota_2, ,        0x80000
";
const OTADATA: usize = 0xe000;

fn flash(layout: &Layout) -> NorMock {
    let mut flash = NorMock::blank(layout.needed_flash_bytes().next_power_of_two() as usize);
    let table = layout.to_binary();
    flash.bytes[TABLE_OFFSET as usize..][..table.len()].copy_from_slice(&table);
    flash
}

/// A flash on which the updater in `ota_0` is in force.
fn settled(layout: &Layout) -> NorMock {
    let mut flash = flash(layout);
    let record = OtaEntry::new(1, OtaState::Valid).emit();
    flash.bytes[OTADATA..][..record.len()].copy_from_slice(&record);
    flash
}

fn in_force(flash: &NorMock) -> Option<(u8, OtaState)> {
    let entries = otadata::parse(&flash.bytes[OTADATA..][..OTADATA_BYTES as usize]);
    otadata::select(&entries, 3).map(|active| (active.slot, active.entry.state))
}

#[test]
fn the_partition_table_tells_the_strategy() {
    for (name, text) in flashfmt::layout::BUILTIN {
        let layout = Layout::parse_csv(text).unwrap();
        let map = Map::read(&mut flash(&layout)).unwrap();
        let classic = name == "8mb-rollback";
        let expected = if classic { HandOverStrategy::OtadataRollback } else { HandOverStrategy::ChainLoad };
        assert_eq!(map.strategy.name(), expected, "{name}");
        assert_eq!(layout.hands_over_by_otadata(), classic, "{name}");
        assert_eq!(map.slots[0].ota_number, u8::from(classic), "{name}");
    }
    // With a `factory` to fall back to, an aborted entry would lead there and not to `ota_0`.
    let both = format!("{TWO_APPLICATIONS}factory, app, factory, , 0x80000\n");
    let map = Map::read(&mut flash(&Layout::parse_csv(&both).unwrap())).unwrap();
    assert_eq!(map.strategy, Strategy::ChainLoad);
}

#[test]
fn a_table_for_a_larger_flash_is_refused() {
    let mut flash = flash(&Layout::builtin("8mb").unwrap());
    flash.bytes.truncate(4 << 20);
    let fault = Map::read(&mut flash).unwrap_err();
    assert!(matches!(fault, FlashFault::PartitionTable(PartitionError::BeyondFlash { .. })), "{fault}");
}

#[test]
fn chain_load_writes_nothing() {
    let mut flash = flash(&Layout::builtin("8mb").unwrap());
    let map = Map::read(&mut flash).unwrap();
    prepare(&mut flash, &map, SlotIndex(1)).unwrap();
    assert_eq!((flash.erases, flash.writes), (0, 0));
}

#[test]
fn each_slot_is_selected_once_by_a_new_entry() {
    for (slot, ota_number) in [(0, 1), (1, 2)] {
        let mut flash = settled(&Layout::parse_csv(TWO_APPLICATIONS).unwrap());
        let map = Map::read(&mut flash).unwrap();
        prepare(&mut flash, &map, SlotIndex(slot)).unwrap();
        assert_eq!(in_force(&flash), Some((ota_number, OtaState::New)));
        assert_eq!((flash.erases, flash.writes), (1, 1));
    }
    let mut flash = settled(&Layout::parse_csv(TWO_APPLICATIONS).unwrap());
    let map = Map::read(&mut flash).unwrap();
    let fault = prepare(&mut flash, &map, SlotIndex(2)).unwrap_err();
    assert!(matches!(fault, HandOverFault::NoEntry { slot: SlotIndex(2) }), "{fault}");
    assert_eq!(fault.reason(), Reason::Internal);
    assert_eq!((flash.erases, flash.writes), (0, 0));
}

#[test]
fn an_entry_that_does_not_read_back_is_no_hand_over() {
    let mut flash = settled(&Layout::parse_csv(TWO_APPLICATIONS).unwrap());
    let map = Map::read(&mut flash).unwrap();
    flash.worn_out = true;
    let fault = prepare(&mut flash, &map, SlotIndex(0)).unwrap_err();
    assert!(matches!(fault, HandOverFault::NotWritten { address: 0xf000 }), "{fault}");
    assert_eq!(fault.reason(), Reason::FlashWrite);
    assert_eq!(in_force(&flash), Some((0, OtaState::Valid)));
}

/// Every byte of the erasure, and every byte of the write.
#[test]
fn a_torn_write_leaves_the_updater_in_force_or_the_application_selected() {
    let layout = Layout::parse_csv(TWO_APPLICATIONS).unwrap();
    let mut outcomes = [0, 0];
    for power_bytes in (0..4096).step_by(7).chain(4090..4096 + 33) {
        let mut flash = settled(&layout);
        let map = Map::read(&mut flash).unwrap();
        flash.power_bytes = Some(power_bytes);
        let prepared = prepare(&mut flash, &map, SlotIndex(0));
        let found = in_force(&flash.revived());
        match found {
            Some((0, OtaState::Valid)) => outcomes[0] += 1,
            Some((1, OtaState::New)) => outcomes[1] += 1,
            other => panic!("after {power_bytes} bytes: {other:?}"),
        }
        if let Err(fault) = prepared {
            assert_eq!(fault.reason(), Reason::FlashWrite);
        }
    }
    assert!(outcomes[0] > 500 && outcomes[1] >= 1, "{outcomes:?}");
}
