//! What ESP-IDF's second-stage bootloader refuses to start, from an image's headers alone.
//!
//! Who writes an image for a bootloader to start asks here first: afterwards it is too late. The rules are those of
//! `bootloader_support` (v5.x to v6.1): `esp_image_format.c` (`verify_load_addresses`, `should_load`,
//! `process_segment_data`) and `bootloader_common_loader.c` (`bootloader_common_check_chip_validity`,
//! `bootloader_common_check_efuse_blk_validity`). The rules of the format itself (lengths, alignment) are
//! [`Outline`](super::Outline)'s and [`StreamVerifier`](super::StreamVerifier)'s, which refuse no less.
//!
//! A second-stage bootloader is such an image too: every one is loaded over the memory of a bootloader, its own.

use core::ops::Range;

use super::{ImageHeader, ImageSummary, Segment};
use crate::app_desc::AppDescriptor;
use crate::chip::Chip;

/// Load addresses below this one are not loaded: 0 is padding (`should_load`).
pub const LOWEST_LOADED_ADDR: u32 = 0x1000_0000;

/// Project name in the app descriptor of Pitstop's updater.
pub const UPDATER_PROJECT_NAME: &str = "pitstop-updater";

/// A value of `max_chip_rev_full` and of the fields for eFuse blocks that sets no limit, beside 0 (`IS_FIELD_SET`).
const NO_LIMIT: u16 = u16::MAX;

/// The first revision of ESP32-P4 whose ROM keeps its data at the end of RAM (`CONFIG_ESP32P4_SELECTS_REV_LESS_V3`).
const P4_V3: u16 = 300;

/// What an image is, as far as its headers and its descriptor tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An application with an app descriptor.
    Application,
    /// Pitstop's updater.
    Updater,
    /// A second-stage bootloader: it is loaded over the bootloader's own memory.
    Bootloader,
    /// No app descriptor. It can be an application of old (ESP-IDF before 3.1), of another maker's tools, or no
    /// application at all.
    Undescribed,
}

impl Kind {
    /// What these segments and this descriptor make.
    #[must_use]
    pub fn of(header: &ImageHeader, segments: &[Segment], app_desc: Option<&AppDescriptor>) -> Self {
        if segments.iter().any(|segment| is_over_bootloader(header, segment)) {
            return Self::Bootloader;
        }
        match app_desc {
            Some(app_desc) if app_desc.project_name.as_str() == UPDATER_PROJECT_NAME => Self::Updater,
            Some(_) => Self::Application,
            None => Self::Undescribed,
        }
    }
}

impl Kind {
    /// For people and scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Updater => "updater",
            Self::Bootloader => "bootloader",
            Self::Undescribed => "undescribed",
        }
    }
}

impl ImageSummary {
    /// What the image is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        Kind::of(&self.header, self.segments.as_slice(), self.app_desc.as_ref())
    }

    /// Whether this may be published, and put into a slot, as an application. An image without app descriptor may when
    /// whoever gives it says that it has none (`without_descriptor`).
    ///
    /// # Errors
    /// [`NotAnApplication`].
    pub fn check_application(&self, without_descriptor: bool) -> Result<(), NotAnApplication> {
        let unbootable = check_load_addresses(&self.header, self.segments.as_slice());
        match (self.kind(), unbootable) {
            (Kind::Updater, _) => Err(NotAnApplication::Updater),
            (Kind::Bootloader, Err(Unbootable::OverBootloader { index, load_addr, .. }))
                if self.app_desc.is_none() =>
            {
                Err(NotAnApplication::Bootloader { index, load_addr })
            }
            (_, Err(unbootable)) => Err(NotAnApplication::Unbootable(unbootable)),
            (Kind::Undescribed, Ok(())) if !without_descriptor => Err(NotAnApplication::NoDescriptor),
            (Kind::Application | Kind::Undescribed | Kind::Bootloader, Ok(())) => Ok(()),
        }
    }
}

/// Why a whole image is not taken for an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnApplication {
    /// What the chip's ROM starts.
    #[error(
        "expected an application, found a second-stage bootloader: it has no app descriptor, and segment {index} at \
         {load_addr:#010x} is loaded over the bootloader's own memory, which ESP-IDF refuses (esp_image_format.c, \
         verify_load_addresses)"
    )]
    Bootloader {
        /// Which segment, from 0.
        index: usize,
        /// Where it is loaded.
        load_addr: u32,
    },
    /// What is in `factory`, or in `ota_0` of the classic layout.
    #[error("expected an application, found the updater itself (project {UPDATER_PROJECT_NAME})")]
    Updater,
    /// Nothing says what it is.
    #[error("expected an application with an app descriptor, found an image without one")]
    NoDescriptor,
    /// An application that the bootloader would refuse.
    #[error("expected an application that can be started, found: {0}")]
    Unbootable(Unbootable),
}

