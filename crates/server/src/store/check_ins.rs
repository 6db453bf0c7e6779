//! Table `devices`, as check-ins and reports see it.

use std::collections::BTreeMap;

use manifest::Sequence;
use rollout::{Attempt, Cadence, Failure};
use serde_json::{Value, json};
use sqlx::AnyConnection;

use super::enrollment::confirm_certificate;
use super::{Change, Event, Record, StoreError};
use crate::clones::Counts;

row! {
    /// What is known of a device when it makes a request, found by the serial number of its certificate.
    #[derive(Clone, Debug)]
    pub(crate) struct Known {
        pub(crate) id: String,
        pub(crate) product: String,
        pub(crate) revoked_at_ms: Option<i64>,
        pub(crate) certificate_serial: Option<String>,
        pub(crate) previous_serial: Option<String>,
        pub(crate) token_redeemed_key: Option<String>,
        pub(crate) token_void_at_ms: Option<i64>,
        /// Digest of the trust anchors that the device said it has.
        pub(crate) anchors: Option<String>,
        /// Ids of the publisher keys that the device said it trusts.
        pub(crate) publishers: Option<String>,
        pub(crate) running_digest: Option<String>,
        pub(crate) running_sequence: Option<i64>,
        pub(crate) running_version: Option<String>,
        pub(crate) updater_version: Option<String>,
        pub(crate) outcome_sequence: Option<i64>,
        pub(crate) outcome_code: Option<i64>,
        pub(crate) outcome_at_ms: Option<i64>,
        pub(crate) channel: String,
        /// JSON list.
        pub(crate) tags: String,
        pub(crate) pinned_sequence: Option<i64>,
        pub(crate) last_seen_at_ms: Option<i64>,
        pub(crate) starts: Option<i64>,
        /// When a certificate of it that had ended was refused last.
        pub(crate) refused_at_ms: Option<i64>,
        /// Short runs in a row.
        pub(crate) short_runs: i64,
        failed_sequence: Option<i64>,
        failed_count: i64,
        failed_at_ms: Option<i64>,
        failed_offered: i64,
        quarantined_at_ms: Option<i64>,
        /// Of the product.
        pub(crate) generation: i64,
        /// Of the product.
        pub(crate) silence_deadline_s: i64,
        /// Of the product.
        pub(crate) quarantine_after: i64,
        /// Of the product.
        pub(crate) min_run_s: i64,
        /// Of the product.
        pub(crate) rotate_keys: i64,
    }
    with {
        cadence: CadenceColumns,
        attempt: AttemptColumns,
        clones: CloneColumns,
    }
}

row! {
    /// The columns of a device's cadence.
    #[derive(Clone, Debug)]
    pub(super) struct CadenceColumns {
        cadence_ms: Option<i64>,
        cadence_intervals: i64,
    }
}

row! {
    /// The columns of [`Counts`] but the first.
    #[derive(Clone, Debug)]
    struct CloneColumns {
        other_starts: Option<i64>,
        starts_returns: i64,
        starts_returned_at_ms: Option<i64>,
        clone_suspected_at_ms: Option<i64>,
    }
}

row! {
    /// The columns of an attempt.
    #[derive(Clone, Debug)]
    pub(super) struct AttemptColumns {
        attempt_rollout: Option<String>,
        attempt_wave: Option<i64>,
        attempt_sequence: Option<i64>,
        attempt_state: Option<String>,
        attempt_at_ms: Option<i64>,
        attempt_deadline_ms: Option<i64>,
        attempt_starts: Option<i64>,
        attempt_epoch: i64,
    }
}

/// How a device does with the release that a rollout offered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttemptRow {
    pub(crate) rollout: String,
    pub(crate) wave: i64,
    pub(crate) sequence: i64,
    pub(crate) state: Attempt,
    /// Since when.
    pub(crate) at_ms: i64,
    /// Until when the device is to be seen again.
    pub(crate) deadline_ms: Option<i64>,
    /// The count of starts at the check-in that first told of the installed release; `None` for a report.
    pub(crate) starts: Option<i64>,
    /// The epoch of the rollout in which the device was counted last.
    pub(crate) epoch: i64,
}

