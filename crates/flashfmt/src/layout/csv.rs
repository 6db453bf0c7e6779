//! Reading the lines of a CSV layout.

use alloc::string::String;
use alloc::vec::Vec;

use super::{LayoutError, LineError};
use crate::partition::{
    AppSubtype, DataSubtype, FIRST_PARTITION_OFFSET, Label, OtaIndex, Partition, PartitionKind, TABLE_OFFSET,
    TYPE_BOOTLOADER, TYPE_NAMES, TYPE_PARTITION_TABLE,
};

/// Where the bootloader stands: at the beginning of the flash, as on every chip that has an updater. Off-spec: on ESP32 and
/// ESP32-S2 it is at 0x1000, which a CSV file does not say.
const BOOTLOADER_OFFSET: u32 = 0;

/// The smallest NVS partition that can be written to (`NVS_RW_MIN_PARTITION_SIZE`): one sector of three is kept free.
const MIN_NVS_BYTES: u32 = 3 * crate::SECTOR_BYTES;

/// `TEE_OTA` data holds two sectors, as otadata does.
const TEE_OTA_BYTES: u32 = 2 * crate::SECTOR_BYTES;
const TEE_OTA: u8 = 0x90;

/// Reads all lines and fills in missing offsets (`PartitionTable.from_csv`).
pub(super) fn parse(text: &str) -> Result<Vec<Partition>, LayoutError> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut partitions = Vec::new();
    let mut free_from = FIRST_PARTITION_OFFSET;
    for (index, line) in lines(text).enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let partition = parse_line(line)
            .and_then(|row| row.place(&mut free_from))
            .map_err(|error| LayoutError::Line { line: index + 1, error })?;
        partitions.push(partition);
    }
    Ok(partitions)
}

/// Lines that end in LF, CR LF, or CR alone.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else { return rest.take() };
        let (line, ending) = text.split_at(end);
        rest = ending.strip_prefix("\r\n").or_else(|| ending.get(1..));
        Some(line)
    })
}

/// One line, before missing values are filled in.
struct Row {
    label: Label,
    kind: PartitionKind,
    offset: Option<u32>,
    size: Size,
    encrypted: bool,
    readonly: bool,
}

enum Size {
    Bytes(u32),
    /// A negative number in the file: the partition ends at this address.
    UpTo(u32),
}

impl Row {
    fn place(self, free_from: &mut u32) -> Result<Partition, LineError> {
        let Row { label, kind, offset, size, encrypted, readonly } = self;
        let in_order = !kind.may_precede_table();
        let offset = match offset {
            Some(found) if in_order && found < *free_from => {
                return Err(LineError::OffsetTooLow { found, free_from: *free_from });
            }
            Some(offset) => offset,
            None => free_from
                .checked_next_multiple_of(kind.offset_alignment_bytes())
                .ok_or(LineError::AddressOverflow)?,
        };
        let size = match size {
            Size::Bytes(bytes) => bytes,
            Size::UpTo(end) => end.checked_sub(offset).ok_or(LineError::EndTooLow { end, offset })?,
        };
        let end = offset.checked_add(size).ok_or(LineError::AddressOverflow)?;
        if in_order {
            *free_from = end;
        }
        verify(kind, size, readonly)?;
        Ok(Partition { label, kind, offset, size, encrypted, readonly })
    }
}

/// What an application could not work with (`PartitionDefinition.verify`). A table that is on a chip already is not held to it.
fn verify(kind: PartitionKind, size: u32, readonly: bool) -> Result<(), LineError> {
    match kind {
        PartitionKind::Data(DataSubtype::Nvs) if size < MIN_NVS_BYTES && !readonly => {
            Err(LineError::NvsTooSmall { found: size })
        }
        PartitionKind::Data(DataSubtype::Ota | DataSubtype::CoreDump) if readonly => {
            Err(LineError::Readonly { kind })
        }
        PartitionKind::Data(DataSubtype::Other(TEE_OTA)) if size != TEE_OTA_BYTES => {
            Err(LineError::TeeOtaSize { found: size })
        }
        PartitionKind::App(_) | PartitionKind::Data(_) | PartitionKind::Custom { .. } => Ok(()),
    }
}

fn parse_line(line: &str) -> Result<Row, LineError> {
    let mut fields = line.split(',').map(str::trim);
    let mut field = || fields.next().unwrap_or_default();
    let label = Label::new(field())?;
    let kind = parse_kind(field(), field())?;
    let (offset, size) = parse_place(kind, field(), field())?;
    let (encrypted, readonly) = parse_flags(field())?;
    Ok(Row { label, kind, offset, size, encrypted, readonly })
}

/// Offset and size. Of bootloader and partition table ESP-IDF knows them, whatever the file says (`parse_address`, `parse_size`
/// of 5.4 and later; its own examples have `N/A` there).
fn parse_place(
    kind: PartitionKind,
    offset_text: &str,
    size_text: &str,
) -> Result<(Option<u32>, Size), LineError> {
    let offset = || match offset_text {
        "" => Ok(None),
        text => match parse_number(text) {
            Some(offset) => Ok(Some(offset)),
            None => Err(LineError::Offset { found: text.into() }),
        },
    };
    Ok(match kind.to_bytes() {
        (TYPE_BOOTLOADER, 0) => (Some(BOOTLOADER_OFFSET), Size::Bytes(TABLE_OFFSET - BOOTLOADER_OFFSET)),
        (TYPE_BOOTLOADER, _) => (offset()?, Size::Bytes(TABLE_OFFSET - BOOTLOADER_OFFSET)),
        (TYPE_PARTITION_TABLE, 0) => (Some(TABLE_OFFSET), Size::Bytes(crate::SECTOR_BYTES)),
        (TYPE_PARTITION_TABLE, _) => (offset()?, Size::Bytes(crate::SECTOR_BYTES)),
        _ => (offset()?, parse_size(size_text)?),
    })
}

