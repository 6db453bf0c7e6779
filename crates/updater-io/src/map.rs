//! Where things are in flash, as the partition table says.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use embedded_storage::nor_flash::ReadNorFlash;
use flashfmt::partition::{Partition, PartitionTable, TABLE_BYTES, TABLE_OFFSET};
use wire::HandOverStrategy;

use crate::flash::{FlashFault, read};
use crate::region::Region;

/// Partition that holds the vault.
const VAULT_LABEL: &str = "vault";
/// Partition that holds the journal.
pub(crate) const JOURNAL_LABEL: &str = "journal";

/// Where things are in flash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// How this device hands over.
    pub strategy: Strategy,
    /// The application slots in the order of their numbers; [`updater::SlotIndex`] counts them.
    pub slots: Vec<Slot>,
    /// The updater's own NVS partition.
    pub vault: Option<Region>,
    /// The updater's counters.
    pub journal: Option<Region>,
}

/// An application slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Partition label.
    pub label: String,
    /// Where it is.
    pub region: Region,
    /// The bootloader's number: 1 for `ota_1`.
    pub ota_number: u8,
}

/// How a device hands over (docs/handover.md), with what that takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The updater is in `factory` and starts the application itself.
    #[default]
    ChainLoad,
    /// The updater is in `ota_0` and has the bootloader start the application once.
    OtadataRollback {
        /// The otadata partition.
        otadata: Region,
        /// OTA partitions, the updater's own included: what the bootloader counts with.
        ota_count: u8,
    },
}

impl Map {
    /// Reads the partition table.
    ///
    /// # Errors
    /// [`FlashFault::Read`] and [`FlashFault::PartitionTable`].
    pub fn read<F: ReadNorFlash>(flash: &mut F) -> Result<Self, FlashFault> {
        let mut bytes = [0; TABLE_BYTES];
        let table = read_table(flash, &mut bytes)?;
        let slot = |partition: Partition| {
            let ota_number = partition.slot()?.get();
            Some(Slot {
                label: partition.label.as_str().to_string(),
                region: Region::of(&partition),
                ota_number,
            })
        };
        Ok(Self {
            strategy: Strategy::of(&table),
            slots: table.app_slots().filter_map(slot).collect(),
            vault: table.find_label(VAULT_LABEL).as_ref().map(Region::of),
            journal: table.find_label(JOURNAL_LABEL).as_ref().map(Region::of),
        })
    }
}

impl Strategy {
    pub(crate) fn of(table: &PartitionTable<'_>) -> Self {
        match table.otadata() {
            Some(otadata) if table.hands_over_by_otadata() => {
                let ota_count = u8::try_from(table.ota_partitions().count()).unwrap_or(u8::MAX);
                Self::OtadataRollback { otadata: Region::of(&otadata), ota_count }
            }
            Some(_) | None => Self::ChainLoad,
        }
    }

    /// What the server is told.
    #[must_use]
    pub fn name(self) -> HandOverStrategy {
        match self {
            Self::ChainLoad => HandOverStrategy::ChainLoad,
            Self::OtadataRollback { .. } => HandOverStrategy::OtadataRollback,
        }
    }
}

impl Region {
    /// Where a partition is.
    #[must_use]
    pub fn of(partition: &Partition) -> Self {
        Self { offset: partition.offset, size_bytes: partition.size }
    }
}

/// Reads the partition table into `bytes` and checks it.
pub(crate) fn read_table<'b, F: ReadNorFlash>(
    flash: &mut F,
    bytes: &'b mut [u8; TABLE_BYTES],
) -> Result<PartitionTable<'b>, FlashFault> {
    read(flash, TABLE_OFFSET, bytes)?;
    let table = PartitionTable::parse(bytes).map_err(FlashFault::PartitionTable)?;
    let capacity_bytes = u32::try_from(flash.capacity()).unwrap_or(u32::MAX);
    table.check_fits(capacity_bytes).map_err(FlashFault::PartitionTable)?;
    Ok(table)
}
