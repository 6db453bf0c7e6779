//! Damage in the vault over several starts: noted by one, given up by a later one
//! (docs/decisions/0048-opening-the-vault-writes-nothing.md).

use embedded_storage::nor_flash::NorFlash;
use wire::ResetCause;

use crate::journal::{self, Journal};
use crate::map::Map;
use crate::region::Region;
use crate::vault::{ANY_DAMAGE, DAMAGE_BITS, Vault, VaultError};

/// Damage in the vault that may be given up at this start: an earlier one has noted it, and this one has found it too when it
/// looked first, before it wrote anything.
#[derive(Debug)]
pub struct KnownDamage {
    known: Option<u32>,
    /// New tries in a row that have found new damage, should this be one.
    starts: u32,
    /// Whether this start is another try than the last one.
    is_new_try: bool,
}

/// After so many starts in a row that have each found another damage it is given up too: bits that a power cut left between 0
/// and 1 never read twice the same.
const PATIENCE: u32 = 8;

impl KnownDamage {
    /// At a start for this reason. One that follows a brownout or a crash of the updater may have the same supply that read
    /// wrong a moment ago.
    #[must_use]
    pub fn at(cause: ResetCause) -> Self {
        let is_new_try = !matches!(cause, ResetCause::Brownout | ResetCause::UpdaterCrash);
        Self { known: None, starts: 0, is_new_try }
    }

    /// 0 for nothing.
    fn of<F: NorFlash>(&mut self, flash: &mut F, region: Region, journal: Option<Region>) -> u32 {
        if let Some(known) = self.known {
            return known;
        }
        let damage = damage(flash, region);
        let entries = journal.and_then(|journal| Journal::open(flash, journal).ok());
        let noted = entries.and_then(|entries| entries.latest()).map_or(0, |entry| entry.vault_damage);
        let is_same = noted & DAMAGE_BITS == damage;
        let starts = noted >> DAMAGE_BITS.count_ones();
        self.starts = starts + u32::from(self.is_new_try);
        let is_over = starts >= PATIENCE;
        let known = match damage {
            // Where nothing can be noted, no later start would know more.
            _ if !is_same && !self.note(flash, journal, damage) => ANY_DAMAGE,
            0 => 0,
            _ if !self.is_new_try => 0,
            _ if is_over => ANY_DAMAGE,
            damage if is_same => damage,
            _ => 0,
        };
        *self.known.insert(known)
    }

    /// Goes by what was seen when the vault was used: damage that is new, and what a write has repaired.
    fn was_used<F: NorFlash>(
        &mut self,
        flash: &mut F,
        region: Region,
        journal: Option<Region>,
        new_damage: u32,
    ) {
        let Some(known) = self.known else { return };
        if new_damage != 0 {
            // Not noted, it is found again at the next start.
            self.note(flash, journal, new_damage);
        } else if known != 0 {
            // What a write has repaired needs no note any more.
            let left = damage(flash, region);
            if left != known {
                self.note(flash, journal, left);
                self.known = Some(if known == ANY_DAMAGE { ANY_DAMAGE } else { left });
            }
        }
    }

    /// Says what is damaged. Returns whether that is in the journal now.
    fn note<F: NorFlash>(&self, flash: &mut F, journal: Option<Region>, damage: u32) -> bool {
        let starts = self.starts.min(0xff) << DAMAGE_BITS.count_ones();
        let noted = if damage == 0 { 0 } else { damage | starts };
        journal.is_some_and(|journal| journal::set_vault_damage(flash, journal, noted).is_ok())
    }
}

/// What is damaged in the vault; 0 for nothing, and for a vault that cannot be opened.
fn damage<F: NorFlash>(flash: &mut F, region: Region) -> u32 {
    Vault::open(flash, region).map_or(0, |vault| vault.damage())
}

/// Opens the vault; `None` in a layout without one. Damage that is known is given up with the next write. What is new keeps
/// everything from being written, and is noted for the starts to come.
pub fn with_vault<F: NorFlash, T>(
    flash: &mut F,
    map: &Map,
    known: &mut KnownDamage,
    act: impl FnOnce(&mut Vault<'_, F>) -> Result<T, VaultError>,
) -> Option<Result<T, VaultError>> {
    let region = map.vault?;
    let known_damage = known.of(flash, region, map.journal);
    let mut new_damage = 0;
    let done = Vault::open(flash, region).and_then(|mut vault| {
        vault.accept_damage(known_damage);
        new_damage = vault.damage();
        act(&mut vault)
    });
    known.was_used(flash, region, map.journal, new_damage);
    Some(done)
}
