//! Items of four types in one namespace of an NVS partition.

use alloc::string::String;
use alloc::vec::Vec;

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use esp_nvs::error::Error;
use esp_nvs::platform::{Crc, software_crc32};
use esp_nvs::{Get, Key, MAX_KEY_LENGTH, Nvs, Set};

use super::{MIN_SECTORS, VaultError};
use crate::region::Region;

const NAMESPACE: Key = Key::from_str("pitstop");

/// The flash together with the checksum of the format.
struct Platform<'f, F>(&'f mut F);

impl<F> Crc for Platform<'_, F> {
    fn crc32(init: u32, data: &[u8]) -> u32 {
        software_crc32(init, data)
    }
}

impl<F: ErrorType> ErrorType for Platform<'_, F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Platform<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> NorFlash for Platform<'_, F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.0.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(offset, bytes)
    }
}

/// The namespace of the vault.
pub(super) struct Store<'f, F: NorFlash>(Nvs<Platform<'f, F>>);

impl<'f, F: NorFlash> Store<'f, F> {
    pub(super) fn open(flash: &'f mut F, region: Region) -> Result<Self, VaultError> {
        check_region(flash, region)?;
        let nvs = Nvs::new(region.offset as usize, region.size_bytes as usize, Platform(flash));
        // The region is as it should be, so that whatever fails is the flash.
        nvs.map(Self).map_err(|_| VaultError::Flash)
    }

    pub(super) fn string(&mut self, key: &'static str) -> Result<Option<String>, VaultError> {
        self.get(key)
    }

    pub(super) fn blob(&mut self, key: &'static str) -> Result<Option<Vec<u8>>, VaultError> {
        self.get(key)
    }

    pub(super) fn number(&mut self, key: &'static str) -> Result<Option<u32>, VaultError> {
        self.get(key)
    }

    pub(super) fn set_string(&mut self, key: &'static str, value: &str) -> Result<(), VaultError> {
        self.set(key, value)
    }

    pub(super) fn set_blob(&mut self, key: &'static str, value: &[u8]) -> Result<(), VaultError> {
        self.set(key, value)
    }

    pub(super) fn set_number(&mut self, key: &'static str, value: u32) -> Result<(), VaultError> {
        self.set(key, value)
    }

    pub(super) fn delete(&mut self, key: &'static str) -> Result<(), VaultError> {
        self.0.delete(&NAMESPACE, &nvs_key(key)).map_err(|error| sort(key, &error))
    }

    fn get<T>(&mut self, key: &'static str) -> Result<Option<T>, VaultError>
    where
        Nvs<Platform<'f, F>>: Get<T>,
    {
        match self.0.get(&NAMESPACE, &nvs_key(key)) {
            Ok(value) => Ok(Some(value)),
            Err(Error::KeyNotFound | Error::NamespaceNotFound) => Ok(None),
            Err(error) => Err(sort(key, &error)),
        }
    }

    fn set<T>(&mut self, key: &'static str, value: T) -> Result<(), VaultError>
    where
        Nvs<Platform<'f, F>>: Set<T>,
    {
        self.0.set(&NAMESPACE, &nvs_key(key), value).map_err(|error| sort(key, &error))
    }
}

/// Whether the region can be a vault.
pub(super) fn check_region<F: NorFlash>(flash: &F, region: Region) -> Result<(), VaultError> {
    if region.is_usable(MIN_SECTORS, flash.capacity()) {
        Ok(())
    } else {
        Err(VaultError::Region { offset: region.offset, size_bytes: region.size_bytes })
    }
}

/// Keys are the constants of this module; a test sees to it that each is short enough.
fn nvs_key(key: &'static str) -> Key {
    let bytes = key.as_bytes();
    Key::from_slice(&bytes[..bytes.len().min(MAX_KEY_LENGTH)])
}

fn sort(key: &'static str, error: &Error) -> VaultError {
    match error {
        Error::FlashError => VaultError::Flash,
        Error::FlashFull | Error::ValueTooLong | Error::PageFull | Error::TooManyNamespaces => {
            VaultError::Full { key }
        }
        // `Error` is open-ended; whatever else it says about an item, the item cannot be read.
        _ => VaultError::Damaged { key },
    }
}
