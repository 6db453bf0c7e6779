//! What the shell reads from and writes to the vault and the journal.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::error::Error;

use rand_core::RngCore;
use rustls::pki_types::CertificateDer;
use updater::{CertificateLife, Event, Identity, InstallRecord, Survey, VaultFacts};
use wire::{Outcome, Reason};
use zeroize::Zeroizing;

use super::Shell;
use crate::board::Board;
use crate::journal::{Entry, Journal, JournalError};
use crate::pki::{self, DeviceKey, PkiError};
use crate::platform::AccessPoint;
use crate::region::Region;
use crate::tls;
use crate::vault::{Settings, Vault, VaultContents, VaultError};

/// The layout has no vault.
#[derive(Debug, thiserror::Error)]
#[error("expected a partition `vault` in the partition table, found none; flash a Pitstop layout")]
struct NoVault;

/// The shell was asked to store a certificate that it does not hold.
#[derive(Debug, thiserror::Error)]
#[error("expected an issued certificate to store, found none; the shell or the engine is wrong")]
struct NothingIssued;

/// The shell was asked to store trust anchors that it does not hold.
#[derive(Debug, thiserror::Error)]
#[error("expected trust anchors to store, found none; the shell or the engine is wrong")]
struct NothingFetched;

/// A key that cannot be used now: the vault's is gone, or the crypto failed.
#[derive(Debug, thiserror::Error)]
#[error("expected the device's key in the vault, found none; it will be made at the next start")]
struct NoKey;

/// Who the device is and how it proves it, as loaded from the vault.
pub(super) struct Credentials {
    pub(super) settings: Settings,
    pub(super) token: Option<Zeroizing<alloc::string::String>>,
    pub(super) key: Option<Zeroizing<Vec<u8>>>,
    pub(super) chain: Option<Vec<CertificateDer<'static>>>,
    pub(super) access_point: Option<AccessPoint>,
}

