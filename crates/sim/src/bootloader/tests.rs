use flashfmt::app_desc::AppDescriptor;
use flashfmt::image::compose;
use flashfmt::partition::{self, AppSubtype, DataSubtype, Label, OtaIndex, PartitionKind};

use super::*;
use crate::flash::{FlashError, PowerCut, SimFlash, Tear};

const FLASH_BYTES: u32 = 0x20_0000;
const FACTORY: u32 = 0x1_0000;
const OTA_0: u32 = 0x8_0000;
const OTA_1: u32 = 0x10_0000;
const OTADATA: u32 = 0xA000;
const APP_BYTES: u32 = 0x4_0000;

fn row(label: &str, kind: PartitionKind, offset: u32, size: u32) -> Partition {
    Partition { label: Label::new(label).unwrap(), kind, offset, size, encrypted: false, readonly: false }
}

fn factory() -> Partition {
    row("factory", PartitionKind::App(AppSubtype::Factory), FACTORY, APP_BYTES)
}

fn slot(index: u8, offset: u32) -> Partition {
    let kind = PartitionKind::App(AppSubtype::Ota(OtaIndex::new(index).unwrap()));
    row(&format!("ota_{index}"), kind, offset, APP_BYTES)
}

fn otadata_partition() -> Partition {
    row("otadata", PartitionKind::Data(DataSubtype::Ota), OTADATA, OTADATA_BYTES)
}

fn flash_with(partitions: &[Partition]) -> SimFlash {
    let mut flash = SimFlash::new(FLASH_BYTES);
    let mut table = [0; TABLE_BYTES];
    partition::emit(partitions, &mut table).unwrap();
    flash.put(TABLE_OFFSET, &table).unwrap();
    for app in partitions.iter().filter(|partition| matches!(partition.kind, PartitionKind::App(_))) {
        flash.put(app.offset, &image_for(app)).unwrap();
    }
    flash
}

fn image_for(partition: &Partition) -> Vec<u8> {
    let app_desc = AppDescriptor::new(partition.label.as_str(), "1.0.0");
    compose::esp32c3(&app_desc, &[1; 300], &[2; 5000], &[3; 64]).unwrap()
}

/// The default layout: no otadata.
fn chain_load() -> SimFlash {
    flash_with(&[factory(), slot(0, OTA_0), slot(1, OTA_1)])
}

/// The classic layout: `ota_0` is the updater, `ota_1` the application.
fn classic() -> SimFlash {
    flash_with(&[otadata_partition(), slot(0, OTA_0), slot(1, OTA_1)])
}

fn put_entry(flash: &mut SimFlash, copy: usize, entry: OtaEntry) {
    flash.put(OTADATA + OTA_ENTRY_OFFSETS[copy], &entry.emit()).unwrap();
}

fn entries(flash: &SimFlash) -> OtaEntries {
    otadata::parse(&flash.bytes()[OTADATA as usize..][..OTADATA_BYTES as usize])
}

const STOCK: Bootloader = Bootloader { chip: Chip::Esp32C3, rollback_enabled: false };
const ROLLBACK: Bootloader = Bootloader { chip: Chip::Esp32C3, rollback_enabled: true };

/// The label of what starts, checked against the role it is given.
fn started(bootloader: Bootloader, flash: &mut SimFlash) -> String {
    match bootloader.boot(flash).unwrap() {
        Boot::Updater { partition, image } => {
            assert_eq!(image.app_desc.unwrap().project_name.as_str(), partition.label.as_str());
            format!("updater in {}", partition.label)
        }
        Boot::App { slot, partition, image } => {
            assert_eq!(image.app_desc.unwrap().project_name.as_str(), partition.label.as_str());
            assert_eq!(partition.label.as_str(), format!("ota_{slot}"));
            format!("app in {}", partition.label)
        }
        Boot::Nothing(reason) => format!("nothing: {reason}"),
    }
}

