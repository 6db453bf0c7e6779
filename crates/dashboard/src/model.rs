//! What the API answers, as far as pages show it. Fields that the API may leave out are optional here.

use serde::Deserialize;
use serde_json::{Map, Value};

/// What a token may do, from least to most. `Operator` and `Publisher` differ; neither has the other's rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Viewer,
    Operator,
    Publisher,
    Admin,
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Publisher, Self::Admin];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        }
    }

    /// Devices and rollouts.
    pub(crate) fn operates(self) -> bool {
        match self {
            Self::Operator | Self::Admin => true,
            Self::Viewer | Self::Publisher => false,
        }
    }

    /// Products and tokens.
    pub(crate) fn administers(self) -> bool {
        match self {
            Self::Admin => true,
            Self::Viewer | Self::Operator | Self::Publisher => false,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Whoami {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) product: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Product {
    pub(crate) name: String,
    pub(crate) chip: String,
    pub(crate) chip_revision: Option<i64>,
    pub(crate) layout: Layout,
    pub(crate) strategy: String,
    #[serde(default)]
    pub(crate) slots: Vec<AppSlot>,
    pub(crate) silence_deadline_s: i64,
    pub(crate) quarantine_after: i64,
    pub(crate) enrollment_approval: bool,
    pub(crate) min_run_s: i64,
    #[serde(default)]
    pub(crate) default_plan: Value,
    pub(crate) artifact_bytes: i64,
    pub(crate) artifact_quota_bytes: i64,
    pub(crate) created_at: String,
    pub(crate) revision: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Layout {
    pub(crate) name: String,
    /// The partition table as ESP-IDF's CSV.
    pub(crate) csv: String,
}

/// A slot of a layout.
#[derive(Debug, Deserialize)]
pub(crate) struct AppSlot {
    pub(crate) label: String,
    pub(crate) size_bytes: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) created_at: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PublisherKey {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) created_at: String,
    pub(crate) revoked_at: Option<String>,
}

/// A device that was just made.
#[derive(Debug, Deserialize)]
pub(crate) struct NewDevice {
    pub(crate) id: String,
    /// Shown once.
    pub(crate) enrollment_token: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Device {
    pub(crate) id: String,
    pub(crate) product: String,
    pub(crate) state: String,
    pub(crate) health: String,
    pub(crate) channel: String,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    pub(crate) pinned_sequence: Option<i64>,
    #[serde(default)]
    pub(crate) note: String,
    pub(crate) created_at: String,
    pub(crate) enrolled_at: Option<String>,
    pub(crate) approved_at: Option<String>,
    /// Since when its enrollment waits for approval.
    #[serde(default)]
    pub(crate) waiting_since: Option<String>,
    pub(crate) revoked_at: Option<String>,
    pub(crate) revoked_reason: Option<String>,
    /// Revoked only until it is resumed.
    #[serde(default)]
    pub(crate) suspended: bool,
    pub(crate) last_seen_at: Option<String>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) running: Option<Running>,
    #[serde(default)]
    pub(crate) slots: Vec<Slot>,
    pub(crate) updater_version: Option<String>,
    pub(crate) strategy: Option<String>,
    pub(crate) reset_cause: Option<String>,
    pub(crate) starts: Option<i64>,
    pub(crate) free_heap_bytes: Option<i64>,
    pub(crate) critical_errors: Option<i64>,
    pub(crate) last_outcome: Option<Outcome>,
    /// Since when two boards seem to come with its certificate.
    pub(crate) clone_suspected_since: Option<String>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) quarantine: Option<Quarantine>,
    pub(crate) failures: Option<Failures>,
    pub(crate) revision: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Certificate {
    pub(crate) serial: String,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Running {
    pub(crate) digest: String,
    pub(crate) sequence: Option<i64>,
    pub(crate) version: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Slot {
    pub(crate) label: String,
    pub(crate) size_bytes: i64,
    #[serde(default)]
    pub(crate) bootable: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) sequence: Option<i64>,
    pub(crate) reason: String,
    pub(crate) code: i64,
    pub(crate) at: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) rollout: Option<String>,
    pub(crate) wave: Option<i64>,
    pub(crate) sequence: Option<i64>,
    pub(crate) state: String,
    pub(crate) at: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Quarantine {
    pub(crate) sequence: Option<i64>,
    pub(crate) since: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Failures {
    pub(crate) count: i64,
}

/// What happened to a device; `detail` differs by kind.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) at: String,
    pub(crate) kind: String,
    pub(crate) detail: Value,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Release {
    pub(crate) product: String,
    pub(crate) sequence: i64,
    pub(crate) version: String,
    pub(crate) digest: String,
    pub(crate) size_bytes: i64,
    pub(crate) chip: String,
    pub(crate) channel: String,
    /// The image's app descriptor.
    pub(crate) app: Option<Map<String, Value>>,
    pub(crate) min_slot_bytes: i64,
    #[serde(default)]
    pub(crate) notes: String,
    #[serde(default)]
    pub(crate) revert_to: Vec<i64>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    pub(crate) elf_digest: Option<String>,
    pub(crate) created_at: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Rollout {
    pub(crate) id: String,
    pub(crate) product: String,
    pub(crate) channel: String,
    pub(crate) release: RolloutRelease,
    pub(crate) state: RolloutState,
    pub(crate) wave: usize,
    pub(crate) plan: Plan,
    pub(crate) waves: Vec<WaveState>,
    pub(crate) halt: Option<Halt>,
    pub(crate) next: Option<String>,
    pub(crate) superseded_by: Option<String>,
    /// Until when the newest open wave soaks.
    #[serde(default)]
    pub(crate) soaks_until: Option<String>,
    /// Devices that run less than its release requires.
    #[serde(default)]
    pub(crate) waiting: Option<i64>,
    pub(crate) created_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) finished_at: Option<String>,
    pub(crate) revision: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct RolloutRelease {
    pub(crate) sequence: i64,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) requires: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RolloutState {
    Draft,
    Running,
    AwaitingApproval,
    Open,
    Paused,
    Halted,
    Aborted,
    Completed,
    Superseded,
}

impl RolloutState {
    pub(crate) const ALL: [Self; 9] = [
        Self::Draft,
        Self::Running,
        Self::AwaitingApproval,
        Self::Open,
        Self::Paused,
        Self::Halted,
        Self::Aborted,
        Self::Completed,
        Self::Superseded,
    ];

    /// As the API spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::AwaitingApproval => "awaiting-approval",
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Halted => "halted",
            Self::Aborted => "aborted",
            Self::Completed => "completed",
            Self::Superseded => "superseded",
        }
    }

    /// Neither done with nor given up.
    pub(crate) fn is_active(self) -> bool {
        match self {
            Self::Running | Self::AwaitingApproval | Self::Open | Self::Paused | Self::Halted => true,
            Self::Draft | Self::Aborted | Self::Completed | Self::Superseded => false,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Plan {
    pub(crate) waves: Vec<PlanWave>,
    pub(crate) window: Option<Window>,
    pub(crate) on_halt: Option<String>,
    pub(crate) completed_percent: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PlanWave {
    pub(crate) select: Select,
    #[serde(default)]
    pub(crate) soak_s: i64,
    #[serde(default)]
    pub(crate) approval: Option<String>,
    pub(crate) limits: Option<Limits>,
    pub(crate) evidence: Option<Evidence>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Evidence {
    pub(crate) min_healthy: Option<i64>,
    pub(crate) min_healthy_percent: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Select {
    Percent(f64),
    Tags(Vec<String>),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Limits {
    pub(crate) failures_percent: Option<f64>,
    pub(crate) crashes_percent: Option<f64>,
    pub(crate) silence_percent: Option<f64>,
    pub(crate) min_sample: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Window {
    #[serde(default)]
    pub(crate) days: Vec<String>,
    pub(crate) from: String,
    pub(crate) to: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WaveState {
    pub(crate) index: usize,
    pub(crate) state: String,
    pub(crate) started_at: Option<String>,
    pub(crate) counters: Counters,
    /// How many devices it has, and how many of them must be healthy.
    pub(crate) devices: Option<i64>,
    pub(crate) needed: Option<i64>,
    /// The device that stands in for an empty wave.
    #[serde(default)]
    pub(crate) stand_in: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Counters {
    pub(crate) offered: i64,
    pub(crate) installed: i64,
    pub(crate) healthy: i64,
    pub(crate) failed: i64,
    pub(crate) crashed: i64,
    pub(crate) silent: i64,
    #[serde(default)]
    pub(crate) unheard: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Halt {
    pub(crate) cause: String,
    pub(crate) wave: usize,
    pub(crate) observed: i64,
    pub(crate) sample: i64,
    pub(crate) limit_percent: f64,
    /// How often the rollout had been resumed after a halt.
    #[serde(default)]
    pub(crate) epoch: i64,
    pub(crate) at: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Summary {
    pub(crate) devices: i64,
    #[serde(default)]
    pub(crate) by_health: Map<String, Value>,
    #[serde(default)]
    pub(crate) by_release: Vec<ByRelease>,
    #[serde(default)]
    pub(crate) seen_last_24h: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ByRelease {
    pub(crate) product: Option<String>,
    pub(crate) sequence: Option<i64>,
    pub(crate) version: Option<String>,
    pub(crate) devices: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct History {
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Sample {
    pub(crate) at: String,
    #[serde(default)]
    pub(crate) by_health: Map<String, Value>,
    #[serde(default)]
    pub(crate) by_release: Vec<ByRelease>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AuditEntry {
    pub(crate) at: String,
    pub(crate) actor: Actor,
    pub(crate) action: String,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) product: Option<String>,
    #[serde(default)]
    pub(crate) before: Value,
    #[serde(default)]
    pub(crate) after: Value,
}

/// An API token, or the server itself.
#[derive(Debug, Deserialize)]
pub(crate) struct Actor {
    pub(crate) id: String,
    pub(crate) name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) product: Option<String>,
    pub(crate) created_at: String,
    pub(crate) expires_at: Option<String>,
    pub(crate) revoked_at: Option<String>,
    /// Only when it was just made.
    pub(crate) token: Option<String>,
}

/// The CAs in force.
#[derive(Debug, Deserialize)]
pub(crate) struct Ca {
    /// What is about to end, and what to do.
    pub(crate) notices: Vec<String>,
}
