//! The bootloaders that espflash brings along.

use espflash::flasher::{FlashData, FlashSettings, FlashSize};
use espflash::image_format::idf::IdfBootloaderFormat;
use flashfmt::Chip;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// espflash does not know the chip or the size.
    #[error("espflash does not know it")]
    Unknown,
    /// espflash has none.
    #[error(transparent)]
    Espflash(Box<espflash::Error>),
}

/// The chip's bootloader with its default mode and frequency, for a flash of `flash_bytes`.
pub(super) fn bootloader(chip: Chip, flash_bytes: u32) -> Result<Vec<u8>, Error> {
    let target: espflash::target::Chip = chip.name().parse().map_err(|_| Error::Unknown)?;
    let size = flash_size(flash_bytes).ok_or(Error::Unknown)?;
    let settings = FlashSettings::new(None, Some(size), None);
    let flash = FlashData::new(settings, 0, None, target, target.default_xtal_frequency());
    // espflash gives its bootloaders away only together with an application, so it gets an empty one.
    let image = IdfBootloaderFormat::new(&EMPTY_ELF, &flash, None, None, None, None)
        .map_err(|error| Error::Espflash(Box::new(error)))?;
    let bootloader = image.flash_segments().find(|segment| segment.addr == chip.bootloader_offset());
    Ok(bootloader.map(|segment| segment.data.into_owned()).unwrap_or_default())
}

/// A flash tells its size as a power of two (JEDEC id, its last byte).
fn flash_size(flash_bytes: u32) -> Option<FlashSize> {
    let size = FlashSize::from_detected(u8::try_from(flash_bytes.checked_ilog2()?).ok()?).ok()?;
    (size.size() == flash_bytes).then_some(size)
}

/// The header of an ELF file for RISC-V without segments and sections (System V ABI, chapter 4).
const EMPTY_ELF: [u8; 52] = {
    let mut header = [0; 52];
    let start = [
        0x7F, b'E', b'L', b'F', // magic
        1, 1, 1, // 32 bit, little endian, version 1
    ];
    let mut index = 0;
    while index < start.len() {
        header[index] = start[index];
        index += 1;
    }
    header[16] = 2; // e_type: executable
    header[18] = 243; // e_machine: RISC-V
    header[20] = 1; // e_version
    header[40] = 52; // e_ehsize
    header
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rom_looks_where_espflash_says() {
        let known = Chip::ALL.map(|chip| (chip, chip.name().parse::<espflash::target::Chip>()));
        let known =
            known.into_iter().filter_map(|(chip, target)| Some((chip, target.ok()?))).collect::<Vec<_>>();
        assert!(known.len() >= 5, "{known:?}");
        for (chip, target) in known {
            assert_eq!(chip.bootloader_offset(), target.boot_address(), "{chip}");
        }
    }
}