/// A number that eFuses hold, major * 100 + minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The number.
    pub full: u16,
    /// Whether an eFuse says that the highest number of an image is not to be looked at
    /// (`DISABLE_WAFER_VERSION_MAJOR`, `DISABLE_BLK_VERSION_MAJOR`).
    pub ignores_max: bool,
}

/// The chip that an image is to start on. What is not known is not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub chip: Chip,
    /// Its revision (`efuse_hal_chip_revision`).
    pub revision: Option<Revision>,
    /// That of its eFuse blocks (`efuse_hal_blk_version`); ESP32 has none.
    pub efuse_blocks: Option<Revision>,
}

/// Why the second-stage bootloader refuses an image. Segments are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbootable {
    /// An image for another chip.
    #[error("image is for {found}, this is {expected}: build it for this chip")]
    Chip {
        /// The chip there is.
        expected: Chip,
        /// The chip in the header.
        found: Chip,
    },
    /// The chip is older than the image allows.
    #[error(
        "image needs a chip of revision {}.{} or later, this is {}.{}: build it for older revisions",
        .min / 100, .min % 100, .found / 100, .found % 100
    )]
    ChipTooOld {
        /// Lowest revision, major * 100 + minor.
        min: u16,
        /// The chip's.
        found: u16,
    },
    /// The chip is newer than the image allows.
    #[error(
        "image needs a chip of revision {}.{} or earlier, this is {}.{}: build it with a later ESP-IDF",
        .max / 100, .max % 100, .found / 100, .found % 100
    )]
    ChipTooNew {
        /// Highest revision, major * 100 + minor.
        max: u16,
        /// The chip's.
        found: u16,
    },
    /// The eFuse blocks are not of a revision that the image allows.
    #[error(
        "image needs eFuse blocks of revision {}.{} to {}.{}, this chip's are {}.{}",
        .min / 100, .min % 100, .max / 100, .max % 100, .found / 100, .found % 100
    )]
    EfuseBlocks {
        /// Lowest revision, major * 100 + minor; 0 is any.
        min: u16,
        /// Highest revision; 0 and 65535 are any.
        max: u16,
        /// The chip's.
        found: u16,
    },
    /// A segment over the memory in which the bootloader itself works.
    #[error(
        "segment {index} ({len_bytes:#x} bytes at {load_addr:#010x}) is loaded over the second-stage bootloader's own \
         memory, which ESP-IDF refuses: this is a bootloader, or an application that must be linked lower"
    )]
    OverBootloader {
        /// Which segment.
        index: usize,
        /// Where it wants to be.
        load_addr: u32,
        /// Its length.
        len_bytes: u32,
    },
    /// A segment that is neither RAM nor mapped flash, or that starts in one memory and ends in another.
    #[error("segment {index} ({len_bytes:#x} bytes at {load_addr:#010x}) is not in one memory of the chip")]
    OutsideMemory {
        /// Which segment.
        index: usize,
        /// Where it wants to be.
        load_addr: u32,
        /// Its length.
        len_bytes: u32,
    },
}

/// Judges an image as the second-stage bootloader of `target` would. Takes as many segments as are known: those of a
/// [`Glance`](super::Glance), or all of an [`Outline`](super::Outline) or [`ImageSummary`].
///
/// # Errors
/// [`Unbootable`], the first that applies.
pub fn check(
    header: &ImageHeader,
    segments: &[Segment],
    app_desc: Option<&AppDescriptor>,
    target: &Target,
) -> Result<(), Unbootable> {
    if header.chip != target.chip {
        return Err(Unbootable::Chip { expected: target.chip, found: header.chip });
    }
    if let Some(revision) = target.revision {
        check_chip_revision(header, revision)?;
    }
    // ESP32's bootloader does not look at its eFuse blocks.
    if let (Some(revision), Some(app_desc), false) =
        (target.efuse_blocks, app_desc, target.chip == Chip::Esp32)
    {
        check_efuse_blocks(app_desc, revision)?;
    }
    check_load_addresses(header, segments)
}