/// What a check-in tells.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at_ms: i64,
    pub(crate) chip_id: i64,
    pub(crate) running_digest: Option<String>,
    pub(crate) running_sequence: Option<i64>,
    pub(crate) running_version: Option<String>,
    /// JSON list of slots.
    pub(crate) slots: String,
    pub(crate) updater_version: String,
    pub(crate) reset_cause: &'static str,
    /// With the starts.
    pub(crate) counts: Counts,
    pub(crate) cadence: Option<Cadence>,
    /// Short runs in a row.
    pub(crate) short_runs: i64,
    pub(crate) strategy: &'static str,
    pub(crate) free_heap_bytes: Option<i64>,
    pub(crate) critical_errors: i64,
    pub(crate) last_critical: Option<i64>,
    pub(crate) outcome: Option<SeenOutcome>,
}

/// An outcome, and when the server first heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenOutcome {
    pub(crate) sequence: Option<i64>,
    pub(crate) code: i64,
    pub(crate) at_ms: i64,
}

/// What a device said.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    CheckIn(Seen),
    /// A check-in with nothing new in it. What it says of the running image and of the last outcome is known, and not
    /// written: it may be late, and another instance may have heard better meanwhile.
    Pulse(Seen),
    Report {
        outcome: SeenOutcome,
        /// The release that was installed, if one was.
        installed_sequence: Option<i64>,
        running_digest: Option<String>,
    },
    /// That it has stored the certificate that it comes with.
    Certificate {
        serial: String,
    },
    /// Nothing: its deadline passed.
    Nothing,
}

/// Everything that one request of a device, or its silence, changes: written in one transaction.
#[derive(Clone, Debug)]
pub(crate) struct DeviceWrite {
    pub(crate) device: String,
    pub(crate) at_ms: i64,
    pub(crate) said: Said,
    /// Kind and detail.
    pub(crate) event: Option<(&'static str, Value)>,
    pub(crate) attempt: Option<AttemptWrite>,
    pub(crate) failure: Option<FailureWrite>,
    /// Whether two boards seem to have its identity, when that is news.
    pub(crate) is_cloned: Option<bool>,
}

/// An attempt that goes on. It is written only when the device is still where the decision found it, so that nothing is
/// counted twice, not even by two instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AttemptWrite {
    pub(crate) from: Option<AttemptRow>,
    pub(crate) to: Option<AttemptRow>,
    pub(crate) moves: Vec<Move>,
}

/// A device that a counter loses and another one gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) rollout: String,
    pub(crate) wave: i64,
    /// `None` for a device that is offered the release.
    pub(crate) from: Option<Counted>,
    pub(crate) to: Counted,
}

/// Where a device is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) epoch: i64,
    pub(crate) state: Attempt,
}

/// The record of failures of one release. As with attempts, it is written over what was read only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailureWrite {
    pub(crate) from: Option<Failure>,
    pub(crate) to: Option<Failure>,
}

/// By how much the counters of a wave change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deltas {
    pub(super) offered: i64,
    pub(super) installed: i64,
    pub(super) healthy: i64,
    pub(super) failed: i64,
    pub(super) crashed: i64,
    pub(super) silent: i64,
    pub(super) unheard: i64,
}

/// Whose counters change: rollout, wave, epoch.
pub(super) type CountersKey = (String, i64, i64);

impl Known {
    /// The last outcome that the device told of.
    pub(crate) fn outcome(&self) -> Option<SeenOutcome> {
        let (code, at_ms) = self.outcome_code.zip(self.outcome_at_ms)?;
        Some(SeenOutcome { sequence: self.outcome_sequence, code, at_ms })
    }

    /// The counts of starts that it was heard with.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            starts: self.starts,
            other: self.clones.other_starts,
            returns: self.clones.starts_returns,
            returned_at_ms: self.clones.starts_returned_at_ms,
            suspected_at_ms: self.clones.clone_suspected_at_ms,
        }
    }

    /// How it does with the release that a rollout offered it last.
    pub(crate) fn attempt(&self) -> Option<AttemptRow> {
        self.attempt.row()
    }

    /// The release that failed here last.
    pub(crate) fn failure(&self) -> Option<Failure> {
        Some(Failure {
            sequence: Sequence(u64::try_from(self.failed_sequence?).ok()?),
            count: u32::try_from(self.failed_count).unwrap_or(u32::MAX),
            at_ms: self.failed_at_ms.unwrap_or_default(),
            is_quarantined: self.quarantined_at_ms.is_some(),
            is_offered_again: self.failed_offered != 0,
        })
    }

    /// How often it is heard.
    pub(crate) fn cadence(&self) -> Option<Cadence> {
        self.cadence.cadence()
    }
}

