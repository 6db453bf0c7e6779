//! Where the updater and what belongs to it go in a layout.

use super::Layout;
use crate::partition::{Label, Partition};

/// Label of the partition that holds the vault.
pub const VAULT_LABEL: &str = "vault";

/// Label of the partition that holds the journal.
pub const JOURNAL_LABEL: &str = "journal";

/// The smallest vault: an NVS partition, of which one sector of three is kept free.
pub const MIN_VAULT_BYTES: u32 = 3 * crate::SECTOR_BYTES;

/// The smallest journal: one sector is kept while the other one is erased.
pub const MIN_JOURNAL_BYTES: u32 = 2 * crate::SECTOR_BYTES;

/// Where the updater and what belongs to it go in a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// `factory`, or `ota_0` of the classic layout.
    pub updater: Partition,
    /// The vault.
    pub vault: Partition,
    /// The journal.
    pub journal: Partition,
    /// Boot selection; only in the classic layout.
    pub otadata: Option<Partition>,
    /// The first slot for an application.
    pub slot: Partition,
}

/// Why the updater cannot work on a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutProblem {
    /// No place for the updater.
    #[error("there is no partition for the updater (type app, subtype factory)")]
    NoUpdater,
    /// No place for an application.
    #[error("there is no slot for an application (type app, subtype ota_0)")]
    NoSlot,
    /// No vault or no journal.
    #[error("there is no partition `{label}`, which the updater needs")]
    Missing {
        /// Its label.
        label: &'static str,
    },
    /// A vault or a journal in which nothing can be kept.
    #[error("partition `{label}` has {found_bytes:#x} bytes, expected {min_bytes:#x} or more")]
    TooSmall {
        /// Its label.
        label: &'static str,
        /// Its size.
        found_bytes: u32,
        /// The smallest that will do.
        min_bytes: u32,
    },
    /// A vault or a journal that is not to be written to, or not as it is.
    #[error("partition `{label}` is flagged {flag}, expected none: the updater writes to it, and as it is")]
    Flagged {
        /// Its label.
        label: &'static str,
        /// `encrypted` or `readonly`.
        flag: &'static str,
    },
    /// Both otadata and factory: an application that selects itself would never let the updater run again.
    #[error(
        "there are both `{otadata}` (otadata) and `factory`: with otadata an application can select itself, and \
         the updater never runs again"
    )]
    OtadataBesideFactory {
        /// Label of the otadata partition.
        otadata: Label,
    },
}

impl Places {
    /// Finds them.
    ///
    /// # Errors
    /// [`LayoutProblem`]: what the updater could not work with.
    pub fn find(layout: &Layout) -> Result<Self, LayoutProblem> {
        let otadata = layout.otadata();
        if let (Some(otadata), Some(_)) = (otadata, layout.factory()) {
            return Err(LayoutProblem::OtadataBesideFactory { otadata: otadata.label });
        }
        // Without otadata nothing but `factory` is started.
        let updater = if otadata.is_some() { layout.updater() } else { layout.factory() };
        Ok(Self {
            updater: updater.ok_or(LayoutProblem::NoUpdater)?,
            vault: own(layout, VAULT_LABEL, MIN_VAULT_BYTES)?,
            journal: own(layout, JOURNAL_LABEL, MIN_JOURNAL_BYTES)?,
            otadata,
            slot: layout.slots().next().ok_or(LayoutProblem::NoSlot)?,
        })
    }
}

/// A partition that the updater writes to.
fn own(layout: &Layout, label: &'static str, min_bytes: u32) -> Result<Partition, LayoutProblem> {
    let found = layout.find_label(label).ok_or(LayoutProblem::Missing { label })?;
    if found.size < min_bytes {
        return Err(LayoutProblem::TooSmall { label, found_bytes: found.size, min_bytes });
    }
    match (found.encrypted, found.readonly) {
        (false, false) => Ok(found),
        (true, _) => Err(LayoutProblem::Flagged { label, flag: "encrypted" }),
        (false, true) => Err(LayoutProblem::Flagged { label, flag: "readonly" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_updater_cannot_work_with_is_named() {
        let updater = "factory,app,factory,0x10000,1M\n";
        let (vault, journal) = ("vault,data,nvs,,32K\n", "journal,0x40,0,,8K\n");
        let slot = "ota_0,app,ota_0,,1M\n";
        let find = |parts: &[&str]| Places::find(&Layout::parse_csv(&parts.concat()).unwrap());
        find(&[updater, vault, journal, slot]).unwrap();
        assert_eq!(find(&[vault, journal, slot]), Err(LayoutProblem::NoUpdater));
        assert_eq!(find(&[updater, vault, journal]), Err(LayoutProblem::NoSlot));
        assert_eq!(find(&[updater, journal, slot]), Err(LayoutProblem::Missing { label: "vault" }));
        assert_eq!(find(&[updater, vault, slot]), Err(LayoutProblem::Missing { label: "journal" }));
        let both = find(&[updater, "otadata,data,ota,,8K\n", vault, journal, slot]);
        assert!(matches!(both, Err(LayoutProblem::OtadataBesideFactory { .. })));
        let small = |vault, journal| find(&[updater, vault, journal, slot]).unwrap_err();
        assert_eq!(
            small("vault,data,nvs,,8K,readonly\n", journal),
            LayoutProblem::TooSmall { label: "vault", found_bytes: 0x2000, min_bytes: 0x3000 }
        );
        assert_eq!(
            small(vault, "journal,0x40,0,,4K\n"),
            LayoutProblem::TooSmall { label: "journal", found_bytes: 0x1000, min_bytes: 0x2000 }
        );
        for (flags, flag) in [("readonly", "readonly"), ("encrypted:readonly", "encrypted")] {
            let flagged = |line: &str| [line.trim_end(), ",", flags, "\n"].concat();
            let found = find(&[updater, &flagged(vault), journal, slot]);
            assert_eq!(found, Err(LayoutProblem::Flagged { label: "vault", flag }));
            let found = find(&[updater, vault, &flagged(journal), slot]);
            assert_eq!(found, Err(LayoutProblem::Flagged { label: "journal", flag }));
        }
    }
}