/// Whether every segment goes where a bootloader lets it (`verify_load_addresses`). Deep sleep is not looked at: what
/// is kept there is skipped at a wake-up, and loaded at every other start.
///
/// # Errors
/// [`Unbootable::OverBootloader`], [`Unbootable::OutsideMemory`].
pub fn check_load_addresses(header: &ImageHeader, segments: &[Segment]) -> Result<(), Unbootable> {
    for (index, segment) in segments.iter().enumerate() {
        let Segment { load_addr, len: len_bytes, .. } = *segment;
        if is_over_bootloader(header, segment) {
            return Err(Unbootable::OverBootloader { index, load_addr, len_bytes });
        }
        let in_ram = |addrs: &Range<u32>| {
            memory(header).ram.iter().any(|ram| ram.start <= addrs.start && addrs.end <= ram.end)
        };
        if is_loaded(header.chip, segment) && !addrs_of(segment).is_some_and(|addrs| in_ram(&addrs)) {
            return Err(Unbootable::OutsideMemory { index, load_addr, len_bytes });
        }
    }
    Ok(())
}

/// `bootloader_common_check_chip_revision_validity`. The field `min_chip_rev` of before ESP-IDF 5 is not looked at, as
/// there.
fn check_chip_revision(header: &ImageHeader, revision: Revision) -> Result<(), Unbootable> {
    let (min, max, found) = (header.min_chip_rev_full, header.max_chip_rev_full, revision.full);
    if found < min {
        return Err(Unbootable::ChipTooOld { min, found });
    }
    if is_limit(max) && found > max && !revision.ignores_max {
        return Err(Unbootable::ChipTooNew { max, found });
    }
    Ok(())
}

/// `bootloader_common_check_efuse_blk_validity`.
fn check_efuse_blocks(app_desc: &AppDescriptor, revision: Revision) -> Result<(), Unbootable> {
    let (min, max, found) = (app_desc.min_efuse_blk_rev_full, app_desc.max_efuse_blk_rev_full, revision.full);
    let too_old = is_limit(min) && found < min;
    let too_new = is_limit(max) && found > max && !revision.ignores_max;
    if too_old || too_new { Err(Unbootable::EfuseBlocks { min, max, found }) } else { Ok(()) }
}

const fn is_limit(revision: u16) -> bool {
    revision != 0 && revision != NO_LIMIT
}

fn is_over_bootloader(header: &ImageHeader, segment: &Segment) -> bool {
    let overlaps = |addrs: &Range<u32>| {
        memory(header).bootloader.iter().any(|kept| kept.start < addrs.end && addrs.start < kept.end)
    };
    is_loaded(header.chip, segment) && addrs_of(segment).is_some_and(|addrs| overlaps(&addrs))
}

/// `should_load`, and that there is anything to load.
fn is_loaded(chip: Chip, segment: &Segment) -> bool {
    segment.len > 0 && segment.load_addr >= LOWEST_LOADED_ADDR && !chip.is_flash_mapped(segment.load_addr)
}

/// The addresses of a segment; `None` when it does not end before 4 GiB.
fn addrs_of(segment: &Segment) -> Option<Range<u32>> {
    Some(segment.load_addr..segment.load_addr.checked_add(segment.len)?)
}

/// The memory of a chip as the bootloader's checks see it.
struct Memory {
    /// What a segment may be loaded to, each bus by itself: `SOC_DRAM_*`, `SOC_IRAM_*`, `SOC_RTC_*` and, on ESP32-P4,
    /// `SOC_SCP_*` of ESP-IDF `soc/<chip>/include/soc/soc.h` (v5.x to v6.1).
    ram: &'static [Range<u32>],
    /// What the bootloader keeps for itself, on each bus: from the start of `iram_loader_seg`, which is where ESP-IDF
    /// ends an application's static memory, through `dram_seg`, to `SOC_ROM_STACK_START`, below which
    /// `verify_load_addresses` leaves 32 KiB to the stack. ESP-IDF
    /// `bootloader/subproject/main/ld/<chip>/bootloader.memory.ld.in` (v6.1). Bootloaders before 5.0 keep a part of it
    /// (ESP32-C3 with ESP-IDF 4.4: from 0x403D_0000), and each is loaded over it.
    bootloader: &'static [Range<u32>],
}

