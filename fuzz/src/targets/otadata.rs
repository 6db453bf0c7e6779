//! Any two copies of otadata, and a device that hands over with them; bits of the first byte make their checksums
//! right. What is checked is what the bootloader does next.

use crate::flash::NorMock;
use flashfmt::otadata::{
    self, OTA_ENTRY_BYTES, OTA_ENTRY_OFFSETS, OTADATA_BYTES, OtaEntry, OtaState, on_boot, select,
    switch_to_slot,
};
use updater::SlotIndex;
use updater_io::handover::prepare;
use updater_io::map::{Map, Slot, Strategy};
use updater_io::region::Region;

pub type Input = (u8, u8, u8, [[u8; OTA_ENTRY_BYTES]; 2]);

pub fn run(data: Input) {
    let (choice, ota_count, slot, mut records) = data;
    for (index, record) in records.iter_mut().enumerate() {
        if choice >> index & 1 == 1
            && let Some(entry) = OtaEntry::parse(record)
        {
            *record = OtaEntry::new(entry.seq, entry.state).emit();
        }
    }
    let mut flash = NorMock::blank(OTADATA_BYTES as usize);
    for (record, offset) in records.iter().zip(OTA_ENTRY_OFFSETS) {
        flash.bytes[offset as usize..offset as usize + OTA_ENTRY_BYTES].copy_from_slice(record);
    }
    let entries = otadata::parse(&flash.bytes);
    for (entry, record) in entries.iter().zip(&records) {
        assert!(entry.is_none_or(|entry| entry.emit() == *record));
    }
    let in_force = select(&entries, ota_count);
    assert!(in_force.is_none_or(|active| active.slot < ota_count && active.entry.is_valid()));
    let boot = on_boot(entries, ota_count);
    assert!(boot.active.is_none_or(|active| active.entry.state != OtaState::New));

    if let Some(switch) = switch_to_slot(&entries, slot, ota_count, OtaState::New) {
        assert!(in_force.is_none_or(|active| active.copy != switch.copy), "overwrites the copy in force");
        let mut switched = entries;
        switched[switch.copy] = Some(switch.entry);
        assert_eq!(select(&switched, ota_count).map(|active| active.slot), Some(slot));
    }

    // A hand-over: the next boot starts the slot, the one after that what was in force before, if it may.
    let ota_number = slot % 16;
    let otadata = Region { offset: 0, size_bytes: OTADATA_BYTES };
    let map = Map {
        strategy: Strategy::OtadataRollback { otadata, ota_count },
        slots: vec![Slot { label: "ota_1".into(), region: otadata, ota_number }],
        ..Map::default()
    };
    if prepare(&mut flash, &map, SlotIndex(0)).is_ok() {
        let boot = on_boot(otadata::parse(&flash.bytes), ota_count);
        let started = boot.active.map(|active| (active.slot, active.entry.state));
        assert_eq!(started, Some((ota_number, OtaState::PendingVerify)));
        let next = on_boot(boot.entries, ota_count).active;
        let before = in_force.filter(|active| active.entry.state != OtaState::PendingVerify);
        if let Some(before) = before {
            assert_eq!(next.map(|active| active.slot), Some(before.slot));
        }
    }
}
