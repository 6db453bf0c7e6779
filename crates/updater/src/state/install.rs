//! The install: chunk by chunk, resumable from any interruption without a progress record.
//!
//! Every chunk that is in the slot already is kept, whether an interrupted install or the release before left it
//! there. The slot's first sector is blank from before the first change until everything else is verified.

use alloc::boxed::Box;

use manifest::Digest;
use wire::{Outcome, Reason};

use super::State;
use super::closing::{Closing, refuse};
use super::session::Session;
use crate::action::{Action, FetchChunk, Preview};
use crate::carried::FirstSector;
use crate::event::Failure;
use crate::facts::{ImageFacts, SlotContent};
use crate::plan::Plan;
use crate::record::InstallRecord;
use crate::slot::SECTOR_BYTES;
use crate::{limits, policy};

/// An install under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    pub(crate) session: Session,
    plan: Plan,
    /// How many chunks are in the slot and verified, in the order of [`Plan::chunk_at`].
    position: u32,
    /// Failed tries for the chunk at `position`, to find it in the slot or to fetch it, or for the preview.
    tries: u8,
    /// What is changed of the slot.
    change: Change,
    /// Give up then; `None` while no application is bootable but what is in this slot: then only progress counts.
    deadline_ms: Option<u64>,
}

/// What an install has changed of its slot so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// Nothing: it has found what the release has, chunk by chunk.
    None,
    /// It has given up what was in it.
    Begun,
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
    pub(crate) fn progress(&self) -> Option<Progress<'_>> {
        match self.change {
            Change::None => return None,
            Change::Begun => {}
        }
        let artifact = &self.plan.manifest.artifact;
        let left_bytes: u32 = (self.position..self.plan.chunks())
            .filter_map(|position| artifact.chunk(self.plan.chunk_at(position)?))
            .map(|(_, length_bytes)| length_bytes)
            .sum();
        Some(Progress {
            version: &self.plan.manifest.version,
            verified_bytes: artifact.size_bytes.saturating_sub(left_bytes),
            size_bytes: artifact.size_bytes,
        })
    }

    pub(crate) fn begin(session: Session, plan: Plan, now_ms: u64) -> (State, Action) {
        let keeps_an_app = session.boot_slot().is_some_and(|slot| slot != plan.slot);
        let deadline_ms = keeps_an_app.then_some(now_ms.saturating_add(limits::INSTALL_WITH_APP_MS));
        Box::new(Self { session, plan, position: 0, tries: 0, change: Change::None, deadline_ms }).scan()
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
            // What was read wrong once would cost the application.
            Some(_) if self.gives_up_an_application() && self.tries == 0 => {
                self.tries = 1;
                self.scan()
            }
            Some(_) if self.gives_up_an_application() => {
                self.tries = 0;
                self.preview()
            }
            Some(_) => self.invalidate(),
            None => self.failed(Reason::Internal),
        }
    }

    /// Whether what is in the slot now may be all that there is to start. Where its first sector is blank, it is not.
    fn gives_up_an_application(&self) -> bool {
        let content = self.session.survey.slot(self.plan.slot).map(|facts| &facts.content);
        self.deadline_ms.is_none() && content != Some(&SlotContent::Blank)
    }

    /// Looks at the new image before a byte of the old one is erased.
    fn preview(self: Box<Self>) -> (State, Action) {
        let artifact = &self.plan.manifest.artifact;
        let (Some((_, length_bytes)), Some(digest)) = (artifact.chunk(0), artifact.chunks.first().copied())
        else {
            return self.failed(Reason::Internal);
        };
        let preview = Preview {
            artifact: artifact.digest,
            size_bytes: artifact.size_bytes,
            length_bytes,
            digest,
            slot: self.plan.slot,
            delay_ms: limits::CHUNK_RETRY_MS * u64::from(self.tries),
            timeout_ms: limits::CHUNK_MS,
        };
        (State::Previewing(self), Action::Preview(preview))
    }

    pub(crate) fn previewed(mut self: Box<Self>, found: Digest, now_ms: u64) -> (State, Action) {
        if self.plan.manifest.artifact.chunks.first() != Some(&found) {
            return self.not_previewed(Reason::ChunkDigest, now_ms);
        }
        self.tries = 0;
        self.invalidate()
    }

    pub(crate) fn not_previewed(
        mut self: Box<Self>,
        failure: impl Into<Failure>,
        now_ms: u64,
    ) -> (State, Action) {
        let failure = failure.into();
        if self.is_worth_another_try(failure, now_ms) { self.preview() } else { self.failed(failure) }
    }

    /// From here on until it is verified again the slot holds nothing to hand over to.
    fn invalidate(mut self: Box<Self>) -> (State, Action) {
        let slot = self.plan.slot;
        self.change = Change::Begun;
        self.session.survey.set_content(slot, SlotContent::Unbootable);
        (State::Invalidating(self), Action::Invalidate { slot })
    }

    pub(crate) fn invalidated(mut self: Box<Self>) -> (State, Action) {
        self.session.survey.set_content(self.plan.slot, SlotContent::Blank);
        // What could not be handed over to is gone.
        self.session.suspect = self.session.suspect.filter(|slot| *slot != self.plan.slot);
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
        match self.chunk() {
            Some(chunk) if chunk.is_first() => self.failed(Reason::Internal),
            Some(chunk) if chunk.digest == found => {
                self.has(chunk);
                self.scan()
            }
            Some(_) => self.not_fetched(Reason::ChunkDigest, now_ms),
            None => self.failed(Reason::Internal),
        }
    }

    pub(crate) fn first_fetched(
        mut self: Box<Self>,
        found: Digest,
        first_sector: FirstSector,
        now_ms: u64,
    ) -> (State, Action) {
        match self.chunk() {
            Some(chunk) if !chunk.is_first() => self.failed(Reason::Internal),
            Some(chunk) if chunk.digest == found => {
                self.has(chunk);
                let slot = self.plan.slot;
                (State::Sealing(self), Action::Seal { slot, first_sector })
            }
            Some(_) => self.not_fetched(Reason::ChunkDigest, now_ms),
            None => self.failed(Reason::Internal),
        }
    }

    pub(crate) fn not_fetched(
        mut self: Box<Self>,
        failure: impl Into<Failure>,
        now_ms: u64,
    ) -> (State, Action) {
        let failure = failure.into();
        if self.is_worth_another_try(failure, now_ms) { self.fetch() } else { self.failed(failure) }
    }

    fn is_worth_another_try(&mut self, failure: Failure, now_ms: u64) -> bool {
        self.tries += 1;
        let late = self.deadline_ms.is_some_and(|deadline_ms| now_ms >= deadline_ms);
        let at_once = failure.retry_after_s.is_none() && policy::worth_another_try(failure.reason);
        at_once && self.tries < limits::CHUNK_TRIES && !late
    }

    /// Verifies the whole image. One that was all there, and that the last hand-over did not come through with, would be
    /// handed over to once more: this start goes without it.
    pub(crate) fn verify(mut self: Box<Self>) -> (State, Action) {
        let slot = self.plan.slot;
        if self.session.suspect == Some(slot) {
            let failures = self.session.start.retained.failures;
            return self.failed(policy::hand_over_failure(failures));
        }
        self.session.survey.set_content(slot, SlotContent::Unbootable);
        (State::Verifying(self), Action::VerifySlot { slot })
    }

    pub(crate) fn verified(mut self: Box<Self>, image: ImageFacts) -> (State, Action) {
        let same = image.digest == self.plan.manifest.artifact.digest;
        // Whatever it is, it was found bootable.
        self.session.survey.set_content(self.plan.slot, SlotContent::Verified(image));
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
        Closing::begin(self.session, Some(Reason::Installed), Some(outcome))
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

    /// A chunk was downloaded and is in the slot.
    fn has(&mut self, chunk: Chunk) {
        self.session.downloaded_bytes += chunk.length_bytes;
        self.next_chunk();
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
