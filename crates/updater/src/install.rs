//! The install: chunk by chunk, resumable from any interruption without a progress record.
//!
//! Every chunk that is in the slot already is kept, whether an interrupted install or the release before left it
//! there. The slot's first sector is blank from before the first change until everything else is verified.

use alloc::boxed::Box;

use manifest::Digest;
use wire::{Outcome, Reason};

use crate::action::{Action, FetchChunk};
use crate::event::Failure;
use crate::facts::ImageFacts;
use crate::plan::{Plan, SECTOR_BYTES};
use crate::record::InstallRecord;
use crate::state::{Session, State, close_installed, refuse};
use crate::{limits, policy};

/// An install under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    pub(crate) session: Session,
    plan: Plan,
    /// How many chunks are in the slot and verified, in the order of [`Plan::chunk_at`].
    position: u32,
    /// Failed tries for the chunk at `position`.
    tries: u8,
    /// Give up then; `None` while no application is bootable, when only progress counts.
    deadline_ms: Option<u64>,
}

/// How far an install has come, for people to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Version of the release.
    pub version: &'a str,
    /// Bytes that are in the slot and verified.
    pub verified_bytes: u32,
    /// Bytes of the whole image.
    pub size_bytes: u32,
}

impl Install {
    pub(crate) fn progress(&self) -> Progress<'_> {
        let artifact = &self.plan.manifest.artifact;
        let left_bytes: u32 = (self.position..self.plan.chunks())
            .filter_map(|position| artifact.chunk(self.plan.chunk_at(position)?))
            .map(|(_, length_bytes)| length_bytes)
            .sum();
        Progress {
            version: &self.plan.manifest.version,
            verified_bytes: artifact.size_bytes.saturating_sub(left_bytes),
            size_bytes: artifact.size_bytes,
        }
    }

    pub(crate) fn begin(session: Session, plan: Plan, now_ms: u64) -> (State, Action) {
        let keeps_an_app = session.survey.boot_slot().is_some_and(|slot| slot != plan.slot);
        let deadline_ms = keeps_an_app.then_some(now_ms.saturating_add(limits::INSTALL_WITH_APP_MS));
        Box::new(Self { session, plan, position: 0, tries: 0, deadline_ms }).scan()
    }

    /// Hashes the next chunk in place, or verifies the image when no chunk is left.
    fn scan(self: Box<Self>) -> (State, Action) {
        match self.chunk() {
            Some(Chunk { offset_bytes, length_bytes, .. }) => {
                let action = Action::HashChunk { slot: self.plan.slot, offset_bytes, length_bytes };
                (State::Scanning(self), action)
            }
            None => self.verify(),
        }
    }

    pub(crate) fn scanned(mut self: Box<Self>, found: Digest, now_ms: u64) -> (State, Action) {
        match self.chunk() {
            Some(chunk) if chunk.digest == found => {
                self.next_chunk();
                self.scan()
            }
            Some(_) if self.deadline_ms.is_some_and(|deadline_ms| now_ms >= deadline_ms) => {
                self.failed(Reason::BudgetSpent)
            }
            Some(_) => {
                let slot = self.plan.slot;
                // From here on until it is verified again the slot holds nothing to hand over to.
                if let Some(facts) = self.session.survey.slot_mut(slot) {
                    facts.image = None;
                }
                (State::Invalidating(self), Action::Invalidate { slot })
            }
            None => self.failed(Reason::Internal),
        }
    }

    pub(crate) fn invalidated(self: Box<Self>) -> (State, Action) {
        self.fetch()
    }

    fn fetch(mut self: Box<Self>) -> (State, Action) {
        let Some(chunk) = self.chunk() else { return self.failed(Reason::Internal) };
        self.session.erased_bytes += chunk.length_bytes.next_multiple_of(SECTOR_BYTES);
        let fetch = FetchChunk {
            artifact: self.plan.manifest.artifact.digest,
            slot: self.plan.slot,
            offset_bytes: chunk.offset_bytes,
            length_bytes: chunk.length_bytes,
            hold_first_sector: chunk.is_first(),
            delay_ms: limits::CHUNK_RETRY_MS * u64::from(self.tries),
            timeout_ms: limits::CHUNK_MS,
        };
        (State::Fetching(self), Action::FetchChunk(fetch))
    }

    pub(crate) fn fetched(mut self: Box<Self>, found: Digest, now_ms: u64) -> (State, Action) {
        let Some(chunk) = self.chunk() else { return self.failed(Reason::Internal) };
        if chunk.digest != found {
            return self.not_fetched(Reason::ChunkDigest, now_ms);
        }
        self.session.downloaded_bytes += chunk.length_bytes;
        self.next_chunk();
        if chunk.is_first() {
            let slot = self.plan.slot;
            (State::Sealing(self), Action::Seal { slot })
        } else {
            self.scan()
        }
    }

    pub(crate) fn not_fetched(
        mut self: Box<Self>,
        failure: impl Into<Failure>,
        now_ms: u64,
    ) -> (State, Action) {
        let failure = failure.into();
        self.tries += 1;
        let late = self.deadline_ms.is_some_and(|deadline_ms| now_ms >= deadline_ms);
        let at_once = failure.retry_after_s.is_none() && policy::worth_another_try(failure.reason);
        if at_once && self.tries < limits::CHUNK_TRIES && !late { self.fetch() } else { self.failed(failure) }
    }

    pub(crate) fn sealed(self: Box<Self>) -> (State, Action) {
        self.verify()
    }

    fn verify(mut self: Box<Self>) -> (State, Action) {
        let slot = self.plan.slot;
        if let Some(facts) = self.session.survey.slot_mut(slot) {
            facts.image = None;
        }
        (State::Verifying(self), Action::VerifySlot { slot })
    }

    pub(crate) fn verified(mut self: Box<Self>, image: ImageFacts) -> (State, Action) {
        let same = image.digest == self.plan.manifest.artifact.digest;
        if let Some(facts) = self.session.survey.slot_mut(self.plan.slot) {
            // Whatever it is, it was found bootable.
            facts.image = Some(image);
        }
        if !same {
            return self.failed(Reason::ImageDigest);
        }
        let action = Action::SaveRecord {
            record: self.record(),
            outcome: self.outcome(Reason::Installed),
            time_floor_s: self.session.now_s(),
        };
        (State::Recording(self), action)
    }

    pub(crate) fn recorded(mut self: Box<Self>) -> (State, Action) {
        let (record, outcome) = (self.record(), self.outcome(Reason::Installed));
        self.session.store_record(record);
        self.session.floor_is_stored();
        close_installed(self.session, outcome)
    }

    pub(crate) fn failed(self: Box<Self>, failure: impl Into<Failure>) -> (State, Action) {
        let sequence = self.plan.manifest.sequence;
        refuse(self.session, Some(sequence.0), failure)
    }

    fn record(&self) -> InstallRecord {
        InstallRecord::of(&self.plan.manifest, self.plan.slot)
    }

    fn outcome(&self, reason: Reason) -> Outcome {
        Outcome { sequence: Some(self.plan.manifest.sequence.0), reason: reason.code() }
    }

    fn next_chunk(&mut self) {
        self.position += 1;
        self.tries = 0;
    }

    fn chunk(&self) -> Option<Chunk> {
        let artifact = &self.plan.manifest.artifact;
        let index = self.plan.chunk_at(self.position)?;
        let (offset_bytes, length_bytes) = artifact.chunk(index)?;
        let digest = *artifact.chunks.get(usize::try_from(index).ok()?)?;
        Some(Chunk { offset_bytes, length_bytes, digest })
    }
}

/// A chunk of the image.
#[derive(Clone, Copy)]
struct Chunk {
    offset_bytes: u32,
    length_bytes: u32,
    digest: Digest,
}

impl Chunk {
    /// The first chunk holds the image header; it comes last.
    fn is_first(self) -> bool {
        self.offset_bytes == 0
    }
}
