//! The second-stage bootloader: espflash's bundled one, or the user's own.
//!
//! A bootloader learns the size of the flash from its own image header (ESP-IDF v5.5,
//! `bootloader_support/src/bootloader_flash_config_*.c`) and refuses partitions that end behind it, so the header is
//! made to suit the layout, and the appended SHA-256 with it, as espflash and esptool do.

use flashfmt::Chip;
use flashfmt::image::{HASH_BYTES, HEADER_BYTES, ImageHeader, Kind};
use manifest::Digest;

use super::bundled;
use crate::inspect::ImageFile;

/// What the smallest flash has that a bootloader's header can name; each next one has twice as much.
const SMALLEST_FLASH_BYTES: u32 = 0x10_0000;

/// Flash sizes that ESP-IDF defines (`esp_image_flash_size_t`).
const FLASH_SIZES: u8 = 8;

/// Why a bootloader cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootloaderError {
    /// No header can name this size.
    #[error("expected a flash of 1 to 128 MB, found a layout for {found_bytes} bytes")]
    FlashSize {
        /// What the layout needs.
        found_bytes: u32,
    },
    /// There is none for this chip.
    #[error("there is no bootloader for {chip} here: {source}")]
    NotBundled {
        /// The chip.
        chip: Chip,
        /// Why.
        source: bundled::Error,
    },
    /// A bootloader for another chip.
    #[error("expected a bootloader for {expected}, found one for {found}")]
    Chip {
        /// The device's chip.
        expected: Chip,
        /// The bootloader's.
        found: Chip,
    },
    /// What the ROM would start as a bootloader, and is none.
    #[error("expected a second-stage bootloader, found an image of another kind ({found})")]
    NotABootloader {
        /// [`Kind::name`].
        found: &'static str,
    },
    /// A bootloader whose header would have to change, which would void what follows it.
    #[error(
        "the bootloader was built for {found} of flash and the layout needs {wanted_bytes} bytes; its header cannot \
         be changed, because {trailing_bytes} bytes follow the image (a signature?)",
        found = found_bytes.map_or("an unknown size".to_owned(), |bytes| format!("{bytes} bytes"))
    )]
    Signed {
        /// What its header says.
        found_bytes: Option<u32>,
        /// What the layout needs.
        wanted_bytes: u32,
        /// Length of what follows the image.
        trailing_bytes: u64,
    },
    /// The classic layout with a bootloader that never goes back to the updater.
    #[error(
        "this layout hands over by otadata rollback, which needs a bootloader built with rollback; espflash's \
         bundled ones are built without"
    )]
    NoRollback,
    /// The same with the user's own.
    #[error(
        "this layout hands over by otadata rollback, which needs a bootloader built with rollback; this one has none \
         ({evidence}), so that the updater would not start again after the first hand-over"
    )]
    OwnWithoutRollback {
        /// How that is known.
        evidence: &'static str,
    },
}

/// espflash's bundled bootloader with its default mode and frequency for the chip, for a flash of `flash_bytes`.
pub(crate) fn bundled(chip: Chip, flash_bytes: u32) -> Result<Vec<u8>, BootloaderError> {
    spi_size(flash_bytes)?;
    bundled::bootloader(chip, flash_bytes).map_err(|source| BootloaderError::NotBundled { chip, source })
}

/// The user's own bootloader for a flash of `flash_bytes`. Mode and frequency stay as it was built.
pub(crate) fn own(image: ImageFile, chip: Chip, flash_bytes: u32) -> Result<Vec<u8>, BootloaderError> {
    let spi_size = spi_size(flash_bytes)?;
    let header = image.summary.header;
    if header.chip != chip {
        return Err(BootloaderError::Chip { expected: chip, found: header.chip });
    }
    match image.summary.kind() {
        Kind::Bootloader => {}
        other @ (Kind::Application | Kind::Updater | Kind::Undescribed) => {
            return Err(BootloaderError::NotABootloader { found: other.name() });
        }
    }
    if header.flash_bytes() == Some(flash_bytes) {
        return Ok(image.bytes);
    }
    if image.trailing_bytes() > 0 {
        return Err(BootloaderError::Signed {
            found_bytes: header.flash_bytes(),
            wanted_bytes: flash_bytes,
            trailing_bytes: image.trailing_bytes(),
        });
    }
    let mut bytes = image.bytes;
    bytes[..HEADER_BYTES].copy_from_slice(&ImageHeader { spi_size, ..header }.emit());
    if header.hash_appended {
        let hash_offset = bytes.len() - HASH_BYTES;
        let digest = Digest::of(&bytes[..hash_offset]);
        bytes[hash_offset..].copy_from_slice(&digest.0);
    }
    Ok(bytes)
}

