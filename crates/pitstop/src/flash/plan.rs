//! Which bytes go where in the flash.

use flashfmt::partition::TABLE_OFFSET;
use flashfmt::{Chip, Partition, SECTOR_BYTES};
use serde::Serialize;

use super::bootloader::{self, BootloaderError};
use crate::failure::Failure;
use crate::inspect::ImageFile;
use crate::layouts::{NamedLayout, Places, Strategy};

/// What erased flash reads as.
const ERASED: u8 = 0xFF;

/// Bytes for one place in the flash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// For people: `bootloader`, `partition table`, or the partition's label.
    pub(crate) name: String,
    /// From the start of the flash.
    pub(crate) offset: u32,
    /// What is written there.
    pub(crate) bytes: Vec<u8>,
}

/// What is written to a flash: parts in the order of their offsets, none over another, all inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlashPlan {
    flash_bytes: u32,
    parts: Vec<Part>,
}

/// A part of a plan, for scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PartReport {
    name: String,
    offset: u32,
    size_bytes: usize,
}

/// Why there is no such plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The bootloader cannot be used.
    #[error(transparent)]
    Bootloader(#[from] BootloaderError),
    /// An image for another chip.
    #[error("expected {what} for {expected}, found one for {found}")]
    Chip {
        /// Which image.
        what: &'static str,
        /// The device's chip.
        expected: Chip,
        /// The image's.
        found: Chip,
    },
    /// The image is longer than its partition.
    #[error("expected {what} of at most {limit_bytes} bytes (partition {label}), found {found_bytes} bytes")]
    TooLarge {
        /// Which image.
        what: &'static str,
        /// Its partition.
        label: String,
        /// Size of the partition.
        limit_bytes: u32,
        /// Length of the file.
        found_bytes: usize,
    },
    /// The updater hands over to nothing that it cannot verify.
    #[error("expected an application with an appended SHA-256, found one without")]
    NoHash,
    /// A part where it cannot be.
    #[error("`{name}` ({found_bytes} bytes at {offset:#x}) {problem}")]
    Misplaced {
        /// Which part.
        name: String,
        /// Where.
        offset: u32,
        /// How long.
        found_bytes: usize,
        /// What is wrong with that.
        problem: String,
    },
}

/// What a flash is made of; the vault is added when the device is known.
pub(crate) struct Ingredients<'a> {
    /// The device's chip.
    pub(crate) chip: Chip,
    /// Its layout.
    pub(crate) layout: &'a NamedLayout,
    /// Where the layout has what.
    pub(crate) places: &'a Places,
    /// The user's own bootloader; espflash's when there is none.
    pub(crate) bootloader: Option<ImageFile>,
    /// The updater.
    pub(crate) updater: &'a ImageFile,
    /// A first application.
    pub(crate) app: Option<&'a ImageFile>,
}

impl FlashPlan {
    /// Bootloader, partition table, updater, a first application if there is one; journal and otadata are erased,
    /// so that nothing of an earlier life of the chip is taken for the device's own.
    pub(crate) fn assemble(ingredients: Ingredients<'_>) -> Result<Self, PlanError> {
        let Ingredients { chip, layout, places, bootloader, updater, app } = ingredients;
        let flash_bytes = layout.flash_bytes();
        let bootloader = match (bootloader, Strategy::of(&layout.layout)) {
            (Some(own), Strategy::ChainLoad | Strategy::OtadataRollback) => {
                bootloader::own(own, chip, flash_bytes)?
            }
            (None, Strategy::ChainLoad) => bootloader::bundled(chip, flash_bytes)?,
            (None, Strategy::OtadataRollback) => return Err(BootloaderError::NoRollback.into()),
        };
        let mut parts = vec![
            Part { name: "bootloader".into(), offset: bootloader::offset(chip)?, bytes: bootloader },
            Part { name: "partition table".into(), offset: TABLE_OFFSET, bytes: layout.layout.to_binary() },
            image_part("an updater", updater, chip, &places.updater)?,
            erased(&places.journal),
        ];
        parts.extend(places.otadata.as_ref().map(erased));
        if let Some(app) = app {
            if !app.summary.header.hash_appended {
                return Err(PlanError::NoHash);
            }
            parts.push(image_part("an application", app, chip, &places.slot)?);
        }
        let plan = Self { flash_bytes, parts: Vec::new() };
        parts.into_iter().try_fold(plan, Self::with)
    }

