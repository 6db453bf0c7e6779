//! What a pit stop must keep to, whatever it is told: the part of the promise (docs/fault-model.md) that the engine keeps
//! alone. Whoever drives the engine shows each action with its answer; the first breach panics.

use std::collections::BTreeMap;

use manifest::{CHUNK_BYTES, Digest, Manifest};
use updater::{Action, Event, InstallRecord, SlotContent, SlotIndex, Start, Survey, Verdict, limits};

/// The longest that an action without a time limit takes: hashing 64 KiB, or some sectors of flash.
pub(crate) const LOCAL_MS: u64 = 500;

/// The most actions of a pit stop with so many slots and an image of so many chunks: a slot is verified twice before it is
/// given up; each chunk is hashed once, the slot invalidated for it, and it is fetched as often as is tried; before and
/// after that comes what a start does once, and once more when its certificate had ended.
fn max_steps(slots: usize, chunks: usize) -> u32 {
    2 * slots as u32 + (2 + u32::from(limits::CHUNK_TRIES)) * chunks as u32 + 21
}

/// How long the shell lets an action take.
pub(crate) fn limit_ms(action: &Action) -> u64 {
    match action {
        Action::Join { timeout_ms }
        | Action::Enroll { timeout_ms, .. }
        | Action::Renew { timeout_ms, .. }
        | Action::FetchAnchors { timeout_ms }
        | Action::CheckIn { timeout_ms, .. }
        | Action::Report { timeout_ms, .. } => *timeout_ms,
        Action::FetchChunk(fetch) => fetch.delay_ms + fetch.timeout_ms,
        Action::Preview(preview) => preview.delay_ms + preview.timeout_ms,
        Action::Survey(_)
        | Action::MakeKey
        | Action::SaveCertificate { .. }
        | Action::SaveAnchors { .. }
        | Action::HashChunk { .. }
        | Action::Invalidate { .. }
        | Action::Seal { .. }
        | Action::VerifySlot { .. }
        | Action::SaveRecord { .. }
        | Action::SaveNote { .. }
        | Action::SaveTimeFloor { .. }
        | Action::ClearCrashes
        | Action::CountCritical { .. }
        | Action::Finish(_) => LOCAL_MS,
    }
}

/// One pit stop, watched.
#[derive(Debug)]
pub(crate) struct Watch {
    slots: Vec<Slot>,
    /// The slot whose last hand-over did not come to its end.
    suspect: Option<SlotIndex>,
    /// The slots that could be started when the device went to the network.
    startable: Vec<SlotIndex>,
    /// It has gone there.
    set_out: bool,
    /// The first chunk of this artifact was seen before anything was erased.
    previewed: Option<Digest>,
    record: Option<InstallRecord>,
    time_floor_s: u64,
    /// Releases that the publisher signed for this device and that have not expired; one that has may repair what is
    /// installed.
    trusted: Vec<Manifest>,
    longest: usize,
    /// The image that is being installed, and the slot.
    install: Option<(SlotIndex, Digest)>,
    recorded: bool,
    steps: u32,
    now_ms: u64,
}

#[derive(Debug, Default)]
struct Slot {
    size_bytes: u32,
    /// The image that was found in it since it was last written.
    image: Option<Digest>,
    /// Its first sector was erased and not written since.
    blank: bool,
    /// Its first sector was blank when the start began.
    was_blank: bool,
    /// What was found at each offset.
    chunks: BTreeMap<u32, Digest>,
}

impl Watch {
    /// Watches the pit stop of a device as the engine is told that it is. The publisher signed `signed` for it.
    pub(crate) fn new(start: &Start, survey: &Survey, signed: &[Manifest]) -> Self {
        let slot = |slot: &updater::SlotFacts| Slot {
            size_bytes: slot.size_bytes,
            was_blank: slot.content == SlotContent::Blank,
            ..Slot::default()
        };
        let vault = survey.vault.as_ref().ok();
        let record = vault.and_then(|vault| vault.record.clone());
        let time_floor_s = vault.map_or(0, |vault| vault.time_floor_s);
        let is_trusted = |manifest: &&Manifest| {
            let repairs = record.as_ref().is_some_and(|record| {
                record.sequence == manifest.sequence && record.digest == manifest.artifact.digest
            });
            repairs || manifest.expires_at_s.is_none_or(|expires_at_s| expires_at_s >= time_floor_s)
        };
        let trusted: Vec<_> = signed.iter().filter(is_trusted).cloned().collect();
        Self {
            slots: survey.slots.iter().map(slot).collect(),
            suspect: start.suspect(),
            startable: Vec::new(),
            set_out: false,
            previewed: None,
            record,
            time_floor_s,
            longest: trusted.iter().map(|manifest| manifest.artifact.chunks.len()).max().unwrap_or(0),
            trusted,
            install: None,
            recorded: false,
            steps: 1,
            now_ms: 0,
        }
    }