/// The memory for an image with this header.
#[allow(clippy::single_range_in_vec_init, reason = "a list of ranges, of which many chips have one")]
fn memory(header: &ImageHeader) -> &'static Memory {
    match header.chip {
        // Instructions and data are on buses of their own. The D/IRAM alias of `dram_seg` and of the stack runs
        // backwards: data 0x3FFE_0000 is the last word below 0x400C_0000.
        Chip::Esp32 => &Memory {
            ram: &[
                0x3FFA_E000..0x4000_0000,
                0x4008_0000..0x400C_0000,
                0x3FF8_0000..0x3FF8_2000,
                0x400C_0000..0x400C_2000,
                0x5000_0000..0x5000_2000,
            ],
            bootloader: &[
                0x4007_8000..0x4008_0000,
                0x3FFF_0000..0x3FFF_6000,
                0x400A_A000..0x400B_0000,
                0x3FFD_BF20..0x3FFE_3F20,
                0x400B_C0E0..0x400C_0000,
            ],
        },
        Chip::Esp32S2 => &Memory {
            ram: &[
                0x3FFB_0000..0x4000_0000,
                0x4002_0000..0x4007_0000,
                0x3FF9_E000..0x3FFA_0000,
                0x4007_0000..0x4007_2000,
                0x5000_0000..0x5000_2000,
            ],
            bootloader: &[
                0x3FFD_E000..0x3FFE_AB00,
                0x4004_E000..0x4005_AB00,
                0x3FFF_670C..0x3FFF_E70C,
                0x4006_670C..0x4006_E70C,
            ],
        },
        Chip::Esp32S3 => &Memory {
            ram: &[
                0x3FC8_8000..0x3FD0_0000,
                0x4037_0000..0x403E_0000,
                0x600F_E000..0x6010_0000,
                0x5000_0000..0x5000_2000,
            ],
            bootloader: &[0x3FCD_B700..0x3FCE_B710, 0x403C_B700..0x403D_B710],
        },
        Chip::Esp32C2 => &Memory {
            ram: &[0x3FCA_0000..0x3FCE_0000, 0x4037_C000..0x403C_0000],
            bootloader: &[0x3FCC_EB70..0x3FCD_EB70, 0x403A_EB70..0x403B_EB70],
        },
        Chip::Esp32C3 => &Memory {
            ram: &[0x3FC8_0000..0x3FCE_0000, 0x4037_C000..0x403E_0000, 0x5000_0000..0x5000_2000],
            bootloader: &[0x3FCC_E710..0x3FCD_E710, 0x403C_E710..0x403D_E710],
        },
        Chip::Esp32C5 => &Memory {
            ram: &[0x4080_0000..0x4086_0000, 0x5000_0000..0x5000_4000],
            bootloader: &[0x4084_E5A0..0x4085_E5A0],
        },
        Chip::Esp32C6 => &Memory {
            ram: &[0x4080_0000..0x4088_0000, 0x5000_0000..0x5000_4000],
            bootloader: &[0x4086_E610..0x4087_E610],
        },
        Chip::Esp32C61 => {
            &Memory { ram: &[0x4080_0000..0x4085_0000], bootloader: &[0x4083_E670..0x4084_E670] }
        }
        Chip::Esp32H2 => &Memory {
            ram: &[0x4080_0000..0x4085_0000, 0x5000_0000..0x5000_1000],
            bootloader: &[0x4083_EFD0..0x4084_F380],
        },
        Chip::Esp32H21 => &Memory {
            ram: &[0x4080_0000..0x4085_0000, 0x5000_0000..0x5000_1000],
            bootloader: &[0x4083_BA78..0x4084_F380],
        },
        Chip::Esp32H4 => &Memory {
            ram: &[0x4081_0000..0x4086_0000, 0x5000_0000..0x5000_4000],
            bootloader: &[0x4084_F350..0x4085_D350],
        },
        Chip::Esp32P4 if header.min_chip_rev_full >= P4_V3 => {
            &Memory { ram: P4_RAM, bootloader: &[0x4FFA_DFC0..0x4FFB_CFC0] }
        }
        Chip::Esp32P4 => &Memory { ram: P4_RAM, bootloader: &[0x4FF2_BBD0..0x4FF3_CFC0] },
        Chip::Esp32S31 => &Memory {
            ram: &[0x2F00_0000..0x2F08_0000, 0x2E00_0000..0x2E00_8000],
            bootloader: &[0x2F06_CFB0..0x2F07_CFB0],
        },
    }
}

const P4_RAM: &[Range<u32>] = &[0x4FF0_0000..0x4FFC_0000, 0x3010_0000..0x3010_2000, 0x5010_8000..0x5011_0000];
