//! Partition types and subtypes.

use core::fmt;

/// What a partition is for. Every pair of type and subtype bytes has a kind.
///
/// Numbers: `esp_partition_type_t` and `esp_partition_subtype_t` of ESP-IDF
/// `esp_partition/include/esp_partition.h` (v5.x).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PartitionKind {
    /// Type 0x00: an application.
    App(AppSubtype),
    /// Type 0x01: data with a meaning to ESP-IDF.
    Data(DataSubtype),
    /// Any other type: 0x02 bootloader and 0x03 partition table (ESP-IDF 5.4), reserved ones up to 0x3F, and
    /// 0x40 to 0xFE, which are the user's own.
    Custom {
        /// Type byte; 0x00 and 0x01 have variants of their own.
        type_: u8,
        /// Subtype byte, whose meaning is the type's.
        subtype: u8,
    },
}

/// Subtypes of type `app`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppSubtype {
    /// 0x00: what the bootloader starts when there is no otadata.
    Factory,
    /// 0x10 to 0x1F: a slot.
    Ota(OtaIndex),
    /// 0x20: production test.
    Test,
    /// Any other byte.
    Other(u8),
}

/// The number of a slot: 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtaIndex(u8);

impl OtaIndex {
    /// How many slots ESP-IDF allows.
    pub const COUNT: u8 = 16;

    /// The slot number, or `None` above 15.
    pub const fn new(index: u8) -> Option<Self> {
        if index < Self::COUNT { Some(Self(index)) } else { None }
    }

    /// The number: 0 for `ota_0`.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Subtypes of type `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataSubtype {
    /// 0x00: otadata.
    Ota,
    /// 0x01: PHY calibration.
    Phy,
    /// 0x02: non-volatile storage.
    Nvs,
    /// 0x03: core dump.
    CoreDump,
    /// 0x04: keys of encrypted NVS.
    NvsKeys,
    /// 0x05: emulated eFuses.
    Efuse,
    /// 0x06: unspecified data.
    Undefined,
    /// 0x80: esphttpd file system.
    EspHttpd,
    /// 0x81: FAT file system.
    Fat,
    /// 0x82: SPIFFS file system.
    Spiffs,
    /// 0x83: LittleFS file system.
    LittleFs,
    /// Any other byte.
    Other(u8),
}

const TYPE_APP: u8 = 0x00;
const TYPE_DATA: u8 = 0x01;
pub(crate) const TYPE_BOOTLOADER: u8 = 0x02;
pub(crate) const TYPE_PARTITION_TABLE: u8 = 0x03;
const OTA_FIRST: u8 = 0x10;
const OTA_LAST: u8 = OTA_FIRST + OtaIndex::COUNT - 1;

/// Names of types as CSV files write them.
#[cfg(feature = "alloc")]
pub(crate) const TYPE_NAMES: [(&str, u8); 4] = [
    ("app", TYPE_APP),
    ("data", TYPE_DATA),
    ("bootloader", TYPE_BOOTLOADER),
    ("partition_table", TYPE_PARTITION_TABLE),
];

impl PartitionKind {
    /// The kind with these bytes.
    pub const fn from_bytes(type_: u8, subtype: u8) -> Self {
        match type_ {
            TYPE_APP => PartitionKind::App(AppSubtype::from_byte(subtype)),
            TYPE_DATA => PartitionKind::Data(DataSubtype::from_byte(subtype)),
            type_ => PartitionKind::Custom { type_, subtype },
        }
    }

    /// Type byte and subtype byte.
    pub const fn to_bytes(self) -> (u8, u8) {
        match self {
            PartitionKind::App(subtype) => (TYPE_APP, subtype.to_byte()),
            PartitionKind::Data(subtype) => (TYPE_DATA, subtype.to_byte()),
            PartitionKind::Custom { type_, subtype } => (type_, subtype),
        }
    }

    /// Where partitions of this kind must begin, in bytes: 64 KiB for applications, one sector for the rest.
    pub const fn offset_alignment_bytes(self) -> u32 {
        match self {
            PartitionKind::App(_) => 0x1_0000,
            PartitionKind::Data(_) | PartitionKind::Custom { .. } => 0x1000,
        }
    }

    /// What their sizes must be a multiple of, in bytes: one sector for applications, nothing for the rest.
    pub const fn size_alignment_bytes(self) -> u32 {
        match self {
            PartitionKind::App(_) => 0x1000,
            PartitionKind::Data(_) | PartitionKind::Custom { .. } => 1,
        }
    }

    /// The bootloader or the partition table itself: the only entries that may lie before the table's end.
    pub(crate) const fn may_precede_table(self) -> bool {
        matches!(self.to_bytes(), (TYPE_BOOTLOADER | TYPE_PARTITION_TABLE, 0))
    }