impl CadenceColumns {
    pub(super) fn cadence(&self) -> Option<Cadence> {
        let intervals = u32::try_from(self.cadence_intervals).unwrap_or(u32::MAX);
        self.cadence_ms.map(|interval_ms| Cadence { interval_ms, intervals })
    }
}

impl AttemptColumns {
    pub(super) fn row(&self) -> Option<AttemptRow> {
        Some(AttemptRow {
            rollout: self.attempt_rollout.clone()?,
            wave: self.attempt_wave?,
            sequence: self.attempt_sequence?,
            state: self.attempt_state.as_ref()?.parse().ok()?,
            at_ms: self.attempt_at_ms?,
            deadline_ms: self.attempt_deadline_ms,
            starts: self.attempt_starts,
            epoch: self.attempt_epoch,
        })
    }
}

impl DeviceWrite {
    /// The device has stored its newest certificate.
    pub(crate) fn certificate(device: String, serial: String, at_ms: i64) -> Self {
        let said = Said::Certificate { serial };
        Self { device, at_ms, said, event: None, attempt: None, failure: None, is_cloned: None }
    }

    /// Whether a check-in that rests has nothing to add to this.
    pub(super) fn tells_all(&self) -> bool {
        match self.said {
            Said::CheckIn(_) | Said::Pulse(_) => true,
            Said::Report { .. } | Said::Certificate { .. } | Said::Nothing => false,
        }
    }

    /// Writes it within a transaction, and adds to the counters that are to be moved at its end.
    pub(super) async fn apply(
        &self,
        connection: &mut AnyConnection,
        counters: &mut BTreeMap<CountersKey, Deltas>,
    ) -> Result<(), StoreError> {
        match &self.said {
            Said::CheckIn(seen) => {
                seen.apply_facts(connection, &self.device).await?;
                seen.apply_pulse(connection, &self.device).await?;
            }
            Said::Pulse(seen) => seen.apply_pulse(connection, &self.device).await?,
            Said::Report { outcome, installed_sequence, running_digest } => {
                apply_report(connection, &self.device, *outcome, *installed_sequence, running_digest).await?;
            }
            Said::Certificate { serial } => {
                confirm_certificate(connection, &self.device, serial, self.at_ms).await?;
            }
            Said::Nothing => {}
        }
        if let Some(attempt) = &self.attempt {
            if attempt.apply(connection, &self.device).await? {
                for moved in &attempt.moves {
                    moved.count(counters);
                }
            } else if matches!(self.said, Said::Nothing) {
                // It was seen after all, or another instance was faster: there is nothing to tell.
                return Ok(());
            }
        }
        if let Some(failure) = &self.failure {
            failure.apply(connection, &self.device, self.at_ms).await?;
            failure.tell(connection, &self.device, self.at_ms).await?;
        }
        if let Some(is_cloned) = self.is_cloned {
            tell_of_clone(connection, &self.device, is_cloned, self.at_ms).await?;
        }
        if let Some((kind, detail)) = &self.event {
            let event = Event { device: &self.device, at_ms: self.at_ms, kind, detail: detail.clone() };
            match self.said {
                Said::CheckIn(_) | Said::Pulse(_) | Said::Report { .. } | Said::Certificate { .. } => {
                    event.insert_within_bounds(connection).await?;
                }
                Said::Nothing => event.insert(connection).await?,
            }
        }
        Ok(())
    }
}

/// A check-in that rested is written no later than this after it came, by whichever instance: one that was heard after
/// it, by no more, is not overwritten. A longer time ahead was told by a clock that was wrong.
const LATE_MS: i64 = 60_000;

