//! Flash layouts: built-in ones by their names, the user's from CSV files, and where the updater's parts go in them.

use std::io;
use std::path::Path;

use flashfmt::Layout;
use flashfmt::layout::{self, LayoutError};
pub(crate) use flashfmt::layout::{JOURNAL_LABEL, LayoutProblem, Places, VAULT_LABEL};

use crate::failure::Failure;
use crate::text_file;

/// A layout with its name and its text.
#[derive(Debug, Clone)]
pub(crate) struct NamedLayout {
    /// Name of a built-in layout, or of the file without its ending.
    pub(crate) name: String,
    /// ESP-IDF's partition CSV.
    pub(crate) csv: String,
    /// What the text says.
    pub(crate) layout: Layout,
}

/// Why there is no such layout.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutFileError {
    /// Neither a built-in layout nor a file.
    #[error("expected a layout ({known}) or a CSV file, found {text}: {source}", known = builtin_names())]
    Unknown {
        /// What was asked for.
        text: String,
        /// What the file system said.
        source: io::Error,
    },
    /// Not a layout.
    #[error("the layout {text}: {source}")]
    Csv {
        /// Which.
        text: String,
        /// What is wrong with it.
        source: LayoutError,
    },
    /// No partition that an application could go to.
    #[error("the layout {text} has no slot for an application (type app, subtype ota_0)")]
    NoSlot {
        /// Which.
        text: String,
    },
}

impl NamedLayout {
    /// A built-in layout by its name, or a CSV file, checked so that an error names the file's line.
    pub(crate) fn read(text: &str) -> Result<Self, LayoutFileError> {
        if let Some((name, csv)) = layout::BUILTIN.into_iter().find(|(name, _)| *name == text) {
            return Self::parse(name, csv);
        }
        let path = Path::new(text);
        let csv = std::fs::read(path)
            .and_then(text_file::text_of)
            .map_err(|source| LayoutFileError::Unknown { text: text.to_owned(), source })?;
        let layout = Self::parse(text, &csv)?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Self { name: stem.unwrap_or(layout.name), ..layout })
    }

    /// A layout from its CSV text.
    pub(crate) fn parse(name: &str, csv: &str) -> Result<Self, LayoutFileError> {
        let text = || name.to_owned();
        let layout =
            Layout::parse_csv(csv).map_err(|source| LayoutFileError::Csv { text: text(), source })?;
        if layout.slots().next().is_none() {
            return Err(LayoutFileError::NoSlot { text: text() });
        }
        Ok(Self { name: text(), csv: csv.to_owned(), layout })
    }

    /// The smallest flash that holds the layout, in bytes: flash chips come in powers of two.
    pub(crate) fn flash_bytes(&self) -> u32 {
        flash_bytes(&self.layout)
    }
}

/// The smallest flash that holds a layout, in bytes.
pub(crate) fn flash_bytes(layout: &Layout) -> u32 {
    /// Images cannot name a smaller flash (`esp_image_flash_size_t`).
    const SMALLEST_FLASH_BYTES: u32 = 0x10_0000;
    // A layout beyond 2 GiB has no power of two in 32 bits, and no flash that holds it either.
    layout.needed_flash_bytes().checked_next_power_of_two().unwrap_or(u32::MAX).max(SMALLEST_FLASH_BYTES)
}

/// How devices with a layout hand over (docs/handover.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// The updater starts the application itself; any bootloader will do.
    ChainLoad,
    /// The bootloader starts it and goes back to the updater; it has to be built with rollback.
    OtadataRollback,
}

impl Strategy {
    /// The strategy that a layout chooses.
    pub(crate) fn of(layout: &Layout) -> Self {
        if layout.hands_over_by_otadata() { Self::OtadataRollback } else { Self::ChainLoad }
    }

    /// As the server writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ChainLoad => "chain-load",
            Self::OtadataRollback => "otadata-rollback",
        }
    }
}

/// Names of the built-in layouts, for people.
pub(crate) fn builtin_names() -> String {
    layout::BUILTIN.map(|(name, _)| name).join(", ")
}

impl From<LayoutFileError> for Failure {
    fn from(error: LayoutFileError) -> Self {
        let hint = match &error {
            LayoutFileError::Unknown { .. } => None,
            LayoutFileError::Csv { .. } => Some(
                "the format is ESP-IDF's partition CSV; begin with what `pitstop layout show 4mb` prints",
            ),
            LayoutFileError::NoSlot { .. } => {
                Some("begin with what `pitstop layout show 4mb` prints, and add partitions of your own")
            }
        };
        Failure::new(error.to_string()).maybe_hint(hint.map(str::to_owned))
    }
}

impl From<LayoutProblem> for Failure {
    fn from(problem: LayoutProblem) -> Self {
        Failure::new(format!("the updater cannot work on this layout: {problem}")).hint(next_step(problem))
    }
}

/// What to do about a layout that the updater cannot work on.
pub(crate) const fn next_step(problem: LayoutProblem) -> &'static str {
    match problem {
        LayoutProblem::NoUpdater | LayoutProblem::NoSlot | LayoutProblem::Missing { .. } => {
            "begin with what `pitstop layout show 4mb` prints, and add partitions of your own"
        }
        LayoutProblem::TooSmall { .. } => "give it the size that `pitstop layout show 4mb` has, or more",
        LayoutProblem::Flagged { .. } => "take the flag away",
        LayoutProblem::OtadataBesideFactory { .. } => {
            "take the otadata partition out; the classic layout without `factory` is `pitstop layout show \
             8mb-rollback`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(csv: &str) -> Layout {
        Layout::parse_csv(csv).unwrap()
    }

    #[test]
    fn layouts_are_built_in_or_files() {
        assert_eq!(NamedLayout::read("4mb").unwrap().flash_bytes(), 0x40_0000);
        assert!(NamedLayout::read("5mb").unwrap_err().to_string().contains("4mb, 8mb"));

        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, csv: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, csv).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let own =
            NamedLayout::read(&write("own.csv", "factory,app,factory,0x10000,1M\nota_0,app,ota_0,,1M\n"));
        assert_eq!(own.unwrap().name, "own");
        let broken =
            NamedLayout::read(&write("broken.csv", "factory,app,factory,0x10000,1M\nota_0,app,ota_0,,big\n"));
        let message = broken.unwrap_err().to_string();
        assert!(message.contains("line 2"), "{message}");
        let slotless = NamedLayout::read(&write("slotless.csv", "factory,app,factory,0x10000,1M\n"));
        assert!(matches!(slotless, Err(LayoutFileError::NoSlot { .. })));
    }

    #[test]
    fn the_updater_has_its_places_in_every_built_in_layout() {
        for (name, csv) in layout::BUILTIN {
            let layout = layout(csv);
            let places = Places::find(&layout).unwrap();
            let (updater, slot) = match Strategy::of(&layout) {
                Strategy::ChainLoad => ("factory", "ota_0"),
                Strategy::OtadataRollback => ("ota_0", "ota_1"),
            };
            assert_eq!(
                (places.updater.label.as_str(), places.slot.label.as_str()),
                (updater, slot),
                "{name}"
            );
            assert!(layout.check_fits(flash_bytes(&layout)).is_ok(), "{name}");
        }
    }
}
