//! What a pit stop knows while it may still end in many ways.

use alloc::vec::Vec;

use manifest::PublisherKeys;
use wire::{CheckIn, Outcome, PROTOCOL_VERSION, Reason};

use super::{State, end};
use crate::action::Action;
use crate::facts::{SlotContent, Survey};
use crate::policy::{self, Start};
use crate::record::InstallRecord;
use crate::slot::SlotIndex;

/// What a pit stop knows while it may still end in many ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub(crate) survey: Survey,
    pub(crate) start: Start,
    /// The slot whose last hand-over did not come to its end, until something else is in it.
    pub(crate) suspect: Option<SlotIndex>,
    /// The decision must have come by then.
    pub(crate) deadline_ms: u64,
    pub(crate) free_heap_bytes: Option<u32>,
    pub(crate) link: Link,
    /// What the server said, when it put the device off: not before so many seconds.
    pub(crate) put_off_s: Option<u32>,
    pub(crate) downloaded_bytes: u32,
    pub(crate) erased_bytes: u32,
}

/// How far this start has come on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The server has not spoken with authority yet.
    Silent,
    /// The server has answered a check-in over mutual TLS; its time as far as it is credible.
    Authenticated { server_time_s: u64, backoff_s: Option<u32> },
}

impl Session {
    pub(crate) fn new(survey: Survey, start: Start) -> Self {
        Self {
            survey,
            start,
            suspect: start.suspect(),
            // Set when it is known what can be started.
            deadline_ms: 0,
            free_heap_bytes: None,
            link: Link::Silent,
            put_off_s: None,
            downloaded_bytes: 0,
            erased_bytes: 0,
        }
    }

    /// Whether the vault is there and can be written at this start.
    pub(crate) fn vault_is_writable(&self) -> bool {
        self.survey.vault.as_ref().is_ok_and(|vault| vault.is_writable)
    }

    /// The slot to hand over to, among those that were verified: the recorded one when it holds the recorded image, else
    /// one that does, else the recorded one, else the one that was handed over to last, else the first.
    pub(crate) fn boot_slot(&self) -> Option<SlotIndex> {
        let bootable = |slot: &SlotIndex| self.survey.image(*slot).is_some() && Some(*slot) != self.suspect;
        let record = self.survey.record();
        let holds_it = |slot: &SlotIndex| record.is_some_and(|record| self.holds(*slot, record));
        let recorded = record.map(|record| record.slot);
        let preferred =
            || recorded.into_iter().chain([self.start.retained.slot]).chain(self.survey.indices());
        preferred().filter(bootable).find(holds_it).or_else(|| preferred().find(bootable))
    }

    pub(crate) fn holds(&self, slot: SlotIndex, record: &InstallRecord) -> bool {
        self.survey.image(slot).is_some_and(|image| image.digest == record.digest)
    }

    /// Ends the pit stop.
    pub(crate) fn finish(self, reason: Option<Reason>) -> (State, Action) {
        let backoff_s = match self.link {
            Link::Silent => None,
            Link::Authenticated { backoff_s, .. } => backoff_s,
        };
        let (failures, jitter) = (self.start.retained.failures, self.survey.jitter);
        let asked_s = self.put_off_s.max(backoff_s);
        let verdict = policy::verdict(self.boot_slot(), reason, failures, asked_s, jitter);
        end(verdict, self.start.retained, policy::needs_ticket(self.survey.strategy))
    }

    /// What is left of `timeout_ms` and of the budget; `None` when nothing is.
    pub(crate) fn timeout_ms(&self, timeout_ms: u64, now_ms: u64) -> Option<u64> {
        Some(self.deadline_ms.saturating_sub(now_ms).min(timeout_ms)).filter(|left_ms| *left_ms > 0)
    }

    /// The best knowledge of the time: never before the time floor, whatever a server says.
    pub(crate) fn now_s(&self) -> u64 {
        let floor_s = self.survey.vault.as_ref().map_or(0, |vault| vault.time_floor_s);
        match self.link {
            Link::Silent => floor_s,
            Link::Authenticated { server_time_s, .. } => server_time_s.max(floor_s),
        }
    }

    /// Notes that the vault holds the present time as its floor.
    pub(crate) fn floor_is_stored(&mut self) {
        let now_s = self.now_s();
        if let Ok(vault) = &mut self.survey.vault {
            vault.time_floor_s = now_s;
        }
    }

    pub(crate) fn store_record(&mut self, record: InstallRecord) {
        if let Ok(vault) = &mut self.survey.vault {
            vault.sequence_floor = Some(record.sequence);
            vault.record = Some(record);
        }
    }

    /// Takes an application that confirmed itself for the last outcome, under the number of its release. Returns it
    /// when the vault does not hold it yet.
    pub(crate) fn remember_confirmation(&mut self) -> Option<Outcome> {
        let vault = self.survey.vault.as_mut().ok().filter(|_| self.survey.confirmed_itself)?;
        let sequence = vault.record.as_ref().map(|record| record.sequence.0);
        let outcome = Outcome { sequence, reason: Reason::ApplicationConfirmedItself.code() };
        (vault.last_outcome.replace(outcome) != Some(outcome)).then_some(outcome)
    }

    pub(crate) fn check_in(&self) -> CheckIn {
        let vault = self.survey.vault.as_ref().ok();
        let slot = |slot: SlotIndex| {
            let facts = self.survey.slot(slot)?;
            let bootable = match facts.content {
                SlotContent::Blank | SlotContent::Unbootable => false,
                SlotContent::Headers | SlotContent::Verified(_) => Some(slot) != self.suspect,
            };
            Some(wire::Slot { label: facts.label.clone(), size_bytes: facts.size_bytes, bootable })
        };
        CheckIn {
            protocol: PROTOCOL_VERSION,
            running: self.boot_slot().and_then(|slot| self.survey.running(slot)),
            slots: self.survey.indices().filter_map(slot).collect(),
            chip_id: self.survey.chip_id,
            updater_version: self.survey.updater_version.clone(),
            reset_cause: self.start.told_cause(),
            starts: u32::from(self.start.retained.starts),
            last_outcome: vault.and_then(|vault| vault.last_outcome),
            free_heap_bytes: self.free_heap_bytes,
            strategy: self.survey.strategy,
            critical_errors: self.survey.journal.critical_errors,
            last_critical: self.survey.journal.last_critical,
            anchors: vault.map(|vault| vault.anchors),
            publishers: vault.and_then(|vault| publisher_ids(&vault.publishers)),
        }
    }
}

/// The ids of the keys; `None` when there are more than a check-in names, because a part would say that the others are not
/// trusted.
fn publisher_ids(keys: &PublisherKeys) -> Option<Vec<wire::PublisherId>> {
    let ids: Vec<_> = keys.iter().take(wire::MAX_PUBLISHERS + 1).map(|key| key.id().into()).collect();
    (ids.len() <= wire::MAX_PUBLISHERS).then_some(ids)
}
