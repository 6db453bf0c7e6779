//! The vault's bytes, made as the updater's own code makes them.

use sim::SimFlash;
use updater_io::region::Region;
use updater_io::vault::{Provisioning, VaultError, provision};

use super::with_causes;
use crate::failure::Failure;

/// A vault of `size_bytes`, as it stands in its partition. Nothing in the format depends on where that is.
pub(crate) fn image(size_bytes: u32, provisioning: &Provisioning<'_>) -> Result<Vec<u8>, VaultError> {
    let mut flash = SimFlash::new(size_bytes);
    provision(&mut flash, Region { offset: 0, size_bytes }, provisioning)?;
    Ok(flash.bytes().to_vec())
}

/// What a person reads when the vault cannot hold what it is to hold.
pub(crate) fn failure(error: VaultError) -> Failure {
    let hint = match &error {
        VaultError::Region { .. } | VaultError::Full { .. } => {
            Some("give the partition `vault` 32K in the layout's partition CSV")
        }
        VaultError::Invalid { .. } => Some("correct the option that it comes from"),
        VaultError::Flash
        | VaultError::Missing { .. }
        | VaultError::Damaged { .. }
        | VaultError::NewDamage { .. } => None,
    };
    Failure::new(with_causes(&error)).maybe_hint(hint.map(str::to_owned))
}