#[test]
fn without_otadata_the_updater_starts_and_nothing_is_written() {
    let mut flash = chain_load();
    assert_eq!(started(STOCK, &mut flash), "updater in factory");
    assert_eq!(started(ROLLBACK, &mut flash), "updater in factory");
    assert!(!flash.stats().is_mutated());
}

#[test]
fn a_damaged_updater_gives_the_slots_their_turn() {
    let mut flash = chain_load();
    // One bit in the middle of the code.
    flash.flip_bit(FACTORY + 0x1000, 3).unwrap();
    assert_eq!(started(STOCK, &mut flash), "app in ota_0");
    // A slot whose first sector is not there yet.
    flash.fill(OTA_0..OTA_0 + SECTOR_BYTES, 0xFF).unwrap();
    assert_eq!(started(STOCK, &mut flash), "app in ota_1");
    flash.fill(OTA_1..OTA_1 + 1, 0x00).unwrap();
    let Boot::Nothing(NothingReason::NoImage(refused)) = STOCK.boot(&mut flash).unwrap() else {
        panic!("something started");
    };
    let reasons: Vec<_> =
        refused.iter().map(|refused| (refused.partition.label.to_string(), refused.reason)).collect();
    assert!(
        matches!(&reasons[0], (label, RefusedReason::Image(ImageError::Checksum { .. })) if label == "factory")
    );
    assert_eq!(reasons[1], ("ota_0".to_owned(), RefusedReason::Image(ImageError::NoImage)));
    assert_eq!(reasons[2], ("ota_1".to_owned(), RefusedReason::Image(ImageError::BadMagic { found: 0 })));
}

#[test]
fn an_image_for_another_chip_does_not_start() {
    let mut flash = chain_load();
    let bootloader = Bootloader::new(Chip::Esp32S3);
    let Boot::Nothing(NothingReason::NoImage(refused)) = bootloader.boot(&mut flash).unwrap() else {
        panic!("something started");
    };
    let wrong = RefusedReason::WrongChip { expected: Chip::Esp32S3, found: Chip::Esp32C3 };
    assert!(refused.iter().all(|refused| refused.reason == wrong));
}

#[test]
fn a_damaged_partition_table_starts_nothing() {
    let mut flash = chain_load();
    flash.flip_bit(TABLE_OFFSET + 5, 0).unwrap();
    assert!(matches!(
        STOCK.boot(&mut flash).unwrap(),
        Boot::Nothing(NothingReason::PartitionTable(PartitionError::Md5Mismatch { .. }))
    ));
    flash.fill(TABLE_OFFSET..TABLE_OFFSET + SECTOR_BYTES, 0xFF).unwrap();
    assert!(matches!(
        STOCK.boot(&mut flash).unwrap(),
        Boot::Nothing(NothingReason::PartitionTable(PartitionError::Erased))
    ));
}

#[test]
fn a_table_for_a_larger_flash_starts_nothing() {
    let full = chain_load();
    let mut half = SimFlash::from_bytes(full.bytes()[..OTA_1 as usize].to_vec());
    assert!(matches!(STOCK.boot(&mut half).unwrap(), Boot::Nothing(NothingReason::PartitionTable(_))));
}

#[test]
fn empty_otadata_without_factory_starts_ota_0_and_records_it() {
    let mut flash = classic();
    assert_eq!(started(STOCK, &mut flash), "updater in ota_0");
    assert_eq!(entries(&flash), [Some(OtaEntry::new(1, OtaState::Valid)), None]);
    flash.reset_stats();
    assert_eq!(started(STOCK, &mut flash), "updater in ota_0");
    assert!(!flash.stats().is_mutated());
}

