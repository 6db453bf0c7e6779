//! A layout for a chip that has data already: everything but applications stays where it is.

use alloc::format;
use alloc::vec::Vec;

use super::Layout;
use super::places::{JOURNAL_LABEL, Places, VAULT_LABEL};
use crate::partition::{
    AppSubtype, DataSubtype, FIRST_PARTITION_OFFSET, Label, LabelError, OtaIndex, Partition, PartitionError,
    PartitionKind,
};

/// The updater's place, as large as in the built-in layouts.
const UPDATER_BYTES: u32 = 0xF_0000;

/// The vault and the journal, as large as in the built-in layouts.
const VAULT_BYTES: u32 = 0x8000;
const JOURNAL_BYTES: u32 = 0x2000;

/// From this size of the flash on there are two slots when they have room, as in the built-in layouts.
const TWO_SLOTS_FROM_BYTES: u32 = 0x80_0000;

/// The journal's type, one of the user's own.
const JOURNAL_KIND: PartitionKind = PartitionKind::Custom { type_: 0x40, subtype: 0 };

/// Why there is no such layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// What has to stay leaves no room.
    #[error(
        "no room for {what}: expected {needed_bytes} bytes in a row from a multiple of {alignment_bytes}, found {found_bytes} \
         at most between the partitions that stay"
    )]
    NoRoom {
        /// For what.
        what: &'static str,
        /// What it needs.
        needed_bytes: u32,
        /// Where it may begin.
        alignment_bytes: u32,
        /// The longest that is free.
        found_bytes: u32,
    },
    /// A partition that stays has a name that the updater's own need.
    #[error("the partition `{label}` would stay, and one of the updater's needs its name")]
    NameTaken {
        /// Which name.
        label: Label,
    },
    /// No label.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// The partitions that stay do not go together with the flash.
    #[error(transparent)]
    Partition(#[from] PartitionError),
}

/// A part of the flash that nothing is in.
#[derive(Clone, Copy)]
struct Gap {
    start: u32,
    end: u32,
}

impl Gap {
    /// Its part that begins at a multiple of `alignment_bytes`.
    fn aligned(self, alignment_bytes: u32) -> Self {
        let start = self.start.checked_next_multiple_of(alignment_bytes).unwrap_or(self.end);
        Self { start: start.min(self.end), end: self.end }
    }

    fn len(self) -> u32 {
        self.end - self.start
    }
}

impl Layout {
    /// A layout with updater, vault, journal and slots in a flash of `flash_bytes`, in which every partition of this one that is
    /// neither an application nor otadata keeps its place and its size. A layout that the updater works on already is left as it is.
    ///
    /// # Errors
    /// [`AdoptError`]
    pub fn adopt(&self, flash_bytes: u32) -> Result<Self, AdoptError> {
        self.check_fits(flash_bytes)?;
        if Places::find(self).is_ok() {
            return Ok(self.clone());
        }
        let kept = self.partitions.iter().copied().filter(stays).collect();
        let mut plan = Adopted { partitions: kept, flash_bytes };
        let factory = PartitionKind::App(AppSubtype::Factory);
        let updater = plan.smallest(factory, UPDATER_BYTES)?;
        plan.add("factory", factory, updater, UPDATER_BYTES)?;
        for (label, what, kind, bytes) in [
            (VAULT_LABEL, "the vault", PartitionKind::Data(DataSubtype::Nvs), VAULT_BYTES),
            (JOURNAL_LABEL, "the journal", JOURNAL_KIND, JOURNAL_BYTES),
        ] {
            let offset = plan.cheapest(what, bytes)?;
            plan.add(label, kind, offset, bytes)?;
        }
        let application_bytes = self.largest_app_bytes();
        let numbers = (0..OtaIndex::COUNT).filter_map(OtaIndex::new);
        for (number, (offset, bytes)) in numbers.zip(plan.slots(application_bytes)?) {
            let label = format!("ota_{}", number.get());
            plan.add(&label, PartitionKind::App(AppSubtype::Ota(number)), offset, bytes)?;
        }
        plan.partitions.sort_by_key(|partition| partition.offset);
        Ok(Self::new(plan.partitions)?)
    }

    /// Size of the largest partition for an application; 0 without any.
    pub fn largest_app_bytes(&self) -> u32 {
        let apps = self.partitions.iter().filter(|partition| matches!(partition.kind, PartitionKind::App(_)));
        apps.map(|partition| partition.size).max().unwrap_or(0)
    }
}

/// Whether a partition keeps its place: all but applications, and otadata, which chooses between them.
fn stays(partition: &Partition) -> bool {
    !matches!(partition.kind, PartitionKind::App(_) | PartitionKind::Data(DataSubtype::Ota))
}

struct Adopted {
    partitions: Vec<Partition>,
    flash_bytes: u32,
}