    /// Adds a part.
    pub(crate) fn with(mut self, part: Part) -> Result<Self, PlanError> {
        let end = |part: &Part| u64::from(part.offset) + part.bytes.len() as u64;
        let overlaps =
            |other: &&Part| u64::from(part.offset) < end(other) && u64::from(other.offset) < end(&part);
        let problem = if !part.offset.is_multiple_of(SECTOR_BYTES) {
            Some(format!("does not begin at a sector of {SECTOR_BYTES} bytes"))
        } else if end(&part) > u64::from(self.flash_bytes) {
            Some(format!("ends beyond the flash of {:#x} bytes", self.flash_bytes))
        } else {
            self.parts.iter().find(overlaps).map(|other| format!("overlaps `{}`", other.name))
        };
        if let Some(problem) = problem {
            let Part { name, offset, bytes } = part;
            return Err(PlanError::Misplaced { name, offset, found_bytes: bytes.len(), problem });
        }
        let index = self.parts.partition_point(|other| other.offset < part.offset);
        self.parts.insert(index, part);
        Ok(self)
    }

    /// The parts in the order of their offsets.
    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Size of the flash that it is for.
    pub(crate) fn flash_bytes(&self) -> u32 {
        self.flash_bytes
    }

    /// All of the flash, byte for byte: what no part covers is erased.
    pub(crate) fn to_image(&self) -> Vec<u8> {
        let mut image = vec![ERASED; self.flash_bytes as usize];
        for Part { offset, bytes, .. } in &self.parts {
            image[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        image
    }

    /// What is where, for scripts.
    pub(crate) fn report(&self) -> Vec<PartReport> {
        let report = |part: &Part| PartReport {
            name: part.name.clone(),
            offset: part.offset,
            size_bytes: part.bytes.len(),
        };
        self.parts.iter().map(report).collect()
    }
}

fn image_part(
    what: &'static str,
    image: &ImageFile,
    chip: Chip,
    partition: &Partition,
) -> Result<Part, PlanError> {
    let found = image.summary.header.chip;
    if found != chip {
        return Err(PlanError::Chip { what, expected: chip, found });
    }
    let name = partition.label.as_str().to_owned();
    let found_bytes = image.bytes.len();
    if found_bytes > partition.size as usize {
        return Err(PlanError::TooLarge { what, label: name, limit_bytes: partition.size, found_bytes });
    }
    Ok(Part { name, offset: partition.offset, bytes: image.bytes.clone() })
}

fn erased(partition: &Partition) -> Part {
    let Partition { label, offset, size, .. } = *partition;
    Part { name: label.as_str().to_owned(), offset, bytes: vec![ERASED; size as usize] }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let hint = match &error {
            PlanError::Bootloader(error) => error.next_step(),
            PlanError::Chip { .. } => {
                Some("build it for this chip, or choose a product with the image's chip")
            }
            PlanError::TooLarge { .. } => {
                Some("`pitstop layout check LAYOUT APP` tells how to grow the slot")
            }
            PlanError::NoHash => Some("build it without --dont-append-digest"),
            PlanError::Misplaced { .. } => Some("correct the layout's partition CSV"),
        };
        Failure::new(error.to_string()).maybe_hint(hint.map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flashfmt::image::compose::{Composer, esp32c3_addr};
    use flashfmt::{AppDescriptor, Layout};

    fn image(chip: Chip, filling_bytes: usize) -> ImageFile {
        let bytes = Composer::new(chip, esp32c3_addr::IRAM)
            .segment_with_app_desc(
                esp32c3_addr::IRAM,
                &AppDescriptor::new("updater", "1"),
                &vec![5; filling_bytes],
            )
            .build()
            .unwrap();
        ImageFile::parse(bytes).unwrap()
    }

    fn assemble(layout: &str, updater: &ImageFile, app: Option<&ImageFile>) -> Result<FlashPlan, PlanError> {
        let layout = NamedLayout::read(layout).unwrap();
        let places = Places::find(&layout.layout).unwrap();
        let ingredients = Ingredients {
            chip: Chip::Esp32C3,
            layout: &layout,
            places: &places,
            bootloader: None,
            updater,
            app,
        };
        FlashPlan::assemble(ingredients)
    }

    #[test]
    fn everything_is_where_the_layout_says() {
        let (updater, app) = (image(Chip::Esp32C3, 1000), image(Chip::Esp32C3, 2000));
        let plan = assemble("4mb", &updater, Some(&app)).unwrap();
        let offsets: Vec<_> = plan.parts().iter().map(|part| (part.name.as_str(), part.offset)).collect();
        let expected = [
            ("bootloader", 0),
            ("partition table", 0x8000),
            ("factory", 0x1_0000),
            ("journal", 0x10_8000),
            ("ota_0", 0x11_0000),
        ];
        assert_eq!(offsets, expected);

        let flash = plan.to_image();
        assert_eq!(flash.len(), 0x40_0000);
        assert!(flash[0x1_0000..].starts_with(&updater.bytes));
        assert!(flash[0x11_0000..].starts_with(&app.bytes));
        let table = flashfmt::PartitionTable::parse(&flash[0x8000..]).unwrap();
        assert_eq!(Layout::from(table).partitions(), Layout::builtin("4mb").unwrap().partitions());
        assert!(flash[0x9000..0x1_0000].iter().all(|byte| *byte == ERASED));
    }

    #[test]
    fn the_classic_layout_needs_an_own_bootloader() {
        let updater = image(Chip::Esp32C3, 1000);
        let refused = assemble("8mb-rollback", &updater, None);
        assert!(matches!(refused, Err(PlanError::Bootloader(BootloaderError::NoRollback))));

        let layout = NamedLayout::read("8mb-rollback").unwrap();
        let places = Places::find(&layout.layout).unwrap();
        let plan = FlashPlan::assemble(Ingredients {
            chip: Chip::Esp32C3,
            layout: &layout,
            places: &places,
            bootloader: Some(image(Chip::Esp32C3, 100)),
            updater: &updater,
            app: None,
        });
        let plan = plan.unwrap();
        let names: Vec<_> = plan.parts().iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["bootloader", "partition table", "otadata", "ota_0", "journal"]);
    }

    #[test]
    fn images_that_do_not_suit_are_refused() {
        let good = image(Chip::Esp32C3, 1000);
        let other = assemble("4mb", &image(Chip::Esp32S3, 1000), None);
        assert!(matches!(other, Err(PlanError::Chip { what: "an updater", .. })));
        let large = assemble("4mb", &image(Chip::Esp32C3, 0xF_0000), None);
        assert!(matches!(large, Err(PlanError::TooLarge { limit_bytes: 0xF_0000, .. })));
        let app = assemble("4mb", &good, Some(&image(Chip::Esp32C3, 0x2F_0000)));
        assert!(matches!(app, Err(PlanError::TooLarge { what: "an application", .. })));
    }

    #[test]
    fn a_part_has_its_place_to_itself() {
        let plan = assemble("4mb", &image(Chip::Esp32C3, 1000), None).unwrap();
        let add =
            |offset, length| plan.clone().with(Part { name: "x".to_owned(), offset, bytes: vec![0; length] });
        assert!(add(0x10_0000, 0x8000).is_ok());
        for (offset, length) in [(0x10_0000, 0x8001), (0x8000, 1), (0x3F_F000, 0x1001), (0x10_0800, 16)] {
            assert!(matches!(add(offset, length), Err(PlanError::Misplaced { .. })), "{offset:#x}");
        }
    }
}
