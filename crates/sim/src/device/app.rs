//! What an application may do to otadata, as ESP-IDF 5.x does it for whoever calls it
//! (`components/app_update/esp_ota_ops.c`). An application without these calls does nothing to it.

use embedded_storage::nor_flash::NorFlash;
use flashfmt::otadata::{self, OTA_ENTRY_OFFSETS, OTADATA_BYTES, OtaEntries, OtaState, Switch};

use super::VirtualDevice;
use crate::flash::{FlashError, SECTOR_BYTES};

impl VirtualDevice {
    /// Both copies of otadata, seen from outside; `None` where the layout has no otadata.
    pub fn otadata(&self) -> Option<OtaEntries> {
        let partition = self.layout.otadata()?;
        Some(otadata::parse(&self.flash.bytes()[partition.offset as usize..][..OTADATA_BYTES as usize]))
    }

    /// The application marks itself valid: `esp_ota_mark_app_valid_cancel_rollback`. Arduino's core calls it before
    /// `setup()`. The copy in force is rewritten in its place.
    ///
    /// # Errors
    /// What the flash says.
    pub fn app_confirms_itself(&mut self) -> Result<(), FlashError> {
        let active = self.otadata().and_then(|entries| otadata::select(&entries, self.ota_count()));
        let Some(mut active) = active else { return Ok(()) };
        active.entry.state = OtaState::Valid;
        self.rewrite(Switch { copy: active.copy, entry: active.entry })
    }

    /// The application selects the OTA partition with this number: `esp_ota_set_boot_partition`, in a build with
    /// rollback.
    ///
    /// # Errors
    /// What the flash says.
    pub fn app_selects(&mut self, ota_number: u8) -> Result<(), FlashError> {
        let count = self.ota_count();
        let switch = self
            .otadata()
            .and_then(|entries| otadata::switch_to_slot(&entries, ota_number, count, OtaState::New));
        switch.map_or(Ok(()), |switch| self.rewrite(switch))
    }

    fn rewrite(&mut self, switch: Switch) -> Result<(), FlashError> {
        let Some(partition) = self.layout.otadata() else { return Ok(()) };
        let address = partition.offset + OTA_ENTRY_OFFSETS[switch.copy];
        self.flash.erase(address, address + SECTOR_BYTES)?;
        self.flash.write(address, &switch.entry.emit())
    }

    fn ota_count(&self) -> u8 {
        let partitions = self.layout.partitions().iter();
        partitions.filter(|partition| partition.slot().is_some()).count() as u8
    }
}