impl<B: Board> Shell<'_, B> {
    /// Reads the partition table, otadata, the slots, the vault and the journal. Writes nothing to an intact flash in
    /// which the updater has its place.
    pub(super) fn survey(&mut self) -> Result<Survey, Reason> {
        self.map = self.read_map()?;
        let confirmed_itself = self.settle();
        let facts = self.board.facts();
        let slots = self.survey_slots();
        let vault = self.survey_vault();
        let journal = self.journal_entry();
        Ok(Survey {
            chip_id: facts.chip_id,
            updater_version: facts.updater_version.to_string(),
            strategy: self.map.strategy.name(),
            slots,
            vault,
            critical_errors: journal.map_or(0, |entry| entry.critical_errors),
            last_critical: journal.map(|entry| entry.last_critical_code),
            confirmed_itself,
            jitter: self.board.rng().next_u32(),
        })
    }

    fn survey_vault(&mut self) -> Result<VaultFacts, Reason> {
        let contents = self.with_vault(|vault| vault.load())?;
        let VaultContents { settings, token, key, chain, record, outcome, time_floor_s, access_point } =
            contents;
        let settings = settings.map_err(|error| self.trouble(Reason::NotProvisioned, &error))?;
        // A damaged optional item is as good as none: a key and a certificate can be had again, and a lost record
        // makes the next install verify every chunk.
        let token = self.optional(token);
        let key = self.optional(key);
        let chain = self.optional(chain);
        let record = self.optional(record).and_then(|bytes| InstallRecord::from_cbor(&bytes).ok());
        let access_point = self.optional(access_point);
        let last_outcome = self.optional(outcome).and_then(|bytes| minicbor::decode::<Outcome>(&bytes).ok());
        let floor_s = self.optional(time_floor_s).unwrap_or(0);
        self.clock.raise_floor(floor_s);
        let facts = VaultFacts {
            product: settings.product.clone(),
            publishers: settings.publishers.clone(),
            anchors: wire::anchors_digest(settings.anchors.iter().map(AsRef::as_ref)),
            identity: identity(key.as_deref(), chain.as_deref()),
            record,
            last_outcome,
            time_floor_s: self.clock.now_s().into(),
        };
        self.credentials = Some(Credentials { settings, token, key, chain, access_point });
        Ok(facts)
    }

    fn optional<T>(&mut self, item: Result<Option<T>, VaultError>) -> Option<T> {
        item.unwrap_or_else(|error| {
            self.trouble(Reason::Vault, &error);
            None
        })
    }

    pub(super) fn make_key(&mut self) -> Result<Event, Reason> {
        let made = DeviceKey::generate(self.board.rng()).and_then(|key| key.to_pkcs8());
        let pkcs8 = made.map_err(|error| self.trouble(Reason::Crypto, &error))?;
        self.with_vault(|vault| vault.set_key(&pkcs8))?;
        if let Some(credentials) = &mut self.credentials {
            credentials.key = Some(pkcs8);
        }
        Ok(Event::KeyStored)
    }

    /// Remembers which access point was joined, unless it is the one of last time.
    pub(super) fn save_access_point(&mut self, access_point: AccessPoint) -> Result<(), Reason> {
        let known = self.credentials.as_ref().and_then(|credentials| credentials.access_point);
        if known == Some(access_point) {
            return Ok(());
        }
        self.with_vault(|vault| vault.set_access_point(access_point))
    }

    /// The device's key, ready for use.
    pub(super) fn device_key(&mut self) -> Result<DeviceKey, Reason> {
        let pkcs8 = self.credentials.as_ref().and_then(|credentials| credentials.key.as_ref());
        match pkcs8.map(|pkcs8| DeviceKey::from_pkcs8(pkcs8)) {
            Some(Ok(key)) => Ok(key),
            Some(Err(error)) => Err(self.trouble(Reason::Crypto, &error)),
            None => Err(self.trouble(Reason::Crypto, &NoKey)),
        }
    }

    /// Key and certificate for mutual TLS, when there are both.
    pub(super) fn tls_identity(&self) -> Option<tls::Identity> {
        let credentials = self.credentials.as_ref()?;
        Some(tls::Identity { chain: credentials.chain.clone()?, key_pkcs8: credentials.key.clone()? })
    }

    pub(super) fn save_certificate(&mut self, time_floor_s: Option<u64>) -> Result<Event, Reason> {
        let Some(issued) = self.issued.take() else {
            return Err(self.trouble(Reason::Internal, &NothingIssued));
        };
        self.with_vault(|vault| {
            vault.set_chain(&issued.certificates)?;
            // The token has done its work. It is deleted after the certificate is safe.
            vault.delete_token()?;
            time_floor_s.map_or(Ok(()), |time_floor_s| vault.set_time_floor_s(seconds(time_floor_s)))
        })?;
        if let Some(credentials) = &mut self.credentials {
            credentials.chain = Some(issued.certificates);
            credentials.token = None;
        }
        Ok(Event::Saved)
    }

    pub(super) fn save_anchors(&mut self) -> Result<Event, Reason> {
        let Some(anchors) = self.anchors.take() else {
            return Err(self.trouble(Reason::Internal, &NothingFetched));
        };
        self.with_vault(|vault| vault.set_anchors(&anchors))?;
        if let Some(credentials) = &mut self.credentials {
            credentials.settings.anchors = anchors;
        }
        Ok(Event::Saved)
    }

    /// Stores the record last: it commits the install.
    pub(super) fn save_record(
        &mut self,
        record: &InstallRecord,
        outcome: Outcome,
        time_floor_s: u64,
    ) -> Result<Event, Reason> {
        self.with_vault(|vault| {
            vault.set_outcome(&outcome_bytes(outcome))?;
            vault.set_time_floor_s(seconds(time_floor_s))?;
            vault.set_record(&record.to_cbor())
        })?;
        Ok(Event::Saved)
    }

    pub(super) fn save_note(&mut self, outcome: Outcome) -> Result<Event, Reason> {
        self.with_vault(|vault| vault.set_outcome(&outcome_bytes(outcome)))?;
        Ok(Event::Saved)
    }

    pub(super) fn save_time_floor(&mut self, time_floor_s: u64) -> Result<Event, Reason> {
        self.with_vault(|vault| vault.set_time_floor_s(seconds(time_floor_s)))?;
        Ok(Event::Saved)
    }

    /// Counts a critical error. A layout without a journal counts nothing.
    pub(super) fn count_critical(&mut self, reason: Reason) -> Result<Event, Reason> {
        let Some(region) = self.map.journal else { return Ok(Event::Saved) };
        let retained = updater::Retained::from_bits(self.board.retained_bits());
        let flash = self.board.flash();
        let counted = Journal::open(flash, region).and_then(|mut journal| {
            let last = journal.latest().unwrap_or_default();
            let entry = Entry {
                starts: retained.starts.into(),
                critical_errors: last.critical_errors.saturating_add(1),
                last_critical_code: reason.code(),
                network_deaths: retained.deaths.into(),
            };
            journal.append(flash, entry)
        });
        counted.map(|()| Event::Saved).map_err(|error| self.trouble(Reason::FlashWrite, &error))
    }

    fn journal_entry(&mut self) -> Option<Entry> {
        let region: Region = self.map.journal?;
        let opened: Result<Journal, JournalError> = Journal::open(self.board.flash(), region);
        match opened {
            Ok(journal) => journal.latest(),
            Err(error) => {
                self.trouble(Reason::FlashRead, &error);
                None
            }
        }
    }

    fn with_vault<T>(
        &mut self,
        act: impl FnOnce(&mut Vault<'_, B::Flash>) -> Result<T, VaultError>,
    ) -> Result<T, Reason> {
        let Some(region) = self.map.vault else {
            return Err(self.trouble(Reason::NotProvisioned, &NoVault));
        };
        let done = Vault::open(self.board.flash(), region).and_then(|mut vault| act(&mut vault));
        done.map_err(|error| self.trouble(Reason::Vault, &error))
    }

    pub(super) fn pki<T>(&mut self, result: Result<T, PkiError>) -> Result<T, Reason> {
        result.map_err(|error| self.trouble(Reason::CertificateMismatch, &error as &(dyn Error + 'static)))
    }
}

/// How far the identity has come. A certificate counts only for the key beside it.
fn identity(key: Option<&Vec<u8>>, chain: Option<&[CertificateDer<'_>]>) -> Identity {
    let Some(key) = key.and_then(|pkcs8| DeviceKey::from_pkcs8(pkcs8).ok()) else {
        return Identity::Nothing;
    };
    let leaf = chain.and_then(<[_]>::first).and_then(|leaf| pki::leaf_facts(leaf).ok());
    match leaf.filter(|leaf| leaf.public_key == key.public_key()) {
        Some(leaf) => Identity::Certified(life(&leaf)),
        None => Identity::Key,
    }
}

pub(super) fn life(leaf: &pki::LeafFacts<'_>) -> CertificateLife {
    CertificateLife { not_before_s: leaf.not_before_s, not_after_s: leaf.not_after_s }
}

fn outcome_bytes(outcome: Outcome) -> Vec<u8> {
    // Writing into a `Vec` has no way to fail.
    minicbor::to_vec(outcome).unwrap_or_default()
}

/// The clock's unit; it stays at its end in 2106.
fn seconds(time_s: u64) -> u32 {
    u32::try_from(time_s).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_counts_only_for_the_key_beside_it() {
        let [key, other] = [(); 2].map(|()| rcgen::KeyPair::generate().unwrap());
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let chain = [certificate.der().clone()];
        let [key, other] = [key, other].map(|key| key.serialize_der());
        assert!(matches!(identity(Some(&key), Some(&chain)), Identity::Certified(_)));
        assert_eq!(identity(Some(&other), Some(&chain)), Identity::Key);
        assert_eq!(identity(Some(&key), None), Identity::Key);
        assert_eq!(identity(None, Some(&chain)), Identity::Nothing);
    }
}