#[test]
fn a_new_app_gets_one_start_unless_it_confirms_itself() {
    let mut flash = classic();
    put_entry(&mut flash, 0, OtaEntry::new(1, OtaState::Valid));
    put_entry(&mut flash, 1, OtaEntry::new(2, OtaState::New));
    assert_eq!(started(ROLLBACK, &mut flash), "app in ota_1");
    assert_eq!(entries(&flash)[1].unwrap().state, OtaState::PendingVerify);
    assert_eq!(started(ROLLBACK, &mut flash), "updater in ota_0");
    assert_eq!(entries(&flash)[1].unwrap().state, OtaState::Aborted);
    assert_eq!(started(ROLLBACK, &mut flash), "updater in ota_0");
    assert!(flash.violations().is_empty());

    // docs/handover.md: one that confirms itself keeps the updater out.
    put_entry(&mut flash, 1, OtaEntry::new(2, OtaState::Valid));
    assert_eq!(started(ROLLBACK, &mut flash), "app in ota_1");
    assert_eq!(started(ROLLBACK, &mut flash), "app in ota_1");
}

#[test]
fn a_stock_bootloader_keeps_no_states() {
    let mut flash = classic();
    put_entry(&mut flash, 0, OtaEntry::new(1, OtaState::Valid));
    put_entry(&mut flash, 1, OtaEntry::new(2, OtaState::New));
    assert_eq!(started(STOCK, &mut flash), "app in ota_1");
    assert_eq!(started(STOCK, &mut flash), "app in ota_1");
    assert!(!flash.stats().is_mutated());
}

#[test]
fn one_torn_copy_does_not_lose_the_other() {
    for (torn, seq, expected) in [(0, 3, "app in ota_1"), (1, 2, "updater in ota_0")] {
        let mut flash = classic();
        put_entry(&mut flash, 1 - torn, OtaEntry::new(if torn == 0 { 2 } else { 1 }, OtaState::Valid));
        put_entry(&mut flash, torn, OtaEntry::new(seq, OtaState::New));
        // The CRC no longer fits.
        flash.flip_bit(OTADATA + OTA_ENTRY_OFFSETS[torn], 6).unwrap();
        assert_eq!(started(ROLLBACK, &mut flash), expected);
    }
}

#[test]
fn the_chosen_slot_falls_back_downwards_first() {
    let mut flash = flash_with(&[otadata_partition(), factory(), slot(0, OTA_0), slot(1, OTA_1)]);
    put_entry(&mut flash, 0, OtaEntry::new(2, OtaState::Valid));
    assert_eq!(started(STOCK, &mut flash), "app in ota_1");
    flash.fill(OTA_1..OTA_1 + 1, 0).unwrap();
    assert_eq!(started(STOCK, &mut flash), "app in ota_0");
    flash.fill(OTA_0..OTA_0 + 1, 0).unwrap();
    assert_eq!(started(STOCK, &mut flash), "updater in factory");
}

/// Power is lost in every operation of the bootloader, in every way: the next starts end in an image, the updater is
/// back at the latest two starts later, and no write goes over unerased bytes.
#[test]
fn no_torn_rewrite_of_otadata_keeps_the_device_from_starting() {
    for state in [OtaState::New, OtaState::PendingVerify] {
        let mut before = classic();
        put_entry(&mut before, 0, OtaEntry::new(1, OtaState::Valid));
        put_entry(&mut before, 1, OtaEntry::new(2, state));
        let mut rehearsal = SimFlash::from_bytes(before.bytes().to_vec());
        ROLLBACK.boot(&mut rehearsal).unwrap();
        let operations = rehearsal.take_log();
        assert_eq!(operations.len(), 2);
        for (operation, done) in (1..).zip(&operations) {
            for tear in Tear::samples(done.length_bytes) {
                let mut flash = SimFlash::from_bytes(before.bytes().to_vec());
                flash.arm(PowerCut { operation, tear, seed: 11 });
                assert_eq!(ROLLBACK.boot(&mut flash), Err(FlashError::PowerLost));
                flash.power().restore();
                let mut starts = Vec::new();
                for _ in 0..3 {
                    starts.push(started(ROLLBACK, &mut flash));
                }
                assert!(
                    starts.iter().all(|start| !start.starts_with("nothing")),
                    "{state:?} {tear:?} {starts:?}"
                );
                assert_eq!(starts[2], "updater in ota_0", "{state:?} {tear:?} {starts:?}");
                assert!(flash.violations().is_empty(), "{state:?} {tear:?}");
            }
        }
    }
}
