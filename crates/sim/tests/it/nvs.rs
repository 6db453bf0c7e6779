//! esp-nvs, which keeps the vault, on the virtual flash: it keeps NOR rules, and no loss of power costs a value.

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use esp_nvs::platform::{Crc, software_crc32};
use esp_nvs::{Key, Nvs};
use sim::flash::{Operation, OperationKind, SECTOR_BYTES};
use sim::{FlashError, PowerCut, SimFlash, Tear};

const PARTITION_BYTES: u32 = 4 * SECTOR_BYTES;
const NAMESPACE: Key = Key::from_str("vault");
const RECORD: Key = Key::from_str("record");
const IDENTITY: Key = Key::from_str("identity");

/// The flash with the checksum that esp-nvs asks its platform for.
struct Platform(SimFlash);

impl Crc for Platform {
    fn crc32(init: u32, data: &[u8]) -> u32 {
        software_crc32(init, data)
    }
}

impl ErrorType for Platform {
    type Error = FlashError;
}

impl ReadNorFlash for Platform {
    const READ_SIZE: usize = SimFlash::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for Platform {
    const WRITE_SIZE: usize = SimFlash::WRITE_SIZE;
    const ERASE_SIZE: usize = SimFlash::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.0.write(offset, bytes)
    }
}

fn open(flash: &mut Platform) -> Result<Nvs<&mut Platform>, esp_nvs::error::Error> {
    Nvs::new(0, PARTITION_BYTES as usize, flash)
}

fn record(version: u32) -> Vec<u8> {
    version.to_le_bytes().repeat(100)
}

fn identity() -> Vec<u8> {
    (0..700_u32).flat_map(u32::to_le_bytes).collect()
}

/// A vault with an identity and the record of version 1, some updates old.
fn vault(updates: u32) -> Vec<u8> {
    let mut flash = Platform(SimFlash::new(PARTITION_BYTES));
    let mut nvs = open(&mut flash).unwrap();
    nvs.set(&NAMESPACE, &IDENTITY, identity().as_slice()).unwrap();
    for version in (1..=updates).rev() {
        nvs.set(&NAMESPACE, &RECORD, record(version).as_slice()).unwrap();
    }
    drop(nvs);
    assert_eq!(flash.0.violations(), []);
    flash.0.bytes().to_vec()
}

/// Writes the record of version 2; returns what the flash had to do.
fn update(flash: &mut Platform) -> Result<Vec<Operation>, esp_nvs::error::Error> {
    flash.0.take_log();
    open(flash)?.set(&NAMESPACE, &RECORD, record(2).as_slice())?;
    Ok(flash.0.take_log())
}

#[test]
fn hundreds_of_updates_keep_nor_rules() {
    vault(300);
}

/// The record is small and written often: power may go at any time in an update, also while pages are collected.
#[test]
fn no_loss_of_power_costs_the_identity_or_both_records() {
    let mut cuts = 0;
    let mut erases = 0;
    // Different fillings of the pages, so that some updates erase and copy.
    for updates in 1..=25 {
        let before = vault(updates);
        let mut rehearsal = Platform(SimFlash::from_bytes(before.clone()));
        let operations = update(&mut rehearsal).unwrap();
        erases += operations.iter().filter(|operation| operation.kind == OperationKind::Erase).count();
        for (number, operation) in (1..).zip(&operations) {
            for tear in Tear::samples(operation.length_bytes) {
                let cut = PowerCut { operation: number, tear, seed: u64::from(updates) };
                let mut flash = Platform(SimFlash::from_bytes(before.clone()));
                flash.0.arm(cut);
                assert!(update(&mut flash).is_err());
                flash.0.power().restore();
                let mut nvs = open(&mut flash).unwrap();
                let found: Vec<u8> = nvs.get(&NAMESPACE, &RECORD).unwrap();
                assert!(found == record(1) || found == record(2), "{updates} {operation:?} {cut:?}");
                assert_eq!(
                    nvs.get::<Vec<u8>>(&NAMESPACE, &IDENTITY).unwrap(),
                    identity(),
                    "{updates} {cut:?}"
                );
                nvs.set(&NAMESPACE, &RECORD, record(2).as_slice()).unwrap();
                drop(nvs);
                let mut nvs = open(&mut flash).unwrap();
                assert_eq!(nvs.get::<Vec<u8>>(&NAMESPACE, &RECORD).unwrap(), record(2), "{updates} {cut:?}");
                drop(nvs);
                assert_eq!(flash.0.violations(), [], "{updates} {cut:?}");
                cuts += 1;
            }
        }
    }
    assert!(cuts > 500 && erases > 0, "{cuts} cuts, {erases} erases: the campaign has become too easy");
}