fn parse_kind(type_text: &str, subtype_text: &str) -> Result<PartitionKind, LineError> {
    // 0xFF marks the end of a table, and "any" in searches.
    let type_ = TYPE_NAMES
        .into_iter()
        .find(|(name, _)| *name == type_text)
        .map(|(_, type_)| type_)
        .or_else(|| parse_byte(type_text).filter(|type_| *type_ != 0xFF))
        .ok_or_else(|| LineError::Type { found: type_text.into() })?;
    let kind = PartitionKind::from_bytes(type_, 0);
    let by_name = match kind {
        PartitionKind::App(_) => app_subtype(subtype_text).map(PartitionKind::App),
        PartitionKind::Data(_) => data_subtype(subtype_text).map(PartitionKind::Data),
        PartitionKind::Custom { .. } => {
            custom_subtype(type_text, subtype_text).map(|subtype| PartitionKind::Custom { type_, subtype })
        }
    };
    by_name
        .or_else(|| Some(PartitionKind::from_bytes(type_, parse_byte(subtype_text)?)))
        .ok_or_else(|| LineError::Subtype { type_: type_text.into(), found: subtype_text.into() })
}

fn app_subtype(text: &str) -> Option<AppSubtype> {
    match text {
        "factory" => Some(AppSubtype::Factory),
        "test" => Some(AppSubtype::Test),
        "tee_0" => Some(AppSubtype::Other(0x30)),
        "tee_1" => Some(AppSubtype::Other(0x31)),
        text => {
            let digits = text.strip_prefix("ota_")?;
            // ESP-IDF knows the names ota_0 to ota_15, so neither ota_01 nor ota_+1.
            let canonical = digits == "0" || digits.starts_with(|first| matches!(first, '1'..='9'));
            let index = OtaIndex::new(digits.parse().ok()?)?;
            canonical.then_some(AppSubtype::Ota(index))
        }
    }
}

fn data_subtype(text: &str) -> Option<DataSubtype> {
    match text {
        // An empty subtype is legal for everything but applications.
        "" => Some(DataSubtype::Undefined),
        "tee_ota" => Some(DataSubtype::Other(TEE_OTA)),
        text => (0..=u8::MAX).map(DataSubtype::from_byte).find(|subtype| subtype.name() == Some(text)),
    }
}

fn custom_subtype(type_text: &str, text: &str) -> Option<u8> {
    match (type_text, text) {
        ("bootloader" | "partition_table", "primary") => Some(0),
        ("bootloader" | "partition_table", "ota") => Some(1),
        ("bootloader", "recovery") => Some(2),
        (_, "") => Some(DataSubtype::Undefined.to_byte()),
        (_, _) => None,
    }
}

fn parse_size(text: &str) -> Result<Size, LineError> {
    let size = match text.strip_prefix('-') {
        Some(text) => parse_number(text).map(Size::UpTo),
        None => parse_number(text).map(Size::Bytes),
    };
    size.ok_or_else(|| LineError::Size { found: String::from(text) })
}

fn parse_flags(text: &str) -> Result<(bool, bool), LineError> {
    let (mut encrypted, mut readonly) = (false, false);
    for flag in text.split(':').filter(|flag| !flag.is_empty()) {
        match flag {
            "encrypted" => encrypted = true,
            "readonly" => readonly = true,
            unknown => return Err(LineError::Flag { found: unknown.into() }),
        }
    }
    Ok((encrypted, readonly))
}

/// A type or subtype byte.
fn parse_byte(text: &str) -> Option<u8> {
    u8::try_from(parse_number(text)?).ok()
}

/// A number with an optional `K` or `M` (`parse_int`): decimal, or with 0x, 0o, 0b as in Python's `int(text, 0)`.
fn parse_number(text: &str) -> Option<u32> {
    let suffix_shift = match text.as_bytes().last()? {
        b'k' | b'K' => 10,
        b'm' | b'M' => 20,
        _ => 0,
    };
    let digits = if suffix_shift == 0 { text } else { &text[..text.len() - 1] };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(_) | None => (10, lower.as_str()),
    };
    // `from_str_radix` would take a sign.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()?.checked_mul(1 << suffix_shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_in_gen_esp32part() {
        for (text, number) in [
            ("4096", Some(4096)),
            ("0x1000", Some(0x1000)),
            ("0X1f", Some(0x1F)),
            ("24K", Some(24 * 1024)),
            ("1m", Some(1024 * 1024)),
            ("0x10K", Some(0x4000)),
            ("4096M", None),
            ("", None),
            ("K", None),
            ("0x", None),
            ("+5", None),
            ("0x-5", None),
            ("1.5M", None),
            ("é", None),
            ("0é", None),
        ] {
            assert_eq!(parse_number(text), number, "{text}");
        }
    }

    #[test]
    fn lines_end_in_each_way() {
        let expected = ["a", "", "b", "c", "d", ""];
        assert!(lines("a\n\nb\r\nc\rd\n").eq(expected));
        assert!(lines("").eq([""]));
    }

    #[test]
    fn names_of_slots_are_canonical() {
        assert_eq!(app_subtype("ota_15"), OtaIndex::new(15).map(AppSubtype::Ota));
        for text in ["ota_16", "ota_01", "ota_+1", "ota_", "ota", ""] {
            assert_eq!(app_subtype(text), None, "{text}");
        }
    }
}
