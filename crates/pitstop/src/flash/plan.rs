//! Which bytes go where in the flash.

use flashfmt::image::{Kind, NotAnApplication};
use flashfmt::partition::TABLE_OFFSET;
use flashfmt::{Chip, Partition, SECTOR_BYTES};
use serde::Serialize;

use super::bootloader::{self, BootloaderError};
use super::rollback::Rollback;
use crate::failure::Failure;
use crate::inspect::ImageFile;
use crate::layouts::{NamedLayout, Places, Strategy};
use crate::publish::application_hint;

/// What erased flash reads as.
pub(crate) const ERASED: u8 = 0xFF;

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
    /// Something else in the updater's place would be all that the bootloader starts.
    #[error("expected the updater (project {project}), found {found}", project = flashfmt::image::UPDATER_PROJECT_NAME)]
    NotTheUpdater {
        /// What it is.
        found: String,
    },
    /// Something else in an application's place.
    #[error(transparent)]
    NotAnApplication(#[from] NotAnApplication),
    /// What the server would refuse as a release, and the updater as an application.
    #[error(transparent)]
    Unpublishable(#[from] server::Unpublishable),
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
    /// The user's own bootloader, and whether it has rollback; espflash's when there is none.
    pub(crate) bootloader: Option<(ImageFile, Rollback)>,
    /// The updater; without it, it is added by [`FlashPlan::with_updater`].
    pub(crate) updater: Option<&'a ImageFile>,
    /// A first application.
    pub(crate) app: Option<&'a ImageFile>,
    /// Whether the user says that the application has no app descriptor.
    pub(crate) without_descriptor: bool,
}

impl FlashPlan {
    /// Bootloader, partition table, updater, a first application if there is one; journal and otadata are erased,
    /// so that nothing of an earlier life of the chip is taken for the device's own.
    pub(crate) fn assemble(ingredients: Ingredients<'_>) -> Result<Self, PlanError> {
        let Ingredients { chip, layout, places, bootloader, updater, app, without_descriptor } = ingredients;
        let flash_bytes = layout.flash_bytes();
        let bootloader = match (bootloader, Strategy::of(&layout.layout)) {
            (Some((_, Rollback::Disabled(evidence))), Strategy::OtadataRollback) => {
                return Err(BootloaderError::OwnWithoutRollback { evidence }.into());
            }
            (Some((own, _)), Strategy::ChainLoad | Strategy::OtadataRollback) => {
                bootloader::own(own, chip, flash_bytes)?
            }
            (None, Strategy::ChainLoad) => bootloader::bundled(chip, flash_bytes)?,
            (None, Strategy::OtadataRollback) => return Err(BootloaderError::NoRollback.into()),
        };
        let mut parts = vec![
            Part { name: "bootloader".into(), offset: chip.bootloader_offset(), bytes: bootloader },
            Part { name: "partition table".into(), offset: TABLE_OFFSET, bytes: layout.layout.to_binary() },
            erased(&places.journal),
        ];
        parts.extend(updater.map(|updater| updater_part(updater, chip, &places.updater)).transpose()?);
        parts.extend(places.otadata.as_ref().map(erased));
        if let Some(app) = app {
            if !app.summary.header.hash_appended {
                return Err(PlanError::NoHash);
            }
            let part = image_part("an application", app, chip, &places.slot)?;
            app.check_application(without_descriptor)?;
            server::check_image(&app.summary, app.bytes.len() as u64)?;
            server::check_start(&app.summary, &layout.layout)?;
            parts.push(part);
        }
        let plan = Self { flash_bytes, parts: Vec::new() };
        parts.into_iter().try_fold(plan, Self::with)
    }

    /// Adds the updater, where it was not there yet when the plan was made.
    pub(crate) fn with_updater(
        self,
        updater: &ImageFile,
        chip: Chip,
        places: &Places,
    ) -> Result<Self, PlanError> {
        self.with(updater_part(updater, chip, &places.updater)?)
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

fn updater_part(updater: &ImageFile, chip: Chip, partition: &Partition) -> Result<Part, PlanError> {
    let part = image_part("an updater", updater, chip, partition)?;
    check_updater(updater)?;
    Ok(part)
}

/// Whether an image is the updater.
pub(crate) fn check_updater(image: &ImageFile) -> Result<(), PlanError> {
    let found = match image.summary.kind() {
        Kind::Updater => return Ok(()),
        Kind::Bootloader => "a second-stage bootloader".to_owned(),
        Kind::Undescribed => "an image without app descriptor".to_owned(),
        Kind::Application => {
            let project = image.summary.app_desc.map(|app_desc| app_desc.project_name);
            format!("an application (project {})", project.unwrap_or_default().as_str())
        }
    };
    Err(PlanError::NotTheUpdater { found })
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

/// A partition that is erased.
pub(crate) fn erased(partition: &Partition) -> Part {
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
            PlanError::NotTheUpdater { .. } => Some(
                "give updater-CHIP.bin of `cargo xtask firmware` or of a release of Pitstop; an application goes to --app",
            ),
            PlanError::NotAnApplication(problem) => Some(application_hint(problem)),
            PlanError::Unpublishable(server::Unpublishable::Tail { .. }) => {
                Some("give the image alone, as the build wrote it, without signature or padding")
            }
            PlanError::Unpublishable(
                server::Unpublishable::Revisions { .. } | server::Unpublishable::NotStarted { .. },
            ) => Some("`pitstop image inspect` shows its segments, its entry and the revisions it is for"),
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

    /// Mapped from flash: ESP32-C3 and ESP32-S3 have the same window for data.
    const DATA_ADDR: u32 = esp32c3_addr::DROM + 0x20;

    fn image_of(project: &str, chip: Chip, filling_bytes: usize) -> ImageFile {
        let app_desc = AppDescriptor::new(project, "1");
        let bytes = Composer::new(chip, esp32c3_addr::IRAM)
            .segment_with_app_desc(DATA_ADDR, &app_desc, &vec![5; filling_bytes])
            .segment(esp32c3_addr::IRAM, &[0; 16])
            .build()
            .unwrap();
        ImageFile::parse(bytes).unwrap()
    }

    fn updater(chip: Chip, filling_bytes: usize) -> ImageFile {
        image_of("pitstop-updater", chip, filling_bytes)
    }

    fn app(filling_bytes: usize) -> ImageFile {
        image_of("lamp", Chip::Esp32C3, filling_bytes)
    }

    fn bare(load_addr: u32) -> ImageFile {
        let bytes = Composer::new(Chip::Esp32C3, load_addr).segment(load_addr, &[5; 100]).build().unwrap();
        ImageFile::parse(bytes).unwrap()
    }

    fn bootloader() -> ImageFile {
        bare(0x403D_0000)
    }

    fn assemble(layout: &str, updater: &ImageFile, app: Option<&ImageFile>) -> Result<FlashPlan, PlanError> {
        let layout = NamedLayout::read(layout).unwrap();
        let places = Places::find(&layout.layout).unwrap();
        let ingredients = Ingredients {
            chip: Chip::Esp32C3,
            layout: &layout,
            places: &places,
            bootloader: None,
            updater: Some(updater),
            app,
            without_descriptor: false,
        };
        FlashPlan::assemble(ingredients)
    }

    #[test]
    fn what_the_server_would_refuse_is_not_flashed() {
        let refused = |change: &dyn Fn(&mut ImageFile)| {
            let mut app = app(100);
            change(&mut app);
            assemble("4mb", &updater(Chip::Esp32C3, 100), Some(&app)).map(drop)
        };
        assert!(refused(&|_| {}).is_ok());
        let changes: [&dyn Fn(&mut ImageFile); 3] =
            [&|app| app.bytes.extend([0xff; 16]), &|app| app.summary.header.entry_addr = 0, &|app| {
                app.summary.header.min_chip_rev_full = 200;
                app.summary.header.max_chip_rev_full = 100;
            }];
        for change in changes {
            assert!(matches!(refused(change), Err(PlanError::Unpublishable(_))));
        }
    }

    #[test]
    fn everything_is_where_the_layout_says() {
        let (updater, app) = (updater(Chip::Esp32C3, 1000), app(2000));
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
        let updater = updater(Chip::Esp32C3, 1000);
        let refused = assemble("8mb-rollback", &updater, None);
        assert!(matches!(refused, Err(PlanError::Bootloader(BootloaderError::NoRollback))));

        let layout = NamedLayout::read("8mb-rollback").unwrap();
        let places = Places::find(&layout.layout).unwrap();
        let with = |rollback| {
            FlashPlan::assemble(Ingredients {
                chip: Chip::Esp32C3,
                layout: &layout,
                places: &places,
                bootloader: Some((bootloader(), rollback)),
                updater: Some(&updater),
                app: None,
                without_descriptor: false,
            })
        };
        let refused = with(Rollback::Disabled("it says so"));
        let expected = "this one has none (it says so), so that the updater would not start again";
        assert!(refused.unwrap_err().to_string().contains(expected));
        assert!(with(Rollback::Unknown).is_ok());
        let plan = with(Rollback::Enabled).unwrap();
        let names: Vec<_> = plan.parts().iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["bootloader", "partition table", "otadata", "ota_0", "journal"]);
    }

    #[test]
    fn images_that_do_not_suit_are_refused() {
        let good = updater(Chip::Esp32C3, 1000);
        let other = assemble("4mb", &updater(Chip::Esp32S3, 1000), None);
        assert!(matches!(other, Err(PlanError::Chip { what: "an updater", .. })));
        let large = assemble("4mb", &updater(Chip::Esp32C3, 0xF_0000), None);
        assert!(matches!(large, Err(PlanError::TooLarge { limit_bytes: 0xF_0000, .. })));
        let large = assemble("4mb", &good, Some(&app(0x2F_0000)));
        assert!(matches!(large, Err(PlanError::TooLarge { what: "an application", .. })));
    }

    #[test]
    fn each_place_gets_its_own_kind_of_image() {
        let good = updater(Chip::Esp32C3, 1000);
        let bare = bare(esp32c3_addr::IRAM);
        for other in [&app(100), &bare, &bootloader()] {
            let refused = assemble("4mb", other, None);
            assert!(matches!(refused, Err(PlanError::NotTheUpdater { .. })), "{refused:?}");
        }
        for other in [&good, &bare, &bootloader()] {
            let refused = assemble("4mb", &good, Some(other));
            assert!(matches!(refused, Err(PlanError::NotAnApplication(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_part_has_its_place_to_itself() {
        let plan = assemble("4mb", &updater(Chip::Esp32C3, 1000), None).unwrap();
        let add =
            |offset, length| plan.clone().with(Part { name: "x".to_owned(), offset, bytes: vec![0; length] });
        assert!(add(0x10_0000, 0x8000).is_ok());
        for (offset, length) in [(0x10_0000, 0x8001), (0x8000, 1), (0x3F_F000, 0x1001), (0x10_0800, 16)] {
            assert!(matches!(add(offset, length), Err(PlanError::Misplaced { .. })), "{offset:#x}");
        }
    }
}
