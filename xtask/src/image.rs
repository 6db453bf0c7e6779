//! ELF file -> ESP application image, and a check of the result that shares no code with its maker.

use anyhow::{Context as _, bail, ensure};
use espflash::flasher::{FlashData, FlashMode, FlashSettings, FlashSize};
use espflash::image_format::idf::IdfBootloaderFormat;
use espflash::target::XtalFrequency;

/// First byte of an image (`ESP_IMAGE_HEADER_MAGIC`, ESP-IDF 5.5, esp_app_format/esp_image_format.h).
const IMAGE_MAGIC: u8 = 0xE9;
/// Image header and segment header, same file.
const HEADER_BYTES: usize = 24;
const SEGMENT_HEADER_BYTES: usize = 8;
/// The app descriptor comes first in the first segment.
const APP_DESCRIPTOR_OFFSET_BYTES: usize = HEADER_BYTES + SEGMENT_HEADER_BYTES;
/// `ESP_APP_DESC_MAGIC_WORD`, ESP-IDF 5.5, esp_app_format/include/esp_app_desc.h.
const APP_DESCRIPTOR_MAGIC: u32 = 0xABCD_5432;
/// `version` and `project_name` in `esp_app_desc_t`, same file: offsets from its start, and the size of each.
const VERSION_OFFSET_BYTES: usize = 16;
const PROJECT_NAME_OFFSET_BYTES: usize = 48;
const TEXT_FIELD_BYTES: usize = 32;

/// A chip that firmware is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Chip {
    Esp32c3,
    Esp32c6,
}

impl Chip {
    /// `esp_chip_id_t`, same file as [`IMAGE_MAGIC`].
    fn id(self) -> u16 {
        match self {
            Self::Esp32c3 => 5,
            Self::Esp32c6 => 13,
        }
    }

    fn for_espflash(self) -> espflash::target::Chip {
        match self {
            Self::Esp32c3 => espflash::target::Chip::Esp32c3,
            Self::Esp32c6 => espflash::target::Chip::Esp32c6,
        }
    }
}

/// What [`describe`] reads from an image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// `project_name` of the app descriptor.
    pub(crate) project_name: String,
    /// `version` of the app descriptor.
    pub(crate) version: String,
}

/// Makes the application image (what goes into an app slot; no bootloader, no partition table) of a program.
///
/// Errors: `elf` is not a program with an app descriptor linked by esp-hal.
pub(crate) fn from_elf(elf: &[u8], chip: Chip) -> anyhow::Result<Vec<u8>> {
    // What the bootloader is told of the flash: the mode every board supports, and the smallest size of our layouts.
    let settings = FlashSettings::new(Some(FlashMode::Dio), Some(FlashSize::_4Mb), None);
    let flash = FlashData::new(settings, 0, None, chip.for_espflash(), XtalFrequency::_40Mhz);
    let image = IdfBootloaderFormat::new(elf, &flash, None, None, None, None)
        .context("espflash cannot make an image of this ELF file")?;
    let segment = image.ota_segments().next().context("espflash made no application segment")?;
    Ok(segment.data().to_vec())
}

/// Reads name and version from an application image.
///
/// Errors: not an ESP image, made for another chip than `chip`, or without an app descriptor in its first segment.
pub(crate) fn describe(image: &[u8], chip: Chip) -> anyhow::Result<Description> {
    let magic: [u8; 1] = field(image, 0)?;
    ensure!(
        magic == [IMAGE_MAGIC],
        "first byte is {:#04x}, an ESP image starts with {IMAGE_MAGIC:#04x}",
        magic[0]
    );
    let chip_id = u16::from_le_bytes(field(image, 12)?);
    ensure!(chip_id == chip.id(), "made for chip {chip_id}, expected {} ({chip:?})", chip.id());
    let descriptor = image.get(APP_DESCRIPTOR_OFFSET_BYTES..).unwrap_or_default();
    let magic = u32::from_le_bytes(field(descriptor, 0)?);
    ensure!(
        magic == APP_DESCRIPTOR_MAGIC,
        "no app descriptor: found {magic:#010x}, not {APP_DESCRIPTOR_MAGIC:#010x}"
    );
    Ok(Description {
        project_name: text(descriptor, PROJECT_NAME_OFFSET_BYTES)?,
        version: text(descriptor, VERSION_OFFSET_BYTES)?,
    })
}

/// A part of an image, and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it is loaded or mapped; 0 is padding.
    pub(crate) address: u32,
    pub(crate) size_bytes: usize,
}

/// Lists the segments of an image.
///
/// Errors: too few bytes for one of them.
pub(crate) fn segments(image: &[u8]) -> anyhow::Result<Vec<Segment>> {
    let [count] = field(image, 1)?;
    let mut offset_bytes = HEADER_BYTES;
    (0..count)
        .map(|_| {
            let address = u32::from_le_bytes(field(image, offset_bytes)?);
            let size_bytes = u32::from_le_bytes(field(image, offset_bytes + 4)?) as usize;
            offset_bytes += SEGMENT_HEADER_BYTES + size_bytes;
            ensure!(offset_bytes <= image.len(), "a segment ends at {offset_bytes}, beyond the image");
            Ok(Segment { address, size_bytes })
        })
        .collect()
}

fn field<const SIZE_BYTES: usize>(bytes: &[u8], offset_bytes: usize) -> anyhow::Result<[u8; SIZE_BYTES]> {
    match bytes.get(offset_bytes..).and_then(<[u8]>::first_chunk) {
        Some(field) => Ok(*field),
        None => bail!("{} bytes are too few for {SIZE_BYTES} bytes at {offset_bytes}", bytes.len()),
    }
}

/// A C string in a field of [`TEXT_FIELD_BYTES`].
fn text(descriptor: &[u8], offset_bytes: usize) -> anyhow::Result<String> {
    let field: [u8; TEXT_FIELD_BYTES] = field(descriptor, offset_bytes)?;
    let text = field.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        let mut image = vec![0; APP_DESCRIPTOR_OFFSET_BYTES + 256];
        image[0] = 0xE9;
        image[12] = 5;
        image[32..36].copy_from_slice(&[0x32, 0x54, 0xCD, 0xAB]);
        image[48..53].copy_from_slice(b"1.0.0");
        image[80..85].copy_from_slice(b"hello");
        image
    }

    #[test]
    fn name_and_version_are_read() {
        let expected = Description { project_name: "hello".into(), version: "1.0.0".into() };
        assert_eq!(describe(&image(), Chip::Esp32c3).unwrap(), expected);
    }

    #[test]
    fn wrong_bytes_are_named() {
        for (offset_bytes, expected) in [(0, "first byte"), (12, "made for chip"), (35, "no app descriptor")]
        {
            let mut image = image();
            image[offset_bytes] ^= 0x10;
            let error = describe(&image, Chip::Esp32c3).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn images_for_another_chip_are_refused() {
        let error = describe(&image(), Chip::Esp32c6).unwrap_err().to_string();
        assert!(error.contains("made for chip 5, expected 13"), "{error}");
    }

    #[test]
    fn short_images_are_refused() {
        let image = image();
        for length_bytes in [0, 1, 13, 32, 35, 79, 111] {
            let error = describe(&image[..length_bytes], Chip::Esp32c3).unwrap_err().to_string();
            assert!(error.contains("too few"), "{length_bytes}: {error}");
        }
    }
}