    /// The engine wanted `action`, which took `took_ms` and was answered with `event`.
    pub(crate) fn saw(&mut self, action: &Action, event: &Event, took_ms: u64) {
        self.steps += 1;
        self.now_ms = self.now_ms.saturating_add(took_ms);
        let max_steps = max_steps(self.slots.len(), self.longest);
        assert!(self.steps <= max_steps, "{} steps: {action:?}", self.steps);
        if !matches!(action, Action::VerifySlot { .. } | Action::SaveNote { .. }) && !self.set_out {
            self.set_out = true;
            self.startable = self.bootable().collect();
        }
        match action {
            Action::Survey(_) | Action::Finish(_) => panic!("{action:?} in the middle"),
            Action::Preview(preview) => {
                let trusted = self.trusted(preview.artifact).artifact.chunks.first().copied();
                let seen = matches!(event, Event::Previewed(digest) if Some(*digest) == trusted);
                self.previewed = seen.then_some(preview.artifact);
            }
            Action::Invalidate { slot } => {
                let keeps_another = self.bootable().any(|other| other != *slot);
                let nothing_to_lose = self.slot(*slot).was_blank || keeps_another;
                assert!(nothing_to_lose || self.previewed.is_some(), "gives up what is in {slot:?} unseen");
                self.writes(*slot);
                self.slot(*slot).blank = *event == Event::Invalidated;
            }
            Action::HashChunk { slot, offset_bytes, length_bytes } => {
                self.inside(*slot, *offset_bytes, *length_bytes);
                self.found(*slot, *offset_bytes, event);
            }
            Action::FetchChunk(fetch) => {
                let updater::FetchChunk { slot, offset_bytes, length_bytes, .. } = *fetch;
                self.inside(slot, offset_bytes, length_bytes);
                self.writes(slot);
                assert!(self.slot(slot).blank, "writes into a slot that may still be bootable");
                assert_eq!(fetch.hold_first_sector, offset_bytes == 0, "the header is written last");
                let size_bytes = self.slot(slot).size_bytes;
                assert!(
                    self.trusted(fetch.artifact).artifact.size_bytes <= size_bytes,
                    "too large for {slot:?}"
                );
                assert!(
                    self.install.is_none_or(|install| install == (slot, fetch.artifact)),
                    "another install"
                );
                self.install = Some((slot, fetch.artifact));
                self.found(slot, offset_bytes, event);
            }
            Action::Seal { slot, .. } => {
                self.writes(*slot);
                let (target, digest) = self.install.expect("seals what was not fetched");
                assert_eq!(target, *slot);
                let chunks = self.trusted(digest).artifact.chunks.clone();
                let found = &self.slot(*slot).chunks;
                for (offset_bytes, chunk) in (0..).step_by(CHUNK_BYTES as usize).zip(&chunks) {
                    assert_eq!(
                        found.get(&offset_bytes),
                        Some(chunk),
                        "seals over a chunk that was not verified"
                    );
                }
                self.slot(*slot).blank = false;
            }
            Action::VerifySlot { slot } => {
                self.slot(*slot).image = match event {
                    Event::SlotVerified(image) => Some(image.digest),
                    _ => None,
                };
            }
            Action::SaveRecord { record, time_floor_s, .. } => {
                self.records(record);
                self.floor(*time_floor_s);
            }
            Action::SaveTimeFloor { time_floor_s }
            | Action::SaveCertificate { time_floor_s: Some(time_floor_s), .. } => {
                self.floor(*time_floor_s);
            }
            Action::Join { .. }
            | Action::MakeKey
            | Action::Enroll { .. }
            | Action::Renew { .. }
            | Action::SaveCertificate { time_floor_s: None, .. }
            | Action::FetchAnchors { .. }
            | Action::SaveAnchors { .. }
            | Action::CheckIn { .. }
            | Action::SaveNote { .. }
            | Action::ClearCrashes
            | Action::CountCritical { .. }
            | Action::Report { .. } => {}
        }
    }

