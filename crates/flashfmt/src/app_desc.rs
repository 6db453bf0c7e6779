//! The app descriptor: what an application says of itself.
//!
//! `esp_app_desc_t` of ESP-IDF `esp_app_format/include/esp_app_desc.h` (v5.x), 256 bytes at the start of the first
//! segment's data, that is at offset 0x20 of the image.

use crate::bytes::{array_at, put, u16_at, u32_at};
use crate::text::Text;

/// Size of the descriptor on flash.
pub const APP_DESC_BYTES: usize = 256;

/// Offset of the descriptor in an image: header (24) and first segment header (8).
pub const APP_DESC_OFFSET: u32 = 0x20;

/// `ESP_APP_DESC_MAGIC_WORD`.
pub const APP_DESC_MAGIC: u32 = 0xABCD_5432;

/// Project name in every image of the Arduino core (arduino-esp32): its libraries are built beforehand, the app descriptor
/// with them (`project(arduino-lib-builder)` in esp32-arduino-lib-builder `CMakeLists.txt`, at 01a9e39). Only a sketch that
/// is built as a component of an ESP-IDF project has a name and a version of its own.
pub const ARDUINO_PROJECT: &str = "arduino-lib-builder";

/// An application's own description. Fields ESP-IDF calls reserved are emitted as zero and ignored when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppDescriptor {
    /// Anti-rollback counter, compared with eFuses when anti-rollback is on.
    pub secure_version: u32,
    /// Version text, such as `1.4.0` or `v5.1-dirty`.
    pub version: Text<32>,
    /// Project name.
    pub project_name: Text<32>,
    /// Compile time, such as `14:03:59`.
    pub time: Text<16>,
    /// Compile date, such as `Nov 22 2026`.
    pub date: Text<16>,
    /// Version of ESP-IDF it was built with.
    pub idf_ver: Text<32>,
    /// SHA-256 of the ELF file it was made from.
    pub app_elf_sha256: [u8; 32],
    /// Lowest eFuse block revision it runs on: major * 100 + minor.
    pub min_efuse_blk_rev_full: u16,
    /// Highest eFuse block revision it runs on: major * 100 + minor.
    pub max_efuse_blk_rev_full: u16,
    /// MMU page size as a power of two; 0 where the chip has one size only.
    pub mmu_page_size_log2: u8,
}

// Offsets of the fields. Bytes 8..16 (reserv1), 181..184 (reserv3) and 184..256 (reserv2) are reserved.
const MAGIC: usize = 0;
const SECURE_VERSION: usize = 4;
const VERSION: usize = 16;
const PROJECT_NAME: usize = VERSION + 32;
const TIME: usize = PROJECT_NAME + 32;
const DATE: usize = TIME + 16;
const IDF_VER: usize = DATE + 16;
const APP_ELF_SHA256: usize = IDF_VER + 32;
const MIN_EFUSE: usize = APP_ELF_SHA256 + 32;
const MAX_EFUSE: usize = MIN_EFUSE + 2;
const MMU_PAGE_SIZE: usize = MAX_EFUSE + 2;
const RESERV2: usize = 184;
const _: () = assert!(MMU_PAGE_SIZE + 1 + 3 == RESERV2 && RESERV2 + 18 * 4 == APP_DESC_BYTES);

impl AppDescriptor {
    /// A descriptor with a project name and a version (each cut to 32 bytes), and nothing else said.
    pub fn new(project_name: &str, version: &str) -> Self {
        Self {
            secure_version: 0,
            version: Text::truncated(version),
            project_name: Text::truncated(project_name),
            time: Text::default(),
            date: Text::default(),
            idf_ver: Text::default(),
            app_elf_sha256: [0; 32],
            min_efuse_blk_rev_full: 0,
            max_efuse_blk_rev_full: u16::MAX,
            mmu_page_size_log2: 0,
        }
    }

