//! A part of the flash.

/// A part of the flash that one module owns, as the partition table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it starts, in bytes from the start of the flash.
    pub offset: u32,
    /// Its length in bytes.
    pub size_bytes: u32,
}

pub use flashfmt::SECTOR_BYTES;

impl Region {
    /// The first byte after the region, unless the region reaches past 4 GiB.
    #[must_use]
    pub fn end(self) -> Option<u32> {
        self.offset.checked_add(self.size_bytes)
    }

    /// Whether the region is whole sectors, at least `min_sectors` of them, inside a flash of
    /// `capacity_bytes`.
    #[must_use]
    pub fn is_usable(self, min_sectors: u32, capacity_bytes: usize) -> bool {
        self.offset.is_multiple_of(SECTOR_BYTES)
            && self.size_bytes.is_multiple_of(SECTOR_BYTES)
            && self.size_bytes / SECTOR_BYTES >= min_sectors
            && self.end().is_some_and(|end| end as usize <= capacity_bytes)
    }
}
