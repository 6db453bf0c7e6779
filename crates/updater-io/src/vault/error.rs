//! What can go wrong, by item.

use super::{MAX_WIFI_NETWORKS, MIN_SECTORS, ServerUrlError};
use crate::pki::{MAX_DEVICE_ID_BYTES, PkiError};

/// Why an item of the vault could not be read or written. Items are named by their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// Flash: an operation failed.
    #[error("the flash failed under the vault")]
    Flash,
    /// Layout: the region cannot be a vault.
    #[error(
        "expected a vault of at least {} sectors of 4 KiB inside the flash, found {size_bytes} bytes at {offset:#x}; correct the partition table",
        MIN_SECTORS
    )]
    Region {
        /// Where it starts.
        offset: u32,
        /// How long it is.
        size_bytes: u32,
    },
    /// Provisioning: a required item is not there.
    #[error("the vault has no `{key}`; provision the device again")]
    Missing {
        /// The item.
        key: &'static str,
    },
    /// Flash or provisioning: an item is there, but damaged or of another type.
    #[error("`{key}` in the vault is damaged or of another type; provision the device again")]
    Damaged {
        /// The item.
        key: &'static str,
    },
    /// Provisioning: an item can be read, but makes no sense.
    #[error("`{key}` in the vault is not acceptable; provision the device again")]
    Invalid {
        /// The item.
        key: &'static str,
        /// What is wrong with it.
        source: ItemError,
    },
    /// Flash: something in the vault reads as damaged as no earlier start has seen it, so that nothing is written: the next
    /// start may read it right.
    #[error(
        "expected a vault without new damage to write to, found {damage:#010x}; the next start that finds the same repairs it"
    )]
    NewDamage {
        /// Stands for what is damaged.
        damage: u32,
    },
    /// Layout: there is no room for an item.
    #[error("the vault has no room for `{key}`; make its partition larger")]
    Full {
        /// The item.
        key: &'static str,
    },
}

/// What is wrong with the content of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Nothing where something is needed.
    #[error("expected something, found nothing")]
    Empty,
    /// A device id that fits into no certificate or into no HTTP field.
    #[error("expected 1 to {} visible ASCII characters, found {found_bytes} bytes", MAX_DEVICE_ID_BYTES)]
    DeviceId {
        /// Its length.
        found_bytes: usize,
    },
    /// Not the address of a server.
    #[error(transparent)]
    ServerUrl(ServerUrlError),
    /// Not publisher keys.
    #[error(transparent)]
    Publishers(manifest::KeyError),
    /// Not certificates.
    #[error(transparent)]
    Certificates(PkiError),
    /// Not a Wi-Fi network: the name has 1 to 32 bytes, the passphrase none or 8 to 64.
    #[error(
        "expected a network name of 1 to 32 bytes and no passphrase or one of 8 to 64, found {ssid_bytes} and {passphrase_bytes}"
    )]
    Wifi {
        /// Length of the name.
        ssid_bytes: usize,
        /// Length of the passphrase.
        passphrase_bytes: usize,
    },
    /// Not an access point.
    #[error("expected an access point of 8 bytes, found {found_bytes} bytes")]
    AccessPoint {
        /// How many there are.
        found_bytes: usize,
    },
    /// Too many Wi-Fi networks.
    #[error("expected at most {} networks, found {found}", MAX_WIFI_NETWORKS)]
    WifiCount {
        /// How many.
        found: usize,
    },
}
