//! Items of four types in one namespace of an NVS partition.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use embedded_storage::nor_flash::NorFlash;
use esp_nvs::error::Error;
use esp_nvs::{Get, Key, MAX_KEY_LENGTH, Nvs, Set};

use super::damage::{self, Name};
use super::guard::{Gate, Guard};
use super::{ANY_DAMAGE, DAMAGE_BITS, MIN_SECTORS, VaultError};
use crate::region::Region;

const NAMESPACE: Key = Key::from_str("pitstop");

/// The namespace of the vault.
pub(super) struct Store<'f, F: NorFlash> {
    nvs: Nvs<Guard<'f, F>>,
    gate: Rc<Gate>,
    /// Stands for what is hidden and what is kept back; 0 for nothing, and when it is known.
    damage: u32,
    damaged: Vec<Name>,
}

impl<'f, F: NorFlash> Store<'f, F> {
    /// Opens the partition, and writes nothing.
    pub(super) fn open(flash: &'f mut F, region: Region) -> Result<Self, VaultError> {
        check_region(flash, region)?;
        let hidden = damage::hidden(flash, region)?;
        let gate = Rc::new(Gate::default());
        let guard = Guard::new(flash, gate.clone(), &hidden.pages);
        let nvs = Nvs::new(region.offset as usize, region.size_bytes as usize, guard);
        // The region is as it should be, so that whatever fails is the flash.
        let nvs = nvs.map_err(|_| VaultError::Flash)?;
        let damage = match (hidden.items, gate.kept_back.get()) {
            (0, 0) => 0,
            (items, kept_back) => ((items ^ kept_back) & DAMAGE_BITS).max(1),
        };
        Ok(Self { nvs, gate, damage, damaged: hidden.damaged })
    }

    pub(super) fn damage(&self) -> u32 {
        self.damage
    }

    /// What is damaged may be given up: it was found so at another start too.
    pub(super) fn accept_damage(&mut self, damage: u32) {
        if damage == self.damage || damage == ANY_DAMAGE {
            self.damage = 0;
        }
    }

    fn make_writable(&mut self) -> Result<(), VaultError> {
        if self.damage != 0 {
            return Err(VaultError::NewDamage { damage: self.damage });
        }
        self.gate.open.set(true);
        Ok(())
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

    pub(super) fn long_number(&mut self, key: &'static str) -> Result<Option<u64>, VaultError> {
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

    pub(super) fn set_long_number(&mut self, key: &'static str, value: u64) -> Result<(), VaultError> {
        self.set(key, value)
    }

    fn get<T>(&mut self, key: &'static str) -> Result<Option<T>, VaultError>
    where
        Nvs<Guard<'f, F>>: Get<T>,
    {
        match self.nvs.get(&NAMESPACE, &nvs_key(key)) {
            Ok(value) => Ok(Some(value)),
            Err(Error::KeyNotFound) if self.damaged.contains(&name(key)) => Err(VaultError::Damaged { key }),
            Err(Error::KeyNotFound | Error::NamespaceNotFound) => Ok(None),
            Err(error) => Err(sort(key, &error)),
        }
    }

    fn set<T>(&mut self, key: &'static str, value: T) -> Result<(), VaultError>
    where
        Nvs<Guard<'f, F>>: Set<T>,
    {
        self.make_writable()?;
        self.nvs.set(&NAMESPACE, &nvs_key(key), value).map_err(|error| sort(key, &error))
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

/// A key as it stands in the head of an item.
fn name(key: &str) -> Name {
    let mut name = Name::default();
    name.iter_mut().zip(key.bytes()).for_each(|(place, byte)| *place = byte);
    name
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
