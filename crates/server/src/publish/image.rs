//! What an image must be to become a release of a layout, whatever product it is for. The command line asks the same of a
//! file before anything is uploaded.

use chainload::{LoadPlan, MemoryMap, Misfit, Slot};
use flashfmt::{Chip, ImageHeader, ImageSummary, Layout};

/// Why an image that verifies becomes no release.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpublishable {
    /// A signature block, padding, or another image.
    #[error("expected nothing after the image's {image_bytes} bytes, found {extra_bytes} bytes more")]
    Tail {
        /// Length of the image.
        image_bytes: u32,
        /// Length of what follows.
        extra_bytes: u64,
    },
    /// The lowest revision is above the highest.
    #[error("expected a range of chip revisions, found {min} to {max}; no chip can start this image")]
    Revisions {
        /// Major times 100 plus minor.
        min: u16,
        /// Major times 100 plus minor.
        max: u16,
    },
    /// The chain-loader's own rules.
    #[error("the updater cannot start this image from slot {label}: {misfit}")]
    NotStarted {
        /// The slot.
        label: String,
        /// What does not fit.
        misfit: Misfit,
    },
}

/// Why no device of a chip can work on a layout.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChipProblem {
    /// Nobody has written one.
    #[error(
        "expected a chip that there is an updater for ({WITH_UPDATER}), found {found}; see docs/hardware.md"
    )]
    NoUpdater {
        /// The chip.
        found: Chip,
    },
    /// Its hand-over is by otadata alone.
    #[error(
        "expected a layout with otadata and without `factory` for {found}, such as 8mb-rollback: its updater cannot start \
         an application itself (docs/handover.md)"
    )]
    NoChainLoader {
        /// The chip.
        found: Chip,
    },
}

/// Chips that an updater is written for.
const WITH_UPDATER: &str = "esp32c3, esp32c6, esp32s3, esp32";

/// Asks whether devices of a chip can hand over on a layout.
///
/// # Errors
/// [`ChipProblem`]
pub fn check_chip(chip: Chip, layout: &Layout) -> Result<(), ChipProblem> {
    match chip {
        _ if chain_loader(chip).is_some() => Ok(()),
        Chip::Esp32 | Chip::Esp32S3 if layout.hands_over_by_otadata() => Ok(()),
        Chip::Esp32 | Chip::Esp32S3 => Err(ChipProblem::NoChainLoader { found: chip }),
        _ => Err(ChipProblem::NoUpdater { found: chip }),
    }
}

/// The memory that the chain-loader of a chip works with; `None` for a chip without one.
fn chain_loader(chip: Chip) -> Option<MemoryMap> {
    match chip {
        Chip::Esp32C3 => Some(MemoryMap::ESP32C3),
        Chip::Esp32C6 => Some(MemoryMap::ESP32C6),
        Chip::Esp32
        | Chip::Esp32S2
        | Chip::Esp32S3
        | Chip::Esp32C2
        | Chip::Esp32H2
        | Chip::Esp32P4
        | Chip::Esp32C5
        | Chip::Esp32C61
        | Chip::Esp32H21
        | Chip::Esp32H4
        | Chip::Esp32S31 => None,
    }
}

/// Judges an image in a file of `file_bytes` by what is the same for every layout.
///
/// # Errors
/// [`Unpublishable::Tail`] and [`Unpublishable::Revisions`].
pub fn check_image(summary: &ImageSummary, file_bytes: u64) -> Result<(), Unpublishable> {
    let extra_bytes = file_bytes.saturating_sub(summary.image_bytes.into());
    if extra_bytes > 0 {
        return Err(Unpublishable::Tail { image_bytes: summary.image_bytes, extra_bytes });
    }
    let ImageHeader { min_chip_rev_full: min, max_chip_rev_full: max, .. } = summary.header;
    // 0 is what tools write that know no highest revision.
    if max != 0 && min > max { Err(Unpublishable::Revisions { min, max }) } else { Ok(()) }
}

/// Asks the chain-loader's own rules whether it could start the image from every slot. It starts nothing where the hand-over
/// is by otadata, and without a chain-loader for the chip nothing is known.
///
/// # Errors
/// [`Unpublishable::NotStarted`]
pub fn check_start(summary: &ImageSummary, layout: &Layout) -> Result<(), Unpublishable> {
    let Some(map) = chain_loader(summary.header.chip) else { return Ok(()) };
    if layout.hands_over_by_otadata() {
        return Ok(());
    }
    for partition in layout.slots() {
        let slot = Slot { offset: partition.offset, size_bytes: partition.size };
        LoadPlan::new(&map, slot, &summary.header, &summary.segments)
            .map_err(|misfit| Unpublishable::NotStarted { label: partition.label.to_string(), misfit })?;
    }
    Ok(())
}
