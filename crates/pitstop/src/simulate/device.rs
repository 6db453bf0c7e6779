//! A light device: what it remembers, what it says, and what it makes of a decision. No flash, no network.

use std::sync::Arc;

use flashfmt::Chip;
use manifest::Manifest;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use wire::{CheckIn, HandOverStrategy, Outcome, PROTOCOL_VERSION, Reason, Report, ResetCause, Slot};

use super::habits::{Fate, Habits};

/// A virtual device with an identity of its own.
pub(crate) struct LightDevice {
    /// Its id.
    pub(crate) id: String,
    /// Its key and certificate, ready for a handshake.
    pub(crate) tls: Arc<ClientConfig>,
    /// What a real one keeps in its flash.
    pub(crate) memory: Memory,
}

/// What a device keeps over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The release that it runs.
    running: Option<Running>,
    /// The last install or refusal: sequence number and reason code.
    outcome: Option<(u64, u16)>,
    /// Starts so far.
    starts: u32,
    /// The application that runs panics.
    is_crashing: bool,
    /// It took a release and does not come back.
    pub(crate) is_silent: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    #[serde(with = "hex")]
    digest: [u8; 32],
    sequence: u64,
    version: String,
}

/// What all devices of a product have in common.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// The chip of the product.
    pub(crate) chip: Chip,
    /// Label and size of each slot.
    pub(crate) slots: Vec<(String, u32)>,
    /// How the updater hands over.
    pub(crate) strategy: HandOverStrategy,
}

impl Memory {
    /// One more start, and what the device says at it.
    pub(crate) fn check_in(&mut self, model: &Model) -> CheckIn {
        self.starts += 1;
        let running = self.running.as_ref();
        let slot = |(index, (label, size_bytes)): (usize, &(String, u32))| Slot {
            label: label.clone(),
            size_bytes: *size_bytes,
            bootable: index == 0 && running.is_some(),
        };
        CheckIn {
            protocol: PROTOCOL_VERSION,
            running: running.map(|running| wire::Running {
                digest: running.digest.into(),
                sequence: Some(running.sequence),
                version: Some(running.version.clone()),
            }),
            slots: model.slots.iter().enumerate().map(slot).collect(),
            chip_id: model.chip.id(),
            updater_version: concat!(env!("CARGO_PKG_VERSION"), "-simulated").to_owned(),
            reset_cause: if self.is_crashing { ResetCause::Panic } else { ResetCause::DeepSleep },
            // Wraps as the retained register does.
            starts: self.starts % 4096,
            last_outcome: self.outcome.map(|(sequence, reason)| Outcome { sequence: Some(sequence), reason }),
            free_heap_bytes: None,
            strategy: model.strategy,
            critical_errors: 0,
            last_critical: None,
            anchors: None,
            publishers: None,
        }
    }

    /// Takes a release, or comes to grief with it; the report that a device sends of that.
    pub(crate) fn take(&mut self, device: &str, manifest: &Manifest, habits: &Habits) -> (Fate, Report) {
        let sequence = manifest.sequence.0;
        // A release that it is sent back to was well before.
        let is_revert = self.running.as_ref().is_some_and(|running| sequence < running.sequence);
        let fate = if is_revert { Fate::Healthy } else { habits.fate(device, sequence) };
        let reason = match fate {
            Fate::Fails => Reason::ImageInvalid,
            Fate::Healthy | Fate::Crashes | Fate::Silent => {
                self.running = Some(Running {
                    digest: manifest.artifact.digest.0,
                    sequence,
                    version: manifest.version.clone(),
                });
                self.is_crashing = fate == Fate::Crashes;
                self.is_silent = fate == Fate::Silent;
                Reason::Installed
            }
        };
        self.outcome = Some((sequence, reason.code()));
        let report = Report {
            protocol: PROTOCOL_VERSION,
            outcome: Outcome { sequence: Some(sequence), reason: reason.code() },
            running_digest: self.running.as_ref().map(|running| running.digest.into()),
            downloaded_bytes: Some(manifest.artifact.size_bytes),
            erased_bytes: None,
        };
        (fate, report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifest::Sequence;

    fn model() -> Model {
        let slots = vec![("ota_0".to_owned(), 0x10_0000), ("ota_1".to_owned(), 0x10_0000)];
        Model { chip: Chip::Esp32C3, slots, strategy: HandOverStrategy::ChainLoad }
    }

    fn release(sequence: u64) -> Manifest {
        let image = vec![7; 1000];
        Manifest::describe(&image, Sequence(sequence), "lamp", Chip::Esp32C3.id(), "1.0.0").unwrap()
    }

    #[test]
    fn what_was_installed_is_told_at_the_next_start() {
        let mut memory = Memory::default();
        let first = memory.check_in(&model());
        assert!(first.running.is_none() && first.slots.iter().all(|slot| !slot.bootable));
        let (fate, report) = memory.take("lamp-1", &release(3), &Habits::GOOD);
        assert_eq!((fate, report.outcome.reason), (Fate::Healthy, Reason::Installed.code()));
        let second = memory.check_in(&model());
        assert_eq!(second.running.unwrap().sequence, Some(3));
        assert_eq!((second.starts, second.slots[0].bootable), (2, true));
        assert_eq!(second.last_outcome, Some(report.outcome));
    }

    #[test]
    fn each_fate_is_seen_by_the_server() {
        let habits = |fail_percent, crash_percent, silent_percent| Habits {
            fail_percent,
            crash_percent,
            silent_percent,
        };
        let after = |habits| {
            let mut memory = Memory::default();
            memory.take("lamp-1", &release(1), &Habits::GOOD);
            memory.take("lamp-1", &release(2), &habits);
            memory
        };
        let mut failed = after(habits(100.0, 0.0, 0.0));
        let check_in = failed.check_in(&model());
        assert_eq!(check_in.running.unwrap().sequence, Some(1));
        assert_eq!(check_in.last_outcome.unwrap().reason, Reason::ImageInvalid.code());

        let mut crashed = after(habits(0.0, 100.0, 0.0));
        assert_eq!(crashed.check_in(&model()).reset_cause, ResetCause::Panic);
        // Sent back, it is well again, whatever the habits are.
        crashed.take("lamp-1", &release(1), &habits(0.0, 100.0, 0.0));
        let check_in = crashed.check_in(&model());
        assert_eq!(
            (check_in.reset_cause, check_in.running.unwrap().sequence),
            (ResetCause::DeepSleep, Some(1))
        );

        assert!(after(habits(0.0, 0.0, 100.0)).is_silent);
    }
}
