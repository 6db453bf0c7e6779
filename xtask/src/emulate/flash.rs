//! A flash file: what is read from it and done to it while the chip is off.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use esp_nvs::error::Error;
use esp_nvs::mem_flash::MemFlash;
use esp_nvs::{Key, Nvs};

/// Where the partition `vault` is in the built-in layouts 4mb, 8mb and 16mb.
pub(super) const VAULT: Range<usize> = 0x10_0000..0x10_8000;

/// Where the partition `factory` is in the same layouts.
const FACTORY: usize = 0x1_0000;

/// Where the slot `ota_0` begins in the same layouts.
const SLOT_0: usize = 0x11_0000;

/// Where the slot `ota_1` begins in the layout 8mb.
const SLOT_1_OF_8MB: usize = 0x48_0000;

/// Where a slot is damaged, from its start: code or data in the middle of every application here, far from the header.
const DAMAGE_OFFSET_BYTES: usize = 0x4000;

/// How many bytes are damaged.
const DAMAGE_BYTES: usize = 16;

/// The vault's names for the device's private key (`crates/updater-io/src/vault`).
const NAMESPACE: Key = Key::from_str("pitstop");
const DEVICE_KEY: Key = Key::from_str("key");

/// A place for an image in a built-in layout.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    /// `factory`: the updater's.
    Factory,
    /// `ota_0`.
    First,
    /// `ota_1` of the layout 8mb.
    SecondOf8Mb,
}

impl Slot {
    fn start(self) -> usize {
        match self {
            Self::Factory => FACTORY,
            Self::First => SLOT_0,
            Self::SecondOf8Mb => SLOT_1_OF_8MB,
        }
    }
}

/// The whole flash of one device, byte for byte.
pub(super) struct FlashFile {
    path: PathBuf,
}

impl FlashFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A copy beside it.
    pub(super) fn copy(&self, name: &str) -> anyhow::Result<Self> {
        let path = self.path.with_file_name(format!("{name}.bin"));
        fs::copy(&self.path, &path).with_context(|| format!("cannot copy {}", self.path.display()))?;
        Ok(Self { path })
    }

    /// The device's private key, or `None` before it made one. Only to be compared, never to be shown.
    pub(super) fn device_key(&self) -> anyhow::Result<Option<DeviceKey>> {
        let flash = self.read()?;
        let vault = flash.get(VAULT).context("the flash file ends before its vault")?.to_vec();
        // A copy in memory: what the reader repairs while it reads does not reach the file.
        let mut vault = Nvs::new(0, vault.len(), MemFlash::from_bytes(vault))
            .map_err(|error| anyhow::anyhow!("the vault cannot be opened: {error:?}"))?;
        match vault.get::<Vec<u8>>(&NAMESPACE, &DEVICE_KEY) {
            Ok(key) => Ok(Some(DeviceKey(key))),
            Err(Error::KeyNotFound | Error::NamespaceNotFound) => Ok(None),
            Err(error) => bail!("the vault cannot be read: {error:?}"),
        }
    }

    /// Inverts some bytes in the middle of the application in a slot.
    pub(super) fn damage(&self, slot: Slot) -> anyhow::Result<()> {
        let start = DAMAGE_OFFSET_BYTES + slot.start();
        let mut flash = self.read()?;
        let bytes =
            flash.get_mut(start..start + DAMAGE_BYTES).context("the flash file ends before its slot")?;
        for byte in bytes {
            *byte = !*byte;
        }
        fs::write(&self.path, flash).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Writes an image into a slot. What was there and is longer stays behind its end.
    pub(super) fn put(&self, slot: Slot, image: &[u8]) -> anyhow::Result<()> {
        let start = slot.start();
        let mut flash = self.read()?;
        let bytes =
            flash.get_mut(start..start + image.len()).context("the flash file ends before the image")?;
        bytes.copy_from_slice(image);
        fs::write(&self.path, flash).with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        fs::read(&self.path).with_context(|| format!("cannot read {}", self.path.display()))
    }
}

/// A private key that can be compared and not printed.
#[derive(PartialEq, Eq)]
pub(super) struct DeviceKey(Vec<u8>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_layouts() {
        let place = |layout: &str, label: &str| {
            let path = crate::repository_root().join("layouts").join(layout);
            let text = fs::read_to_string(path).unwrap();
            let line = text.lines().find(|line| line.starts_with(label)).unwrap();
            let mut numbers = line
                .split(',')
                .skip(3)
                .map(|number| usize::from_str_radix(number.trim().trim_start_matches("0x"), 16).unwrap());
            let start = numbers.next().unwrap();
            start..start + numbers.next().unwrap()
        };
        for layout in ["4mb.csv", "8mb.csv"] {
            assert_eq!(place(layout, "vault,"), VAULT, "{layout}");
            assert_eq!(place(layout, "factory,").start, FACTORY, "{layout}");
            assert_eq!(place(layout, "ota_0,").start, SLOT_0, "{layout}");
        }
        assert_eq!(place("8mb.csv", "ota_1,").start, SLOT_1_OF_8MB);
    }

    #[test]
    fn the_key_is_read_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        let with_key = |name: &str, key: Option<&[u8]>| {
            let mut vault = Nvs::new(0, VAULT.len(), MemFlash::new(VAULT.len() / 4096)).unwrap();
            if let Some(key) = key {
                vault.set(&NAMESPACE, &DEVICE_KEY, key).unwrap();
            }
            let mut flash = vec![0xFF; VAULT.end];
            flash[VAULT].copy_from_slice(&vault.into_inner().into_inner());
            let path = folder.path().join(name);
            fs::write(&path, flash).unwrap();
            FlashFile::new(path).device_key().unwrap()
        };
        assert!(with_key("none", None).is_none());
        assert!(with_key("one", Some(&[1; 121])) == with_key("same", Some(&[1; 121])));
        assert!(with_key("one", Some(&[1; 121])) != with_key("other", Some(&[2; 121])));
    }

    #[test]
    fn damage_is_done_to_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let flash = FlashFile::new(folder.path().join("flash.bin"));
        fs::write(flash.path(), vec![0xFF; SLOT_0 + 0x1_0000]).unwrap();
        flash.damage(Slot::First).unwrap();
        let bytes = fs::read(flash.path()).unwrap();
        let changed: Vec<usize> = (0..bytes.len()).filter(|&index| bytes[index] != 0xFF).collect();
        let start = SLOT_0 + DAMAGE_OFFSET_BYTES;
        assert_eq!(changed, (start..start + DAMAGE_BYTES).collect::<Vec<_>>());
        flash.put(Slot::Factory, &[1, 2]).unwrap();
        assert_eq!(fs::read(flash.path()).unwrap()[FACTORY - 1..FACTORY + 3], [0xFF, 1, 2, 0xFF]);
        assert!(flash.damage(Slot::SecondOf8Mb).unwrap_err().to_string().contains("ends before"));
    }
}