    /// The version that the build gave the application; `None` when it gave none. In the Arduino core's descriptor it is
    /// that of its libraries, which were built beforehand: the same in every sketch (`esp-idf: v4.4.7 38eeba213a` with
    /// arduino-esp32 2.0.17).
    #[must_use]
    pub fn own_version(&self) -> Option<&str> {
        let version = self.version.as_str();
        (!version.is_empty() && !self.is_of_arduino_libraries()).then_some(version)
    }

    /// Whether it is the one that the Arduino core's libraries were built with, and not the application's own.
    #[must_use]
    pub fn is_of_arduino_libraries(&self) -> bool {
        self.project_name.as_str() == ARDUINO_PROJECT
    }

    /// Reads the descriptor at the start of `bytes`; what follows is ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, AppDescError> {
        let record = bytes
            .first_chunk::<APP_DESC_BYTES>()
            .ok_or(AppDescError::Truncated { found_bytes: bytes.len() })?;
        let magic = u32_at(record, MAGIC);
        if magic != APP_DESC_MAGIC {
            return Err(AppDescError::BadMagic { found: magic });
        }
        Ok(Self {
            secure_version: u32_at(record, SECURE_VERSION),
            version: Text::from_field(array_at(record, VERSION)),
            project_name: Text::from_field(array_at(record, PROJECT_NAME)),
            time: Text::from_field(array_at(record, TIME)),
            date: Text::from_field(array_at(record, DATE)),
            idf_ver: Text::from_field(array_at(record, IDF_VER)),
            app_elf_sha256: array_at(record, APP_ELF_SHA256),
            min_efuse_blk_rev_full: u16_at(record, MIN_EFUSE),
            max_efuse_blk_rev_full: u16_at(record, MAX_EFUSE),
            mmu_page_size_log2: record[MMU_PAGE_SIZE],
        })
    }

    /// The 256 bytes as they stand in an image.
    pub fn emit(&self) -> [u8; APP_DESC_BYTES] {
        let mut record = [0; APP_DESC_BYTES];
        put(&mut record, MAGIC, APP_DESC_MAGIC.to_le_bytes());
        put(&mut record, SECURE_VERSION, self.secure_version.to_le_bytes());
        put(&mut record, VERSION, self.version.to_field());
        put(&mut record, PROJECT_NAME, self.project_name.to_field());
        put(&mut record, TIME, self.time.to_field());
        put(&mut record, DATE, self.date.to_field());
        put(&mut record, IDF_VER, self.idf_ver.to_field());
        put(&mut record, APP_ELF_SHA256, self.app_elf_sha256);
        put(&mut record, MIN_EFUSE, self.min_efuse_blk_rev_full.to_le_bytes());
        put(&mut record, MAX_EFUSE, self.max_efuse_blk_rev_full.to_le_bytes());
        record[MMU_PAGE_SIZE] = self.mmu_page_size_log2;
        record
    }
}

/// Why bytes are no app descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppDescError {
    /// Fewer bytes than a descriptor has.
    #[error("app descriptor needs {APP_DESC_BYTES} bytes, found {found_bytes}")]
    Truncated {
        /// Bytes given.
        found_bytes: usize,
    },
    /// The magic word is another.
    #[error("app descriptor magic is {found:#010x}, expected {APP_DESC_MAGIC:#010x}")]
    BadMagic {
        /// The first word.
        found: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_nul_or_with_bad_utf8_does_not_panic() {
        let mut bytes = AppDescriptor::new("demo", "1.0.0").emit();
        bytes[16..48].fill(b'x');
        bytes[48..80].fill(0xFF);
        let desc = AppDescriptor::parse(&bytes).unwrap();
        assert_eq!(desc.version.as_str().len(), 32);
        assert_eq!(desc.project_name.as_str(), "");
        assert!(!desc.project_name.is_utf8());
    }

    #[test]
    fn refusals_name_what_was_found() {
        assert_eq!(AppDescriptor::parse(&[0; 10]), Err(AppDescError::Truncated { found_bytes: 10 }));
        assert_eq!(AppDescriptor::parse(&[0; 256]), Err(AppDescError::BadMagic { found: 0 }));
    }
}
