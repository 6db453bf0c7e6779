//! Table `devices`: a row as operators see it.

use api::device::DeviceState;
use serde_json::{Value, json};

use super::json_or_text;

row! {
    /// A device with its current certificate.
    #[derive(Clone, Debug)]
    pub(crate) struct DeviceRow {
        pub(crate) id: String,
        pub(crate) product: String,
        pub(crate) note: String,
        pub(crate) channel: String,
        /// JSON list of texts.
        pub(crate) tags: String,
        pub(crate) pinned_sequence: Option<i64>,
        pub(crate) health: String,
        pub(crate) created_at_ms: i64,
        pub(crate) approved_at_ms: Option<i64>,
        pub(crate) enrolled_at_ms: Option<i64>,
        /// Since when its enrollment waits for approval.
        pub(crate) enrollment_pending_at_ms: Option<i64>,
        pub(crate) revoked_at_ms: Option<i64>,
        pub(crate) revoked_reason: Option<String>,
        /// 1: the revocation may be taken back.
        pub(super) suspended: i64,
        pub(crate) last_seen_at_ms: Option<i64>,
        pub(crate) certificate_serial: Option<String>,
        pub(crate) certificate_not_before_ms: Option<i64>,
        pub(crate) certificate_not_after_ms: Option<i64>,
        pub(crate) running_digest: Option<String>,
        pub(crate) running_sequence: Option<i64>,
        pub(crate) running_version: Option<String>,
        /// JSON list of slots.
        pub(crate) slots: Option<String>,
        pub(crate) updater_version: Option<String>,
        pub(crate) reset_cause: Option<String>,
        pub(crate) starts: Option<i64>,
        pub(crate) strategy: Option<String>,
        pub(crate) free_heap_bytes: Option<i64>,
        pub(crate) critical_errors: Option<i64>,
        pub(crate) last_critical: Option<i64>,
        pub(crate) outcome_sequence: Option<i64>,
        pub(crate) outcome_code: Option<i64>,
        pub(crate) outcome_at_ms: Option<i64>,
        pub(crate) clone_suspected_at_ms: Option<i64>,
        /// When a certificate of it that had ended was refused last.
        pub(crate) refused_at_ms: Option<i64>,
        pub(crate) refused_cause: Option<String>,
        pub(crate) attempt_rollout: Option<String>,
        pub(crate) attempt_wave: Option<i64>,
        pub(crate) attempt_sequence: Option<i64>,
        pub(crate) attempt_state: Option<String>,
        pub(crate) attempt_at_ms: Option<i64>,
        pub(crate) failed_sequence: Option<i64>,
        pub(crate) failed_count: i64,
        pub(crate) quarantined_at_ms: Option<i64>,
        pub(crate) revision: i64,
    }
}

/// The columns of [`DeviceRow`].
macro_rules! select_devices {
    ($rest:literal) => {
        concat!(
            "SELECT d.id, d.product, d.note, d.channel, d.tags, d.pinned_sequence, d.health, d.created_at_ms, \
                 d.approved_at_ms, d.enrolled_at_ms, d.enrollment_pending_at_ms, d.revoked_at_ms, d.revoked_reason, d.suspended, d.last_seen_at_ms, \
                 d.certificate_serial, c.not_before_ms AS certificate_not_before_ms, \
                 c.not_after_ms AS certificate_not_after_ms, d.running_digest, d.running_sequence, \
                 d.running_version, d.slots, d.updater_version, d.reset_cause, d.starts, d.strategy, \
                 d.free_heap_bytes, d.critical_errors, d.last_critical, d.outcome_sequence, d.outcome_code, \
                 d.outcome_at_ms, d.clone_suspected_at_ms, d.refused_at_ms, d.refused_cause, d.attempt_rollout, d.attempt_wave, d.attempt_sequence, d.attempt_state, \
                 d.attempt_at_ms, d.failed_sequence, d.failed_count, d.quarantined_at_ms, d.revision \
             FROM devices d LEFT JOIN certificates c ON c.serial = d.certificate_serial ",
            $rest
        )
    };
}

pub(super) use select_devices;

pub(super) const DEVICE_BY_ID: &str = select_devices!("WHERE d.id = $1");

impl DeviceRow {
    /// Where it is between made and revoked.
    pub(crate) fn state(&self) -> DeviceState {
        match (self.revoked_at_ms, self.enrolled_at_ms) {
            (Some(_), _) => DeviceState::Revoked,
            (None, Some(_)) => DeviceState::Enrolled,
            (None, None) => DeviceState::New,
        }
    }

    /// Whether it is revoked until somebody takes that back.
    pub(crate) fn is_suspended(&self) -> bool {
        self.revoked_at_ms.is_some() && self.suspended == 1
    }

    /// As [`DeviceRow::state`], and `suspended`, as an audit line tells it.
    pub(super) fn standing(&self) -> &'static str {
        if self.is_suspended() { "suspended" } else { self.state().name() }
    }

    /// What operators set, as an audit line tells it.
    pub(super) fn settings(&self) -> Value {
        json!({
            "note": self.note,
            "channel": self.channel,
            "tags": json_or_text(&self.tags),
            "pinned_sequence": self.pinned_sequence,
        })
    }
}
