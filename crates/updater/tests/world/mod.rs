//! A world for the engine to act on: slots, vault and server at the level of the engine's own actions.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod promise;

use manifest::{Digest, Manifest, PublisherKeys, PublisherSigningKey, Sequence, Signed};
use updater::{
    Action, Anchors, CertificateLife, Certified, Chain, Event, FirstSector, Identity, ImageFacts,
    InstallRecord, JournalFacts, Key, NextKey, Phase, Retained, Scope, SlotFacts, SlotIndex, Start, State,
    Survey, Token, VaultFacts, Verdict,
};
use wire::{AnchorsDigest, Decision, HandOverStrategy, Outcome, Reason, ResetCause};

pub(crate) const CHIP_ID: u16 = 5;
pub(crate) const SLOT_BYTES: u32 = 5 * 65_536;
pub(crate) const YEAR_S: u64 = 365 * 24 * 3600;

pub(crate) fn publisher() -> PublisherSigningKey {
    PublisherSigningKey::new(p256::SecretKey::from_slice(&[7; 32]).unwrap())
}

/// A failure for each thing that one leads to (`policy::failure_class`, `policy::worth_another_try`).
pub(crate) const REASONS: [Reason; 8] = [
    Reason::ConnectionLost,
    Reason::DeviceRefused,
    Reason::ChunkDigest,
    Reason::ImageInvalid,
    Reason::FlashWrite,
    Reason::Vault,
    Reason::Crypto,
    Reason::NotProvisioned,
];

/// A release of `chunks` chunks; `build` makes the content unique. The last chunk is short.
pub(crate) fn release(sequence: u64, build: u8, chunks: u32) -> Manifest {
    let mut image = vec![build; chunks as usize * 65_536 - 100];
    for (index, chunk) in image.chunks_mut(65_536).enumerate() {
        chunk[0] = index as u8;
    }
    Manifest::describe(&image, Sequence(sequence), "lamp", CHIP_ID, &format!("{sequence}.0.0")).unwrap()
}

pub(crate) fn sign(manifest: &Manifest) -> Vec<u8> {
    Signed::sign(manifest, &publisher()).unwrap().as_bytes().to_vec()
}

pub(crate) fn key() -> Key {
    Key(vec![3; 8].into())
}

pub(crate) fn token() -> Token {
    Token(String::from("token").into())
}

/// The key of so many-th renewal with a new one.
pub(crate) fn new_key(number: u8) -> Key {
    Key(vec![number.wrapping_add(0x10); 8].into())
}

/// A key, and the token to ask for a certificate with.
pub(crate) fn enrolling() -> Identity {
    Identity::Key { key: key(), token: token() }
}

pub(crate) fn certified(life: CertificateLife) -> Identity {
    Identity::Certified(Certified { key: key(), life, is_half_saved: false })
}

/// What is in a slot, chunk by chunk. The first sector of chunk 0 is kept apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) chunks: Vec<Option<Digest>>,
    pub(crate) first_sector: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) slots: Vec<Content>,
    pub(crate) known_images: Vec<Manifest>,
    pub(crate) record: Option<InstallRecord>,
    pub(crate) last_outcome: Option<Outcome>,
    /// Whether the vault can be written.
    pub(crate) is_writable: bool,
    pub(crate) publishers: PublisherKeys,
    pub(crate) anchors: AnchorsDigest,
    /// What `cacerts` gives.
    pub(crate) served_anchors: AnchorsDigest,
    pub(crate) identity: Identity,
    pub(crate) time_floor_s: u64,
    pub(crate) vault: Result<(), Reason>,
    pub(crate) decision: Decision,
    pub(crate) server_not_after_s: Option<u64>,
    /// The server's clock is right, and it takes no certificate that has ended but for a renewal.
    pub(crate) refuses_ended: bool,
    pub(crate) serves: Option<Manifest>,
    pub(crate) vault_writes: u32,
    /// Renewals with a new key.
    pub(crate) keys_made: u8,
    pub(crate) slot_writes: u32,
    pub(crate) fetched: Vec<u32>,
    pub(crate) reports: Vec<Outcome>,
    pub(crate) criticals: Vec<Reason>,
    /// Crashes that the journal has counted.
    pub(crate) journal_crashes: u32,
    /// The hand-over can start what is in this slot.
    pub(crate) startable: Vec<bool>,
    pub(crate) retained: Retained,
    pub(crate) strategy: HandOverStrategy,
    pub(crate) confirmed_itself: bool,
    /// Time that each action takes.
    pub(crate) tick_ms: u64,
}