/// The size as a header says it (`esp_image_flash_size_t`).
fn spi_size(flash_bytes: u32) -> Result<u8, BootloaderError> {
    let size = (0..FLASH_SIZES).find(|size| SMALLEST_FLASH_BYTES << size == flash_bytes);
    size.ok_or(BootloaderError::FlashSize { found_bytes: flash_bytes })
}

impl BootloaderError {
    /// What to do about it.
    pub(crate) const fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::FlashSize { .. } => Some("correct the layout's partition CSV"),
            Self::NotBundled { .. } => Some("build one with ESP-IDF and give it with --bootloader"),
            Self::NotABootloader { .. } => Some("give build/bootloader/bootloader.bin of an ESP-IDF project"),
            Self::Chip { .. } => Some("give build/bootloader/bootloader.bin of a project for this chip"),
            Self::Signed { .. } => {
                Some("build it with CONFIG_ESPTOOLPY_FLASHSIZE_…MB for this size, and sign it again")
            }
            Self::NoRollback | Self::OwnWithoutRollback { .. } => Some(
                "build one with ESP-IDF: set CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE=y (menuconfig: Bootloader \
                 config, Enable app rollback support), run `idf.py bootloader`, and give \
                 build/bootloader/bootloader.bin with --bootloader; or choose a layout without otadata, such as \
                 8mb",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flashfmt::image::compose::Composer;

    const MB: u32 = 0x10_0000;

    /// Within `iram_loader_seg` of ESP-IDF's bootloader.
    fn loader_addr(chip: Chip) -> u32 {
        if chip == Chip::Esp32C6 { 0x4087_0000 } else { 0x403D_0000 }
    }

    fn image(chip: Chip) -> ImageFile {
        let bytes =
            Composer::new(chip, loader_addr(chip)).segment(loader_addr(chip), &[7; 400]).build().unwrap();
        ImageFile::parse(bytes).unwrap()
    }

    #[test]
    fn bundled_ones_name_the_flash_and_their_hash_is_right() {
        for (chip, flash_bytes) in [
            (Chip::Esp32C3, 4 * MB),
            (Chip::Esp32C3, 16 * MB),
            (Chip::Esp32C6, 8 * MB),
            (Chip::Esp32, 2 * MB),
        ] {
            let bytes = bundled(chip, flash_bytes).unwrap();
            assert!(bytes.len() + chip.bootloader_offset() as usize <= 0x8000, "{chip}");
            // Verifies checksum and SHA-256.
            let image = ImageFile::parse(bytes).unwrap();
            let header = image.summary.header;
            assert_eq!((header.chip, header.flash_bytes()), (chip, Some(flash_bytes)));
            assert!(header.hash_appended);
            assert_eq!(image.trailing_bytes(), 0);
        }
    }

    #[test]
    fn an_own_one_gets_the_right_size_and_hash() {
        let bytes = own(image(Chip::Esp32C3), Chip::Esp32C3, 8 * MB).unwrap();
        let patched = ImageFile::parse(bytes).unwrap();
        assert_eq!(patched.summary.header.flash_bytes(), Some(8 * MB));
        let same = own(image(Chip::Esp32C3), Chip::Esp32C3, 4 * MB).unwrap();
        assert_eq!(same, image(Chip::Esp32C3).bytes);
    }

    #[test]
    fn a_signed_one_is_not_changed() {
        let signed = || {
            let mut bytes = image(Chip::Esp32C3).bytes;
            bytes.resize(bytes.len().next_multiple_of(0x1000) + 0x1000, 0xE7);
            ImageFile::parse(bytes).unwrap()
        };
        assert_eq!(own(signed(), Chip::Esp32C3, 4 * MB).unwrap(), signed().bytes);
        let refused = own(signed(), Chip::Esp32C3, 8 * MB);
        assert!(matches!(refused, Err(BootloaderError::Signed { .. })));
    }

    #[test]
    fn what_does_not_suit_is_refused() {
        let other = own(image(Chip::Esp32C6), Chip::Esp32C3, 4 * MB);
        assert!(matches!(other, Err(BootloaderError::Chip { .. })));
        let app = Composer::new(Chip::Esp32C3, 0x4038_0000).segment(0x4038_0000, &[7; 400]).build().unwrap();
        let app = own(ImageFile::parse(app).unwrap(), Chip::Esp32C3, 4 * MB);
        assert!(matches!(app, Err(BootloaderError::NotABootloader { found: "undescribed" })));
        assert!(matches!(bundled(Chip::Esp32H21, 4 * MB), Err(BootloaderError::NotBundled { .. })));
        assert!(matches!(bundled(Chip::Esp32C3, 3 * MB), Err(BootloaderError::FlashSize { .. })));
    }
}