impl Adopted {
    fn add(&mut self, label: &str, kind: PartitionKind, offset: u32, size: u32) -> Result<(), AdoptError> {
        let label = Label::new(label)?;
        if self.partitions.iter().any(|other| other.label == label) {
            return Err(AdoptError::NameTaken { label });
        }
        self.partitions.push(Partition { label, kind, offset, size, encrypted: false, readonly: false });
        Ok(())
    }

    /// What is free, in the order of the addresses.
    fn gaps(&self) -> Vec<Gap> {
        let mut taken: Vec<_> =
            self.partitions.iter().map(|partition| (partition.offset, partition.end())).collect();
        taken.push((self.flash_bytes, self.flash_bytes));
        taken.sort_unstable();
        let mut gaps = Vec::new();
        let mut start = FIRST_PARTITION_OFFSET;
        for (offset, end) in taken {
            if offset > start {
                gaps.push(Gap { start, end: offset });
            }
            start = start.max(end);
        }
        gaps
    }

    /// Where a partition of `kind` goes that leaves the longest rest to the others: into the shortest gap.
    fn smallest(&self, kind: PartitionKind, needed_bytes: u32) -> Result<u32, AdoptError> {
        let alignment_bytes = kind.offset_alignment_bytes();
        let gaps: Vec<_> = self.gaps().into_iter().map(|gap| gap.aligned(alignment_bytes)).collect();
        let fitting = gaps.iter().filter(|gap| gap.len() >= needed_bytes).min_by_key(|gap| gap.len());
        let found_bytes = gaps.iter().map(|gap| gap.len()).max().unwrap_or(0);
        let what = "the updater";
        fitting.map(|gap| gap.start).ok_or(AdoptError::NoRoom {
            what,
            needed_bytes,
            alignment_bytes,
            found_bytes,
        })
    }

    /// The end of a gap at which a small partition takes least from what an application could have.
    fn cheapest(&self, what: &'static str, needed_bytes: u32) -> Result<u32, AdoptError> {
        let gaps: Vec<_> = self.gaps().into_iter().map(|gap| gap.aligned(crate::SECTOR_BYTES)).collect();
        let room = |gaps: &[Gap]| gaps.iter().map(|gap| slot_in(*gap).len()).max().unwrap_or(0);
        let places = gaps.iter().enumerate().filter(|(_, gap)| gap.len() >= needed_bytes);
        let places = places.flat_map(|(index, gap)| {
            let last = (gap.end - needed_bytes) / crate::SECTOR_BYTES * crate::SECTOR_BYTES;
            [
                (index, gap.start, Gap { start: gap.start + needed_bytes, end: gap.end }),
                (index, last, Gap { start: gap.start, end: last }),
            ]
        });
        let best = places.max_by_key(|(index, offset, rest)| {
            let mut gaps = gaps.clone();
            gaps[*index] = *rest;
            (room(&gaps), core::cmp::Reverse(*offset))
        });
        let found_bytes = gaps.iter().map(|gap| gap.len()).max().unwrap_or(0);
        let alignment_bytes = crate::SECTOR_BYTES;
        best.map(|(_, offset, _)| offset).ok_or(AdoptError::NoRoom {
            what,
            needed_bytes,
            alignment_bytes,
            found_bytes,
        })
    }

    /// Offset and size of each slot: all that is left in a row, halved where both halves hold what the largest partition for an
    /// application held before.
    fn slots(&self, application_bytes: u32) -> Result<Vec<(u32, u32)>, AdoptError> {
        let alignment_bytes = PartitionKind::App(AppSubtype::Factory).offset_alignment_bytes();
        let gaps = self.gaps().into_iter().map(slot_in);
        let Some(gap) = gaps.max_by_key(|gap| gap.len()).filter(|gap| gap.len() > 0) else {
            let (what, needed_bytes, found_bytes) = ("an application", alignment_bytes, 0);
            return Err(AdoptError::NoRoom { what, needed_bytes, alignment_bytes, found_bytes });
        };
        let half_bytes = gap.len() / 2 / alignment_bytes * alignment_bytes;
        if self.flash_bytes >= TWO_SLOTS_FROM_BYTES && half_bytes >= application_bytes.max(alignment_bytes) {
            return Ok(alloc::vec![(gap.start, half_bytes), (gap.start + half_bytes, half_bytes)]);
        }
        Ok(alloc::vec![(gap.start, gap.len())])
    }
}

/// What a slot could have of a gap: whole sectors from a multiple of 64 KiB on.
fn slot_in(gap: Gap) -> Gap {
    let gap = gap.aligned(PartitionKind::App(AppSubtype::Factory).offset_alignment_bytes());
    Gap { start: gap.start, end: gap.start + gap.len() / crate::SECTOR_BYTES * crate::SECTOR_BYTES }
}