    /// Whether a second partition of this kind would make the choice of one ambiguous.
    pub(crate) const fn is_unique(self) -> bool {
        match self {
            PartitionKind::App(AppSubtype::Factory | AppSubtype::Ota(_) | AppSubtype::Test)
            | PartitionKind::Data(DataSubtype::Ota) => true,
            PartitionKind::App(AppSubtype::Other(_)) | PartitionKind::Custom { .. } => false,
            PartitionKind::Data(
                DataSubtype::Phy
                | DataSubtype::Nvs
                | DataSubtype::CoreDump
                | DataSubtype::NvsKeys
                | DataSubtype::Efuse
                | DataSubtype::Undefined
                | DataSubtype::EspHttpd
                | DataSubtype::Fat
                | DataSubtype::Spiffs
                | DataSubtype::LittleFs
                | DataSubtype::Other(_),
            ) => false,
        }
    }
}

impl AppSubtype {
    /// The subtype with this byte.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0x00 => AppSubtype::Factory,
            OTA_FIRST..=OTA_LAST => AppSubtype::Ota(OtaIndex(byte - OTA_FIRST)),
            0x20 => AppSubtype::Test,
            other => AppSubtype::Other(other),
        }
    }

    /// Its byte.
    pub const fn to_byte(self) -> u8 {
        match self {
            AppSubtype::Factory => 0x00,
            AppSubtype::Ota(index) => OTA_FIRST + index.0,
            AppSubtype::Test => 0x20,
            AppSubtype::Other(other) => other,
        }
    }
}

impl DataSubtype {
    /// The subtype with this byte.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            0x00 => DataSubtype::Ota,
            0x01 => DataSubtype::Phy,
            0x02 => DataSubtype::Nvs,
            0x03 => DataSubtype::CoreDump,
            0x04 => DataSubtype::NvsKeys,
            0x05 => DataSubtype::Efuse,
            0x06 => DataSubtype::Undefined,
            0x80 => DataSubtype::EspHttpd,
            0x81 => DataSubtype::Fat,
            0x82 => DataSubtype::Spiffs,
            0x83 => DataSubtype::LittleFs,
            other => DataSubtype::Other(other),
        }
    }

    /// Its byte.
    pub const fn to_byte(self) -> u8 {
        match self {
            DataSubtype::Ota => 0x00,
            DataSubtype::Phy => 0x01,
            DataSubtype::Nvs => 0x02,
            DataSubtype::CoreDump => 0x03,
            DataSubtype::NvsKeys => 0x04,
            DataSubtype::Efuse => 0x05,
            DataSubtype::Undefined => 0x06,
            DataSubtype::EspHttpd => 0x80,
            DataSubtype::Fat => 0x81,
            DataSubtype::Spiffs => 0x82,
            DataSubtype::LittleFs => 0x83,
            DataSubtype::Other(other) => other,
        }
    }

    /// Its name in CSV files, if it has one.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            DataSubtype::Ota => Some("ota"),
            DataSubtype::Phy => Some("phy"),
            DataSubtype::Nvs => Some("nvs"),
            DataSubtype::CoreDump => Some("coredump"),
            DataSubtype::NvsKeys => Some("nvs_keys"),
            DataSubtype::Efuse => Some("efuse"),
            DataSubtype::Undefined => Some("undefined"),
            DataSubtype::EspHttpd => Some("esphttpd"),
            DataSubtype::Fat => Some("fat"),
            DataSubtype::Spiffs => Some("spiffs"),
            DataSubtype::LittleFs => Some("littlefs"),
            DataSubtype::Other(_) => None,
        }
    }
}

/// As a CSV file writes it: `app, ota_0`, `data, nvs`, `0x40, 0x00`.
impl fmt::Display for PartitionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionKind::App(AppSubtype::Factory) => f.write_str("app, factory"),
            PartitionKind::App(AppSubtype::Ota(index)) => write!(f, "app, ota_{}", index.0),
            PartitionKind::App(AppSubtype::Test) => f.write_str("app, test"),
            PartitionKind::App(AppSubtype::Other(subtype)) => write!(f, "app, {subtype:#04x}"),
            PartitionKind::Data(subtype) => match subtype.name() {
                Some(name) => write!(f, "data, {name}"),
                None => write!(f, "data, {:#04x}", subtype.to_byte()),
            },
            PartitionKind::Custom { type_, subtype } => write!(f, "{type_:#04x}, {subtype:#04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_pair_is_a_kind_and_comes_back() {
        for type_ in 0..=u8::MAX {
            for subtype in 0..=u8::MAX {
                assert_eq!(PartitionKind::from_bytes(type_, subtype).to_bytes(), (type_, subtype));
            }
        }
    }

    #[test]
    fn slots_number_up_to_15() {
        assert_eq!(OtaIndex::new(15).map(OtaIndex::get), Some(15));
        assert_eq!(OtaIndex::new(16), None);
        assert_eq!(AppSubtype::from_byte(0x1F), AppSubtype::Ota(OtaIndex(15)));
        assert_eq!(AppSubtype::from_byte(0x30), AppSubtype::Other(0x30));
    }
}