impl World {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            slots: vec![Content::default(); slots],
            known_images: Vec::new(),
            record: None,
            last_outcome: None,
            is_writable: true,
            publishers: PublisherKeys::from_iter([publisher().publisher_key()]),
            anchors: [1; 8].into(),
            served_anchors: [1; 8].into(),
            identity: certified(CertificateLife { not_before_s: YEAR_S, not_after_s: 2 * YEAR_S }),
            time_floor_s: YEAR_S,
            vault: Ok(()),
            decision: Decision::new(YEAR_S, None),
            server_not_after_s: Some(10 * YEAR_S),
            refuses_ended: false,
            serves: None,
            vault_writes: 0,
            keys_made: 0,
            slot_writes: 0,
            fetched: Vec::new(),
            reports: Vec::new(),
            criticals: Vec::new(),
            journal_crashes: 0,
            startable: vec![true; slots],
            retained: Retained::default(),
            strategy: HandOverStrategy::ChainLoad,
            confirmed_itself: false,
            tick_ms: 10,
        }
    }

    pub(crate) fn offer(&mut self, manifest: &Manifest) {
        self.decision.manifest = Some(sign(manifest).into());
        self.serves = Some(manifest.clone());
        self.know(manifest);
    }

    pub(crate) fn know(&mut self, manifest: &Manifest) {
        self.known_images.push(manifest.clone());
    }

    pub(crate) fn put(&mut self, slot: usize, manifest: &Manifest) {
        self.know(manifest);
        self.slots[slot] = Content {
            chunks: manifest.artifact.chunks.iter().copied().map(Some).collect(),
            first_sector: true,
        };
    }

    pub(crate) fn install(&mut self, slot: usize, manifest: &Manifest) {
        self.put(slot, manifest);
        self.record = Some(InstallRecord::of(manifest, SlotIndex(slot as u8)));
    }

    /// What is bootable in a slot, by the model and not by the engine's word.
    pub(crate) fn image(&self, slot: usize) -> Option<ImageFacts> {
        let content = &self.slots[slot];
        let whole = |manifest: &&Manifest| {
            manifest
                .artifact
                .chunks
                .iter()
                .enumerate()
                .all(|(index, chunk)| content.chunks.get(index).copied().flatten() == Some(*chunk))
        };
        let manifest = self.known_images.iter().find(whole).filter(|_| content.first_sector)?;
        Some(ImageFacts { digest: manifest.artifact.digest, version: Some(manifest.version.clone()) })
    }

    /// What the headers in a slot say: they may stand before rubbish.
    fn headers(&self, slot: usize) -> updater::SlotContent {
        let content = &self.slots[slot];
        match content.chunks.first() {
            _ if !content.first_sector => updater::SlotContent::Blank,
            Some(Some(_)) if self.startable[slot] => updater::SlotContent::Headers,
            _ => updater::SlotContent::Unbootable,
        }
    }

    pub(crate) fn survey(&self, scope: Scope) -> Survey {
        Survey {
            chip_id: CHIP_ID,
            updater_version: "0.1.0".into(),
            strategy: self.strategy,
            slots: (0..self.slots.len())
                .map(|slot| SlotFacts {
                    label: format!("ota_{slot}"),
                    size_bytes: SLOT_BYTES,
                    content: self.headers(slot),
                })
                .collect(),
            vault: match scope {
                Scope::All => self.vault,
                Scope::Slots => Err(Reason::UpdaterCrashes),
            }
            .map(|()| VaultFacts {
                product: "lamp".into(),
                publishers: self.publishers.clone(),
                anchors: self.anchors,
                identity: self.identity.clone(),
                record: self.record.clone(),
                sequence_floor: self.record.as_ref().map(|record| record.sequence),
                last_outcome: self.last_outcome,
                time_floor_s: self.time_floor_s,
                is_writable: self.is_writable,
            }),
            journal: JournalFacts { crashes: self.journal_crashes, ..JournalFacts::default() },
            confirmed_itself: self.confirmed_itself,
            jitter: 0x8000_0000,
        }
    }

    /// Performs an action as a good shell with good hardware and a good network does.
    pub(crate) fn perform(&mut self, action: &Action) -> Event {
        match action {
            Action::Survey(scope) => Event::Surveyed(Box::new(self.survey(*scope))),
            Action::Join { .. } => Event::Joined { free_heap_bytes: Some(40_000) },
            Action::MakeKey => {
                self.vault_writes += 1;
                self.identity = enrolling();
                Event::KeyStored(key())
            }
            Action::Enroll { key, .. } | Action::Renew { key: NextKey::Same(key), .. } => {
                self.issued(key.clone())
            }
            Action::Renew { key: NextKey::New, .. } => {
                self.keys_made = self.keys_made.wrapping_add(1);
                self.issued(new_key(self.keys_made))
            }
            Action::SaveCertificate { key, time_floor_s, .. } => {
                self.vault_writes += 1;
                let now_s = self.decision.server_time_s;
                let life = CertificateLife { not_before_s: now_s, not_after_s: now_s.saturating_add(YEAR_S) };
                self.identity =
                    Identity::Certified(Certified { key: key.clone(), life, is_half_saved: false });
                self.time_floor_s = time_floor_s.unwrap_or(self.time_floor_s);
                Event::Saved
            }
            Action::FetchAnchors { .. } => {
                Event::AnchorsFetched { digest: self.served_anchors, anchors: Anchors(vec![2; 8]) }
            }
            Action::SaveAnchors { .. } => {
                self.vault_writes += 1;
                self.anchors = self.served_anchors;
                Event::Saved
            }
            Action::CheckIn { .. } if self.refuses_ended && self.is_ended() => {
                Event::Failed(Reason::DeviceRefused)
            }
            Action::CheckIn { .. } => Event::Decided {
                decision: self.decision.clone(),
                server_not_after_s: self.server_not_after_s,
            },
            Action::HashChunk { slot, offset_bytes, .. } => {
                let content = &self.slots[usize::from(slot.0)];
                let index = offset_bytes / 65_536;
                let whole = index != 0 || content.first_sector;
                let digest = content.chunks.get(index as usize).copied().flatten().filter(|_| whole);
                Event::ChunkHashed(digest.unwrap_or(Digest([0xff; 32])))
            }
            Action::Preview(_) => {
                let served = self.serves.as_ref().map(|manifest| manifest.artifact.chunks[0]);
                Event::Previewed(served.unwrap_or(Digest([0xee; 32])))
            }
            Action::Invalidate { slot } => {
                self.slot_writes += 1;
                self.slots[usize::from(slot.0)].first_sector = false;
                Event::Invalidated
            }
            Action::FetchChunk(fetch) => {
                self.slot_writes += 1;
                let index = (fetch.offset_bytes / 65_536) as usize;
                self.fetched.push(index as u32);
                let served = self.serves.as_ref().map(|manifest| manifest.artifact.chunks[index]);
                let content = &mut self.slots[usize::from(fetch.slot.0)];
                content.chunks.resize(content.chunks.len().max(index + 1), None);
                content.chunks[index] = served;
                let digest = served.unwrap_or(Digest([0xee; 32]));
                if fetch.hold_first_sector { first_chunk(digest) } else { Event::ChunkHashed(digest) }
            }
            Action::Seal { slot, .. } => {
                self.slot_writes += 1;
                self.slots[usize::from(slot.0)].first_sector = true;
                Event::Sealed
            }
            Action::VerifySlot { slot } => {
                match self.image(usize::from(slot.0)).filter(|_| self.startable[usize::from(slot.0)]) {
                    Some(image) => Event::SlotVerified(image),
                    None => Event::Failed(Reason::ImageInvalid),
                }
            }
            Action::SaveRecord { record, outcome, time_floor_s } => {
                self.vault_writes += 1;
                self.record = Some(record.clone());
                self.last_outcome = Some(*outcome);
                self.time_floor_s = *time_floor_s;
                Event::Saved
            }
            Action::SaveNote { outcome } => {
                self.vault_writes += 1;
                self.last_outcome = Some(*outcome);
                Event::Saved
            }
            Action::SaveTimeFloor { time_floor_s } => {
                self.vault_writes += 1;
                self.time_floor_s = *time_floor_s;
                Event::Saved
            }
            Action::ClearCrashes => {
                self.journal_crashes = 0;
                Event::Saved
            }
            Action::CountCritical { reason } => {
                self.criticals.push(*reason);
                Event::Saved
            }
            Action::Report { report, .. } => {
                self.reports.push(report.outcome);
                Event::Reported
            }
            Action::Finish(_) => panic!("nothing is to be done after the end"),
        }
    }

    fn issued(&self, key: Key) -> Event {
        let now_s = self.decision.server_time_s;
        let life = CertificateLife { not_before_s: now_s, not_after_s: now_s.saturating_add(YEAR_S) };
        Event::CertificateIssued { key, life, chain: Chain(vec![1; 8]) }
    }

    /// Whether the certificate has ended, by the server's clock.
    fn is_ended(&self) -> bool {
        match &self.identity {
            Identity::Certified(certified) => certified.life.not_after_s < self.decision.server_time_s,
            Identity::Missing | Identity::Token(_) | Identity::Key { .. } | Identity::Damaged => false,
        }
    }

    /// Time passes in which the device is not heard: its certificate ends, which it does not know.
    pub(crate) fn stay_away(&mut self) {
        self.refuses_ended = true;
        self.decision.server_time_s = 4 * YEAR_S;
    }

    /// The world after half of the action; `None` for one that has no half.
    pub(crate) fn torn(&self, action: &Action) -> Option<Self> {
        let mut world = self.clone();
        match action {
            Action::FetchChunk(fetch) => {
                let content = &mut world.slots[usize::from(fetch.slot.0)];
                let index = (fetch.offset_bytes / 65_536) as usize;
                content.chunks.resize(content.chunks.len().max(index + 1), None);
                content.chunks[index] = None;
            }
            // Outcome and time floor come before the record.
            Action::SaveRecord { outcome, time_floor_s, .. } => {
                world.last_outcome = Some(*outcome);
                world.time_floor_s = *time_floor_s;
            }
            _ => return None,
        }
        Some(world)
    }

    /// What a start begins with.
    pub(crate) fn start(&self, cause: ResetCause) -> Start {
        Start::new(self.retained.to_bits(), cause)
    }

    /// With the ticket the application is handed over to before the engine runs again.
    pub(crate) fn hands_over(&mut self) {
        if self.retained.phase == Phase::Ticket {
            self.retained = Retained { phase: Phase::Application, failures: 0, ..self.retained };
        }
    }

    /// One pit stop; `meddle` may replace what the world answers. Returns the verdict and the steps taken.
    pub(crate) fn pit_stop(
        &mut self,
        cause: ResetCause,
        mut meddle: impl FnMut(&mut Self, &Action) -> Option<Event>,
    ) -> (Verdict, u32) {
        self.hands_over();
        let (mut state, mut action) = updater::start(self.start(cause));
        let (mut now_ms, mut steps) = (0, 0);
        loop {
            self.retained = state.retained();
            if let Action::Finish(verdict) = action {
                assert_eq!(state, State::Done { verdict, retained: self.retained });
                // The next start finds what this one has.
                self.is_writable = true;
                return (verdict, steps);
            }
            let event = match meddle(self, &action) {
                Some(event) => event,
                None => self.perform(&action),
            };
            now_ms += self.tick_ms;
            steps += 1;
            assert!(steps < 10_000, "the pit stop does not end");
            (state, action) = updater::step(state, event, now_ms);
        }
    }

    pub(crate) fn power_on(&mut self) -> Verdict {
        self.retained = Retained::default();
        self.pit_stop(ResetCause::PowerOn, |_, _| None).0
    }
}

pub(crate) fn first_chunk(digest: Digest) -> Event {
    Event::FirstChunkHashed { digest, first_sector: FirstSector(Box::new([0; 4096])) }
}
