//! What the shell reads from and writes to the vault and the journal.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::error::Error;

use esp_nvs::platform::software_crc32;
use manifest::Sequence;
use rand_core::RngCore;
use rustls::pki_types::CertificateDer;
use updater::{
    Anchors, Certified, Chain, Event, Identity, InstallRecord, JournalFacts, Key, Scope, Survey, Token,
    VaultFacts,
};
use wire::{Outcome, Reason};
use zeroize::Zeroizing;

use super::Shell;
use super::account::{Account, life};
use super::known_damage::with_vault;
use crate::board::Board;
use crate::journal::{Entry, Journal, SequenceFloor};
use crate::pki::{self, DeviceKey, PkiError};
use crate::platform::AccessPoint;
use crate::tls;
use crate::vault::{Settings, Vault, VaultContents, VaultError, certificates};

/// The layout has no vault.
#[derive(Debug, thiserror::Error)]
#[error("expected a partition `vault` in the partition table, found none; flash a Pitstop layout")]
struct NoVault;

/// The board has no random numbers now.
#[derive(Debug, thiserror::Error)]
#[error("expected random numbers for a key, found none; the next start tries again")]
struct NoRandomness;

impl<B: Board> Shell<'_, B> {
    /// Reads the partition table, otadata, the headers in the slots, and with the scope for it vault and journal. Writes
    /// nothing to a flash in which the updater has its place.
    pub(super) fn survey(&mut self, scope: Scope) -> Result<(Survey, Option<Account<B>>), Reason> {
        self.map = self.read_map()?;
        let confirmed_itself = self.keep_place();
        let facts = self.board.facts();
        let slots = self.survey_slots();
        let (vault, journal) = match scope {
            Scope::All => {
                let journal = self.journal_entry();
                (self.survey_vault(journal), journal)
            }
            Scope::Slots => (Err(Reason::UpdaterCrashes), None),
        };
        let (vault, account) = match vault {
            Ok((facts, account)) => (Ok(facts), Some(account)),
            Err(reason) => (Err(reason), None),
        };
        let survey = Survey {
            chip_id: facts.target.chip.id(),
            updater_version: facts.updater_version.to_string(),
            strategy: self.map.strategy.name(),
            slots,
            vault,
            journal: journal.map(journal_facts).unwrap_or_default(),
            confirmed_itself,
            jitter: self.jitter(),
        };
        Ok((survey, account))
    }

    /// Without random numbers there is no jitter; what cannot do without them says so itself.
    pub(super) fn jitter(&mut self) -> u32 {
        let mut bytes = [0; 4];
        let _ = self.board.rng().try_fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn survey_vault(&mut self, journal: Option<Entry>) -> Result<(VaultFacts, Account<B>), Reason> {
        let (contents, is_writable) = self.with_vault(|vault| Ok((vault.load()?, vault.damage() == 0)))?;
        let VaultContents {
            settings,
            token,
            key,
            chain,
            is_half_saved,
            record,
            sequence,
            outcome,
            time_floor_s,
            access_point,
        } = contents;
        let settings = settings.map_err(|error| self.fault(Reason::NotProvisioned, &error))?;
        // A damaged optional item is as good as none, but for the identity: a token is used once.
        let token = self.optional(token);
        let damaged = key.is_err() || chain.is_err();
        let key = self.optional(key);
        let chain = self.optional(chain);
        let identity = identity(key, chain.as_deref(), token, damaged, is_half_saved);
        let shown = match &identity {
            Identity::Certified(certified) => {
                chain.map(|chain| tls::Identity { chain, key_pkcs8: certified.key.0.clone() })
            }
            Identity::Missing | Identity::Token(_) | Identity::Key { .. } | Identity::Damaged => None,
        };
        let record = self.optional(record).and_then(|bytes| InstallRecord::from_cbor(&bytes).ok());
        let noted = journal.map(|entry| entry.sequence_floor);
        let noted = noted.filter(|floor| floor.settings == settings_number(&settings));
        let noted = noted.map(|floor| Sequence(floor.sequence.into()));
        let sequence_floor = self.optional(sequence).map(Sequence).max(noted);
        let access_point = self.optional(access_point);
        let last_outcome = self.optional(outcome).and_then(|bytes| minicbor::decode::<Outcome>(&bytes).ok());
        let floor_s = self.optional(time_floor_s).unwrap_or(0);
        self.clock.raise_floor(floor_s);
        let facts = VaultFacts {
            product: settings.product.clone(),
            publishers: settings.publishers.clone(),
            anchors: wire::anchors_digest(settings.anchors.iter().map(AsRef::as_ref)),
            identity,
            record,
            sequence_floor,
            last_outcome,
            time_floor_s: self.clock.now_s().into(),
            is_writable,
        };
        Ok((facts, Account { settings, identity: shown, access_point, online: None }))
    }

    fn optional<T>(&mut self, item: Result<Option<T>, VaultError>) -> Option<T> {
        item.unwrap_or_else(|error| {
            self.fault(Reason::Vault, &error);
            None
        })
    }

    /// Makes a key, PKCS#8 DER. Nothing is written.
    pub(super) fn new_key(&mut self) -> Result<Zeroizing<Vec<u8>>, Reason> {
        // The key's generator cannot say that there are no random numbers.
        let random = self.board.rng().try_fill_bytes(&mut [0; 32]);
        random.map_err(|_| self.fault(Reason::Randomness, &NoRandomness))?;
        let made = DeviceKey::generate(self.board.rng());
        let key = made.map_err(|error| self.fault(Reason::Crypto, &error))?;
        Ok(key.to_pkcs8())
    }

    pub(super) fn make_key(&mut self) -> Result<Event, Reason> {
        let pkcs8 = self.new_key()?;
        self.with_vault(|vault| vault.set_key(&pkcs8))?;
        Ok(Event::KeyStored(Key(pkcs8)))
    }

    /// Remembers which access point was joined, unless it is the one of last time.
    pub(super) fn save_access_point(
        &mut self,
        account: &Account<B>,
        access_point: AccessPoint,
    ) -> Result<(), Reason> {
        if account.access_point == Some(access_point) {
            return Ok(());
        }
        self.with_vault(|vault| vault.set_access_point(access_point))
    }

    pub(super) fn save_certificate(
        &mut self,
        account: &mut Account<B>,
        key: Key,
        chain: &Chain,
        time_floor_s: Option<u64>,
    ) -> Result<Event, Reason> {
        let certificates = self.certificates(&chain.0)?;
        self.with_vault(|vault| {
            vault.set_identity(&key.0, &certificates)?;
            // The token has done its work. It goes after the certificate is safe.
            vault.clear_token()?;
            time_floor_s.map_or(Ok(()), |time_floor_s| vault.set_time_floor_s(seconds(time_floor_s)))
        })?;
        account.identity = Some(tls::Identity { chain: certificates, key_pkcs8: key.0 });
        Ok(Event::Saved)
    }

    pub(super) fn save_anchors(
        &mut self,
        account: &mut Account<B>,
        anchors: &Anchors,
    ) -> Result<Event, Reason> {
        let anchors = self.certificates(&anchors.0)?;
        self.with_vault(|vault| vault.set_anchors(&anchors))?;
        account.settings.anchors = anchors;
        Ok(Event::Saved)
    }

    fn certificates(&mut self, der: &[u8]) -> Result<Vec<CertificateDer<'static>>, Reason> {
        certificates(der).map_err(|error| self.fault(Reason::Internal, &error))
    }

    /// Stores the record last: it commits the install.
    pub(super) fn save_record(
        &mut self,
        account: &Account<B>,
        record: &InstallRecord,
        outcome: Outcome,
        time_floor_s: u64,
    ) -> Result<Event, Reason> {
        let settings = settings_number(&account.settings);
        let sequence = u32::try_from(record.sequence.0).unwrap_or(u32::MAX);
        let sequence_floor = SequenceFloor { settings, sequence };
        // A journal that is worn out keeps nobody from installing; the vault has the number too.
        let _ = self.append_to_journal(|last| Entry { sequence_floor, ..last });
        self.with_vault(|vault| {
            vault.set_outcome(&outcome_bytes(outcome))?;
            vault.set_time_floor_s(seconds(time_floor_s))?;
            vault.set_sequence(record.sequence.0)?;
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
        self.append_to_journal(|last| Entry {
            critical_errors: last.critical_errors.saturating_add(1),
            last_critical_code: reason.code(),
            ..last
        })
    }

    /// Notes that counted crashes are over.
    pub(super) fn clear_crashes(&mut self) -> Result<Event, Reason> {
        self.append_to_journal(|last| Entry { crashes: 0, ..last })
    }

    fn append_to_journal(&mut self, entry: impl FnOnce(Entry) -> Entry) -> Result<Event, Reason> {
        let Some(region) = self.map.journal else { return Ok(Event::Saved) };
        let flash = self.board.flash();
        let appended = Journal::open(flash, region).and_then(|mut journal| {
            let last = journal.latest().unwrap_or_default();
            journal.append(flash, entry(last))
        });
        appended.map(|()| Event::Saved).map_err(|error| self.fault(Reason::FlashWrite, &error))
    }

    fn journal_entry(&mut self) -> Option<Entry> {
        let region = self.map.journal?;
        match Journal::open(self.board.flash(), region) {
            Ok(journal) => journal.latest(),
            Err(error) => {
                self.fault(Reason::FlashRead, &error);
                None
            }
        }
    }

    fn with_vault<T>(
        &mut self,
        act: impl FnOnce(&mut Vault<'_, B::Flash>) -> Result<T, VaultError>,
    ) -> Result<T, Reason> {
        match with_vault(self.board.flash(), &self.map, self.known_damage, act) {
            Some(done) => done.map_err(|error| self.fault(Reason::Vault, &error)),
            None => Err(self.fault(Reason::NotProvisioned, &NoVault)),
        }
    }

    pub(super) fn pki<T>(&mut self, result: Result<T, PkiError>) -> Result<T, Reason> {
        result.map_err(|error| self.fault(Reason::CertificateMismatch, &error as &(dyn Error + 'static)))
    }
}

fn journal_facts(entry: Entry) -> JournalFacts {
    JournalFacts {
        critical_errors: entry.critical_errors,
        last_critical: Some(entry.last_critical_code).filter(|code| *code != 0),
        crashes: entry.crashes.into(),
    }
}

/// How far the identity has come. A certificate counts only for the key beside it. Where something is damaged, what is not
/// there may be what cannot be read.
fn identity(
    key: Option<Zeroizing<Vec<u8>>>,
    chain: Option<&[CertificateDer<'_>]>,
    token: Option<Zeroizing<String>>,
    damaged: bool,
    is_half_saved: bool,
) -> Identity {
    let token = token.map(Token);
    let Some(key) = key.map(Key) else {
        return match token {
            _ if damaged => Identity::Damaged,
            Some(token) => Identity::Token(token),
            None => Identity::Missing,
        };
    };
    if DeviceKey::from_pkcs8(&key.0).is_err() {
        return Identity::Damaged;
    }
    let leaf = chain.and_then(<[_]>::first).and_then(|leaf| pki::leaf_facts(leaf).ok());
    match (leaf.filter(|leaf| pki::names(&key.0, leaf.public_key)), token) {
        (Some(leaf), _) => Identity::Certified(Certified { key, life: life(&leaf), is_half_saved }),
        (None, Some(token)) => Identity::Key { key, token },
        (None, None) if damaged => Identity::Damaged,
        (None, None) => Identity::Missing,
    }
}

/// Stands for what a sequence number belongs to.
fn settings_number(settings: &Settings) -> u32 {
    software_crc32(software_crc32(0, settings.product.as_bytes()), &settings.publishers.to_bytes())
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

    fn key() -> (Zeroizing<Vec<u8>>, CertificateDer<'static>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        (Zeroizing::new(key.serialize_der()), certificate.der().clone())
    }

    fn token() -> Option<Zeroizing<String>> {
        Some(Zeroizing::new("token".into()))
    }

    #[test]
    fn a_certificate_counts_only_for_the_key_beside_it() {
        let ((own, certificate), (other, _)) = (key(), key());
        let chain = [certificate];
        let found = identity(Some(own.clone()), Some(&chain), None, false, false);
        assert!(matches!(found, Identity::Certified(Certified { key, .. }) if key.0 == own));
        for (key, chain) in [(other, Some(&chain[..])), (own, None)] {
            let found = identity(Some(key.clone()), chain, token(), false, false);
            assert!(matches!(found, Identity::Key { key: found, .. } if found.0 == key));
            assert_eq!(
                identity(Some(key), chain, None, false, false),
                Identity::Missing,
                "nothing to enroll with"
            );
        }
        assert!(matches!(identity(None, Some(&chain), token(), false, false), Identity::Token(_)));
        assert_eq!(identity(None, None, None, false, false), Identity::Missing);
    }

    /// What is damaged may read right the next time: no new key is made in its place.
    #[test]
    fn a_damaged_identity_is_not_taken_for_a_missing_one() {
        let (key, _) = key();
        for token in [None, token()] {
            assert_eq!(identity(None, None, token.clone(), true, false), Identity::Damaged);
            let damaged = Zeroizing::new(key[1..].to_vec());
            assert_eq!(identity(Some(damaged), None, token, false, false), Identity::Damaged);
        }
        assert_eq!(identity(Some(key.clone()), None, None, true, false), Identity::Damaged);
        let found = identity(Some(key), None, token(), true, false);
        assert!(matches!(found, Identity::Key { .. }), "a token lets it enroll again");
    }
}