impl Seen {
    /// What a check-in that is waited for has to tell.
    async fn apply_facts(&self, connection: &mut AnyConnection, device: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE devices SET chip_id = $1, running_digest = $2, running_sequence = $3, running_version = $4, \
                 updater_version = $5, outcome_sequence = $6, outcome_code = $7, outcome_at_ms = $8, \
                 clone_suspected_at_ms = $9 \
             WHERE id = $10",
        )
        .bind(self.chip_id)
        .bind(&self.running_digest)
        .bind(self.running_sequence)
        .bind(&self.running_version)
        .bind(&self.updater_version)
        .bind(self.outcome.and_then(|outcome| outcome.sequence))
        .bind(self.outcome.map(|outcome| outcome.code))
        .bind(self.outcome.map(|outcome| outcome.at_ms))
        .bind(self.counts.suspected_at_ms)
        .bind(device)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// What every check-in tells, and may be lost.
    async fn apply_pulse(&self, connection: &mut AnyConnection, device: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE devices SET last_seen_at_ms = $1, slots = $2, reset_cause = $3, starts = $4, strategy = $5, \
                 free_heap_bytes = $6, critical_errors = $7, last_critical = $8, cadence_ms = $9, \
                 cadence_intervals = $10, short_runs = $11, other_starts = $12, starts_returns = $13, \
                 starts_returned_at_ms = $14 \
             WHERE id = $15 AND (last_seen_at_ms IS NULL OR last_seen_at_ms <= $1 OR last_seen_at_ms > $16)",
        )
        .bind(self.at_ms)
        .bind(&self.slots)
        .bind(self.reset_cause)
        .bind(self.counts.starts)
        .bind(self.strategy)
        .bind(self.free_heap_bytes)
        .bind(self.critical_errors)
        .bind(self.last_critical)
        .bind(self.cadence.map(|cadence| cadence.interval_ms))
        .bind(self.cadence.map_or(0, |cadence| i64::from(cadence.intervals)))
        .bind(self.short_runs)
        .bind(self.counts.other)
        .bind(self.counts.returns)
        .bind(self.counts.returned_at_ms)
        .bind(device)
        .bind(self.at_ms.saturating_add(LATE_MS))
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// That two boards seem to have one identity, or do no longer, stands in the audit log and among the device's events.
async fn tell_of_clone(
    connection: &mut AnyConnection,
    device: &str,
    is_cloned: bool,
    at_ms: i64,
) -> Result<(), StoreError> {
    let (action, kind) = match is_cloned {
        true => ("device.suspect-clone", "clone-suspected"),
        false => ("device.clear-clone", "clone-cleared"),
    };
    let product = product_of(connection, device).await?;
    let record = Record {
        action,
        kind: "device",
        subject: device,
        product: product.as_deref(),
        before: None,
        after: None,
    };
    Change::by_server(at_ms).record(connection, record).await?;
    Event { device, at_ms, kind, detail: json!({}) }.insert(connection).await
}

async fn product_of(connection: &mut AnyConnection, device: &str) -> Result<Option<String>, StoreError> {
    let product = sqlx::query_scalar("SELECT product FROM devices WHERE id = $1").bind(device);
    Ok(product.fetch_optional(connection).await?)
}

async fn apply_report(
    connection: &mut AnyConnection,
    device: &str,
    outcome: SeenOutcome,
    installed_sequence: Option<i64>,
    running_digest: &Option<String>,
) -> Result<(), StoreError> {
    // Only a check-in knows the version of what runs.
    sqlx::query(
        "UPDATE devices SET last_seen_at_ms = $1, outcome_sequence = $2, outcome_code = $3, \
             outcome_at_ms = $1, \
             running_sequence = CASE WHEN running_digest = $4 THEN running_sequence ELSE $5 END, \
             running_version = CASE WHEN running_digest = $4 THEN running_version ELSE NULL END, \
             running_digest = $4 \
         WHERE id = $6",
    )
    .bind(outcome.at_ms)
    .bind(outcome.sequence)
    .bind(outcome.code)
    .bind(running_digest)
    .bind(installed_sequence)
    .bind(device)
    .execute(connection)
    .await?;
    Ok(())
}

impl AttemptWrite {
    /// `false`: the device is elsewhere by now.
    async fn apply(&self, connection: &mut AnyConnection, device: &str) -> Result<bool, StoreError> {
        let to = self.to.as_ref();
        let updated = sqlx::query(
            "UPDATE devices SET attempt_rollout = $1, attempt_wave = $2, attempt_sequence = $3, \
                 attempt_state = $4, attempt_at_ms = $5, attempt_deadline_ms = $6, attempt_starts = $7, \
                 attempt_epoch = $8 \
             WHERE id = $9 AND COALESCE(attempt_rollout, '') = $10 AND COALESCE(attempt_state, '') = $11 \
                 AND attempt_epoch = $12",
        )
        .bind(to.map(|to| to.rollout.as_str()))
        .bind(to.map(|to| to.wave))
        .bind(to.map(|to| to.sequence))
        .bind(to.map(|to| to.state.name()))
        .bind(to.map(|to| to.at_ms))
        .bind(to.and_then(|to| to.deadline_ms))
        .bind(to.and_then(|to| to.starts))
        .bind(to.map_or(0, |to| to.epoch))
        .bind(device)
        .bind(self.from.as_ref().map_or("", |from| &from.rollout))
        .bind(self.from.as_ref().map_or("", |from| from.state.name()))
        .bind(self.from.as_ref().map_or(0, |from| from.epoch))
        .execute(connection)
        .await?;
        Ok(updated.rows_affected() == 1)
    }
}

impl Move {
    /// Every device in a state was offered the release: `offered` counts all of them, and a device leaves it only for
    /// another epoch.
    fn count(&self, counters: &mut BTreeMap<CountersKey, Deltas>) {
        let mut add = |counted: Counted, offered: i64, devices: i64| {
            let deltas = counters.entry((self.rollout.clone(), self.wave, counted.epoch)).or_default();
            deltas.offered += offered;
            deltas.add(counted.state, devices);
        };
        let is_offered_here = self.from.is_none_or(|from| from.epoch != self.to.epoch);
        if let Some(from) = self.from {
            add(from, -i64::from(is_offered_here), -1);
        }
        add(self.to, i64::from(is_offered_here), 1);
    }
}

impl Deltas {
    fn add(&mut self, state: Attempt, devices: i64) {
        match state {
            Attempt::Offered => {}
            Attempt::Installed => self.installed += devices,
            Attempt::Healthy => self.healthy += devices,
            Attempt::Failed => self.failed += devices,
            Attempt::Crashed => self.crashed += devices,
            Attempt::Silent => self.silent += devices,
            Attempt::Unheard => self.unheard += devices,
        }
    }
}

impl FailureWrite {
    /// A release that is in quarantine from now on stands in the audit log.
    async fn tell(&self, connection: &mut AnyConnection, device: &str, at_ms: i64) -> Result<(), StoreError> {
        let Some(to) = self.to.as_ref().filter(|to| to.is_quarantined) else { return Ok(()) };
        let was_before =
            self.from.as_ref().is_some_and(|from| from.is_quarantined && from.sequence == to.sequence);
        if was_before {
            return Ok(());
        }
        let product = product_of(connection, device).await?;
        let record = Record {
            action: "device.quarantine",
            kind: "device",
            subject: device,
            product: product.as_deref(),
            before: None,
            after: Some(json!({ "sequence": to.sequence.0, "failures": to.count })),
        };
        Change::by_server(at_ms).record(connection, record).await
    }

    async fn apply(
        &self,
        connection: &mut AnyConnection,
        device: &str,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        let to = self.to.as_ref();
        sqlx::query(
            "UPDATE devices SET failed_sequence = $1, failed_count = $2, failed_at_ms = $3, \
                 quarantined_at_ms = CASE WHEN $4 = 1 THEN COALESCE(quarantined_at_ms, $5) ELSE NULL END, \
                 failed_offered = $6 \
             WHERE id = $7 AND COALESCE(failed_sequence, -1) = $8 AND failed_count = $9",
        )
        .bind(to.map(|to| stored(to.sequence.0)))
        .bind(to.map_or(0, |to| i64::from(to.count)))
        .bind(to.map(|to| to.at_ms))
        .bind(i64::from(to.is_some_and(|to| to.is_quarantined)))
        .bind(at_ms)
        .bind(i64::from(to.is_some_and(|to| to.is_offered_again)))
        .bind(device)
        .bind(self.from.as_ref().map_or(-1, |from| stored(from.sequence.0)))
        .bind(self.from.as_ref().map_or(0, |from| i64::from(from.count)))
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// A sequence number as it is stored. Published ones always fit; a device that claims a higher one is told apart
/// from all of them.
pub(crate) fn stored(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