    /// The pit stop is over.
    pub(crate) fn ended(&self, verdict: Verdict) {
        match verdict {
            Verdict::HandOver { slot, .. } => {
                assert!(self.bootable().any(|bootable| bootable == slot), "hands over to {slot:?}: {self:?}");
            }
            Verdict::Restart { after_ms, reason } => {
                assert_eq!(self.bootable().next(), None, "{reason:?} beside a bootable slot");
                assert!(after_ms <= limits::BACKOFF_MAX_MS, "{after_ms}");
            }
        }
        if let Some(max_ms) = self.max_ms() {
            assert!(self.now_ms <= max_ms, "{} ms of {max_ms}", self.now_ms);
        }
    }

    /// The slots that could be started now.
    fn bootable(&self) -> impl Iterator<Item = SlotIndex> {
        let slots = (0..).map(SlotIndex).zip(&self.slots);
        let bootable = slots.filter(|(_, slot)| slot.image.is_some()).map(|(slot, _)| slot);
        bootable.filter(|slot| Some(*slot) != self.suspect)
    }

    /// How long the application may be kept from its start; `None` when there is none, or its own slot is written.
    fn max_ms(&self) -> Option<u64> {
        let local_ms = u64::from(self.steps) * LOCAL_MS;
        let goodbye_ms = limits::REPORT_MS;
        let decided_ms = limits::BUDGET_MS + goodbye_ms + local_ms;
        if self.startable.is_empty() {
            return None;
        }
        match self.install {
            None => Some(decided_ms),
            Some((slot, _)) if self.startable == [slot] => None,
            Some(_) => {
                let chunk_ms = limits::CHUNK_MS + u64::from(limits::CHUNK_TRIES) * limits::CHUNK_RETRY_MS;
                Some(decided_ms + limits::INSTALL_WITH_APP_MS + chunk_ms)
            }
        }
    }

    fn slot(&mut self, slot: SlotIndex) -> &mut Slot {
        self.slots.get_mut(usize::from(slot.0)).expect("no such slot")
    }

    fn trusted(&self, digest: Digest) -> &Manifest {
        let trusted = self.trusted.iter().find(|manifest| manifest.artifact.digest == digest);
        trusted.unwrap_or_else(|| panic!("installs {digest}, which nobody signed for this device"))
    }

    fn inside(&mut self, slot: SlotIndex, offset_bytes: u32, length_bytes: u32) {
        let size_bytes = self.slot(slot).size_bytes;
        let end = offset_bytes.checked_add(length_bytes);
        assert!(end.is_some_and(|end| end <= size_bytes), "{offset_bytes} + {length_bytes} of {size_bytes}");
    }

    fn writes(&mut self, slot: SlotIndex) {
        assert!(!self.recorded, "writes a slot after the record");
        self.slot(slot).image = None;
        self.suspect = self.suspect.filter(|suspect| *suspect != slot);
    }

    fn found(&mut self, slot: SlotIndex, offset_bytes: u32, event: &Event) {
        let chunks = &mut self.slot(slot).chunks;
        match event {
            Event::ChunkHashed(digest) | Event::FirstChunkHashed { digest, .. } => {
                chunks.insert(offset_bytes, *digest)
            }
            _ => chunks.remove(&offset_bytes),
        };
    }

    fn records(&mut self, record: &InstallRecord) {
        assert_eq!(self.slot(record.slot).image, Some(record.digest), "records what was not verified");
        let says_so = |manifest: &Manifest| InstallRecord::of(manifest, record.slot) == *record;
        assert!(self.trusted.iter().any(says_so), "{record:?} says what nobody signed for this device");
        if let Some(before) = &self.record {
            let same = record.sequence == before.sequence && record.digest == before.digest;
            let back = before.revert_to.contains(&record.sequence);
            assert!(record.sequence > before.sequence || same || back, "{before:?} to {record:?}");
        }
        self.recorded = true;
    }

    fn floor(&self, time_floor_s: u64) {
        assert!(time_floor_s >= self.time_floor_s, "the time floor goes back to {time_floor_s}");
    }
}
